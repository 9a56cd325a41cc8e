#!/bin/bash
# A corpus on SLURM: Ray on all nodes of the job, the driver on the first. To be changed: the lines below, the
# environment, the spec and the folder, which every node must see under the same path (or an address such as
# s3://bucket/corpora/mine). Submit with:  sbatch docs/slurm.sh
#
#SBATCH --job-name=focuspull
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem-per-cpu=4G
#SBATCH --exclusive
#SBATCH --time=24:00:00
# Preempted jobs start again, and so does this one when its time is up (below). SIGTERM comes to this script
# 120 s before that; on preemption too, where the site has set PreemptParameters=send_user_signal.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
#SBATCH --output=focuspull-%j.log

set -euo pipefail
source .venv/bin/activate
OUT="${OUT:-$PWD/corpora/mine}"

head_node="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)"
head_ip="$(srun --nodes=1 --ntasks=1 --nodelist="$head_node" hostname --ip-address | cut -d ' ' -f 1)"
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_USAGE_STATS_ENABLED=0
# Ray asks for a token; srun hands the environment on, so all processes of the job have this one.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"

# The driver ends within 10 s of SIGTERM, with 143; what is finished stays, what was being rendered is dropped.
stopped=0
driver=
trap 'stopped=1; [[ -z "$driver" ]] || kill -TERM "$driver" 2>/dev/null || true' TERM

# One `ray start` per node, each a step of the job. --block: the step lives as long as Ray does on its node.
# One core of the first node is the driver's. Nothing large passes through the object stores.
ray_options=(--object-store-memory=134217728 --disable-usage-stats --block)
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head_node" \
    ray start --head --node-ip-address="$head_ip" --port="$port" --include-dashboard=false \
    --num-cpus=$((SLURM_CPUS_PER_TASK - 1)) --temp-dir="/tmp/ray-$SLURM_JOB_ID" "${ray_options[@]}" &
until ray status --address "$head_ip:$port" >/dev/null 2>&1; do sleep 2; done
if ((SLURM_JOB_NUM_NODES > 1)); then
    srun --overlap --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) \
        --exclude="$head_node" \
        ray start --address="$head_ip:$port" --num-cpus="$SLURM_CPUS_PER_TASK" "${ray_options[@]}" &
fi

# In the background, since bash handles no signal while it waits for a command in the foreground.
focuspull-render run demo \
    --out "$OUT" \
    --splits '{train: 50000, val: 1000}' \
    --address "$head_ip:$port" --threads 1 --memory-gib 3.5 &
driver=$!
if ((stopped)); then kill -TERM "$driver" || true; fi

status=0
wait "$driver" || status=$?
while kill -0 "$driver" 2>/dev/null; do
    status=0
    wait "$driver" || status=$?
done
if ((stopped)); then
    scontrol requeue "$SLURM_JOB_ID" || true
fi
# 0: all is done. 1: so is the run, but for quarantined clips. 143: there is more to do.
exit "$status"
