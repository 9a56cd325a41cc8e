"""One picture per frame to judge a refocused video by: all in focus, bokeh, and disparity with the focus."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

TILE_WIDTH = 640
"""Wider videos are shrunk."""
_WHITE = (1.0, 1.0, 1.0)
_LOST = (1.0, 0.25, 0.2)
_SHARP_PX = 1.0
"""Blur up to which a pixel is marked as in focus."""
_MOST_SHARP = 0.05
"""Largest difference in disparity that is marked, so that a K near 0 does not mark everything."""


def tile_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of one of the three pictures; even."""
    scale = min(1.0, TILE_WIDTH / width)
    return 2 * -(-round(width * scale) // 2), 2 * -(-round(height * scale) // 2)


def draw_side_by_side(
    aif: NDArray[np.float32],
    bokeh: NDArray[np.float32],
    disparity: NDArray[np.float32],
    *,
    k: float,
    focus_disparity: float,
    point: tuple[float, float] | None,
    is_lost: bool,
    caption: str,
) -> NDArray[np.float32]:
    """Draw one frame.

    Args:
        aif: ``[H, W, 3]``, sRGB-encoded, in [0, 1].
        bokeh: Likewise.
        disparity: ``[H, W]`` in [0, 1].
        k: Blur radius in pixels of this width per unit of disparity.
        focus_disparity: What is in focus.
        point: The pixel that is followed.
        is_lost: Whether it could not be followed; it is red then.
        caption: Below the left picture.

    Returns:
        ``[h, 3 w, 3]``; disparity in OpenCV's TURBO map, red near and blue far, white what is in focus.
    """
    height, width = disparity.shape
    size = tile_size(width, height)
    levels = np.rint(disparity * 255).astype(np.uint8)
    colors = np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), np.float32)[..., ::-1] / 255
    reach = min(_SHARP_PX / k, _MOST_SHARP) if k > 0 else _MOST_SHARP
    sharp = np.abs(disparity - np.float32(focus_disparity)) <= reach
    colors = np.where(sharp[..., None], 0.3 * colors + 0.7, colors)
    tiles = [
        np.ascontiguousarray(cv2.resize(np.asarray(image, np.float32), size, interpolation=cv2.INTER_AREA))
        for image in (aif, bokeh, colors)
    ]
    if point is not None:
        at = [round((c + 0.5) * new / old) for c, new, old in zip(point, size, (width, height), strict=True)]
        radius = max(6, size[0] // 40)
        for tile in (tiles[0], tiles[2]):
            for color, thickness in (((0.0, 0.0, 0.0), 3), (_LOST if is_lost else _WHITE, 1)):
                cv2.drawMarker(tile, at, color, cv2.MARKER_CROSS, radius, thickness, cv2.LINE_AA)
                cv2.circle(tile, at, radius, color, thickness, cv2.LINE_AA)
    font = cv2.FONT_HERSHEY_SIMPLEX
    text_width = cv2.getTextSize(caption, font, 1.0, 1)[0][0]
    scale = min(0.55, (size[0] - 18) / text_width)  # small letters are a little wider
    for color, thickness in (((0.0, 0.0, 0.0), 3), (_WHITE, 1)):
        place = 6, size[1] - 8
        cv2.putText(tiles[0], caption, place, font, scale, color, thickness, cv2.LINE_AA)
    return np.concatenate(tiles, axis=1).astype(np.float32).clip(0, 1)
