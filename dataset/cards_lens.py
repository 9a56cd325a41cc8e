"""Lens rays through cards: bokeh of layers of which also the hidden parts are known.

The ray through film point x and lens point U, ``|U| <= K``, meets what has disparity d at
``p = x - U (d - d_f)`` of the pinhole image. On a card whose disparity is affine in p that is an affine map
of x, so that one point of the lens sees all cards as images that are warped and then put one over the other,
in linear light. The mean over the lens is the bokeh, with what is seen around and through what is blurred.

As many points of the lens are used as its largest disc has pixels, up to a limit. Beyond it each stands for a
cell of the lens, and cards are blurred by what a cell spreads before they are looked at, so that spots do not
fall apart into dots. What that and looking up between pixels add to a disc is taken off the spread of the
points: its second moment stays that of a disc of radius ``K |d - d_f|``.

Where a plane that leans passes through the focus, looking up between pixels blurs by up to half a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_POINTS = 32
"""On the lens, for discs of few pixels."""
SHARP_PX = 1 / 64
"""Radius below which a card is in focus."""
MIN_CELL_PX = 0.25
"""Standard deviation below which the blur of a cell is left out."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Plane:
    """Disparity ``at_origin + x * slope[0] + y * slope[1]``; (0, 0) is the centre of the first pixel.

    Args:
        at_origin: Disparity there.
        slope: Per pixel, rightwards and downwards.
    """

    at_origin: float
    slope: tuple[float, float] = (0.0, 0.0)

    def disparity(self, x: NDArray[Any] | float, y: NDArray[Any] | float) -> Any:
        """Disparity at pixels of the frame, of any shape."""
        return self.at_origin + x * self.slope[0] + y * self.slope[1]


@dataclass(frozen=True)
class Layer:
    """A card as the pinhole sees it, with what is hidden of it and what lies beyond the frame.

    Args:
        light: ``[H + 2 m, W + 2 m, 3]`` float32, linear, times opacity; values over 1 allowed.
        alpha: ``[H + 2 m, W + 2 m]`` float32 in [0, 1]; None: opaque everywhere, as a background is.
        plane: Of its disparity.
        margin_px: m; at least the largest radius and 2 more.
    """

    light: NDArray[np.float32]
    alpha: NDArray[np.float32] | None
    plane: Plane
    margin_px: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame, without margins."""
        return self.light.shape[0] - 2 * self.margin_px, self.light.shape[1] - 2 * self.margin_px

    def cropped(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Light and alpha within the frame."""
        (height, width), m = self.size, self.margin_px
        inside = np.s_[m : m + height, m : m + width]
        return self.light[inside], None if self.alpha is None else self.alpha[inside]


def see_through_pinhole(layers: Sequence[Layer]) -> NDArray[np.float32]:
    """Light ``[H, W, 3]`` of layers, the farthest first; what is opaque must come first."""
    image = np.zeros((*layers[0].size, 3), np.float32)
    for layer in layers:
        light, alpha = layer.cropped()
        image = light.copy() if alpha is None else image * (1 - alpha[..., None]) + light
    return image


def see_through_lens(
    layers: Sequence[Layer], *, k: float, focus_disparity: float, max_points: int, turn: float
) -> NDArray[np.float32]:
    """Light of layers through a round lens.

    Args:
        layers: The farthest first; the first one must be opaque. Their planes must not cross where both have
            content.
        k: Blur radius in pixels per unit of disparity.
        focus_disparity: Disparity in focus.
        max_points: On the lens.
        turn: By which the points are turned, in turns; what is left of their pattern turns with them.

    Returns:
        ``[H, W, 3]`` float32, linear; where everything is in focus exactly `see_through_pinhole`.
    """
    height, width = layers[0].size
    radii = [_radii(layer, k, focus_disparity) for layer in layers]
    largest = max(radius for _, radius in radii)
    if largest < SHARP_PX:
        return see_through_pinhole(layers)
    num_points = min(max(math.ceil(math.pi * largest**2), MIN_POINTS), max_points)
    points = lens_points(num_points, turn) * k
    seen = [
        _Seen(layer, smallest, radius, points, focus_disparity)
        for layer, (smallest, radius) in zip(layers, radii, strict=True)
    ]
    seen = [one for one in seen if one.is_visible]
    total = np.zeros((height, width, 3), np.float32)
    image = np.empty_like(total)
    for number in range(num_points):
        for one in seen:
            one.put_over(image, number)
        cv2.accumulate(image, total)
    return total / np.float32(num_points)


def lens_points(num_points: int, turn: float) -> NDArray[np.float64]:
    """Points ``[N, 2]`` spread evenly over the unit disc, in a sunflower (Vogel 1979)."""
    index = np.arange(num_points)
    angle = index * (math.pi * (3 - math.sqrt(5))) + 2 * math.pi * turn
    radius = np.sqrt((index + 0.5) / num_points)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float64)


def _radii(layer: Layer, k: float, focus: float) -> tuple[float, float]:
    """Smallest and largest blur radius of what a layer has in the frame and its margin, pixels."""
    top, bottom, left, right = _content(layer)
    x, y = (np.array(ends) - layer.margin_px for ends in ((left, right - 1), (top, bottom - 1)))
    defocus = layer.plane.disparity(x[None, :], y[:, None]) - focus
    smallest = 0.0 if defocus.min() < 0 < defocus.max() else float(np.abs(defocus).min())
    return k * smallest, k * float(np.abs(defocus).max())


def _content(layer: Layer) -> Box:
    """Top, bottom, left and right of what is not transparent; empty: four zeros."""
    if layer.alpha is None:
        return 0, layer.light.shape[0], 0, layer.light.shape[1]
    rows, columns = (np.flatnonzero(layer.alpha.max(axis)) for axis in (1, 0))
    if len(rows) == 0:
        return 0, 0, 0, 0
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


class _Seen:
    """A layer, ready to be looked at from every point of a lens."""

    def __init__(
        self, layer: Layer, smallest: float, largest: float, points: NDArray[np.float64], focus: float
    ) -> None:
        self._plane, self._focus, self._margin = layer.plane, focus, layer.margin_px
        # Of a plane that leans, the sharpest part decides how much may be blurred beforehand.
        cell = smallest / (2 * math.sqrt(len(points)))
        light, alpha = layer.light, layer.alpha
        if cell < MIN_CELL_PX:
            cell = 0.0
        else:
            light = cv2.GaussianBlur(light, (0, 0), cell)
            alpha = None if alpha is None else cv2.GaussianBlur(alpha, (0, 0), cell)
        self._points = points * _shrink(largest, cell)
        self._is_sharp = largest < SHARP_PX
        self._is_flat = layer.plane.slope == (0.0, 0.0)
        self._opaque = alpha is None
        self._light = light
        passing = None if alpha is None else 1 - alpha
        self._passing = None if passing is None else cv2.merge([passing] * 3)
        if passing is not None and not self._is_flat:
            self._joined = cv2.merge([light, passing])
        height, width = layer.size
        top, bottom, left, right = _content(layer)
        reach = math.ceil(largest + 4 * cell) + 2
        self._top, self._bottom = (
            max(top - self._margin - reach, 0),
            min(bottom - self._margin + reach, height),
        )
        self._left, self._right = (
            max(left - self._margin - reach, 0),
            min(right - self._margin + reach, width),
        )
        self.is_visible = bottom > top and self._bottom > self._top and self._right > self._left
        shape = (max(self._bottom - self._top, 0), max(self._right - self._left, 0))
        self._found, self._through = (np.empty((*shape, 3), np.float32) for _ in range(2))
        self._both = np.empty((*shape, 4), np.float32)

    def put_over(self, image: NDArray[np.float32], number: int) -> None:
        """Put the layer, as point ``number`` of the lens sees it, over an image ``[H, W, 3]``, in place."""
        part = image[self._top : self._bottom, self._left : self._right]
        u, v = self._points[number].tolist()
        found, through = self._look_up(u, v)
        if through is not None:
            cv2.multiply(part, through, dst=part)
            cv2.add(part, found, dst=part)
        else:
            np.copyto(part, found)

    def _look_up(self, u: float, v: float) -> tuple[NDArray[Any], NDArray[Any] | None]:
        height, width = self._found.shape[:2]
        top, left = self._top + self._margin, self._left + self._margin
        if self._is_sharp:
            inside = np.s_[top : top + height, left : left + width]
            return self._light[inside], None if self._passing is None else self._passing[inside]
        (a, b), defocus = self._plane.slope, self._plane.at_origin - self._focus
        if self._is_flat:
            centre = (left + (width - 1) / 2 - u * defocus, top + (height - 1) / 2 - v * defocus)
            cv2.getRectSubPix(self._light, (width, height), centre, patch=self._found)
            if self._passing is None:
                return self._found, None
            cv2.getRectSubPix(self._passing, (width, height), centre, patch=self._through)
            return self._found, self._through
        # p + U (slope . p) = x - U defocus, solved for p (Sherman and Morrison).
        inverse = 1 / (1 + u * a + v * b)
        linear = np.array([[1 - u * a * inverse, -u * b * inverse], [-v * a * inverse, 1 - v * b * inverse]])
        offset = linear @ [self._left - u * defocus, self._top - v * defocus] + self._margin
        matrix = np.column_stack([linear, offset])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        if self._passing is None:
            cv2.warpAffine(self._light, matrix, (width, height), self._found, flags, cv2.BORDER_REPLICATE)
            return self._found, None
        cv2.warpAffine(
            self._joined, matrix, (width, height), self._both, flags, cv2.BORDER_CONSTANT, (0, 0, 0, 1)
        )
        cv2.mixChannels([self._both], [self._found, self._through], [0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 3, 5])
        return self._found, self._through


def _shrink(radius: float, cell: float) -> float:
    """What points are scaled with, so that with what is blurred besides, the second moment is that of a disc.

    Looking up between pixels spreads a point by 1/6 px^2 on average in each direction, and by ``|u|`` for
    shifts u below a pixel; a disc of radius r has r^2 / 4.
    """
    if radius < 1:
        return 3 * math.pi * radius / 16
    return math.sqrt(max(1 - (2 / 3 + 4 * cell**2) / radius**2, 0.0))
