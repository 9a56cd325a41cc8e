"""Where focus is in every frame of a target, from the ground truth of the clip."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError
from focuspull.render import spec

WELL_IN_VIEW = 2e-3
"""Share of a clip's pixels from which an object is preferred as the focus subject."""
BREATH_RATIOS = (0.618, 1.0, 1.618)
"""Frequencies of breathing against its own; the golden ratio keeps them apart for ever."""


def focus_track(
    target: spec.TargetSpec, disparity: NDArray, instance: NDArray, names: dict[str, int], fps: float
) -> NDArray[np.float64]:
    """Disparity in focus per frame ``[T]``, in [0, 1].

    Of several subjects the first with `WELL_IN_VIEW` of the pixels counts, else the largest. A subject's
    disparity is the median over its visible pixels in each frame; frames in which it is hidden
    take it from the frames around. Between two keys both tracks are blended with smoothstep; then come the
    puller's lag and breathing.

    Args:
        target: What is asked for.
        disparity: ``[T, H, W]``.
        instance: ``[T, H, W]``.
        names: Instance ids by object.
        fps: Frames per second.

    Raises:
        UserError: If a subject is never visible.
    """
    tracks = [_key_track(key, disparity, instance, names) for key in target.focus]
    result = tracks[0].copy()
    frames = np.arange(len(disparity))
    for i, (a, b) in enumerate(zip(target.focus, target.focus[1:], strict=False)):
        x = np.clip((frames - a.frame) / (b.frame - a.frame), 0, 1)
        blend = x * x * (3 - 2 * x)
        result = np.where(frames >= a.frame, tracks[i] * (1 - blend) + tracks[i + 1] * blend, result)
    if target.lag_s > 0:
        result = _followed(result, target.lag_s * fps)
    if target.breathing is not None:
        result = result + _breath(target.breathing, frames / fps)
    return np.clip(result, 0.0, 1.0)


def _key_track(
    key: spec.FocusKey, disparity: NDArray, instance: NDArray, names: dict[str, int]
) -> NDArray[np.float64]:
    num_frames = len(disparity)
    if key.disparity is not None:
        return np.full(num_frames, key.disparity)
    track = _median_track(key.subjects, disparity, instance, names)
    if key.others:
        other = _median_track(key.others, disparity, instance, names)
        track = (1 - key.part) * track + key.part * other
    return track if key.at_frame is None else np.full(num_frames, track[key.at_frame])


def _median_track(
    subjects: tuple[str, ...], disparity: NDArray, instance: NDArray, names: dict[str, int]
) -> NDArray[np.float64]:
    shares = [float((instance == names[name]).mean()) for name in subjects]
    chosen = next((i for i, share in enumerate(shares) if share >= WELL_IN_VIEW), int(np.argmax(shares)))
    if shares[chosen] == 0:
        raise UserError(
            f"targets: focus on {' or '.join(subjects)}, never visible. Focus on something in view."
        )
    masks = instance == names[subjects[chosen]]
    seen = np.flatnonzero(masks.any(axis=(1, 2)))
    medians = [float(np.median(disparity[t][masks[t]])) for t in seen]
    return np.interp(np.arange(len(disparity)), seen, medians)


def _followed(track: NDArray[np.float64], lag_frames: float) -> NDArray[np.float64]:
    """Two first-order low passes in a row, at rest before the first frame: never overshoots."""
    keep = math.exp(-1 / lag_frames)
    for _ in range(2):
        followed = np.empty_like(track)
        state = track[0]
        for t, value in enumerate(track):
            state = keep * state + (1 - keep) * value
            followed[t] = state
        track = followed
    return track


def _breath(breathing: spec.Breathing, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    phases = np.random.default_rng(breathing.seed).uniform(0, 2 * np.pi, len(BREATH_RATIOS))
    waves = [
        np.sin(2 * np.pi * breathing.frequency_hz * ratio * times_s + phase)
        for ratio, phase in zip(BREATH_RATIOS, phases, strict=True)
    ]
    return breathing.amplitude * np.mean(waves, axis=0)
