"""Ray: starts it or joins a cluster, and runs the farm's tasks there; the only file that imports it.

Nodes may join and leave at any time. What they need of us is their Python environment with the renderers; our
own code goes with the tasks, as a wheel in the runtime environment, so that it is the driver's on every node.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from focuspull.dataset.errors import UserError
from focuspull.render.farm import Lost, Need, StoppedError
from focuspull.render.tasks import pack_staged, render_clip

OBJECT_STORE_BYTES = 80 << 20  # Ray's minimum is 75 MiB; nothing large passes through it.
SESSION_PREFIX = "fp-ray-"
"""Of the folders with Ray's sessions; the number of the driver's process follows."""
CONNECT_S = 5.0
CAPACITY_S = 5.0
"""How often the nodes of a cluster are counted, and a Ray of our own is looked at if no task ends."""
PARTS = ("dataset", "model", "render", "train")
"""Our packages, all that the wheel has."""


@contextmanager
def ray_session(address: str | None, workers: int | None, need: Need) -> Generator[RayExecutor, None, None]:
    """Start Ray or join a cluster.

    Args:
        address: Of a cluster: ``auto``, ``host:port`` or ``ray://host:port``; None or ``local`` starts Ray on
            this machine, unless the process has a Ray session already.
        workers: Clips rendered at a time; None: as many as there is room for.
        need: Of one clip.

    Raises:
        UserError: If no cluster answers, or none of its nodes has room for a clip.
        StoppedError: By SIGTERM while Ray starts.
    """
    # Ray reads these when it is imported.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from ray._private import worker as ray_worker
    from ray.exceptions import AuthenticationError

    # The end of a raylet would print the last lines of its log; what came of it the farm says in one line.
    ray_worker.print_to_stdstream = _say_nothing

    if ray.is_initialized():
        yield RayExecutor(workers, need)
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    # Ray's default, /tmp/ray, belongs to the machine's first user. In it are sockets, which need short paths.
    _remove_sessions_of_killed_drivers()
    folder = Path(tempfile.mkdtemp(prefix=f"{SESSION_PREFIX}{os.getpid()}-", dir="/tmp"))
    try:
        if address in (None, "local"):
            workers = workers or max(1, num_cores() // need.threads)
            start = partial(
                ray.init,
                num_cpus=workers * need.threads,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=str(folder),
                **quiet,
            )
            start()
            yield RayExecutor(workers, need, start)
        else:
            _connect_to(address)
            wheel = make_wheel(folder)
            ray.init(address=address, runtime_env={"py_modules": [str(wheel)]}, **quiet)
            yield RayExecutor(workers, need)
    except (ConnectionError, AuthenticationError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        hint = "Start one with: ray start --head; if it asks for a token, set RAY_AUTH_MODE=token here too"
        raise UserError(f"--address {address}: no Ray cluster answers there: {reason}. {hint}.") from error
    except SystemExit as error:  # from Ray's handler of SIGTERM, which is in place while Ray starts
        raise StoppedError(signal.SIGTERM) from error
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _say_nothing(*_: object, **__: object) -> None:
    pass


def _remove_sessions_of_killed_drivers() -> None:
    for path in Path("/tmp").glob(f"{SESSION_PREFIX}[0-9]*-*"):
        pid = path.name.removeprefix(SESSION_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)  # another user's stays


def _connect_to(address: str) -> None:
    """Raise `ConnectionError` if nothing listens at ``host:port``; Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from error


@dataclass
class RayExecutor:
    """Runs the farm's tasks in Ray; see `focuspull.render.farm.Executor`.

    Args:
        workers: Clips rendered at a time; None: as many as the nodes have room for, counted now and then.
        need: Of one clip.
        start: Starts Ray again, if it is ours alone: no other node would ever join.
    """

    workers: int | None
    need: Need
    start: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        import ray

        # Retries are the driver's business: it knows why a task has failed.
        gib = self.need.memory_gib
        self._render = ray.remote(render_clip).options(
            num_cpus=self.need.threads,
            num_gpus=self.need.gpus,
            memory=None if gib is None else int(gib * 2**30),
            max_retries=0,
        )
        # Without a CPU of its own: it waits for disks, and must not wait for clips.
        self._pack = ray.remote(pack_staged).options(num_cpus=0, max_retries=0)
        self._running: set[Any] = set()
        self._lost: set[Any] = set()
        self._is_down = False
        self._looked_at = time.monotonic()
        self._counted = 0
        self._counted_at = -CAPACITY_S
        if not self.capacity() and self.workers is None:
            asked = f"{self.need.threads} CPUs, {self.need.gpus:g} GPUs"
            asked += "" if gib is None else f", {gib:g} GiB"
            raise UserError(
                f"--threads, --gpus, --memory-gib: no node of the Ray cluster has room for a clip ({asked}). "
                "Ask for less, or give --workers and wait for nodes."
            )

    def capacity(self) -> int:
        """Clips that may be in work at a time."""
        if self._is_down:
            self._start_again()
        if self._is_down:
            return 0
        if self.workers is not None:
            return self.workers
        if time.monotonic() - self._counted_at >= CAPACITY_S:
            import ray

            nodes: list[dict[str, Any]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._counted = sum(self.need.fits(node) for node in nodes)
            self._counted_at = time.monotonic()
        return self._counted

    def render(self, job_json: str) -> Any:
        """Start `render_clip`."""
        handle = self._render.remote(job_json)
        self._running.add(handle)
        return handle

    def pack(self, job_json: str) -> Any:
        """Start `pack_staged`."""
        handle = self._pack.remote(job_json)
        self._running.add(handle)
        return handle

    def wait(self, handles: Sequence[Any], timeout_s: float) -> list[Any]:
        """Those of the tasks that have ended; waits for the first."""
        import ray

        if lost := [handle for handle in handles if handle in self._lost]:
            return lost
        ready, _ = ray.wait(list(handles), num_returns=len(handles), timeout=0)
        ready = ready or ray.wait(list(handles), timeout=timeout_s)[0]
        if not ready and self.start is not None and time.monotonic() - self._looked_at >= CAPACITY_S:
            # Tasks that were given to a raylet after its end wait forever.
            self._looked_at = time.monotonic()
            self._is_down = not any(node["Alive"] for node in ray.nodes())
        return ready

    def result(self, handle: Any) -> dict[str, Any] | Lost:
        """What a task has returned; a worker process that is gone takes its child along."""
        import ray
        from ray.exceptions import (
            LocalRayletDiedError,
            OutOfMemoryError,
            RayError,
            RayTaskError,
            RuntimeEnvSetupError,
        )

        self._running.discard(handle)
        if handle in self._lost:
            self._lost.remove(handle)
            return Lost("Ray on this machine was killed, and has been started again", "machine")
        try:
            return ray.get(handle)
        except RayTaskError as error:
            if "failed to import on the worker" not in str(error):
                raise  # an exception in the task, so our mistake
            return Lost(f"a node cannot import our code: {_last_line(error)}", "machine")
        except RuntimeEnvSetupError as error:
            return Lost(f"a node cannot install our code, which takes pip: {_last_line(error)}", "machine")
        except RayError as error:
            # Ray ends workers of a node that is short of memory; all else is the fault of machine or network.
            failure = "memory" if isinstance(error, OutOfMemoryError) else "machine"
            self._is_down = self._is_down or (
                self.start is not None and isinstance(error, LocalRayletDiedError)
            )
            return Lost(f"its Ray worker is gone ({type(error).__name__})", failure)

    def cancel(self, handle: Any) -> None:
        """Kill a task, whatever it does."""
        import ray

        if handle not in self._lost:
            ray.cancel(handle, force=True)

    def _start_again(self) -> None:
        """Start Ray again, unless there are results to be fetched before. Its workers end with a raylet."""
        import ray

        running = list(self._running)
        if self.start is None or (running and ray.wait(running, timeout=0)[0]):
            return
        self._lost |= self._running
        handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
        ray.shutdown()
        self.start()
        for signum, handler in handlers.items():  # starting Ray has put one of its own in place
            signal.signal(signum, handler)
        self._is_down = False


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()


def make_wheel(folder: Path) -> Path:
    """Our code as a wheel, the same bytes for the same code, with the code's hash in its name.

    It asks for no other packages: the nodes have them, and need no index of packages.
    """
    contents: dict[str, bytes] = {}
    for part in PARTS:
        root = Path(__file__).parents[1] / part
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                contents[f"focuspull/{part}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    # A local version would not be that of the driver, which clips are stamped with; a build tag may differ.
    version = metadata.version("focuspull")
    info = f"focuspull-{version}.dist-info"
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: focuspull\nVersion: {version}\n".encode()
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*contents, f"{info}/RECORD"]).encode()
    path = folder / f"focuspull-{version}-0{digest.hexdigest()[:16]}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name)  # of 1980
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, content)
    return path


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))
