"""Variants of a run, trained and measured side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from focuspull.dataset.errors import UserError
from focuspull.model.pipeline import load_pipeline
from focuspull.train.ablate import VARIANTS, ablate
from tests.train.test_run import corpus, make_recipe, options

__all__ = ["corpus"]

torch.set_num_threads(1)


def test_variants_differ_in_what_they_say_and_share_the_vae(corpus: Path, tmp_path: Path) -> None:
    stages = [
        {"name": name, "num_steps": 1, "num_frames": 2} for name in ("autoencoder", "geometry", "temporal")
    ]
    names = ["no-mpi", "multi-step", "no-temporal", "no-wois"]
    tables = ablate(make_recipe(stages=stages, validation_samples=1), options(corpus, tmp_path), names)
    rows = [line.split("|")[1].strip() for line in tables.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row in VARIANTS] == 2 * ["full", *names]
    last = {
        "full": "temporal",
        "no-mpi": "temporal",
        "multi-step": "temporal",
        "no-temporal": "geometry",
    }
    found = {n: load_pipeline(tmp_path / n / s / "checkpoints/last/pipeline") for n, s in last.items()}
    assert found["no-mpi"].unet.config["masks"] == "none"
    assert found["multi-step"].unet.config["sampling_steps"] == 25
    assert not (tmp_path / "no-temporal/temporal").exists() and not (tmp_path / "no-wois").exists()
    vaes = [pipeline.vae.state_dict() for pipeline in found.values()]
    assert all(torch.equal(vaes[0][key], vae[key]) for vae in vaes for key in vaes[0])


def test_an_unknown_variant_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="variant 'no-vae': there is none. There are: full, no-mpi"):
        ablate(make_recipe(), options(corpus, tmp_path), ["no-vae"])
