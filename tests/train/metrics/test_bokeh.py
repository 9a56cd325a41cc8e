"""Radii and sharpness of blur that is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from focuspull.model.light import linear_to_srgb, srgb_to_linear
from focuspull.train.metrics.bokeh import blurred, disc, fitted_radius, sharpest_disparity

RADII = torch.arange(0, 10, 0.25)


def texture(height: int = 40, width: int = 60) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return 0.1 + 0.8 * torch.rand(2, 3, height, width, generator=rng)


def blur(aif: Tensor, radius: float) -> Tensor:
    return linear_to_srgb(blurred(srgb_to_linear(aif), radius))


@pytest.mark.parametrize("radius", [0.0, 0.8, 2.0, 3.3, 7.6])
def test_a_disc_has_its_radius_and_weighs_one(radius: float) -> None:
    kernel = disc(radius)
    n = kernel.shape[0] // 2
    x = torch.arange(-n, n + 1)
    assert kernel.sum().item() == pytest.approx(1)
    second = (kernel * (x[:, None] ** 2 + x**2)).sum().item()
    # Half the squared radius, and 1/6 for a pixel's own width.
    assert second == pytest.approx(radius**2 / 2 + (1 / 6 if radius else 0), abs=0.1)


@pytest.mark.parametrize("radius", [1.0, 2.2, 3.7, 6.0])
def test_the_radius_is_found(radius: float) -> None:
    aif = texture()
    mask = torch.ones(2, 1, 40, 60, dtype=torch.bool)
    assert fitted_radius(aif, blur(aif, radius), mask, RADII) == pytest.approx(radius, abs=0.2)


def test_the_radius_is_that_under_the_mask() -> None:
    aif = texture()
    bokeh = torch.cat([blur(aif, 2.0)[..., :30], blur(aif, 5.0)[..., 30:]], -1)
    left = torch.zeros(2, 1, 40, 60, dtype=torch.bool)
    left[..., :30] = True
    assert fitted_radius(aif, bokeh, left, RADII) == pytest.approx(2, abs=0.2)
    assert fitted_radius(aif, bokeh, ~left, RADII) == pytest.approx(5, abs=0.2)


def test_without_texture_or_pixels_there_is_no_radius() -> None:
    grey = torch.full((1, 3, 40, 60), 0.5)
    mask = torch.ones(1, 1, 40, 60, dtype=torch.bool)
    assert math.isnan(fitted_radius(grey, grey, mask, RADII))
    assert math.isnan(fitted_radius(texture(), texture(), ~mask.expand(2, -1, -1, -1), RADII))


@pytest.mark.parametrize("focus", [0.15, 0.45, 0.85])
def test_the_sharpest_disparity_is_the_focus(focus: float) -> None:
    aif = texture(height=40, width=100)
    disparity = torch.linspace(0, 1, 100).expand(2, 1, 40, 100)
    bokeh = torch.zeros_like(aif)
    for column in range(100):
        radius = 12 * abs(column / 99 - focus)
        bokeh[..., column] = blur(aif, radius)[..., column]
    assert sharpest_disparity(aif, bokeh, disparity) == pytest.approx(focus, abs=0.051)
