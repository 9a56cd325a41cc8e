"""The driver at 2,000 clips on simulated workers: what it asks of the storage, and what a resume reads."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from focuspull.dataset.check import check_corpus
from focuspull.dataset.storage import Folder
from focuspull.render import farm
from focuspull.render.failures import Quarantined, read_quarantine
from focuspull.render.farm import Need
from focuspull.render.heartbeat import BEAT_S
from focuspull.render.lease import Lease
from focuspull.render.ledger import read_ledger
from tests.benchmarks import farm_scale
from tests.benchmarks.farm_scale import Calls, Phase

pytestmark = pytest.mark.mitsuba  # the spec's; nothing is rendered
CLIPS, WORKERS = 2000, 100
POISON = frozenset({3, 700, 1999})


@pytest.fixture(scope="module")
def phases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Phase]]:
    """A corpus begun, stopped at half, continued, run again with nothing left but three poisoned clips."""
    out = tmp_path_factory.mktemp("scale") / "corpus"
    run = partial(farm_scale.run_phase, clips=CLIPS, out=out, workers=WORKERS)
    return out, [
        run("first half", stop_at=CLIPS // 2, poison=POISON),
        run("second half", poison=POISON),
        run("quarantine", poison=POISON),
        run("retry", retry=()),
        run("nothing"),
    ]


def requests(phase: Phase, who: str, *kinds: str) -> int:
    """Requests of one kind of process."""
    return sum(count for (asks, kind), count in phase.calls.items() if asks == who and kind in kinds)


def test_faults_and_a_stop_lose_and_double_nothing(phases: tuple[Path, list[Phase]]):
    out, (first, second, quarantine, retry, nothing) = phases
    assert first.report is None
    assert sum(phase.clips for phase in phases[1]) == CLIPS
    assert second.ended["crash"] + first.ended["crash"] >= 3 * len(POISON)
    assert second.ended["lost"] and second.report is not None
    assert second.report.num_quarantined == len(POISON)
    assert quarantine.clips == 0 and quarantine.report is not None and quarantine.report.num_quarantined == 3
    assert retry.clips == 3 and retry.report is not None and retry.report.num_quarantined == 0
    assert nothing.report is not None
    assert (nothing.report.num_clips, nothing.report.num_rendered) == (CLIPS, 0)
    assert check_corpus(out) == []
    names = {path.name for path in out.iterdir() if not path.name.startswith(("train-", "val-"))}
    assert names == {"corpus.json", "index.parquet"}


def test_the_driver_asks_little_of_the_storage_for_a_clip(phases: tuple[Path, list[Phase]]):
    for phase in phases[1][:2]:
        everything = requests(phase, "driver", "PUT", "HEAD", "GET", "LIST")
        # Rows of shards and the index; what the resume read; its own sign of life; a few for every failure.
        failures = phase.ended["crash"] + phase.ended["lost"]
        beats = phase.simulated_s / BEAT_S
        assert everything - phase.ready_reads - 4 * beats - 3 * failures < 0.25 * phase.clips
        assert phase.cpu_s / phase.clips < 0.02
        # None of the tasks, of which there are as many as clips, lists a folder that grows with the corpus.
        assert requests(phase, "render", "LIST") == requests(phase, "pack", "LIST") == 0
        assert requests(phase, "pack", "PUT") / phase.clips < 4 / 16
        assert requests(phase, "pack", "GET", "HEAD") / phase.clips < 6
        assert requests(phase, "driver", "LIST") < 50


def test_a_resume_reads_what_is_staged_and_no_more(phases: tuple[Path, list[Phase]]):
    _, (first, second, quarantine, _, nothing) = phases
    assert first.ready_reads < 20
    # Staged are the clips of shards that some worker is still at, or that a poisoned clip holds up.
    assert second.ready_reads < 2 * (3 * WORKERS + 16 * len(POISON)) + 30
    assert quarantine.ready_reads < 2 * 16 * len(POISON) + 40
    # A finished corpus: its folders, its description, the index and the quarantine, however large it is.
    assert nothing.ready_reads <= 9
    assert requests(nothing, "driver", "PUT", "DELETE") == 0
    assert nothing.ready_s < 5


def test_the_quarantine_is_written_less_often_the_longer_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    loaded = farm_scale.load_corpus("demo", farm_scale.overrides(3000))
    run = farm._Run(
        loaded,
        Folder(tmp_path),
        Need(),
        lambda _: None,
        read_ledger(loaded.spec, tmp_path),
        farm._Stop(),
        Lease(Folder(tmp_path / "stage"), num_before=0, files={}),
    )
    written: list[int] = []
    monkeypatch.setattr(farm, "write_quarantine", lambda corpus, clips: written.append(len(list(clips))))
    for index in range(2000):
        run.quarantined[index] = Quarantined(
            key=f"clip-{index:06d}", scene_sha256=None, failure="crash", reason="x", attempts=3, log=None
        )
        run._list_quarantined()
    assert written[:49] == list(range(1, 50))
    assert sum(written) < 60 * 2000
    run._list_quarantined(all_of_them=True)
    assert written[-1] == 2000
    assert not read_quarantine(tmp_path)


def test_calls_are_counted_as_the_requests_they_make():
    calls = Calls()
    folder = Folder("memory://scale/corpus")
    with calls.counted():
        folder.write("a", b"xyz")
        assert folder.read("a", limit=10) == b"xyz"
        assert folder.sizes() == {"a": 3}
        with calls.of("pack"):
            folder.read_all(["a", "b"])
        folder.remove(["a"])
    assert calls.count == Counter(
        {
            ("driver", "PUT"): 1,
            ("driver", "HEAD"): 2,
            ("driver", "GET"): 1,
            ("driver", "LIST"): 1,
            ("driver", "DELETE"): 1,
            ("pack", "GET"): 2,
        }
    )
    started = time.monotonic()
    assert farm.time is time and time.monotonic() >= started
