"""Validation: always the same samples, and figures that mean what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from focuspull.dataset.loader import Batch, unit
from focuspull.dataset.perturb import CORRECTED
from focuspull.dataset.reader import CorpusReader
from focuspull.dataset.transforms import Transform
from focuspull.model.renderer import get_renderer
from focuspull.train.validate import Validation, comparison_table, grid, renderer_predict, validate
from tests.dataset.conftest import make_clip, publish


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusReader:
    """Three clips of two targets, one of which is not blurred."""
    folder = tmp_path_factory.mktemp("validate") / "corpus"
    publish(folder, "val-000000", [make_clip(f"clip-{n:06d}", split="val", num_frames=5) for n in range(3)])
    return CorpusReader([folder / "val-000000.tar"])


def make_validation(corpus: CorpusReader, **options: Any) -> Validation:
    given: dict[str, Any] = {"num_frames": 3, "transform": Transform(flip=0.5), "num_samples": 99}
    return Validation([corpus], **(given | options))


def truth(batch: Batch) -> torch.Tensor:
    return unit(batch.bokeh)


def test_samples_are_the_same_every_time_and_from_the_middle(corpus: CorpusReader) -> None:
    validation = make_validation(corpus)
    first, second = list(validation), list(validation)
    assert len(validation) == len(first) == 6
    assert all(batch.frames.tolist() == [[1, 2, 3]] for batch in first)
    assert all(torch.equal(a.aif, b.aif) for a, b in zip(first, second, strict=True))
    assert len({(batch.keys, int(batch.targets)) for batch in first}) == 6


def test_some_samples_are_drawn_once(corpus: CorpusReader) -> None:
    def chosen(**options: Any) -> list[Any]:
        return [(b.keys, int(b.targets)) for b in make_validation(corpus, **options)]

    assert len(chosen(num_samples=4)) == 4 and chosen(num_samples=4) == chosen(num_samples=4)
    assert chosen(num_samples=3, seed=0) != chosen(num_samples=3, seed=1)


def test_perturbed_samples_all_are_and_always_alike(corpus: CorpusReader) -> None:
    clean = list(make_validation(corpus))
    perturbation = CORRECTED.model_copy(update={"probability": 0.0})
    a, b = (list(make_validation(corpus, perturbation=perturbation)) for _ in range(2))
    for before, first, second in zip(clean, a, b, strict=True):
        assert not torch.equal(before.disparity, first.disparity)
        assert torch.equal(first.disparity, second.disparity)
        assert torch.equal(before.bokeh, first.bokeh)


def test_the_truth_is_perfect_and_the_input_is_not(corpus: CorpusReader) -> None:
    perfect = validate(truth, make_validation(corpus))
    assert perfect.overall.psnr == 100 and perfect.overall.ssim == pytest.approx(1)
    assert perfect.overall.num_samples == 6 and perfect.overall.gradient_error == 0
    identity = validate(renderer_predict(get_renderer("identity")), make_validation(corpus))
    assert identity.overall.psnr < 90 and set(identity.by_k) == {"0-6", "23+"}
    # K = 0 is not blurred at all.
    assert identity.by_k["0-6"].psnr == 100 > identity.by_k["23+"].psnr
    assert identity.by_blur["in focus"].psnr > identity.by_blur["background"].psnr
    flat = identity.flat()
    assert flat["psnr"] == identity.overall.psnr and flat["psnr/k 0-6"] == 100
    assert flat["psnr/background"] == identity.by_blur["background"].psnr
    assert "ssim/background" not in flat


def test_means_are_over_samples(corpus: CorpusReader) -> None:
    def off(batch: Batch) -> torch.Tensor:
        return unit(batch.bokeh) + (0.1 if int(batch.targets) else 0.01)

    report = validate(off, make_validation(corpus))
    assert report.overall.psnr == pytest.approx(30, abs=1e-3)
    assert report.by_k["0-6"].psnr == pytest.approx(20, abs=1e-3)


def test_the_table_has_gains_over_identity(corpus: CorpusReader) -> None:
    validation = make_validation(corpus)
    reports = {
        "identity": validate(renderer_predict(get_renderer("identity")), validation),
        "truth": validate(truth, validation),
    }
    header, _, first, second = comparison_table(reports).splitlines()
    assert header.startswith("|  | PSNR | over identity | SSIM | gradient error | background |")
    assert first.startswith(f"| identity | {reports['identity'].overall.psnr:.2f} | +0.00 |")
    assert second.startswith(f"| truth | 100.00 | +{100 - reports['identity'].overall.psnr:.2f} | 1.0000 |")


def test_the_grid_shows_input_prediction_truth_and_error(corpus: CorpusReader, tmp_path: Path) -> None:
    path = tmp_path / "grids" / "1.png"
    grid(truth, make_validation(corpus), path, max_rows=2)
    picture = np.asarray(Image.open(path))
    zoom = round(300 / 24)
    assert picture.shape == (2 * (16 + 16 * zoom), 4 * 24 * zoom, 3)
    columns = picture[16 : 16 + 16 * zoom].reshape(16 * zoom, 4, 24 * zoom, 3)
    assert np.array_equal(columns[:, 1], columns[:, 2]) and not columns[:, 3].any()
    assert not np.array_equal(columns[:, 0], columns[:, 2])
