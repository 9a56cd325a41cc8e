"""The farm on a real Ray cluster: nodes join and are killed, clients are elsewhere, our code is a wheel."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from focuspull.dataset.check import check_corpus
from focuspull.dataset.errors import UserError
from focuspull.render.child import process_tree
from focuspull.render.cluster import make_wheel, ray_session
from focuspull.render.farm import Need
from tests.render.test_farm import shard_bytes

RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()")


class Cluster:
    """Nodes that are started one by one, each with a name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.client_port, self.agent_port = (_free_port() for _ in range(3))
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "disabled",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def start(self, *options: str) -> None:
        """Start one more node."""
        words = [*RAY, "start", "--object-store-memory", str(80 << 20), "--disable-usage-stats", *options]
        subprocess.run(
            words,
            env=self.environment,
            check=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )

    def start_head(self) -> None:
        """Start the node that renders nothing."""
        ports = ("--port", self.port, "--ray-client-server-port", self.client_port)
        ports += ("--runtime-env-agent-port", self.agent_port)
        options = ("--head", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self.folder}")
        self.start(*options, *map(str, ports))

    def join(self, name: str) -> None:
        """Start a node with one CPU."""
        self.start(f"--address=127.0.0.1:{self.port}", "--num-cpus=1", f"--node-name={name}")

    def raylet(self, name: str) -> int:
        """Process of a node."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode().split("\0")
            except OSError:
                continue  # it has ended since
            if words[0].endswith("/raylet") and f"--node-name={name}" in words:
                return int(path.parent.name)
        raise AssertionError(f"no node {name}")

    def stop(self) -> None:
        """Kill all of it."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                is_ours = str(self.folder).encode() in path.read_bytes()
            except OSError:
                continue
            if is_ours and int(path.parent.name) != os.getpid():
                try:
                    os.kill(int(path.parent.name), signal.SIGKILL)
                except ProcessLookupError:
                    continue


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head without CPUs and a node ``a`` with one."""
    # In it are sockets, which need short paths.
    folder = Path("/tmp") / f"fp-cluster-{os.getpid()}"
    started = Cluster(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        try:
            started.start_head()
            started.join("a")
            yield started
        finally:
            started.stop()
            subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.fixture(scope="module")
def undisturbed(wee: str, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Path:
    """Five clips, rendered on node ``a`` by our code as a wheel."""
    out = tmp_path_factory.mktemp("undisturbed") / "corpus"
    run = render(wee, out, f"127.0.0.1:{cluster.port}")
    assert run.returncode == 0, run.stderr
    return out


def render(wee: str, out: Path, address: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own as Ray's sessions are."""
    return subprocess.run(
        [*command(wee, out, address), *options], capture_output=True, text=True, timeout=180, check=False
    )


def command(wee: str, out: Path, address: str) -> list[str]:
    words = [sys.executable, "-m", "focuspull.render", "run", wee, "--out", str(out), "--address", address]
    fields = {"splits": "{train: 4, val: 1}", "clips_per_shard": "2", "quality.aif_samples": "1024"}
    return [*words, *(word for name, value in fields.items() for word in (f"--{name}", value))]


def stop_unfinished(child: int) -> bool:
    """Stop a process that has not staged its clip; any other goes on. Returns whether it was stopped.

    One that went on might stage its clip before its worker sees that the raylet is gone.
    """
    process = Path(f"/proc/{child}")
    try:
        words = (process / "cmdline").read_text().split("\0")
        job = Path(words[words.index("focuspull.render.worker") + 1])
        os.kill(child, signal.SIGSTOP)
        for _ in range(1000):
            if (process / "stat").read_text().rpartition(")")[2].split()[0] == "T":
                if not job.with_suffix(".json").exists():
                    return True
                break
            time.sleep(0.002)
        os.kill(child, signal.SIGCONT)
    except (OSError, ValueError):
        pass  # it has ended since
    return False


@pytest.mark.mitsuba
def test_a_cluster_makes_the_bytes_of_one_machine(wee: str, undisturbed: Path, tmp_path: Path):
    words = command(wee, tmp_path / "out", "local")
    assert subprocess.run(words, check=False, capture_output=True, timeout=180).returncode == 0
    assert shard_bytes(tmp_path / "out") == shard_bytes(undisturbed)


@pytest.mark.mitsuba
def test_a_driver_may_be_a_client_from_elsewhere(
    wee: str, undisturbed: Path, cluster: Cluster, tmp_path: Path
):
    run = render(wee, tmp_path / "out", f"ray://127.0.0.1:{cluster.client_port}")
    assert run.returncode == 0, run.stderr
    assert shard_bytes(tmp_path / "out") == shard_bytes(undisturbed)


@pytest.mark.mitsuba
def test_a_node_joins_another_is_killed_and_the_bytes_are_the_same(
    wee: str,
    undisturbed: Path,
    cluster: Cluster,
    tmp_path: Path,
    rendering: Callable[[Path], int],
    render_children: Callable[[Path], list[int]],
):
    out = tmp_path / "out"
    words = command(wee, out, f"127.0.0.1:{cluster.port}")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as driver:
        try:
            rendering(out)
            cluster.join("b")
            raylet = cluster.raylet("a")
            deadline = time.monotonic() + 60
            stopped = False
            while not stopped and driver.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
                if len(children := render_children(out)) == 2:
                    stopped = any(
                        stop_unfinished(child) for child in children if child in process_tree(raylet)
                    )
            assert stopped
            os.kill(raylet, signal.SIGKILL)
            _, error = driver.communicate(timeout=150)
        finally:
            driver.kill()
    assert driver.returncode == 0, error
    notes = [line for line in error.splitlines() if line.startswith("clip-")]
    assert any(re.search(r"its Ray worker is gone \(\w+\); trying again", note) for note in notes), notes
    assert shard_bytes(out) == shard_bytes(undisturbed)
    assert check_corpus(out) == []


def test_a_cluster_without_room_for_a_clip_is_one_line(wee: str, cluster: Cluster, tmp_path: Path):
    run = render(wee, tmp_path / "out", f"127.0.0.1:{cluster.port}", "--memory-gib", "100000")
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1] == (
        "focuspull-render: --threads, --gpus, --memory-gib: no node of the Ray cluster has room for a clip "
        "(1 CPUs, 0 GPUs, 100000 GiB). Ask for less, or give --workers and wait for nodes."
    )


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_no_cluster_is_one_line_at_once(scheme: str):
    address = f"{scheme}127.0.0.1:{_free_port()}"
    started = time.monotonic()
    with (
        pytest.raises(
            UserError, match=f"--address {address}: no Ray cluster answers there: Connection refused"
        ),
        ray_session(address, 1, Need()),
    ):
        pass
    assert time.monotonic() - started < 5


def test_what_a_node_has_room_for():
    node: dict[str, float] = {"CPU": 16.0, "GPU": 2.0, "memory": 64 * 2**30}
    assert Need().fits(node) == 16
    assert Need(threads=3).fits(node) == 5
    assert Need(gpus=0.5).fits(node) == 4
    assert Need(threads=2, memory_gib=20).fits(node) == 3
    assert Need(gpus=1).fits({"CPU": 16.0}) == 0
    assert Need().fits({"memory": 1e9}) == 0


def test_the_wheel_is_our_code_and_the_same_again(tmp_path: Path):
    paths: list[Path] = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        paths.append(make_wheel(tmp_path / name))
    assert paths[0].name == paths[1].name
    assert paths[0].read_bytes() == paths[1].read_bytes()
    target = tmp_path / "installed"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--target",
        str(target),
        str(paths[0]),
    ]
    subprocess.run(pip, check=True, timeout=120)
    names = {path.relative_to(target).as_posix() for path in target.rglob("*.py")}
    assert {"focuspull/render/tasks.py", "focuspull/dataset/shards.py"} <= names
    code = "import focuspull.render.tasks as tasks; from importlib import metadata; "
    code += "print(tasks.__file__, metadata.version('focuspull'))"
    environment = {**os.environ, "PYTHONPATH": str(target)}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(target / "focuspull/render/tasks.py"), metadata.version("focuspull")]
    with zipfile.ZipFile(paths[0]) as wheel:
        assert wheel.testzip() is None
        assert not any("__pycache__" in name for name in wheel.namelist())


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
