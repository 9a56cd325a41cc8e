"""The noise floor: estimates against a known truth, rounds of sampling, and what stops them."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from focuspull.dataset import color
from focuspull.render import noise, spec
from focuspull.render.frames import Frames
from tests.rendering import in_child, render, simple_scene


def truth() -> np.ndarray:
    """A smooth image with edges, darkness and highlights above 1, ``[H, W, 3]`` linear."""
    y, x = np.mgrid[0:180, 0:320] / 320
    image = np.stack([0.05 + x, 0.1 + 0.5 * y, 0.3 * (1 - x)], -1)
    image[((x - 0.3) ** 2 + (y - 0.3) ** 2) < 0.02] = (0.8, 0.3, 0.1)
    image[((x - 0.7) ** 2 + (y - 0.3) ** 2) < 0.01] = (1.6, 1.4, 1.2)
    image[100:120, 40:280] *= 0.1
    return image


def noisy_halves(shape: float, seed: int) -> np.ndarray:
    """Two images whose pixels are the truth times a gamma variable with mean 1."""
    rng = np.random.default_rng(seed)
    factors = rng.gamma(shape, 1 / shape, (2, *truth().shape[:2]))[..., None]
    return truth() * factors


def true_error(image: np.ndarray, exposure_ev: float) -> float:
    a, b = (color.encode_display(i, exposure_ev=exposure_ev).astype(float) for i in (image, truth()))
    return float(np.mean((a - b) ** 2))


def smooth(image: np.ndarray) -> np.ndarray:
    """A denoiser that softens edges, so that it is biased."""
    soft = cv2.GaussianBlur(image, (0, 0), 1.0)
    return (0.5 * image + 0.5 * soft).astype(np.float32)


@pytest.mark.parametrize("exposure_ev", [0.0, 1.5])
@pytest.mark.parametrize("shape", [4, 16, 256])
def test_the_estimate_is_the_error_of_the_mean(shape: float, exposure_ev: float) -> None:
    image, estimate = noise.finish(noisy_halves(shape, 1), exposure_ev, None)
    assert 10 * math.log10(estimate / true_error(image, exposure_ev)) == pytest.approx(0, abs=0.4)


@pytest.mark.parametrize("exposure_ev", [0.0, 1.5])
@pytest.mark.parametrize("shape", [64, 1024])
def test_the_estimate_is_the_error_of_a_biased_denoiser(shape: float, exposure_ev: float) -> None:
    image, estimate = noise.finish(noisy_halves(shape, 2), exposure_ev, smooth)
    assert 10 * math.log10(estimate / true_error(image, exposure_ev)) == pytest.approx(0, abs=1.0)


def test_the_bias_is_most_of_it() -> None:
    """Else the test above would pass with the variance alone."""
    halves = noisy_halves(1024, 2)
    denoised = np.stack([smooth(half) for half in halves])
    variance = float(np.mean((denoised[0] - denoised[1]) ** 2)) / 4
    assert variance < 0.5 * noise.denoised_squared_error(halves, denoised, 0.0)


def denoise_with_oidn() -> float:
    """Estimate over true error, dB."""
    from focuspull.render.backends.denoise import Denoiser

    normals = np.broadcast_to([0.0, 0.0, 1.0], truth().shape)
    guides = np.concatenate([np.minimum(truth(), 1), normals], axis=-1)
    image, estimate = noise.finish(noisy_halves(64, 3), 0.0, Denoiser(guides, prefilter=False))
    return 10 * math.log10(estimate / true_error(image, 0.0))


@pytest.mark.mitsuba
def test_the_estimate_is_the_error_of_oidn() -> None:
    assert in_child(denoise_with_oidn) == pytest.approx(0, abs=1.0)


def test_rounding_to_8_bits_counts() -> None:
    assert noise.floor_db(0.0) == pytest.approx(58.92, abs=0.01)


def quality(**changes: float) -> spec.QualitySpec:
    return spec.QualitySpec.model_validate(changes)


def test_without_a_wish_there_is_one_round() -> None:
    assert noise.next_samples(quality(), 64, 1.0) == 64


def test_a_round_is_as_long_as_the_noise_asks_for() -> None:
    wish = quality(noise_floor_db=40)
    enough, goal = 10**-4 - noise.ROUNDING, 1e-4
    assert noise.next_samples(wish, 64, enough) == 64
    assert noise.next_samples(wish, 64, 2 * goal) == pytest.approx(64 * 2.2, rel=0.02)
    assert noise.next_samples(wish, 64, 1.01 * goal) == 80
    assert noise.next_samples(wish, 64, 100 * goal) == 256
    assert noise.next_samples(quality(noise_floor_db=40, max_samples=100), 64, 1.0) == 100
    assert noise.next_samples(quality(noise_floor_db=40, max_samples=32), 64, 1.0) == 64


BALL = {"name": "ball", "shape": {"type": "sphere", "radius_m": 0.8}, "position_m": (0, 1, 1)}
WALL = {"name": "wall", "shape": {"type": "box", "size_m": (8, 0.1, 8)}, "position_m": (0, 5, 0)}


def scene(**changes: float | bool) -> spec.SceneSpec:
    return simple_scene(
        [BALL, WALL],
        samples=8,
        max_bounces=1,
        k_at_1024=200,
        environment={"type": "sky"},
        quality={"denoise": False, **changes},
    )


def floors(frames: Frames) -> list[float]:
    return [db for db in frames.noise_floor_db if db is not None]


@pytest.mark.mitsuba
@pytest.mark.parametrize("denoise", [False, True])
def test_sampling_goes_on_until_the_floor_is_reached(denoise: bool) -> None:
    first, asked, cut = render(
        "mitsuba",
        scene(denoise=denoise),
        scene(denoise=denoise, noise_floor_db=44),
        scene(denoise=denoise, noise_floor_db=55, max_samples=40),
    )
    assert max(floors(first)) < 44
    assert min(floors(asked)) >= 44
    assert min(asked.samples) > max(first.samples)
    # The budget ends it; the sampler rounds up.
    assert max(cut.samples) <= 50 and max(floors(cut)) < 55
    reference = render("mitsuba", scene(aif_samples=4096, bokeh_samples=4096))[0]
    pairs = [(asked.aif, reference.aif), (asked.bokeh[0], reference.bokeh[0])]
    for (image, converged), floor in zip(pairs, floors(asked), strict=True):
        found = color.psnr_db(color.encode_display(image), color.encode_display(converged))
        assert found == pytest.approx(floor, abs=1.5)
