"""Crops, resizes and flips of a window that keep K, focus and disparity true.

One crop for all frames and streams of a window. Disparity and focus do not change; K is a radius in pixels
and grows with the scale, ``K' = K * (new width / old width)`` of the same field of view (a crop alone leaves
it). Colours are resized in linear light, where the blur was made; disparity and instances by the nearest
pixel centre, since the mean of two surfaces is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from focuspull.dataset import color
from focuspull.dataset.clip import FrozenModel

PixelT = TypeVar("PixelT", bound=np.generic)

Side = Annotated[int, Field(gt=0, le=16384)]


class Transform(FrozenModel):
    """What is done to every window.

    Args:
        size: Height and width of the result, pixels; None keeps what is cropped.
        crop: Height and width of what is cut out of the stored frame, pixels; None: the largest rectangle of
            the shape of ``size``, or the whole frame. Where ``size`` is given too the shapes must agree.
        zoom: Range of a factor by which the crop shrinks, drawn log-uniformly per window; at least 1. Only
            with ``size``: it is a change of focal length.
        position: Where the crop lies.
        flip: Probability that the window is mirrored left to right.
    """

    size: tuple[Side, Side] | None = None
    crop: tuple[Side, Side] | None = None
    zoom: tuple[Annotated[float, Field(ge=1)], Annotated[float, Field(ge=1)]] = (1.0, 1.0)
    position: str = Field(default="random", pattern="^(random|center)$")
    flip: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Transform:
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom must go from small to large, got {list(self.zoom)}")
        if self.size is None and self.zoom != (1.0, 1.0):
            raise ValueError("zoom needs a size")
        if self.size and self.crop:
            exact = self.crop[1] * self.size[0] / self.size[1]
            if abs(exact - self.crop[0]) > 1:
                raise ValueError(f"crop {list(self.crop)} and size {list(self.size)} differ in shape")
        return self


@dataclass(frozen=True)
class Placement:
    """A transform as drawn for one window.

    Args:
        top: First row of the crop in the stored frame.
        left: First column.
        height: Rows of the crop.
        width: Columns of the crop.
        size: Height and width of the result.
        flip: Whether it is mirrored.
    """

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]
    flip: bool

    @property
    def k_scale(self) -> float:
        """What K is multiplied with: result pixels per stored pixel."""
        return self.size[1] / self.width

    def color(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A stored sRGB image ``[H, W, 3]``, placed: ``[*size, 3]``."""
        part = self._cut(image)
        if part.shape[:2] == self.size:
            return part
        to_linear, to_display = _tables()
        shrinks = self.size[0] <= self.height and self.size[1] <= self.width
        resized: NDArray[Any] = cv2.resize(
            to_linear[part], self.size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        return to_display[resized]

    def values(self, image: NDArray[PixelT]) -> NDArray[PixelT]:
        """Disparity or instance ids ``[H, W]``, placed: ``[*size]``; no value that was not there."""
        part = self._cut(image)
        rows, columns = (
            np.floor((np.arange(new) + 0.5) * (old / new)).astype(np.int64)
            for new, old in zip(self.size, part.shape, strict=True)
        )
        return part if part.shape == self.size else part[np.ix_(rows, columns)]

    def _cut(self, image: NDArray[PixelT]) -> NDArray[PixelT]:
        part = image[self.top : self.top + self.height, self.left : self.left + self.width]
        return part[:, ::-1] if self.flip else part


def place(transform: Transform, height: int, width: int, *, rng: np.random.Generator) -> Placement:
    """Draw a transform for a stored frame of this size.

    Always takes the same number of values from ``rng``.

    Raises:
        ValueError: If the crop is larger than the frame.
    """
    across, down, zoom, flip = rng.random(4)
    if transform.crop:
        crop_h, crop_w = transform.crop
    elif transform.size:
        shape = transform.size[1] / transform.size[0]
        crop_w = min(width, round(height * shape))
        crop_h = min(height, round(crop_w / shape))
    else:
        crop_h, crop_w = height, width
    if crop_h > height or crop_w > width:
        raise ValueError(f"crop {crop_w}x{crop_h} does not fit into frames of {width}x{height}")
    low, high = np.log(transform.zoom)
    factor = float(np.exp(low + (high - low) * zoom))
    crop_h, crop_w = max(1, round(crop_h / factor)), max(1, round(crop_w / factor))
    if transform.position == "center":
        across = down = 0.5
    return Placement(
        top=min(int(down * (height - crop_h + 1)), height - crop_h),
        left=min(int(across * (width - crop_w + 1)), width - crop_w),
        height=crop_h,
        width=crop_w,
        size=transform.size or (crop_h, crop_w),
        flip=bool(flip < transform.flip),
    )


@cache
def _tables() -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """8-bit sRGB to 16-bit linear light, ``[256]``, and back, ``[65536]``; there and back changes nothing."""
    linear = color.srgb_to_linear(np.arange(256) / 255)
    display = color.linear_to_srgb(np.arange(65536) / 65535)
    return np.floor(linear * 65535 + 0.5).astype(np.uint16), color.to_uint8(display)
