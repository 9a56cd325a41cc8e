"""Runs on a store that fails, whose driver is killed, moved or started twice: the bytes are the same."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import s3fs
from moto.server import ThreadedMotoServer

from tests.chaos.proxy import FAULTS, Proxy
from tests.render.conftest import WEE
from tests.render.test_farm import shard_bytes

pytestmark = pytest.mark.mitsuba

BEAT = "stage/run.beat"
DURING_S = 120

# Found by every Python process of a run, Ray's too, on PYTHONPATH; modules are changed when they are loaded.
SITECUSTOMIZE = """
import importlib.util, json, os, socket, sys

settings = json.loads(os.environ["FOCUSPULL_CHAOS"])
if "host" in settings:
    socket.gethostname = lambda: settings["host"]

class Finder:
    def find_spec(self, name, path=None, target=None):
        values = settings["modules"].get(name)
        if values is None:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            for key, value in values.items():
                assert hasattr(module, key), key
                setattr(module, key, value)
            if name == "s3fs.core":  # its own tries, one in each of ours, take five seconds where all fail
                module.S3FileSystem.retries = 1
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@dataclass
class Store:
    """An S3 server with one bucket; runs reach it through a proxy or straight."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def files(self, name: str) -> dict[str, bytes]:
        """All that is in a corpus."""
        files = s3fs.S3FileSystem(key="x", secret="y", endpoint_url=self.url, skip_instance_cache=True)
        prefix = f"bucket/{name}/"
        return {
            path.removeprefix(prefix): bytes(content) for path, content in _cat(files, f"{prefix}**").items()
        }

    def start(self, name: str, url: str = "", *, host: str | None = None, beat_s: float = 30.0) -> Run:
        """Start a run into the bucket.

        Args:
            name: Of the corpus.
            url: Where the store is; empty: the server itself.
            host: What the machine calls itself; None: its own name.
            beat_s: Seconds between two beats.
        """
        modules = {
            "focuspull.dataset.storage": {"FIRST_PAUSE_S": 0.05, "MAX_PAUSE_S": 0.2},
            "focuspull.render.worker": {"STORAGE_TRIES": 4},
            "s3fs.core": {},
            "focuspull.render.heartbeat": {"REMOTE_BEAT_S": beat_s},
        }
        settings: dict[str, Any] = {"modules": modules} | ({"host": host} if host else {})
        paths = [str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": url or self.url,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "y",
            "AWS_DEFAULT_REGION": "us-east-1",
            # Checksums of whole bodies make aws-chunked ones, which the proxy cannot cut to size.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "PYTHONPATH": os.pathsep.join(paths),
            "FOCUSPULL_CHAOS": json.dumps(settings),
        }
        words = [sys.executable, "-m", "focuspull.render", "run", str(self.folder / "wee.yaml")]
        words += ["--out", f"s3://bucket/{name}", "--workers", "2"]
        log = self.folder / f"{name}-{time.monotonic_ns()}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        return Run(process, log)

    def claim(self, name: str) -> dict[str, Any]:
        """The claim to a corpus; empty if there is none."""
        content = self.files(name).get(BEAT)
        return json.loads(content) if content else {}


@dataclass
class Run:
    """A driver."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        """All that it has printed."""
        return self.log.read_text()

    def end(self) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait(DURING_S)

    def kill(self) -> None:
        """End it by SIGKILL."""
        assert self.process.poll() is None, self.text
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A server in this process."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "wee.yaml").write_text(WEE)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "x")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        try:
            port = server.get_host_and_port()[1]
            started = Store(port, folder)
            files = s3fs.S3FileSystem(key="x", secret="y", endpoint_url=started.url)
            _mkdir(files, "bucket")
            yield started
        finally:
            server.stop()


@pytest.fixture(scope="module")
def on_disk(store: Store) -> dict[str, bytes]:
    """The corpus, rendered on a local disk."""
    out = store.folder / "local"
    words = [sys.executable, "-m", "focuspull.render", "run", str(store.folder / "wee.yaml")]
    run = subprocess.run(
        [*words, "--out", str(out), "--workers", "2"],
        capture_output=True,
        text=True,
        timeout=DURING_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return shard_bytes(out)


@pytest.mark.slow
def test_a_store_that_is_down_ends_a_run_in_one_line_and_a_later_one_makes_the_bytes_of_a_disk(
    store: Store, on_disk: dict[str, bytes]
):
    with Proxy(store.port) as proxy:
        proxy.is_down = True
        run = store.start("down", proxy.url)
        assert run.end() == 2
        assert "bucket/down: cannot be read: " in one_line(run), run.text
        proxy.is_down = False
        with finally_killed(store.start("down", proxy.url)) as run:
            assert run.end() == 0, run.text
    assert_complete(store, "down", on_disk)


@pytest.mark.slow
def test_a_store_that_goes_down_in_mid_run_ends_it_and_a_later_run_goes_on(
    store: Store, on_disk: dict[str, bytes]
):
    with Proxy(store.port) as proxy:
        with finally_killed(store.start("gone", proxy.url)) as run:
            wait_for(lambda: is_under_way(store, "gone"), run)
            proxy.is_down = True
            assert run.end() == 2
        assert ": cannot be " in one_line(run), run.text
    with finally_killed(store.start("gone")) as run:
        assert run.end() == 0, run.text
    assert_complete(store, "gone", on_disk)


def test_a_store_that_fails_now_and_then_does_no_harm(store: Store, on_disk: dict[str, bytes]):
    with (
        Proxy(store.port, period=10, seed=1) as proxy,
        finally_killed(store.start("faults", proxy.url)) as run,
    ):
        assert run.end() == 0, run.text
        assert set(proxy.faults) == set(FAULTS), (proxy.faults, proxy.num_requests)
        assert sum(proxy.faults.values()) >= proxy.num_requests // 20
    assert_complete(store, "faults", on_disk)


@pytest.mark.slow
def test_a_killed_driver_is_started_again_here(store: Store, on_disk: dict[str, bytes]):
    with finally_killed(store.start("killed")) as run:
        wait_for(lambda: is_under_way(store, "killed"), run)
        run.kill()
    assert store.claim("killed")
    with finally_killed(store.start("killed")) as run:
        assert run.end() == 0, run.text
    assert "waiting" not in run.text
    assert_complete(store, "killed", on_disk)


def test_a_killed_driver_is_started_again_elsewhere_and_waits_for_silence(
    store: Store, on_disk: dict[str, bytes]
):
    with finally_killed(store.start("moved", beat_s=0.5)) as run:
        wait_for(lambda: is_under_way(store, "moved"), run)
        run.kill()
    before = store.claim("moved")
    with finally_killed(store.start("moved", host="elsewhere", beat_s=0.5)) as run:
        wait_for(lambda: "waiting up to 3 s for a sign of life" in run.text, run)
        began = time.monotonic()
        assert store.claim("moved") == before
        wait_for(lambda: store.claim("moved").get("host") == "elsewhere", run)
        assert time.monotonic() - began > 2
        assert run.end() == 0, run.text
    assert_complete(store, "moved", on_disk)


def test_of_two_drivers_at_once_the_second_gives_way(store: Store, on_disk: dict[str, bytes]):
    with Proxy(store.port) as proxy:
        # So that the first is at work for as long as the second takes to see that.
        proxy.hold = "/stage/clip-000002.tar"
        with finally_killed(store.start("twice", proxy.url, beat_s=2)) as first:
            wait_for(lambda: store.claim("twice").get("workers", 0) > 0, first)
            with finally_killed(store.start("twice", host="elsewhere", beat_s=2)) as second:
                assert second.end() == 2, second.text
            last = second.text.splitlines()[-1]
            assert last.startswith("focuspull-render: s3://bucket/twice/stage: a run is at work there"), last
            assert "Traceback" not in second.text
            assert first.process.poll() is None, first.text
            assert store.claim("twice")["pid"] == first.process.pid
            proxy.released.set()
            assert first.end() == 0, first.text
    assert_complete(store, "twice", on_disk)


def assert_complete(store: Store, name: str, expected: dict[str, bytes]) -> None:
    """That a corpus has the files of another, an index, and nothing else."""
    files = store.files(name)
    assert files.pop("index.parquet").startswith(b"PAR1")
    assert sorted(files) == sorted(expected)
    assert [name for name in files if files[name] != expected[name]] == []


def is_under_way(store: Store, name: str) -> bool:
    """Whether a clip is finished, of three."""
    return any(path.endswith(".json") and path != "corpus.json" for path in store.files(name))


def one_line(run: Run) -> str:
    """The message that a run has ended with; progress is no part of it."""
    assert "Traceback" not in run.text, run.text
    lines = [line for line in run.text.splitlines() if line.startswith("focuspull-render: ")]
    assert len(lines) == 1 and run.text.splitlines()[-1] == lines[0], run.text
    return lines[0]


def wait_for(condition: Callable[[], bool], run: Run) -> None:
    """Wait until something is so, while a run runs."""
    end = time.monotonic() + 60
    while not condition():
        assert run.process.poll() is None, run.text
        assert time.monotonic() < end, run.text
        time.sleep(0.05)


@contextlib.contextmanager
def finally_killed(run: Run) -> Generator[Run, None, None]:
    """A run that does not outlive a test."""
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait(30)


def _cat(files: Any, pattern: str) -> dict[str, bytes]:
    """Contents by path; what goes away meanwhile is left out."""
    paths = files.find(pattern.removesuffix("/**"))
    contents = files.cat(paths, on_error="omit") if paths else {}
    return contents if isinstance(contents, dict) else {paths[0]: contents}


def _mkdir(files: Any, path: str) -> None:
    files.mkdir(path)
