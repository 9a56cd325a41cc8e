"""The documents are true: manifests fit together, commands parse, links lead somewhere."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml

from focuspull.dataset.commands import overrides
from focuspull.render.cli import _parser
from focuspull.render.corpus import load_corpus
from focuspull.render.failures import TRIES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
UNITS = {"m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30}


def parsed(command: str) -> Namespace:
    """A ``focuspull-render`` command as the command line itself takes it."""
    program, *words = shlex.split(command)
    assert program == "focuspull-render"
    parser = _parser()
    arguments, extra = parser.parse_known_args(words)
    arguments.overrides = overrides(extra, parser, takes_fields="spec" in arguments)
    if "spec" in arguments and not arguments.spec.endswith(".yaml"):
        load_corpus(arguments.spec, arguments.overrides)
    return arguments


def commands(text: str) -> list[str]:
    """The ``focuspull-render`` commands of a page or script, continued lines joined, variables filled in."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [line.partition(" #")[0].strip().rstrip("&") for line in lines]
    return [
        re.sub(r"\$\w+", "x", line)
        for line in found
        if line.startswith("focuspull-render ") and "SPEC" not in line
    ]


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number."""
    number, unit = re.fullmatch(r"([\d.]+)(m|Mi|Gi)?", text).groups()  # type: ignore[union-attr]
    return float(number) * UNITS.get(unit, 1.0)


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return yaml.safe_load((DOCS / "kuberay.yaml").read_text())


def test_the_ray_job_has_what_kuberay_asks_for(job: dict[str, Any]):
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch("[a-z0-9-]{1,47}", job["metadata"]["name"])
    # The fields of RayJobSpec that are used here; Kubernetes drops others without a word.
    assert set(job["spec"]) == {
        "entrypoint",
        "submissionMode",
        "submitterConfig",
        "backoffLimit",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "rayClusterSpec",
    }
    cluster = job["spec"]["rayClusterSpec"]
    assert set(cluster) == {
        "rayVersion",
        "enableInTreeAutoscaling",
        "autoscalerOptions",
        "headGroupSpec",
        "workerGroupSpecs",
    }
    head, (group,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert set(head) == {"rayStartParams", "template"}
    assert set(group) == {
        "groupName",
        "replicas",
        "minReplicas",
        "maxReplicas",
        "rayStartParams",
        "template",
    }
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for part in (head, group):
        assert all(isinstance(value, str) for value in part["rayStartParams"].values())
        pod = part["template"]["spec"]
        assert pod["restartPolicy"] == "Never"  # the autoscaler wants it so
        (container,) = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        (shm,) = (v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if v["name"] == "shm")
        assert quantity(shm) > int(part["rayStartParams"]["object-store-memory"])
    ports = {
        port["name"]: port["containerPort"] for port in head["template"]["spec"]["containers"][0]["ports"]
    }
    assert ports == {"gcs": 6379, "dashboard": 8265, "client": 10001}
    images = {p["template"]["spec"]["containers"][0]["image"] for p in (head, group)}
    assert len(images) == 1


def test_the_versions_of_the_manifest_are_those_that_are_tested(job: dict[str, Any]):
    text = (DOCS / "kuberay.yaml").read_text()
    (ray,) = re.findall(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray
    assert f"ray[default]=={ray}" in text
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert f"focuspull:{version}" in text


def test_the_clips_of_the_manifest_fit_into_its_pods(job: dict[str, Any]):
    arguments = parsed(job["spec"]["entrypoint"])
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    per_pod = quantity(limits["cpu"]) // arguments.threads
    assert arguments.address == "auto" and arguments.out.startswith("s3://")
    assert arguments.workers == per_pod * group["maxReplicas"]
    assert per_pod * arguments.memory_gib * 2**30 < 0.95 * quantity(limits["memory"])
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["enableInTreeAutoscaling"]


def test_the_slurm_script_is_sound_and_its_requests_fit_together():
    script = DOCS / "slurm.sh"
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(script, os.X_OK)
    text = script.read_text()
    lines = re.findall(r"^#SBATCH --(.*)$", text, re.MULTILINE)
    # SLURM stops to look for them at the first command.
    assert text.index("#SBATCH --output") < text.index("set -euo")
    options = dict(line.partition("=")[::2] for line in lines)
    assert options["ntasks-per-node"] == "1" and int(options["nodes"]) > 1
    assert "requeue" in options and options["open-mode"] == "append"
    to, signum, seconds = re.fullmatch(r"(B):(\w+)@(\d+)", options["signal"]).groups()  # type: ignore[union-attr]
    assert (to, signum) == ("B", "TERM") and int(seconds) >= 60
    (command,) = commands(text)
    arguments = parsed(command)
    gib = float(options["mem-per-cpu"].removesuffix("G")) * arguments.threads
    assert arguments.memory_gib < gib


FAKES = {
    "scontrol": 'echo "scontrol $*" >>calls; if [ "$1" = show ]; then printf "n1\\nn2\\n"; fi',
    "hostname": "echo 192.0.2.1",
    "ray": 'echo "ray $*" >>calls; if [ "$1" = start ]; then exec sleep 60; fi',
    "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
    "focuspull-render": (
        "trap 'echo stopped >>calls; sleep 0.2; exit ${1_STOPPED}' TERM; echo \"driver $*\" >>calls\n"
        'for _ in $(seq "$SECONDS_OF_DRIVER"); do sleep 0.1; done; exit 1'
    ).replace("${1_STOPPED}", "143"),
}


@pytest.mark.parametrize("stopped", [True, False])
def test_the_slurm_script_passes_sigterm_and_the_exit_status_on(tmp_path: Path, stopped: bool):
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    (tmp_path / "bin").mkdir()
    for name, body in FAKES.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "32",
        "SECONDS_OF_DRIVER": "600" if stopped else "1",
    }
    calls = tmp_path / "calls"
    process = subprocess.Popen(
        ["bash", str(DOCS / "slurm.sh")], cwd=tmp_path, env=environment, start_new_session=True
    )
    try:
        for _ in range(1000):
            if calls.exists() and "driver" in calls.read_text():
                break
            time.sleep(0.05)
        if stopped:
            process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    finally:
        with contextlib.suppress(ProcessLookupError):  # all of it has ended
            os.killpg(process.pid, signal.SIGKILL)
    text = calls.read_text()
    assert "ray start --head --node-ip-address=192.0.2.1 --port=24711" in text
    assert "ray start --address=192.0.2.1:24711 --num-cpus=32" in text
    assert "--address 192.0.2.1:24711" in text
    assert status == (143 if stopped else 1)
    assert ("scontrol requeue 4711" in text) == ("stopped" in text) == stopped


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_commands_of_a_page_are_right(page: Path):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (page.parent / target).is_file(), target
    for module in re.findall(r"python -m (tests\.[\w.]+)", text):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module
    for command in commands(text):
        parsed(command)
    too_long = [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]
    assert too_long == []


def test_the_page_on_failures_has_the_tries_of_the_code():
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\d+) \|$", (DOCS / "farm.md").read_text(), re.MULTILINE)
    assert {name: int(tries) for name, tries in rows} == TRIES
