"""The claim of a run to a corpus: refused beside a live one, taken over from a dead or silent one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from focuspull.dataset.errors import UserError
from focuspull.dataset.storage import Folder
from focuspull.render import lease as lease_module
from focuspull.render.heartbeat import RUN_BEAT, RunBeat, process_start, read_beat, write_beat
from focuspull.render.lease import Lease


@pytest.fixture(params=["local", "memory"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """A staging folder on a disk, and one in a store that knows conditional puts."""
    if request.param == "local":
        yield Folder(tmp_path / "stage")
    else:
        yield Folder(f"memory://{tmp_path.name}/stage")
        fsspec.filesystem("memory").store.clear()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "POLL_S", 0.01)
    monkeypatch.setattr(lease_module, "beat_s", lambda stage: 0.1)


def make(stage: Folder) -> Lease:
    return Lease(stage, num_before=0, files={})


def of_another_host(every_s: float = 0.1) -> RunBeat:
    """The claim of a run that nothing is known of."""
    return RunBeat(
        host="another", pid=7, started_s=1.0, beat_s=1.0, workers=2, num_before=0, files={}, every_s=every_s
    )


def never(note: str) -> None:
    raise AssertionError(f"waits: {note}")


def test_a_free_corpus_is_claimed_and_given_back(stage: Folder):
    lease = make(stage)
    lease.take(never)
    there = read_beat(stage, RUN_BEAT, RunBeat)
    assert there is not None and lease.beat.same_run(there)
    assert (there.pid, there.process_start) == (os.getpid(), process_start(os.getpid()))
    lease.renew(workers=3)
    assert (read_beat(stage, RUN_BEAT, RunBeat) or lease.beat).workers == 3
    lease.release()
    assert stage.sizes() == {}


def test_a_live_run_of_another_machine_is_refused(stage: Folder):
    stage.write(RUN_BEAT, of_another_host(every_s=10).model_dump_json().encode())
    alive = threading.Event()

    def beat() -> None:
        while not alive.wait(0.05):
            there = of_another_host(every_s=10).model_copy(update={"beat_s": time.time()})
            write_beat(stage, RUN_BEAT, there)

    beating = threading.Thread(target=beat)
    beating.start()
    notes: list[str] = []
    try:
        with pytest.raises(
            UserError, match=r"stage: a run is at work there, process 7 on another\. Wait for it"
        ):
            make(stage).take(notes.append)
    finally:
        alive.set()
        beating.join()
    assert [note for note in notes if note] == [
        f"{stage.address}: waiting up to 60 s for a sign of life of the run of process 7 on another"
    ]
    there = read_beat(stage, RUN_BEAT, RunBeat)
    assert there is not None and there.host == "another"


def test_a_silent_run_of_another_machine_is_taken_over_after_a_while(stage: Folder):
    stage.write(RUN_BEAT, of_another_host().model_dump_json().encode())
    lease = make(stage)
    started = time.monotonic()
    lease.take(lambda _: None)
    assert lease_module.SILENT_BEATS * 0.1 <= time.monotonic() - started < 5
    assert lease.beat.same_run(read_beat(stage, RUN_BEAT, RunBeat))


def test_a_dead_run_of_this_machine_and_an_ended_one_are_taken_over_at_once(stage: Folder):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        start = process_start(child.pid)
        here = make(stage).beat.model_copy(
            update={"pid": child.pid, "process_start": start, "started_s": 1.0}
        )
        stage.write(RUN_BEAT, here.model_dump_json().encode())

        def stop(note: str) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):  # it is alive
            make(stage).take(stop)
        child.communicate(b"\n")
    make(stage).take(never)
    # The number of a process is given again, its start is not.
    recycled = here.model_copy(update={"pid": os.getpid(), "process_start": 1})
    stage.write(RUN_BEAT, recycled.model_dump_json().encode())
    make(stage).take(never)
    ended = of_another_host(every_s=1000).model_copy(update={"ended": True})
    stage.write(RUN_BEAT, ended.model_dump_json().encode())
    make(stage).take(never)


def test_what_is_no_claim_is_replaced_after_a_while(stage: Folder):
    stage.write(RUN_BEAT, b"{")
    lease = make(stage)
    started = time.monotonic()
    lease.take(lambda _: None)
    # Not at once: it may have been replaced while it was read.
    assert time.monotonic() - started >= lease_module.SILENT_BEATS * 0.1
    assert lease.beat.same_run(read_beat(stage, RUN_BEAT, RunBeat))


def test_a_run_that_was_taken_over_stops_and_leaves_the_other_alone(stage: Folder):
    lease = make(stage)
    lease.take(never)
    other = of_another_host()
    stage.write(RUN_BEAT, other.model_dump_json().encode())
    with pytest.raises(UserError, match=r"the run of process 7 on another has taken over"):
        lease.renew()
    lease.release()
    assert read_beat(stage, RUN_BEAT, RunBeat) == other


def test_of_many_that_claim_at_once_one_succeeds(tmp_path: Path):
    stage = Folder(tmp_path)
    won: list[int] = []

    def claim(number: int) -> None:
        if stage.create("claim", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert stage.read("claim", limit=9) == str(won[0]).encode()
    assert list(stage.sizes()) == ["claim"]
