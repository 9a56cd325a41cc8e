"""The self-test: what it says about renderers whose K is known to be right, wrong by a factor, or lost."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from focuspull.model.adapters.self_test import FittedK, self_test
from focuspull.model.renderer import BokehRenderer, get_renderer

torch.set_num_threads(1)

SCATTER = get_renderer("scatter")


@pytest.mark.parametrize("name", ["scatter", "layers", "mpi-coc"])
def test_our_renderers_need_no_factor(name: str) -> None:
    result = self_test(get_renderer(name))
    assert [light.expected_px for light in result.lights] == [4, 4, 8, 8, 16, 16]
    assert [light.disparity > light.focus_disparity for light in result.lights] == [True, False] * 3
    assert abs(result.factor - 1) < 0.02
    assert result.worst_px < 0.2
    assert result.worst_fitted_px <= result.worst_px + 0.05


@pytest.mark.parametrize("wrong", [0.5, 0.9, 2.0])
def test_a_k_that_is_off_by_a_factor_is_found_and_mended(wrong: float) -> None:
    off = FittedK(SCATTER, wrong)
    result = self_test(off, ks=(8.0, 16.0), offsets=(0.5,))
    assert result.factor == pytest.approx(1 / wrong, rel=0.02)
    assert result.worst_px == pytest.approx(8 * abs(wrong - 1), abs=0.2)
    assert result.worst_fitted_px < 0.2
    mended = self_test(FittedK(off, result.factor), ks=(8.0, 16.0), offsets=(0.5,))
    assert mended.factor == pytest.approx(1, abs=0.02)


def test_a_radius_off_by_a_constant_stays_wrong_after_the_fit() -> None:
    def too_wide(aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        return SCATTER(aif, disparity, k + 4, focus_disparity)

    result = self_test(too_wide, offsets=(-0.5,))
    assert result.worst_px == pytest.approx(2, abs=0.2)
    assert 0.5 < result.worst_fitted_px < 2


def test_a_min_max_of_its_own_shows_as_a_factor() -> None:
    def spread(aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        low, high = disparity.min(), disparity.max()
        return SCATTER(aif, (disparity - low) / (high - low), k, (focus_disparity - low) / (high - low))

    assert self_test(spread, ks=(8.0, 16.0)).factor == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("light_px", [1, 5])
def test_the_size_of_the_light_is_taken_off(light_px: int) -> None:
    result = self_test(SCATTER, ks=(16.0,), light_px=light_px, size=(96, 128))
    assert [light.measured_px for light in result.lights] == pytest.approx([8, 8], abs=0.1)


def test_a_renderer_of_display_values_is_measured_in_them() -> None:
    """Eight bits: a single pixel that is spread over 200 would vanish."""

    def encoded(aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        small = aif * 0.5
        light = torch.where(small <= 0.04045, small / 12.92, ((small + 0.055) / 1.055) ** 2.4)
        one = float(light.max())
        blurred = SCATTER(light / one, disparity, k, focus_disparity)
        linear = torch.where(blurred <= 0.04045, blurred / 12.92, ((blurred + 0.055) / 1.055) ** 2.4)
        return torch.round(linear * 255) / 255

    result = self_test(encoded, ks=(16.0,), light_px=9, domain="encoded")
    assert result.factor == pytest.approx(1, abs=0.03)


def test_all_frames_of_a_clip_reach_the_renderer() -> None:
    seen: list[tuple[int, ...]] = []

    def watch(aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        seen.append(tuple(aif.shape))
        return SCATTER(aif, disparity, k, focus_disparity)

    self_test(watch, ks=(8.0,), offsets=(0.5,), num_frames=2, size=(64, 80))
    assert seen == [(1, 2, 3, 64, 80)]


def test_a_noisy_ground_is_not_taken_for_light() -> None:
    rng = torch.Generator().manual_seed(0)

    def noisy(aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        bokeh = SCATTER(aif, disparity, k, focus_disparity)
        return (bokeh + 0.1 + 0.002 * torch.rand(bokeh.shape, generator=rng)).clamp(0, 1)

    result = self_test(noisy, ks=(8.0, 16.0), domain="encoded", light_px=5)
    assert math.isfinite(result.factor)
    assert result.factor == pytest.approx(1, abs=0.15)


def sharp(aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
    return aif


def black(aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
    return torch.zeros_like(aif)


@pytest.mark.parametrize(
    ("render", "message"),
    [(sharp, "does not blur at all"), (black, "the light is gone at K = 8. Use a larger light_px")],
)
def test_a_renderer_without_blur_or_light_is_no_division_by_zero(render: BokehRenderer, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        self_test(render)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="a radius of 100 px takes frames of 5.. px or more, got 128x128"):
        self_test(SCATTER, ks=(200.0,))
    with pytest.raises(ValueError, match="light_px: must be odd and positive, got 4"):
        self_test(SCATTER, light_px=4)
    with pytest.raises(ValueError, match="needs positive ks"):
        self_test(SCATTER, ks=())
    with pytest.raises(ValueError, match="offsets in"):
        self_test(SCATTER, offsets=(0.0,))
    with pytest.raises(ValueError, match="factor: must be positive, got 0"):
        FittedK(SCATTER, 0)
