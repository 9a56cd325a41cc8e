"""Disparity as ground truth: steady over time, hard at edges, of full precision, in the order of its frames.

*Steadiness.* Points of surfaces that do not move, put into the world by one frame's disparity and camera,
must lie where another frame's disparity and camera put them. Both are exact up to 1/65535, so this finds a
change of scale of a few parts in ten thousand; frames normalised one by one, or in the wrong order, are off
by more.

*Hardness.* Pixel centres see one surface each. Across a boundary of two instances that hide one another the
whole step lies between two pixels; through an open lens, or averaged over a pixel, it is spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.clip import DISPARITY_END_TOLERANCE, ClipMeta, DecodedClip

Mask = NDArray[np.bool_]
Doubles = NDArray[np.float64]

UNSTEADY = 1e-4
"""Disagreement of two frames about one place, in disparity, from which one is wrong: 7 steps of 16 bits.
Sound clips measured at most 1.3e-5, rounding and interpolation; frames normalised one by one 3e-4 and
more."""
QUANTILE = 0.9
"""Share of the places that must agree. The rest may be hidden by a part of the same instance. The median
would do for a wrong scale, but says nothing about order where floor and wall look the same from all along the
camera's path."""
UNKNOWN_QUANTILE = 0.5
"""The same for scenes that do not say what moves: the majority stays."""
NUM_POINTS = 4000
"""Pixels of a frame that are followed, on a regular grid."""
MIN_POINTS = 150
"""Pixels that two frames must share to be compared."""
MAX_DISTANCE = 6
"""Frames on either side with which one is compared."""
MAX_ORDER = 24
"""Frames on either side whose instances are tried; it bounds the work on long clips."""
FLAT_STEP = 4e-4
"""Unevenness of disparity from which a pixel is too close to an edge to be interpolated."""

MIN_STEP = 0.04
"""Step of disparity across a boundary that hides something; smaller ones may be slopes."""
HARD_SHARE = 0.8
"""Share of the step that must lie between the two pixels of a hard boundary; averaging over a pixel leaves
3/4."""
PROFILE_PX = 4
"""Pixels on either side over which a step is measured; each side must be one instance throughout."""
MIN_BOUNDARY = 60
"""Places on boundaries from which they are judged."""
SOFT_SHARE = 0.35
"""Share of the boundaries that may be soft. Sound clips measured up to 0.04, silhouettes of round things; the
same through an open lens 0.75 and more."""
MIN_MISFIT = 24
"""Places by which another frame's instances must fit better: two rows of 12 px of an object that moved."""

LATTICE_BITS = range(5, 13)
"""Depths in bits from which a widened disparity is recognised."""
MIN_LEVELS = 8
"""Different values from which the step between them is judged; planes facing the camera may have fewer."""


@dataclass(frozen=True)
class Steadiness:
    """How the frames agree about places that do not move.

    Args:
        worst: Largest disagreement of a frame with most of its neighbours, in disparity; None: not measured.
        num_frames: Frames compared.
        unsteady: Frame to its disagreement, where it is above `UNSTEADY`.
        swapped: Pairs of frames that agree with all others when exchanged.
        is_rescaled: Whether they disagree and every frame fills [0, 1], as if normalised by itself.
        moves: Whether the camera moves, or the check proves little.
    """

    worst: float | None
    num_frames: int
    unsteady: dict[int, float]
    swapped: tuple[tuple[int, int], ...]
    is_rescaled: bool
    moves: bool


@dataclass(frozen=True)
class Hardness:
    """How hard disparity is at the boundaries of instances.

    Args:
        soft_share: Share of all judged boundary that is soft; None: none judged.
        num_places: Judged places.
        soft_frames: Frames in which more than `SOFT_SHARE` of it is soft.
        fits: Frame to the one whose instances its disparity fits better than its own.
    """

    soft_share: float | None
    num_places: int
    soft_frames: tuple[int, ...]
    fits: dict[int, int]

    @property
    def is_soft(self) -> bool:
        """Whether the disparity of the clip, or of some frame of it, does not come from pixel centres."""
        return bool(self.soft_frames) or (self.soft_share or 0.0) > SOFT_SHARE


def measure_steadiness(clip: DecodedClip) -> Steadiness:
    """Follow surfaces that do not move from frame to frame; the clip is decoded whole."""
    num_frames = clip.meta.num_frames
    poses = np.array(clip.meta.camera.camera_to_world, np.float64)
    moves = bool(np.abs(poses - poses[0]).max() > 1e-6)
    points = [_Points(clip, frame, poses[frame]) for frame in range(num_frames)]
    pairs = [pair for pair in combinations(range(num_frames), 2) if pair[1] - pair[0] <= MAX_DISTANCE]
    disagreement = {
        pair: _disagreement(clip, points, pair, (poses[pair[0]], poses[pair[1]])) for pair in pairs
    }
    compared = {pair: found for pair, found in disagreement.items() if found is not None}
    of_frame: dict[int, list[float]] = {}
    for pair, found in compared.items():
        for frame in pair:
            of_frame.setdefault(frame, []).append(found)
    if not of_frame:
        return Steadiness(None, 0, {}, (), is_rescaled=False, moves=moves)
    medians = {frame: float(np.median(found)) for frame, found in sorted(of_frame.items())}
    unsteady = {frame: median for frame, median in medians.items() if median > UNSTEADY}
    if not unsteady:
        return Steadiness(max(medians.values()), len(medians), {}, (), is_rescaled=False, moves=moves)
    swapped = _swapped(clip, points, poses, unsteady) if moves else ()
    spans = clip.disparity.max(axis=(1, 2)) - clip.disparity.min(axis=(1, 2))
    is_rescaled = bool((spans > 1 - DISPARITY_END_TOLERANCE).all())
    # One exchange that settles two frames is what happened; several in a clip whose frames all differ are
    # chance.
    if is_rescaled and len(unsteady) > len(medians) / 2 and len(swapped) != 1:
        swapped = ()
    is_rescaled &= not swapped
    return Steadiness(max(medians.values()), len(medians), unsteady, swapped, is_rescaled, moves)


class _Points:
    """Pixels of one frame on still surfaces: place in the image, direction, inverse depth, instance."""

    def __init__(self, clip: DecodedClip, frame: int, pose: Doubles) -> None:
        meta = clip.meta
        step = max(1, round((meta.width * meta.height / NUM_POINTS) ** 0.5))
        flat = _flat(clip, frame)
        rows, columns = (
            grid.ravel() for grid in np.mgrid[1 : meta.height - 1 : step, 1 : meta.width - 1 : step]
        )
        disparity = clip.disparity[frame][rows, columns].astype(np.float64)
        inverse = meta.disparity.offset + meta.disparity.scale * disparity
        keep = flat[rows, columns] & (inverse > 1e-6)
        rows, columns = rows[keep], columns[keep]
        self.inverse_depth = inverse[keep]
        self.instance = clip.instance[frame][rows, columns]
        focal = meta.camera.focal_length_px
        self.direction = np.stack(
            [
                (columns + 0.5 - meta.width / 2) / focal,
                -(rows + 0.5 - meta.height / 2) / focal,
                -np.ones(len(rows)),
            ],
            axis=1,
        )
        self.flat = flat


def _flat(clip: DecodedClip, frame: int) -> Mask:
    """Pixels whose 3x3 surroundings are one still instance without an edge, ``[H, W]``."""
    disparity, instance = clip.disparity[frame], clip.instance[frame]
    flat = np.zeros(disparity.shape, np.bool_)
    middle = disparity[1:-1, 1:-1]
    uneven = np.maximum(
        np.abs(disparity[1:-1, :-2] - 2 * middle + disparity[1:-1, 2:]),
        np.abs(disparity[:-2, 1:-1] - 2 * middle + disparity[2:, 1:-1]),
    )
    flat[1:-1, 1:-1] = uneven < FLAT_STEP
    for row in range(3):
        for column in range(3):
            shifted = instance[row : row + middle.shape[0], column : column + middle.shape[1]]
            flat[1:-1, 1:-1] &= shifted == instance[1:-1, 1:-1]
    return flat & ~np.isin(instance, moving_instances(clip.meta))


def moving_instances(meta: ClipMeta) -> list[int]:
    """Ids of instances that move, as far as the scene says."""
    world = meta.scene.get("world")
    objects = world.get("objects", []) if isinstance(world, dict) else []
    moving = [item.get("name") for item in objects if item.get("motion")]
    return [meta.instances[name] for name in moving if name in meta.instances]


def _disagreement(
    clip: DecodedClip, points: list[_Points], pair: tuple[int, int], poses: tuple[Doubles, Doubles]
) -> float | None:
    """Difference in disparity between where a frame's points should be in another and where they are.

    Args:
        clip: The clip.
        points: Of every frame.
        pair: The two frames.
        poses: The cameras to take for them.

    Returns:
        A `QUANTILE` of the absolute difference; None if the two share too little.
    """
    meta, one, other = clip.meta, points[pair[0]], points[pair[1]]
    if len(one.inverse_depth) < MIN_POINTS:
        return None
    world = (one.direction / one.inverse_depth[:, None]) @ poses[0][:3, :3].T + poses[0][:3, 3]
    seen = (world - poses[1][:3, 3]) @ poses[1][:3, :3]
    depth = -seen[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        column = meta.camera.focal_length_px * seen[:, 0] / depth + meta.width / 2 - 0.5
        row = -meta.camera.focal_length_px * seen[:, 1] / depth + meta.height / 2 - 0.5
        inside = (
            (depth > 1e-6) & (column > 1) & (column < meta.width - 2) & (row > 1) & (row < meta.height - 2)
        )
    column, row = np.where(inside, column, 1.0), np.where(inside, row, 1.0)
    left, top = column.astype(np.intp), row.astype(np.intp)
    # Another instance there, or an edge: hidden, or not to be interpolated.
    for y, x in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        inside &= other.flat[y, x] & (clip.instance[pair[1]][y, x] == one.instance)
    if int(inside.sum()) < MIN_POINTS:
        return None
    column, row, left, top = column[inside], row[inside], left[inside], top[inside]
    right_part, lower_part = column - left, row - top
    image = clip.disparity[pair[1]].astype(np.float64)
    upper = image[top, left] * (1 - right_part) + image[top, left + 1] * right_part
    lower = image[top + 1, left] * (1 - right_part) + image[top + 1, left + 1] * right_part
    found = upper * (1 - lower_part) + lower * lower_part
    expected = (1.0 / depth[inside] - meta.disparity.offset) / meta.disparity.scale
    difference = found - expected
    quantile = QUANTILE if isinstance(meta.scene.get("world"), dict) else UNKNOWN_QUANTILE
    return float(np.quantile(np.abs(difference), quantile))


def _swapped(
    clip: DecodedClip,
    points: list[_Points],
    poses: Doubles,
    unsteady: dict[int, float],
) -> tuple[tuple[int, int], ...]:
    """Pairs of frames whose exchange settles all disagreement that they are part of, best first, disjoint."""
    candidates: list[tuple[float, tuple[int, int]]] = []
    worst = sorted(unsteady, key=lambda frame: -unsteady[frame])[:12]
    for first, second in combinations(sorted(worst), 2):
        exchanged = list(range(len(points)))
        exchanged[first], exchanged[second] = second, first
        settled: list[float] = []
        for frame in (first, second):
            around = range(max(0, frame - MAX_DISTANCE), min(len(points), frame + MAX_DISTANCE + 1))
            for other in around:
                if other in (first, second):
                    continue
                found = _disagreement(clip, points, (frame, other), (poses[exchanged[frame]], poses[other]))
                settled.extend([] if found is None else [found])
        if settled and float(np.median(settled)) < UNSTEADY:
            candidates.append((float(np.median(settled)), (first, second)))
    chosen: list[tuple[int, int]] = []
    for _, pair in sorted(candidates):
        if not {frame for earlier in chosen for frame in earlier} & set(pair):
            chosen.append(pair)
    return tuple(sorted(chosen))


def measure_hardness(clip: DecodedClip) -> Hardness:
    """The steps of disparity where instances hide one another; the clip is decoded whole."""
    num_frames = clip.meta.num_frames
    # [t, u]: how disparity of frame t fits the instances of frame u.
    counts: dict[tuple[int, int], tuple[int, int]] = {}
    for frame in range(num_frames):
        for other in range(max(0, frame - MAX_ORDER), min(num_frames, frame + MAX_ORDER + 1)):
            hard = _boundary(clip.disparity[frame], clip.instance[other])
            counts[frame, other] = (len(hard), int(np.count_nonzero(~hard)))
    num_places = sum(counts[frame, frame][0] for frame in range(num_frames))
    num_soft = sum(counts[frame, frame][1] for frame in range(num_frames))
    if num_places < MIN_BOUNDARY:
        return Hardness(None, num_places, (), {})
    soft_frames: list[int] = []
    fits: dict[int, int] = {}
    for frame in range(num_frames):
        places, soft = counts[frame, frame]
        # A frame of another number has hard edges, but elsewhere than these instances.
        num_hard = {other: found[0] - found[1] for (own, other), found in counts.items() if own == frame}
        best = max(num_hard, key=lambda other: num_hard[other])
        if num_hard[best] - num_hard[frame] > MIN_MISFIT and counts[frame, best][1] < 0.5 * soft:
            fits[frame] = best
        elif places >= MIN_BOUNDARY and soft > SOFT_SHARE * places:
            soft_frames.append(frame)
    return Hardness(num_soft / num_places, num_places, tuple(soft_frames), fits)


def _boundary(disparity: NDArray[np.float32], instance: NDArray[np.uint16]) -> Mask:
    """Whether the step lies between two pixels, for every place where an instance hides another, ``[N]``."""
    hard: list[Mask] = []
    reach = PROFILE_PX
    for d, i in ((disparity, instance), (disparity.T, instance.T)):
        width = d.shape[1] - 2 * reach + 1
        if width < 1:
            continue
        # Windows of 2 * reach pixels in a row, the boundary in their middle.
        windows = [i[:, start : start + width] for start in range(2 * reach)]
        place = windows[reach - 1] != windows[reach]
        for offset in range(reach - 1):
            place &= (windows[offset] == windows[reach - 1]) & (windows[-1 - offset] == windows[reach])
        rows, columns = np.nonzero(place)
        profile = d[rows[:, None], columns[:, None] + np.arange(2 * reach)].astype(np.float64)
        steps = np.diff(profile, axis=1)
        # The slopes at the far ends are the surfaces' own.
        slope = np.minimum(np.abs(steps[:, 0]), np.abs(steps[:, -1])) * (2 * reach - 1)
        whole = profile[:, -1] - profile[:, 0]
        hides = (np.abs(whole) > MIN_STEP) & (np.abs(whole) > 3 * slope)
        middle = steps[:, reach - 1]
        others = np.abs(steps).sum(axis=1) - np.abs(middle)
        is_hard = (middle / np.where(hides, whole, 1.0) > HARD_SHARE) & (others < 0.4 * np.abs(whole))
        hard.append(is_hard[hides])
    return np.concatenate(hard) if hard else np.empty(0, np.bool_)


def lattice_bits(disparity: NDArray[np.float32]) -> int | None:
    """Bits of the coarser integers that a disparity was widened from; None if it uses its 16.

    Args:
        disparity: ``[T, H, W]`` in [0, 1], multiples of 1/65535.
    """
    levels = np.unique(np.round(disparity * np.float32(65535.0)).astype(np.int64))
    if len(levels) < MIN_LEVELS:
        return None
    for bits in LATTICE_BITS:
        for step in (65535 / (2**bits - 1), 65536 / 2**bits, 65535 / 2**bits):
            if np.abs(levels - np.round(levels / step) * step).max() <= 0.51:
                return bits
    return None
