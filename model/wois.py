"""Weighted overlapping inference: any function of a few frames, applied to a video of any length.

The video is cut into chunks of 2L frames that overlap by L. In an overlap the last L results of one chunk
pass over into the first L of the next (Any-to-Bokeh, arXiv 2505.21593, section on weighted overlapping
inference)::

    V[s + j] = g_j V_i[L + j] + (1 - g_j) V_(i+1)[j],   g_j = (1 + cos(pi j / L)) / 2,   j = 0 .. L - 1

where chunk i + 1 begins at frame s. The formula is printed in the paper with frame j of chunk i, which is
not the same frame of the video; the indices here are those of the released code. Both ends of the video are
in one chunk only and taken as they are. The passing over is computed as ``a + (1 - g) (b - a)``, so that
equal results stay exactly what they are.

The last chunk is never filled up with frames that do not exist: it reaches back instead, so it is as long as
all others, and what it says about frames before its overlap is not used. A video shorter than 2L is one
chunk.

Frames come and go one by one, and at most 3L of them are kept, whatever the length of the video.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Frame = TypeVar("Frame")


def cosine_weights(overlap: int) -> list[float]:
    """Weights ``g_j`` of the earlier chunk, j = 0 .. overlap - 1: from 1 down towards 0.

    Args:
        overlap: L, positive.

    Source:
        Any-to-Bokeh, arXiv 2505.21593: cosine weights, better there than linear ones.
    """
    return [0.5 * (1 + math.cos(math.pi * j / overlap)) for j in range(overlap)]


def overlapped(
    frames: Iterable[Frame], process: Callable[[list[Frame]], Sequence[Tensor]], window: int
) -> Iterator[tuple[Frame, Tensor]]:
    """Apply ``process`` to overlapping chunks of a video and fuse what it says about each frame.

    Args:
        frames: The video's frames in order, of any kind; may be a generator.
        process: Gives one floating-point tensor for each frame of a chunk, in order, all of one shape. It is
            called with ``window`` frames, except for a video that is shorter.
        window: Length 2L of a chunk, even and at least 2.

    Yields:
        Each frame with its result, in order, as soon as no later frame can change it.

    Raises:
        ValueError: If the window is not even and positive.
    """
    check_window(window)
    return _overlapped(frames, process, window)


def side_by_side(
    frames: Iterable[Frame], process: Callable[[list[Frame]], Sequence[Tensor]], window: int
) -> Iterator[tuple[Frame, Tensor]]:
    """Apply ``process`` to chunks that do not overlap: what `overlapped` is compared with.

    Arguments and results are those of `overlapped`. Here too the last chunk reaches back to be as long as the
    others.
    """
    check_window(window)
    before: list[Frame] = []
    waiting: list[Frame] = []
    for frame in frames:
        waiting.append(frame)
        if len(waiting) == window:
            yield from zip(waiting, process(waiting), strict=True)
            before, waiting = waiting, []
    if waiting:
        context = before[len(waiting) :]
        yield from zip(waiting, list(process(context + waiting))[len(context) :], strict=True)


def check_window(window: int, name: str = "window") -> None:
    """Refuse a length of a chunk that is not even and positive.

    Raises:
        ValueError: If it is not.
    """
    if window < 2 or window % 2:
        raise ValueError(f"{name}: must be even and at least 2, got {window}")


def _overlapped(
    frames: Iterable[Frame], process: Callable[[list[Frame]], Sequence[Tensor]], window: int
) -> Iterator[tuple[Frame, Tensor]]:
    overlap = window // 2
    weights = cosine_weights(overlap)
    waiting: list[Frame] = []
    # The frames just before those that wait, and what the last chunk said about the first L that wait.
    before: list[Frame] = []
    said: list[Tensor] = []

    for frame in frames:
        waiting.append(frame)
        if len(waiting) == window:
            results = list(process(waiting))
            fused = [*_pass_over(said, results, weights), *results[len(said) : overlap]]
            said = results[overlap:]
            del results
            before, waiting = waiting[:overlap], waiting[overlap:]
            yield from _drain(before, fused)

    if said and len(waiting) > overlap:
        context = before[len(waiting) - window :]
        results = list(process(context + waiting))[len(context) :]
        results = [*_pass_over(said, results, weights), *results[overlap:]]
    else:
        results = said or (list(process(waiting)) if waiting else [])
    yield from zip(waiting, results, strict=True)


def _drain(frames: list[Frame], results: list[Tensor]) -> Iterator[tuple[Frame, Tensor]]:
    """Pairs, without holding on to results that have been handed out."""
    for frame in frames:
        yield frame, results.pop(0)


def _pass_over(earlier: list[Tensor], later: list[Tensor], weights: list[float]) -> list[Tensor]:
    return [torch.lerp(a, b, 1 - g) for a, b, g in zip(earlier, later, weights, strict=False)]
