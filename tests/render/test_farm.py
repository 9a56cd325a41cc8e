"""The farm: the same bytes whatever happens, and what is said when a clip cannot be rendered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from focuspull.dataset.check import check_corpus
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import read_index
from focuspull.dataset.storage import Folder
from focuspull.render import cluster, farm
from focuspull.render.corpus import load_corpus
from focuspull.render.failures import TRIES, Quarantined, read_quarantine, write_quarantine
from focuspull.render.farm import Need, Progress, StoppedError, run_corpus
from focuspull.render.lease import Lease
from focuspull.render.ledger import describe_corpus, load_begun, read_ledger
from focuspull.render.randomize import randomize
from focuspull.render.status import Status, read_status
from focuspull.render.worker import EXIT_OUTPUT, Ended

pytestmark = pytest.mark.mitsuba
NAMES = ("train-000000", "train-000001", "val-000000")


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    """One Ray for all tests of this file: starting it takes longer than rendering the clips."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def reference(wee: str, tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """The corpus of an undisturbed run with one worker."""
    out = tmp_path_factory.mktemp("reference") / "corpus"
    report = run_corpus(load_corpus(wee), out, workers=1)
    assert (report.num_clips, report.num_shards, report.num_rendered, report.failed) == (3, 3, 3, ())
    return out


def shard_bytes(corpus: Path) -> dict[str, bytes]:
    """Everything of a corpus except the index, which has the render times."""
    return {
        path.relative_to(corpus).as_posix(): path.read_bytes()
        for path in corpus.rglob("*")
        if path.is_file() and path.name != "index.parquet"
    }


def test_a_run_makes_a_sound_corpus_and_leaves_nothing_else(reference: Path):
    assert check_corpus(reference) == []
    files = {f"{name}.{suffix}" for name in NAMES for suffix in ("tar", "json")}
    assert {path.name for path in reference.iterdir()} == files | {"corpus.json", "index.parquet"}
    rows = read_index(reference)
    assert [(row["key"], row["split"]) for row in rows] == [
        ("clip-000000", "train"),
        ("clip-000001", "train"),
        ("clip-000002", "val"),
    ]
    assert all(row["render_seconds"] > 0 for row in rows)


def test_two_workers_make_the_same_bytes(wee: str, reference: Path, tmp_path: Path):
    seen: list[Progress] = []
    run_corpus(load_corpus(wee), tmp_path / "out", workers=2, progress=seen.append)
    assert shard_bytes(tmp_path / "out") == shard_bytes(reference)
    assert {(p.done, p.failed, p.left) for p in seen} >= {(0, 0, 3), (3, 0, 0)}
    assert all(p.done + p.failed + p.left == 3 for p in seen)
    assert seen[0].clip_s is None and seen[-1].clip_s is not None


def test_another_seed_makes_other_bytes(wee: str, reference: Path, tmp_path: Path):
    overrides = {"seed": "1", "splits": "{train: 1}"}
    run_corpus(load_corpus(wee, overrides), tmp_path / "out", workers=1)
    assert (tmp_path / "out" / "train-000000.tar").read_bytes() != (
        reference / "train-000000.tar"
    ).read_bytes()


def test_a_finished_corpus_needs_no_ray(
    wee: str, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(reference, tmp_path / "out")
    monkeypatch.setattr(cluster, "ray_session", None)
    report = run_corpus(load_corpus(wee), tmp_path / "out", workers=1)
    assert (report.num_clips, report.num_rendered) == (3, 0)
    assert shard_bytes(tmp_path / "out") == shard_bytes(reference)


def test_a_shard_that_is_gone_or_cut_is_rendered_again(wee: str, reference: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(reference, out)
    (out / "train-000001.json").unlink()
    with (out / "val-000000.tar").open("r+b") as file:
        file.truncate(1000)
    assert run_corpus(load_corpus(wee), out, workers=2).num_rendered == 2
    assert shard_bytes(out) == shard_bytes(reference)
    assert check_corpus(out) == []


def test_a_child_killed_in_mid_clip_is_started_again(
    wee: str, reference: Path, tmp_path: Path, rendering: Callable[[Path], int]
):
    out = tmp_path / "out"
    notes: list[str] = []
    killer = threading.Thread(target=lambda: os.kill(rendering(out), signal.SIGKILL))
    killer.start()
    report = run_corpus(load_corpus(wee), out, workers=1, progress=lambda p: notes.append(p.note))
    killer.join()
    assert [note for note in notes if note] == ["clip-000000: killed by SIGKILL; trying again (2 of 3)"]
    assert (report.num_rendered, report.failed) == (3, ())
    assert shard_bytes(out) == shard_bytes(reference)


def test_a_killed_ray_worker_takes_its_child_along_and_the_clip_is_started_again(
    wee: str, reference: Path, tmp_path: Path, rendering: Callable[[Path], int]
):
    out = tmp_path / "out"
    notes: list[str] = []
    alive: list[bool] = []

    def kill() -> None:
        child = rendering(out)
        status = Path(f"/proc/{child}/status").read_text()
        parent = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
        os.kill(int(parent), signal.SIGKILL)
        time.sleep(0.5)
        alive.append(Path(f"/proc/{child}/maps").exists() and bool(Path(f"/proc/{child}/maps").read_text()))

    killer = threading.Thread(target=kill)
    killer.start()
    report = run_corpus(load_corpus(wee), out, workers=1, progress=lambda p: notes.append(p.note))
    killer.join()
    assert alive == [False]
    assert [note for note in notes if note] == [
        "clip-000000: its Ray worker is gone (WorkerCrashedError); trying again (2 of 10, in 1 s)"
    ]
    assert report.failed == ()
    assert shard_bytes(out) == shard_bytes(reference)


def test_a_clip_that_is_always_killed_is_quarantined_and_the_others_go_on(
    wee: str, reference: Path, tmp_path: Path, rendering: Callable[[Path], int]
):
    out = tmp_path / "out"

    def kill() -> None:
        killed: set[int] = set()
        while len(killed) < TRIES["crash"]:
            child = rendering(out)
            if child not in killed and b"clip-000000.job" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)
                killed.add(child)

    killer = threading.Thread(target=kill)
    killer.start()
    report = run_corpus(load_corpus(wee), out, workers=1)
    killer.join()
    assert [(clip.key, clip.reason) for clip in report.failed] == [("clip-000000", "killed by SIGKILL")]
    assert (report.num_clips, report.num_rendered) == (2, 2)
    log = report.failed[0].log
    assert log is not None and log == str(out / "stage" / "clip-000000.log") and Path(log).exists()
    assert report.num_quarantined == 1
    scene = randomize(load_corpus(wee).spec, 0).sha256()
    assert json.loads((out / "quarantine.jsonl").read_text()) == {
        "key": "clip-000000",
        "scene_sha256": scene,
        "class": "crash",
        "reason": "killed by SIGKILL",
        "attempts": 3,
        "log": "stage/clip-000000.log",
    }
    # The same command leaves it alone, and does not even start Ray; what is known of it stays.
    before = shard_bytes(out)
    again = run_corpus(load_corpus(wee), out, workers=1)
    assert (again.num_rendered, again.failed, again.num_quarantined) == (0, (), 1)
    assert without_beat(shard_bytes(out)) == without_beat(before)
    # Asked for, it is rendered, and no trace of the failure is left.
    report = run_corpus(load_begun(out), out, workers=1, retry=())
    assert (report.num_rendered, report.num_clips, report.num_quarantined) == (1, 3, 0)
    assert shard_bytes(out) == shard_bytes(reference)


def without_beat(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Files without the sign of life of the run, which has times."""
    return {name: content for name, content in contents.items() if name != "stage/run.beat"}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_kills_its_children_and_continues_when_run_again(
    wee: str,
    reference: Path,
    tmp_path: Path,
    rendering: Callable[[Path], int],
    render_children: Callable[[Path], list[int]],
    signum: signal.Signals,
):
    out = tmp_path / "out"

    def stop() -> None:
        while not (out / "train-000000.json").exists():
            time.sleep(0.02)
        rendering(out)
        os.kill(os.getpid(), signum)

    before = signal.getsignal(signum)
    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(StoppedError) as caught:
        run_corpus(load_corpus(wee), out, workers=1)
    stopper.join()
    assert caught.value.signum == signum
    assert signal.getsignal(signum) == before
    deadline = time.monotonic() + 10
    while render_children(out) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert render_children(out) == []
    # No sign of life, and a stopped clip is no failed one.
    status = read_status(out, time.time())
    assert (status.is_live, status.running, status.lost, status.failed) == (False, (), (), 0)
    # The clip in work may have been finished in the moment before it was to be stopped.
    assert status.done in (1, 2) and (status.run is None or status.run.ended)
    assert run_corpus(load_corpus(wee), out, workers=1).num_rendered == 3 - status.done
    assert shard_bytes(out) == shard_bytes(reference)


def test_a_clip_that_fails_does_not_stop_the_others(wee: str, tmp_path: Path):
    text = Path(wee).read_text()
    head, world = text.split("  - family: world\n")
    world, targets = world.split("targets:\n")
    sky = world.replace("look_at_m: [0, 0, 0.6]", "look_at_m: [0, -8, 9]")
    path = tmp_path / "mixed.yaml"
    path.write_text(f"{head}  - family: world\n{world}  - family: world\n{sky}targets:\n{targets}")
    loaded = load_corpus(str(path), {"splits": "{train: 4}", "clips_per_shard": "1"})
    bad = [
        f"clip-{index:06d}"
        for index in range(4)
        if randomize(loaded.spec, index).world.camera.path.look_at_m[1] == -8
    ]
    assert 0 < len(bad) < 4, "choose another seed"
    out = tmp_path / "out"
    report = run_corpus(loaded, out, workers=2)
    assert sorted(clip.key for clip in report.failed) == bad
    assert {clip.reason for clip in report.failed} == {
        "scene: nothing but sky is in view. Move the camera or the objects."
    }
    assert report.num_clips == report.num_rendered == 4 - len(bad)
    assert {path.stem for path in (out / "stage").glob("*.log")} == set(bad)
    assert check_corpus(out) == []
    # Tried again, they fail again, and stay where they were: this is no mistake in the whole spec.
    again = run_corpus(load_begun(out), out, workers=2, retry=[int(bad[0][-6:])])
    assert [clip.key for clip in again.failed] == bad[:1]
    assert sorted(read_quarantine(out)) == bad
    assert read_quarantine(out)[bad[0]].failure == "scene"
    with pytest.raises(UserError, match=r"^--clip 99: is not in .*quarantine\.jsonl\. There are: "):
        run_corpus(loaded, out, retry=[99])


def test_a_shard_waits_for_its_quarantined_clip_and_has_the_same_bytes_afterwards(wee: str, tmp_path: Path):
    loaded = load_corpus(wee, {"clips_per_shard": "2"})
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    run_corpus(loaded, undisturbed, workers=2)
    # As if an earlier run had given up the first clip.
    out.mkdir()
    (out / "corpus.json").write_bytes(describe_corpus(loaded.spec))
    scene = randomize(loaded.spec, 0).sha256()
    clip = Quarantined(
        key="clip-000000", scene_sha256=scene, failure="memory", reason="too big", attempts=2, log=None
    )
    write_quarantine(out, [clip])
    seen: list[Progress] = []
    report = run_corpus(loaded, out, workers=2, progress=seen.append)
    assert (report.num_rendered, report.num_clips, report.num_quarantined) == (2, 1, 1)
    assert (seen[-1].done, seen[-1].failed, seen[-1].left) == (2, 1, 0)
    assert not (out / "train-000000.tar").exists()
    assert (out / "stage" / "clip-000001.json").exists()
    assert check_corpus(out) == []
    run_corpus(load_begun(out), out, workers=2, retry=(0,))
    assert shard_bytes(out) == shard_bytes(undisturbed)


def test_quarantine_is_of_a_scene_so_another_spec_starts_without(wee: str, tmp_path: Path):
    clip = Quarantined(
        key="clip-000000", scene_sha256="0" * 64, failure="error", reason="x", attempts=2, log=None
    )
    write_quarantine(tmp_path, [clip])
    ledger = read_ledger(load_corpus(wee).spec, tmp_path)
    assert (ledger.left, ledger.quarantined) == ((0, 1, 2), {})


def test_machine_faults_wait_longer_each_time_and_have_a_budget_of_their_own(wee: str, tmp_path: Path):
    loaded = load_corpus(wee)
    notes: list[str] = []
    run = farm._Run(
        loaded,
        Folder(tmp_path),
        Need(),
        lambda p: notes.append(p.note),
        read_ledger(loaded.spec, tmp_path),
        farm._Stop(),
        Lease(Folder(tmp_path / "stage"), num_before=0, files={}),
    )
    lost = Ended(False, -9, "its Ray worker is gone (NodeDiedError)", "machine")
    crash = Ended(False, -11, "killed by SIGSEGV", "crash")
    pauses = [run._pause_s(0, lost) for _ in range(TRIES["machine"] - 1)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert notes[1] == "clip-000000: its Ray worker is gone (NodeDiedError); trying again (3 of 10, in 2 s)"
    # Nine lost machines have cost the clip none of its three crashes.
    assert [run._pause_s(0, crash) for _ in range(3)] == [0, 0, None]
    assert run._pause_s(0, lost) is None
    # Output that cannot be written is no clip's fault.
    with pytest.raises(UserError, match="^no space$"):
        run._pause_s(1, Ended(False, EXIT_OUTPUT, "no space"))


def test_one_mistake_in_all_clips_is_one_line(wee: str, tmp_path: Path):
    loaded = load_corpus(wee, {"scenes.0.world.camera.path.look_at_m": "[0, -8, 9]"})
    with pytest.raises(
        UserError, match=r"^scene: nothing but sky is in view\. Move the camera or the objects\.$"
    ):
        run_corpus(loaded, tmp_path / "out", workers=2)
    assert not list(tmp_path.rglob("*.tar"))


def test_a_run_without_any_good_clip_gives_up_early(wee: str, tmp_path: Path):
    loaded = load_corpus(wee, {"scenes.0.world.objects.1.role": "set", "splits": "{train: 1000}"})
    started = time.monotonic()
    with pytest.raises(UserError, match="^targets: focus on a 'subject', but the scene has no such object"):
        run_corpus(loaded, tmp_path / "out", workers=2)
    assert time.monotonic() - started < 20


def test_a_full_disk_stops_the_run_with_one_line(wee: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "disk"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "focuspull-test", str(out)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("not allowed to mount a small disk")
    try:
        with pytest.raises(UserError, match="3 clips need up to 0.3 MB, but 0.1 MB are free"):
            run_corpus(load_corpus(wee), out, workers=1)
        assert list(out.iterdir()) == []
        # As if something else filled the disk after the run has begun.
        monkeypatch.setattr(farm, "refuse_full_disk", lambda *_: None)
        with pytest.raises(UserError, match="cannot be written: No space left on device. Free some space"):
            run_corpus(load_corpus(wee), out, workers=1)
        assert not list(out.glob("train-*")) or check_corpus(out) == []
        assert not list(out.rglob(".tmp-*"))
    finally:
        subprocess.run(["umount", "--lazy", str(out)], check=True)


def test_a_folder_that_cannot_be_written_to_is_one_line(wee: str, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/out: cannot be written: Not a directory"):
        run_corpus(load_corpus(wee), tmp_path / "file" / "out", workers=1)


def test_another_spec_in_the_folder_is_refused_before_anything_happens(
    wee: str, reference: Path, tmp_path: Path
):
    out = tmp_path / "out"
    shutil.copytree(reference, out)
    (out / "val-000000.json").unlink()
    before = shard_bytes(out)
    with pytest.raises(UserError, match=r"film\.width: 64 there, 96 asked"):
        run_corpus(load_corpus(wee, {"film.width": "96"}), out, workers=1)
    # Without the description, the shards' markers still tell.
    (out / "corpus.json").rename(tmp_path / "corpus.json")
    with pytest.raises(UserError, match=r"train-000000\.json: belongs to another spec"):
        run_corpus(load_corpus(wee, {"film.width": "96"}), out, workers=1)
    (tmp_path / "corpus.json").rename(out / "corpus.json")
    assert shard_bytes(out) == before


def test_status_follows_a_run_and_agrees_with_it(wee: str, tmp_path: Path):
    out = tmp_path / "out"
    seen: list[tuple[Progress, Status]] = []
    run_corpus(
        load_corpus(wee, {"splits": "{train: 3}", "clips_per_shard": "2"}),
        out,
        workers=1,
        progress=lambda progress: seen.append((progress, read_status(out, time.time()))),
    )
    # The driver hears of a clip a moment after it is there.
    assert all(0 <= s.done - p.done == p.left - s.left <= 1 for p, s in seen)
    assert {(s.committed_clips, s.staged) for _, s in seen} >= {(0, 0), (0, 1), (2, 0), (3, 0)}
    assert {len(s.running) for _, s in seen} == {0, 1}
    assert all(s.is_live and not s.lost for _, s in seen)
    last = seen[-1]
    assert last[0].clip_s == pytest.approx(last[1].clip_s, rel=0.3)
    # A finished corpus has no trace of the run.
    status = read_status(out, time.time())
    assert (status.done, status.left, status.run, status.committed_shards) == (3, 0, None, 2)


def test_a_clip_over_its_memory_limit_is_quarantined_after_two_tries(wee: str, tmp_path: Path):
    notes: list[str] = []
    report = run_corpus(
        load_corpus(wee, {"splits": "{train: 1}"}),
        tmp_path / "out",
        workers=1,
        need=Need(memory_gib=0.01),
        progress=lambda p: notes.append(p.note),
    )
    (clip,) = read_quarantine(tmp_path / "out").values()
    assert (clip.failure, clip.attempts, report.num_quarantined) == ("memory", 2, 1)
    assert clip.reason.endswith("GiB of memory, 0.01 are allowed (--memory-gib)")
    assert [note.partition("; ")[2] for note in notes if note] == ["trying again (2 of 2)"]
