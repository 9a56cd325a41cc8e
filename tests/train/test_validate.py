"""Validation: the same samples every time, and scores that say what was wrong and where."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from focuspull.dataset.errors import UserError
from focuspull.dataset.loader import Batch, unit
from focuspull.dataset.perturb import Affine, Perturbation
from focuspull.dataset.reader import CorpusReader
from focuspull.dataset.transforms import Transform
from focuspull.model.renderer import get_renderer
from focuspull.train.metrics.image import blur_bands, gradient_error, psnr, ssim, temporal_error
from focuspull.train.validate import (
    Item,
    Validation,
    choose,
    comparison_table,
    grid,
    renderer_predict,
    validate,
)
from tests.dataset.conftest import build_corpus, make_clip, publish


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> list[CorpusReader]:
    """Two corpora, each of two clips to validate with: K of 8 and 100, and of 0 and 16, at 1024 pixels."""
    opened = []
    for name, strengths in (("a", (8.0, 100.0)), ("b", (0.0, 16.0))):
        corpus = tmp_path_factory.mktemp(name) / "corpus"
        options: dict[str, Any] = {"num_frames": 4, "width": 48, "height": 32, "k_at_1024": strengths}
        build_corpus(corpus, **options)
        publish(corpus, "val-000001", [make_clip("clip-000003", split="val", **options)])
        opened.append(CorpusReader(corpus, split="val"))
    return opened


def make_validation(readers: list[CorpusReader], **changes: Any) -> Validation:
    transform = Transform(size=(24, 36), zoom=(1.0, 2.0), flip=0.5)
    options: dict[str, Any] = {"num_frames": 2, "transform": transform, "num_samples": 100}
    return Validation(readers, **(options | changes))


def identity(batch: Batch) -> tuple[Any, ...]:
    return int(batch.corpora[0]), batch.keys[0], int(batch.targets[0]), int(batch.bokeh.long().sum())


def oracle(batch: Batch) -> Tensor:
    return unit(batch.bokeh)


sharp = renderer_predict(get_renderer("identity"))


def test_samples_are_the_same_every_time(readers: list[CorpusReader]) -> None:
    validation = make_validation(readers)
    found = [identity(batch) for batch in validation]
    assert len(validation) == len(found) == len(set(found)) == 8
    assert {sample[:3] for sample in found} == {
        (corpus, f"clip-00000{n}", target) for corpus in (0, 1) for n in (2, 3) for target in (0, 1)
    }
    assert (
        found == [identity(batch) for batch in validation] == [identity(b) for b in make_validation(readers)]
    )
    assert found[3] == identity(validation[3])
    # In the middle of the clip and of the frame, whole, and not mirrored, whatever training does.
    for batch in validation:
        assert batch.frames.tolist() == [[1, 2]]
        stored = readers[int(batch.corpora)].sample(
            next(row for row in readers[int(batch.corpora)].rows if row.key == batch.keys[0]),
            target=int(batch.targets),
            frames=(1, 2),
        )
        rows, columns = (np.floor((np.arange(n) + 0.5) * m / n).astype(int) for n, m in ((24, 32), (36, 48)))
        np.testing.assert_array_equal(batch.disparity[0, :, 0], stored.disparity[:, rows[:, None], columns])


def test_every_process_sees_every_sample(
    readers: list[CorpusReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [identity(batch) for batch in make_validation(readers)]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert [identity(batch) for batch in make_validation(readers)] == alone


def test_few_samples_are_spread_over_bands_corpora_and_clips(readers: list[CorpusReader]) -> None:
    report = validate(oracle, make_validation(readers, num_samples=4))
    assert {name: score.num_samples for name, score in report.by_k.items()} == {
        "0-6": 1, "6-11": 1, "11-23": 1, "23+": 1
    }  # fmt: skip
    assert len({identity(batch)[:2] for batch in make_validation(readers, num_samples=4)}) == 4


@pytest.mark.parametrize("seed", range(4))
def test_choice_is_even_and_only_takes_what_is_there(seed: int) -> None:
    items = [
        Item(corpus, f"clip-{clip:06d}", band)
        for corpus, num_clips in ((0, 30), (1, 5))
        for clip in range(num_clips)
        for band in ("0-6", "6-11", *(["23+"] if clip < 2 else []))
    ]
    chosen = choose(items, 24, rng=np.random.default_rng(seed))
    assert len(set(chosen)) == 24
    assert chosen == choose(items, 24, rng=np.random.default_rng(seed))
    assert chosen[:7] == choose(items, 7, rng=np.random.default_rng(seed))
    assert Counter(items[i].band for i in chosen) == {"0-6": 10, "6-11": 10, "23+": 4}
    assert Counter(items[i].corpus for i in chosen)[1] >= 8
    assert len({items[i][:2] for i in chosen if items[i].corpus == 0}) >= 11
    assert sorted(choose(items, 1000, rng=np.random.default_rng(seed))) == list(range(len(items)))


def test_other_seeds_choose_other_samples(readers: list[CorpusReader]) -> None:
    sets = [[identity(b) for b in make_validation(readers, num_samples=4, seed=seed)] for seed in range(5)]
    assert len({tuple(samples) for samples in sets}) > 1


def test_tars_without_an_index_are_validated_too(readers: list[CorpusReader]) -> None:
    tars = sorted(Path(readers[0].folder.address).glob("val-*.tar"))
    bare = CorpusReader([str(tar) for tar in tars])
    assert not bare.rows[0].index
    assert validate(oracle, make_validation([bare])).overall.num_samples == 4


def test_perturbed_disparity_is_measured_against_the_true_bands(readers: list[CorpusReader]) -> None:
    clean = make_validation(readers)
    # A probability of training does not make some of the samples clean.
    half = Perturbation(probability=0.5, scale_shift=Affine(strength=1.0))
    noisy, again = (make_validation(readers, perturbation=half) for _ in range(2))
    changed = 0
    for number, (a, b, c) in enumerate(zip(clean, noisy, again, strict=True)):
        torch.testing.assert_close(b.disparity, c.disparity, rtol=0, atol=0)
        torch.testing.assert_close(a.bokeh, b.bokeh, rtol=0, atol=0)
        torch.testing.assert_close(noisy.disparity(number), a.disparity, rtol=0, atol=0)
        changed += bool((a.disparity != b.disparity).any())
    assert changed == 8
    # What does not look at disparity has the same scores in every band.
    assert validate(sharp, noisy) == validate(sharp, clean)
    gather = renderer_predict(get_renderer("gather"))
    assert validate(gather, noisy) != validate(gather, clean)


def test_report_has_the_means_of_the_samples(readers: list[CorpusReader]) -> None:
    validation = make_validation(readers)
    report = validate(sharp, validation)
    pairs = [(unit(batch.aif), unit(batch.bokeh)) for batch in validation]
    expected = {
        "psnr": [float(psnr(a, b)) for a, b in pairs],
        "ssim": [float(ssim(a, b)) for a, b in pairs],
        "gradient_error": [float(gradient_error(a, b)) for a, b in pairs],
        "temporal_error": [float(temporal_error(a, b)) for a, b in pairs],
    }
    flat = report.flat()
    for name, values in expected.items():
        assert flat[name] == pytest.approx(np.mean(values))
    sharpest = [i for i, batch in enumerate(validation) if batch.k.max() == 0]
    assert flat["psnr/k 0-6"] == pytest.approx(np.mean([expected["psnr"][i] for i in sharpest]))
    assert report.overall.num_samples == sum(score.num_samples for score in report.by_k.values()) == 8
    in_band = []
    for batch, (a, b) in zip(validation, pairs, strict=True):
        mask = blur_bands(batch.disparity, batch.focus_disparity, batch.k)["background"]
        if mask[..., 5:-5, 5:-5].double().mean() > 0.01:
            in_band.append((float(psnr(a, b, mask)), float(ssim(a, b, mask))))
    assert 0 < len(in_band) < 8
    assert report.by_blur["background"].num_samples == len(in_band)
    assert (flat["psnr/background"], flat["ssim/background"]) == pytest.approx(np.mean(in_band, axis=0))
    assert set(flat) >= {"psnr/foreground", "psnr/in focus", "psnr/edges", "ssim/k 6-11", "ssim/k 23+"}
    assert not any("gradient_error/edges" in name for name in flat)


def test_what_is_right_has_no_error(readers: list[CorpusReader]) -> None:
    report = validate(oracle, make_validation(readers))
    assert report.overall.psnr == 100 and report.overall.gradient_error == 0
    assert report.overall.ssim == pytest.approx(1, abs=2e-4)


def test_errors_show_up_in_the_band_where_they_are(readers: list[CorpusReader]) -> None:
    def wrong_behind(batch: Batch) -> Tensor:
        bands = blur_bands(batch.disparity, batch.focus_disparity, batch.k)
        return torch.where(bands["background"], 0.5, unit(batch.bokeh))

    scores = validate(wrong_behind, make_validation(readers)).by_blur
    assert scores["in focus"].psnr == scores["foreground"].psnr == 100 > scores["background"].psnr


def test_a_prediction_that_is_no_video_is_refused(readers: list[CorpusReader]) -> None:
    validation = make_validation(readers, num_samples=1)
    with pytest.raises(
        UserError, match=r"clip-00000\d, bokeh\d: 5184 values of the prediction are not finite"
    ):
        validate(lambda batch: torch.full_like(unit(batch.bokeh), torch.nan), validation)
    with pytest.raises(
        ValueError, match=r"must be \[1, 2, 3, 24, 36\] as the video, got \[1, 1, 3, 24, 36\]"
    ):
        validate(lambda batch: oracle(batch)[:, :1], validation)


def test_table_compares_with_the_identity(readers: list[CorpusReader]) -> None:
    validation = make_validation(readers)
    reports = {"identity": validate(sharp, validation), "oracle": validate(oracle, validation)}
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in comparison_table(reports).splitlines()
    ]
    assert lines[0] == [
        "", "PSNR", "over identity", "SSIM", "gradient error", "temporal error",
        "in focus", "foreground", "background", "edges",
    ]  # fmt: skip
    assert [line[0] for line in lines[2:]] == ["identity", "oracle"]
    assert len({len(line) for line in lines}) == 1
    gain = 100 - reports["identity"].overall.psnr
    assert [line[2] for line in lines[2:]] == ["+0.0 dB", f"{gain:+.1f} dB"]
    assert lines[3][6] == "100.00"
    assert "over identity" not in comparison_table({"oracle": reports["oracle"]})


def test_grid_shows_the_first_samples(readers: list[CorpusReader], tmp_path: Path) -> None:
    validation = make_validation(readers)
    grid(sharp, validation, tmp_path / "grids/1.png", max_rows=3)
    with Image.open(tmp_path / "grids/1.png") as picture:
        pixels = np.asarray(picture)
    assert [path.name for path in (tmp_path / "grids").iterdir()] == ["1.png"]
    # Four pictures of 320 pixels, enlarged from 36, and their margins; three rows of 213.
    assert pixels.shape == (48 + 3 * (213 + 32), 32 + 4 * 320 + 18, 3)
    middle = validation[0].aif[0, 1].permute(1, 2, 0).numpy()
    columns = 16 + np.floor((np.arange(36) + 0.5) * 320 / 36).astype(int)
    rows = 40 + np.floor((np.arange(24) + 0.5) * 213 / 24).astype(int)
    shown = [pixels[rows[:, None], columns + 326 * number] for number in range(4)]
    np.testing.assert_array_equal(shown[0], middle)
    np.testing.assert_array_equal(shown[1], middle)
    np.testing.assert_array_equal(shown[2], validation[0].bokeh[0, 1].permute(1, 2, 0).numpy())
    error = np.abs(shown[1].astype(int) - shown[2]) * 4
    np.testing.assert_array_equal(shown[3], error.clip(0, 255))


def test_grid_of_what_is_right_has_no_error(readers: list[CorpusReader], tmp_path: Path) -> None:
    grid(oracle, make_validation(readers, num_samples=1), tmp_path / "1.png")
    with Image.open(tmp_path / "1.png") as picture:
        assert np.asarray(picture)[40:253, 16 + 3 * 326 : 16 + 3 * 326 + 320].max() == 0
