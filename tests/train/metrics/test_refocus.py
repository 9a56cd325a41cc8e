"""What only the exact truth can tell: radii, bleeding, flicker, sharpness, errors by blur."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from focuspull.model.renderer import get_renderer
from focuspull.train.metrics.base import Prediction, Truth
from focuspull.train.metrics.refocus import (
    REFOCUS,
    edge_bleeding,
    flicker,
    radius_error,
    sharpness_kept,
)
from tests.train.metrics.examples import make_truth, perfect

torch.set_num_threads(1)

TRUTH = make_truth()


def rendered(name: str, truth: Truth, *, factor: float = 1.0) -> Tensor:
    given = (truth.aif, truth.disparity, truth.k * factor, truth.focus_disparity)
    aif, disparity, k, focus = (tensor[None] for tensor in given)
    return get_renderer(name)(aif, disparity, k, focus)[0]


@pytest.mark.parametrize("metric", REFOCUS, ids=lambda metric: metric.info.name)
def test_the_truth_scores_perfectly(metric) -> None:
    value = metric.open({}, torch.device("cpu"))(TRUTH, perfect(TRUTH))
    best = 0.0 if metric.info.best == "low" else (100.0 if "psnr" in metric.info.name else 1.0)
    assert (
        math.isnan(value)
        if metric.info.name in ("psnr-foreground", "psnr-r0.5-4", "psnr-r4-8", "psnr-r8-16")
        else value == pytest.approx(best)
    )


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_a_wrong_k_is_a_wrong_radius(factor: float) -> None:
    """The wall is 0.7 of disparity behind the focus: K 12 gives 8.4 px, at 1024 67.2."""
    error = radius_error(TRUTH, Prediction(rendered("layers", TRUTH, factor=factor)))
    assert error == pytest.approx(67.2 * 0.2, rel=0.15)


def test_the_right_k_has_hardly_any_radius_error() -> None:
    assert radius_error(TRUTH, Prediction(rendered("layers", TRUTH))) < 0.03 * 67.2


def test_no_blur_is_a_radius_error_of_the_whole_radius() -> None:
    assert radius_error(TRUTH, Prediction(TRUTH.aif)) == pytest.approx(67.2, rel=0.05)


def test_nothing_blurred_has_no_radius() -> None:
    sharp = make_truth(k=0.5)
    assert math.isnan(radius_error(sharp, perfect(sharp)))


def test_gather_bleeds_and_layers_do_not() -> None:
    """A sharp square before a blurred wall: whoever spreads the wall over it bleeds."""
    bleeding = TRUTH.bokeh.clone()
    wide = torch.nn.functional.avg_pool2d(TRUTH.aif, 9, stride=1, padding=4)
    bleeding = torch.where(TRUTH.bands["in focus"], 0.7 * bleeding + 0.3 * wide, bleeding)
    worse = edge_bleeding(TRUTH, Prediction(bleeding))
    assert worse > 3
    assert edge_bleeding(TRUTH, Prediction(rendered("layers", TRUTH))) < worse


def test_bleeding_counts_only_what_is_in_focus() -> None:
    video = torch.where(TRUTH.bands["in focus"], TRUTH.bokeh, 1 - TRUTH.bokeh)
    assert edge_bleeding(TRUTH, Prediction(video)) == pytest.approx(0)


def test_flicker_by_hand() -> None:
    """A still grey truth; frames that go up and down by 0.1 leave a residual of 0.1 in every pair."""
    still = replace(TRUTH, bokeh=torch.full_like(TRUTH.bokeh, 0.5))
    video = still.bokeh.clone()
    video[1] += 0.1
    assert flicker(still, Prediction(video)) == pytest.approx(25.5, rel=1e-3)


def test_a_smoother_video_does_not_flicker() -> None:
    noisy = TRUTH.bokeh + 0.05 * torch.randn(TRUTH.bokeh.shape, generator=torch.Generator().manual_seed(0))
    shaky = replace(TRUTH, bokeh=noisy.clamp(0, 1))
    assert flicker(shaky, Prediction(TRUTH.bokeh)) < 0.3 * flicker(TRUTH, Prediction(shaky.bokeh))


def test_lost_and_invented_detail_both_cost_sharpness() -> None:
    soft = torch.nn.functional.avg_pool2d(TRUTH.bokeh, 3, stride=1, padding=1)
    hard = TRUTH.bokeh + 0.1 * torch.randn(TRUTH.bokeh.shape, generator=torch.Generator().manual_seed(1))
    for video in (soft, hard.clamp(0, 1)):
        assert sharpness_kept(TRUTH, Prediction(video)) < 0.8


def test_psnr_by_blur_sees_its_own_pixels() -> None:
    """The wall's radius at 1024 is 67 px, the square's 0."""
    wrong_wall = torch.where(TRUTH.bands["background"], (TRUTH.bokeh + 0.1).clamp(0, 1), TRUTH.bokeh)
    found = {m.info.name: m.open({}, torch.device("cpu"))(TRUTH, Prediction(wrong_wall)) for m in REFOCUS}
    assert found["psnr-in-focus"] == 100
    assert found["psnr-r16+"] == pytest.approx(20, abs=0.5)
    assert found["psnr-background"] == pytest.approx(found["psnr-r16+"])
