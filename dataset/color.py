"""The one display transform of focuspull: from scene-linear radiance to the 8-bit images in a clip.

``display = sRGB_OETF(clip(radiance * 2**exposure_ev, 0, 1))``, Rec.709 primaries, no tone curve. AIF and
bokeh go through it alike, after the blur, so that what was blurred is light and not display values.
Radiance above 1 after exposure is lost here, and only here.

Source of the curve: IEC 61966-2-1 (sRGB), piecewise, with the standard's constants.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LINEAR_KNEE = 0.0031308
_ENCODED_KNEE = 0.04045


def linear_to_srgb(x: ArrayLike) -> NDArray[np.float64]:
    """SRGB transfer function of linear values ``[...]`` in [0, 1]; inverse of `srgb_to_linear`.

    It works in float64 on purpose: NumPy's float32 power differs in its last bits between CPUs, which
    would now and then move an 8-bit value, and shard bytes must not depend on the machine.
    """
    x = np.asarray(x, np.float64)
    return np.where(x <= _LINEAR_KNEE, 12.92 * x, 1.055 * np.maximum(x, _LINEAR_KNEE) ** (1 / 2.4) - 0.055)


def srgb_to_linear(x: ArrayLike) -> NDArray[np.float64]:
    """Linear values of sRGB-encoded values ``[...]`` in [0, 1]; inverse of `linear_to_srgb`."""
    x = np.asarray(x, np.float64)
    return np.where(x <= _ENCODED_KNEE, x / 12.92, ((np.maximum(x, _ENCODED_KNEE) + 0.055) / 1.055) ** 2.4)


def encode_display(linear: ArrayLike, *, exposure_ev: float = 0.0) -> NDArray[np.float32]:
    """Apply the display transform.

    Args:
        linear: Scene-linear Rec.709 radiance, ``[..., 3]``, not negative, HDR allowed.
        exposure_ev: Exposure in stops; 1 doubles the light.

    Returns:
        ``[..., 3]`` sRGB-encoded, in [0, 1].
    """
    exposed = np.asarray(linear, np.float64) * 2.0**exposure_ev
    return linear_to_srgb(np.clip(exposed, 0.0, 1.0)).astype(np.float32)


def decode_display(encoded: ArrayLike, *, exposure_ev: float = 0.0) -> NDArray[np.float32]:
    """Undo `encode_display`, except for the light it clipped.

    Args:
        encoded: ``[..., 3]`` sRGB-encoded, in [0, 1].
        exposure_ev: The exposure that was applied, in stops.

    Returns:
        ``[..., 3]`` scene-linear radiance in [0, 2**-exposure_ev].
    """
    return (srgb_to_linear(encoded) * 2.0**-exposure_ev).astype(np.float32)


def to_uint8(encoded: ArrayLike) -> NDArray[np.uint8]:
    """Round display values ``[...]`` in [0, 1] to 8 bits, halves upwards."""
    return np.floor(np.asarray(encoded, np.float64) * 255.0 + 0.5).astype(np.uint8)


def psnr_db(a: ArrayLike, b: ArrayLike) -> float:
    """Peak signal-to-noise ratio of two display images.

    Args:
        a: ``[...]``, float in [0, 1] or uint8.
        b: Same shape; may be of the other type.

    Returns:
        Decibels, peak 1; ``inf`` for equal images.

    Raises:
        ValueError: If the shapes differ.
    """
    a, b = _unit_range(a), _unit_range(b)
    if a.shape != b.shape:
        raise ValueError(f"psnr: the images must have one shape, got {a.shape} and {b.shape}")
    mean_squared_error = float(np.mean((a - b) ** 2))
    return math.inf if mean_squared_error == 0 else -10.0 * math.log10(mean_squared_error)


def _unit_range(image: ArrayLike) -> NDArray[np.float64]:
    image = np.asarray(image)
    return image.astype(np.float64) / (255.0 if image.dtype == np.uint8 else 1.0)
