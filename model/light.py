"""The display curve of `focuspull.dataset.color` for torch tensors, on their device and differentiable.

Clips store light after exposure, clipped to [0, 1] and sRGB-encoded. So decoding gives light up to a
constant that blurring does not care about, except that whatever was above display white is lost: a lamp
blurs into a disc that is darker than the lens would make it.

Source of the curve: IEC 61966-2-1 (sRGB), piecewise, with the standard's constants.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LINEAR_KNEE = 0.0031308
_ENCODED_KNEE = 0.04045


def linear_to_srgb(x: Tensor) -> Tensor:
    """SRGB-encoded values of linear ones ``[...]`` in [0, 1]; dtype and device stay."""
    return torch.where(x <= _LINEAR_KNEE, 12.92 * x, 1.055 * x.clamp(min=_LINEAR_KNEE) ** (1 / 2.4) - 0.055)


def srgb_to_linear(x: Tensor) -> Tensor:
    """Linear values of sRGB-encoded ones ``[...]`` in [0, 1]; inverse of `linear_to_srgb`."""
    return torch.where(x <= _ENCODED_KNEE, x / 12.92, ((x.clamp(min=_ENCODED_KNEE) + 0.055) / 1.055) ** 2.4)
