"""How far an image is from the converged one, measured from two independent halves of its samples.

Errors are mean squared errors in display space: both images encoded by `color.encode_display`. They are
estimates from one frame, scattered by its noise; a clip's is the mean of its frames'.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import color
from focuspull.render.spec import QualitySpec

ROUNDING = 1 / (12 * 255**2)
"""Mean squared error of rounding to 8 bits."""
RESIDUAL_BLUR_PX = 0.5
"""Standard deviation; wider misses edges that a denoiser has blurred, narrower follows the noise."""
LARGEST_STEP, SMALLEST_STEP = 4.0, 1.25
"""By how much a round multiplies the samples."""


def floor_db(squared_error: float) -> float:
    """PSNR that an 8-bit image with this squared error before rounding has against the converged image."""
    return -10 * math.log10(squared_error + ROUNDING)


def next_samples(quality: QualitySpec, spent: int, squared_error: float) -> int:
    """Samples per pixel after which to look again; ``spent`` if no more are wanted."""
    if quality.noise_floor_db is None or floor_db(squared_error) >= quality.noise_floor_db:
        return spent
    excess = squared_error / (10 ** (-quality.noise_floor_db / 10) - ROUNDING)
    step = min(max(1.1 * excess, SMALLEST_STEP), LARGEST_STEP)
    return max(spent, min(quality.max_samples, math.ceil(spent * step)))


def finish(
    halves: NDArray[np.float64], exposure_ev: float, denoise: Callable[[NDArray], NDArray[np.float32]] | None
) -> tuple[NDArray[np.float32], float]:
    """The image and its squared error, from its two independent halves ``[2, H, W, 3]``, scene-linear.

    The image is the mean of the halves, or of the denoised halves: denoising them one by one costs a little
    detail and makes the error of the result known.
    """
    if denoise is None:
        return halves.mean(axis=0).astype(np.float32), squared_error(halves, exposure_ev)
    denoised = np.stack([denoise(half) for half in halves])
    return denoised.mean(axis=0), denoised_squared_error(halves, denoised, exposure_ev)


def finish_encoded(halves: NDArray[np.float64], exposure_ev: float) -> tuple[NDArray[np.float32], float]:
    """Like `finish`, of halves that are display values in [0, 1] already; the image is scene-linear."""
    pixels = color.decode_display(np.clip(halves.mean(axis=0), 0.0, 1.0), exposure_ev=exposure_ev)
    # The mean of two independent estimates has half the variance of one, their difference twice.
    return pixels, float(np.mean((halves[0] - halves[1]) ** 2)) / 4


def squared_error(halves: NDArray[np.float64], exposure_ev: float) -> float:
    """Of the mean of the halves.

    With n half their difference, the mean plus n is one half, minus n the other; n has the noise of the mean
    and is uncorrelated with it. So the steps from the mean to the halves stand for that to the truth.
    """
    a, b, mean = (_display(image, exposure_ev) for image in (*halves, halves.mean(axis=0)))
    return float(np.mean((a - mean) ** 2) + np.mean((b - mean) ** 2)) / 2


def denoised_squared_error(
    halves: NDArray[np.float64], denoised: NDArray[np.float32], exposure_ev: float
) -> float:
    """Of the mean of the denoised halves.

    Halves A and B are the truth T plus independent noise; DA and DB are what a denoiser makes of them. Then
    ``E[(DA - A)(DB - B)] = E[DA - T] E[DB - T]``, the squared bias, and a quarter of ``(DA - DB)^2`` is the
    variance of their mean. Both are carried to display space by the slope of its curve, from the image to
    what the smoothed residual says of the truth.
    """
    a, b = denoised.astype(np.float64)
    mean = (a + b) / 2
    residual = cv2.GaussianBlur(halves.mean(axis=0) - mean, (0, 0), RESIDUAL_BLUR_PX)
    slope = _display_slope(mean, np.maximum(mean + residual, 0), exposure_ev)
    variance = np.mean((slope * (a - b)) ** 2) / 4
    bias = np.mean(slope**2 * (a - halves[0]) * (b - halves[1]))
    return float(variance + max(bias, 0.0))


def _display(linear: NDArray, exposure_ev: float) -> NDArray[np.float64]:
    return color.encode_display(np.maximum(linear, 0), exposure_ev=exposure_ev).astype(np.float64)


def _display_slope(
    start: NDArray[np.float64], end: NDArray[np.float64], exposure_ev: float
) -> NDArray[np.float64]:
    """Slope of the display curve between two radiances; its derivative where they are equal."""
    step = 1e-3 * 2.0**-exposure_ev
    low, high = np.minimum(start, end), np.maximum(start, end) + step
    return (_display(high, exposure_ev) - _display(low, exposure_ev)) / (high - low)
