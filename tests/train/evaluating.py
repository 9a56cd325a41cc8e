"""Small test sets to evaluate on, without a renderer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from focuspull.dataset.index import rebuild_index
from focuspull.train.benchmark import TestSet
from focuspull.train.evaluation import EvalOptions, run_evaluation
from focuspull.train.results import Results
from focuspull.train.systems import SystemSpec, parse_systems
from tests.dataset.conftest import SPEC_SHA256, make_clip, publish

METRICS = ("corrected/psnr", "corrected/ssim", "official/rm", "corrected/radius-error")


def make_corpus(
    folder: Path, num_clips: int = 2, *, num_frames: int = 3, size: tuple[int, int] = (48, 32)
) -> Path:
    """A corpus with the split test; every clip has a target of K 100 and one of K 0."""
    clips = [
        make_clip(f"clip-{n:06d}", split="test", width=size[0], height=size[1], num_frames=num_frames)
        for n in range(num_clips)
    ]
    publish(folder, "test-000000", clips)
    (folder / "corpus.json").write_text(json.dumps({"spec_sha256": SPEC_SHA256}))
    rebuild_index(folder)
    return folder


def options(
    corpus: Path, out: Path, systems: str | Sequence[SystemSpec] = "identity,gather", **fields: object
) -> EvalOptions:
    """An evaluation in this process with few metrics."""
    chosen = parse_systems(systems) if isinstance(systems, str) else list(systems)
    given = {"metrics": METRICS, "workers": 0} | fields
    test_set = TestSet(address=str(corpus), split="test")
    return EvalOptions.model_validate({"test_set": test_set, "systems": chosen, "out": out} | given)


def evaluated(chosen: EvalOptions) -> tuple[Results, list[str]]:
    """Results, and the lines that were said."""
    lines: list[str] = []
    return run_evaluation(chosen, lines.append), lines
