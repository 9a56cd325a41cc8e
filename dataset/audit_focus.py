"""The picture in focus: where the circle of confusion is under half a pixel, bokeh is the all-in-focus image.

Light, position and sharpness are fitted to what both show; the rest is noise, which is held against the noise
floors that the metadata record. Occlusion edges, clipped values and mirrors are left out as in
`focuspull.dataset.audit_blur`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from focuspull.dataset.audit_blur import (
    LINEAR,
    LUMINANCE,
    display_source,
    encoded,
    misleading_instances,
    surface_mask,
)
from focuspull.dataset.clip import ClipMeta, DecodedClip

IN_FOCUS_PX = 0.5
"""Radius below which an image is in focus."""
MIN_FOCUS_PX = 1000
"""Pixels in focus from which their agreement is measured."""
GAIN_TOLERANCE = 0.03
"""Of the ratio of light in bokeh and AIF; noise averages out."""
MIN_DIFFERENCE = 0.5 / 255.0
"""Mean difference of display values that such a ratio must come with: in the dark 3 % of light are less than
rounding."""
SHIFT_TOLERANCE_PX = 0.15
"""Of the displacement of bokeh against AIF, beyond `SHIFT_ERRORS` times its standard error: what is in focus
does not move at all."""
SHIFT_ERRORS = 2.0
NOISE_SPAN_PX = 5.0
"""Pixels along each axis over which a denoiser makes noise alike, so that so many are one observation."""
FOCUS_BLUR_TOLERANCE_PX = 1.0
"""Of the blur radius of what should be in focus, beyond its own (less than 0.5); denoisers add half a
pixel."""
AGREEMENT_DB = 24.0
"""PSNR in focus below which AIF and bokeh of unrecorded noise are not the same picture."""
FLOOR_MARGIN_DB = 6.0
"""How much worse than the recorded noise floors promise the agreement in focus may be: floors are means over
whole images, and what is in focus may be noisier than the rest."""


@dataclass(frozen=True)
class Focus:
    """How one bokeh video agrees with the AIF where the blur radius is below `IN_FOCUS_PX`.

    Args:
        target: ``bokeh0``, ...
        num_pixels: Pixels compared; the rest is None if they are fewer than `MIN_FOCUS_PX`.
        psnr_db: Of 8-bit display values, dB.
        gain: Light in the bokeh over light in the AIF.
        difference: Display values of the bokeh minus those of the AIF, mean, 1 is white.
        shift_px: Displacement of the bokeh to the right and down.
        shift_error_px: Standard error of its length, from the difference that is left.
        blur_px: Radius of the disc by which it is blurred more than it should be, negative if less.
    """

    target: str
    num_pixels: int
    psnr_db: float | None = None
    gain: float | None = None
    difference: float | None = None
    shift_px: tuple[float, float] | None = None
    shift_error_px: float = 0.0
    blur_px: float | None = None


def measure_focus(clip: DecodedClip, index: int, frames: Sequence[int]) -> Focus:
    """How one bokeh video agrees with the AIF in focus; arguments as in `measure_blur`."""
    target, misleading = clip.meta.targets[index], misleading_instances(clip.meta)
    count, squared_error, sum_difference, light = 0, 0.0, 0.0, np.zeros(2)
    normal, right_side, squared_residual = np.zeros((3, 3)), np.zeros(3), 0.0
    for frame in frames:
        usable, radius = surface_mask(clip, frame, index, misleading)
        usable &= radius < IN_FOCUS_PX
        usable[:2], usable[-2:], usable[:, :2], usable[:, -2:] = False, False, False, False
        if not usable.any():
            continue
        aif, bokeh = clip.aif[frame], clip.bokeh[index][frame]
        count += int(usable.sum())
        difference = bokeh[usable].astype(np.float64) - aif[usable]
        squared_error += float((difference**2).mean(axis=-1).sum()) / 255.0**2
        sum_difference += float(difference.mean(axis=-1).sum()) / 255.0
        light += [float((LINEAR[image[usable]] @ LUMINANCE).sum()) for image in (aif, bokeh)]

        # Displacement and blur from the structure that both have: with the mean of the two as regressor the
        # noise of one cancels that of the other.
        a, b = (encoded(display_source(image, target), target) for image in (aif, bokeh))
        mean = (a + b) / 2
        right = cv2.Sobel(mean, cv2.CV_32F, 1, 0, scale=1 / 8)
        down = cv2.Sobel(mean, cv2.CV_32F, 0, 1, scale=1 / 8)
        laplacian = cv2.Laplacian(mean, cv2.CV_32F)
        basis = np.stack([-right[usable], -down[usable], laplacian[usable]], axis=1).astype(np.float64)
        # A disc of radius r spreads by r^2 / 4 along each axis, half of which is the factor of the Laplacian.
        residual = (b - a)[usable] - radius[usable] ** 2 / 8 * laplacian[usable]
        normal += basis.T @ basis
        right_side += basis.T @ residual
        squared_residual += float(residual @ residual)
    if count < MIN_FOCUS_PX:
        return Focus(target.name, count)
    psnr_db = -10.0 * math.log10(max(squared_error / count, 1e-12))
    # A little ridge, one 8-bit step of gradient, holds what is without structure at zero.
    normal += count / 255.0**2 * 0.25 * np.eye(3)
    fitted = np.linalg.solve(normal, right_side)
    variance = squared_residual / count * NOISE_SPAN_PX**2 * np.trace(np.linalg.inv(normal)[:2, :2])
    blur = math.copysign(math.sqrt(8 * abs(fitted[2])), fitted[2])
    return Focus(
        target=target.name,
        num_pixels=count,
        psnr_db=psnr_db,
        gain=float(light[1] / max(light[0], 1e-12)),
        difference=sum_difference / count,
        shift_px=(float(fitted[0]), float(fitted[1])),
        shift_error_px=math.sqrt(variance),
        blur_px=blur,
    )


def expected_agreement_db(meta: ClipMeta, target: int) -> float | None:
    """PSNR between AIF and a target in focus that the recorded noise floors promise; None if not recorded.

    Independent errors add up, and each image is rounded to 8 bits.
    """
    floors = meta.sampling.noise_floor_db[0], meta.sampling.noise_floor_db[1 + target]
    if floors[0] is None or floors[1] is None:
        return None
    rounding = 2.0 / 12.0 / 255.0**2
    return -10.0 * math.log10(10.0 ** (-floors[0] / 10) + 10.0 ** (-floors[1] / 10) + rounding)
