"""Where things are in the frames of a clip, as metadata: seen, boxed, at which disparity.

Their masks are the stream ``instance``; this is what can be known without decoding it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from focuspull.dataset.records import FrozenModel, Share

Box = tuple[int, int, int, int]


class TrackMeta(FrozenModel):
    """One object; every tuple has one entry per frame, None where it is not seen.

    Args:
        share: Of the pixels that show it.
        box: Left, top, right, bottom, in pixels; right and bottom are the first beyond it.
        centre: Mean x and y of its pixels, whose centres are at half-integers.
        disparity: Median of its pixels.
    """

    share: tuple[Share, ...]
    box: tuple[Box | None, ...]
    centre: tuple[tuple[float, float] | None, ...]
    disparity: tuple[Share | None, ...]

    @model_validator(mode="after")
    def _same_frames(self) -> TrackMeta:
        if len({len(self.share), len(self.box), len(self.centre), len(self.disparity)}) > 1:
            raise ValueError("share, box, centre and disparity need one entry per frame each")
        return self


def object_tracks(
    instance: NDArray[np.uint16], disparity: NDArray[np.float32], ids: Mapping[str, int]
) -> dict[str, TrackMeta]:
    """Tracks of objects.

    Args:
        instance: ``[T, H, W]``.
        disparity: ``[T, H, W]`` in [0, 1].
        ids: Instance ids by name.
    """
    return {name: _track(instance == number, disparity) for name, number in ids.items()}


def _track(masks: NDArray[np.bool_], disparity: NDArray[np.float32]) -> TrackMeta:
    shares: list[float] = []
    boxes: list[Box | None] = []
    centres: list[tuple[float, float] | None] = []
    medians: list[float | None] = []
    for mask, frame in zip(masks, disparity, strict=True):
        y, x = np.nonzero(mask)
        shares.append(round(y.size / mask.size, 6))
        if not y.size:
            boxes.append(None)
            centres.append(None)
            medians.append(None)
            continue
        boxes.append((int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1))
        centres.append((round(float(x.mean()) + 0.5, 3), round(float(y.mean()) + 0.5, 3)))
        medians.append(round(float(np.median(frame[mask])), 6))
    return TrackMeta(share=tuple(shares), box=tuple(boxes), centre=tuple(centres), disparity=tuple(medians))
