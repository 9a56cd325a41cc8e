"""Blur as the pixels show it: its radius measured against ``r = K |d - d_f|``.

The all-in-focus video is blurred again by a disc of ``s K |d - d_f|`` for scales s around 1, where that is
all a lens does: on surfaces without an occlusion edge, a clipped value or the border of the image within
reach. The scale at which it comes closest to the bokeh is the measurement; metadata that tell the truth have
s = 1. Light is blurred, or display values for targets of ``domain: encoded8``.

The disc is exact: its transform is multiplied with that of the image, so that radii of a fraction of a pixel
are what they say. Bokeh and AIF have the same 1-px box filter, which therefore cancels.

Not measured, and counted as such: lenses that are not close to an ellipse (`outline_squeeze`), radii below
`MIN_RADIUS_PX`, surfaces that mirror or transmit, whose content lies at another depth than they do, and
whatever has no texture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import color, optics
from focuspull.dataset.clip import ClipMeta, DecodedClip, TargetMeta

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

MIN_RADIUS_PX = 2.5
"""Blurs below this are no measurement: denoisers blur by half a pixel, and radii of 2 px measured 10 % too
large."""
SCALES = np.exp(np.linspace(math.log(0.7), math.log(1.45), 17))
"""The scales tried, 4.6 % apart, closely enough for a parabola; 1.45 and 0.7 hold what is farther off."""
TILE_PX = 16
"""Measured at once: about twice the usual radius, small enough for a surface's depth to be smooth."""
MIN_TILE_PX = 48
"""Usable pixels of a tile, of 256, from which it counts."""
MIN_CONTRAST = 1.0 / 255.0
"""Standard deviation of a tile's blurred display values from which it counts. Below are rounding and what
denoisers leave of it: a wall of dark bricks, blurred to less, measured 8 % too much."""
CORRELATED_PX = 10.0
"""Neighbouring pixels whose error is one and the same, after a denoiser; it only weighs tiles."""
MAX_TILE_ERROR = 0.08
"""Standard error of ln(s) up to which a tile has enough texture."""
MIN_TILES = 12
"""Tiles from which a video counts as measured; their spread tells the error, and needs that many."""
MAX_STANDARD_ERROR = 0.015
"""Standard error of ln(s) up to which a video counts as measured: a K wrong by 10 % is then six of them
away."""
CLIP_TOLERANCE = 0.05
"""Of |ln(s)| of one video: half of the 10 % that must be found; sound videos of Mitsuba measured within
0.037."""
CORPUS_TOLERANCE = 0.03
"""Of |ln(s)| over all videos, whose own biases (0.02 each, `SYSTEMATIC`) have averaged out."""
UNKNOWN_NOISE = 0.025
"""Added to either tolerance upwards, where the noise floor is not recorded. Denoisers of few samples take
contrast from blurred texture, which looks like more blur: Cycles measured 1.035 at 16 and 24 samples, 1.004
at 64 without denoiser."""
SYSTEMATIC = 0.02
"""Error of ln(s) common to all tiles of a video, from denoisers and highlights on surfaces; measured."""
SIGNIFICANT = 3.0
"""Standard errors by which a deviation has to be one."""
REACH = 1.25
"""Radii from an edge within which a pixel is not used: the largest blur that must be told apart, and some."""
EDGE_STEP_PX = 0.25
"""Unevenness of the blur radius from which neighbours count as an occlusion edge."""
MIRROR_ROUGHNESS = 0.3
"""Roughness below which a surface mirrors lamps: on wet asphalt their images measured 8 % more blur than it
has."""
LADDER = 1.08
"""Ratio of the radii at which images are blurred; those between are interpolated."""

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Share of red, green and blue in the luminance of Rec.709."""
LINEAR = color.srgb_to_linear(np.arange(256) / 255.0).astype(np.float32)
"""Light of every 8-bit display value."""
_ENCODED = (np.arange(256) / 255.0).astype(np.float32)
_PAD = 32


@dataclass(frozen=True)
class BlurScale:
    """Measured over expected blur radius of one bokeh video.

    Args:
        target: ``bokeh0``, ...
        log_scale: ln of the ratio, 0 where K and d_f are true; None: not measured.
        standard_error: Of ``log_scale``; None with it.
        num_tiles: Tiles with enough texture.
        left_out: Why the video is not measured; None if it is.
        noise_known: Whether the noise floor is recorded; if not, `UNKNOWN_NOISE` is allowed for.
    """

    target: str
    log_scale: float | None
    standard_error: float | None
    num_tiles: int
    left_out: str | None
    noise_known: bool = True

    @property
    def is_wrong(self) -> bool:
        """Whether K must be wrong."""
        if self.log_scale is None or self.standard_error is None:
            return False
        return _is_off(self.log_scale, self.standard_error, CLIP_TOLERANCE, noise_known=self.noise_known)


def _is_off(log_scale: float, standard_error: float, tolerance: float, *, noise_known: bool) -> bool:
    excess = log_scale - (0.0 if noise_known else UNKNOWN_NOISE)
    return max(-log_scale, excess) > tolerance and abs(log_scale) > SIGNIFICANT * standard_error


def outline_squeeze(target: TargetMeta) -> float | None:
    """Height over width of a lens whose blur is that of an ellipse, to 1 % of the radius; None for any other.

    Polygons of five blades and more are: one of the same area has a radius of gyration 0.7 % larger (5), 0.4
    % (6) or less. Three and four blades, cat-eyes, rings, apodization and aberrations are not.
    """
    known = {"blades", "rotation_deg", "roundness", "squeeze", "cat_eye_radius"}
    lens = target.lens
    if any(value for name, value in lens.items() if name not in known):
        return None
    if 0 < lens.get("blades", 0) < 5 and lens.get("roundness", 0) < 1:
        return None
    return float(lens.get("squeeze", 1.0))


def blur_stack(image: Floats, radii_px: Sequence[float], *, squeeze: float = 1.0) -> Floats:
    """An image blurred by uniform discs (or ellipses of the same area), each of one radius everywhere.

    Args:
        image: ``[H, W]``.
        radii_px: Increasing, pixels.
        squeeze: Height over width of the ellipse.

    Returns:
        ``[R, H, W]`` float32. The image is mirrored at its borders.
    """
    padded = cv2.copyMakeBorder(image, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_REFLECT)
    height, width = padded.shape
    spectrum = np.fft.rfft2(padded)
    across, down = np.fft.rfftfreq(width) / math.sqrt(squeeze), np.fft.fftfreq(height) * math.sqrt(squeeze)
    omega = 2.0 * np.pi * np.hypot(down[:, None], across[None])
    x, transfer = _disc_transfer(256 * math.ceil(float(omega.max()) * radii_px[-1] / 256))
    blurred = np.empty((len(radii_px), *image.shape), np.float32)
    for level, radius in enumerate(radii_px):
        back = np.fft.irfft2(spectrum * np.interp(omega * radius, x, transfer), s=padded.shape)
        blurred[level] = back[_PAD:-_PAD, _PAD:-_PAD]
    return blurred


@lru_cache(maxsize=4)
def _disc_transfer(limit: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fourier transform of a disc of radius 1 and integral 1, ``2 J1(x) / x``, at x up to ``limit``.

    A disc's projection onto a line is ``2/pi sqrt(1 - u^2)``, and Gauss-Chebyshev quadrature of the second
    kind integrates its product with cos(x u) to machine precision from x / 2 nodes on.
    """
    num_nodes = limit // 2 + 40
    angle = np.arange(1, num_nodes + 1) * np.pi / (num_nodes + 1)
    weights = 2.0 / (num_nodes + 1) * np.sin(angle) ** 2
    x = np.arange(0.0, limit + 0.05, 0.02)
    nodes = np.cos(angle)
    return x, np.concatenate([np.cos(part[:, None] * nodes) @ weights for part in np.array_split(x, 16)])


def misleading_instances(meta: ClipMeta) -> list[int]:
    """Ids of instances that mirror or transmit, as far as the scene says: they show what is elsewhere."""
    world = meta.scene.get("world")
    objects = world.get("objects", []) if isinstance(world, dict) else []
    found: list[int] = []
    for item in objects:
        material = item.get("material", {})
        roughness = material.get("roughness", 1.0)
        if isinstance(roughness, dict):
            levels = [*roughness.get("color_a", ()), *roughness.get("color_b", ())]
            roughness = min(levels, default=1.0)
        mirrors = material.get("metallic") or material.get("transmission") or roughness < MIRROR_ROUGHNESS
        if mirrors and item.get("name") in meta.instances:
            found.append(meta.instances[item["name"]])
    return found


def display_source(image: NDArray[np.uint8], target: TargetMeta) -> Floats:
    """What a target blurs, ``[H, W]``: luminance of light, or of display values; [0, 1]."""
    table = LINEAR if target.domain == "linear_hdr" else _ENCODED
    return table[image] @ LUMINANCE


def encoded(blurred: Floats, target: TargetMeta) -> Floats:
    """Blurred luminance of `display_source` as display values, in which noise is about even."""
    clipped = np.clip(blurred, 0.0, 1.0)
    return clipped if target.domain == "encoded8" else color.linear_to_srgb(clipped).astype(np.float32)


def surface_mask(
    clip: DecodedClip, frame: int, target: int, misleading: Sequence[int]
) -> tuple[Mask, Floats]:
    """Where a bokeh frame is its AIF blurred by a disc, and nothing else.

    Args:
        clip: The clip.
        frame: Frame number.
        target: Number of the target.
        misleading: Ids of instances that are left out.

    Returns:
        ``[H, W]`` mask, and the blur radius ``[H, W]`` that the metadata promise, pixels.
    """
    meta = clip.meta.targets[target]
    disparity, aif = clip.disparity[frame], clip.aif[frame]
    radius = optics.coc_radius_px(disparity, meta.focus_disparity[frame], meta.k[frame]).astype(np.float32)
    uneven = np.zeros_like(disparity)
    uneven[:, 1:-1] = np.abs(disparity[:, :-2] - 2 * disparity[:, 1:-1] + disparity[:, 2:])
    rows = np.abs(disparity[:-2] - 2 * disparity[1:-1] + disparity[2:])
    uneven[1:-1] = np.maximum(uneven[1:-1], rows)
    edge = meta.k[frame] * uneven > EDGE_STEP_PX
    clipped = (aif == 255).any(axis=-1)
    # Beyond an edge lies what the pinhole does not see, as far as the larger of its two blurs; a clipped
    # value stands for an unknown amount of light as far as its own.
    reach = REACH * np.where(edge, cv2.dilate(radius, np.ones((3, 3), np.uint8)), radius) + 1.5
    unusable = dilated(edge | clipped, reach)
    margin = min(math.ceil(REACH * float(radius.max()) + 1.5), min(radius.shape) // 2)
    unusable[:margin], unusable[-margin:] = True, True
    unusable[:, :margin], unusable[:, -margin:] = True, True
    unusable |= (clip.bokeh[target][frame] == 255).any(axis=-1)
    unusable |= np.isin(clip.instance[frame], misleading)
    return ~unusable, radius


def dilated(mask: Mask, reach: Floats) -> Mask:
    """Pixels ``[H, W]`` within ``reach`` (pixels) of a pixel of ``mask``, rounded up to one of ten radii."""
    result = np.zeros_like(mask)
    if not mask.any():
        return result
    lower = 0.0
    for upper in np.geomspace(2.0, max(2.1, float(reach[mask].max()) * 1.0001), 10):
        part = mask & (reach > lower) & (reach <= upper)
        if part.any():
            distance = cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
            result |= distance <= upper
        lower = float(upper)
    return result


def measure_blur(clip: DecodedClip, index: int, frames: Sequence[int]) -> BlurScale:
    """The scale of one bokeh video's blur against its metadata.

    Args:
        clip: The clip, decoded whole.
        index: Number of the target.
        frames: Frames to look at.
    """
    target, misleading = clip.meta.targets[index], misleading_instances(clip.meta)
    squeeze = outline_squeeze(target)
    if squeeze is None:
        return BlurScale(target.name, None, None, 0, f"lens {target.lens_label}")
    tiles = [_frame_tiles(clip, frame, index, squeeze, misleading) for frame in frames]
    noise_known = clip.meta.sampling.noise_floor_db[1 + index] is not None
    return replace(_pool_tiles(target, np.concatenate(tiles)), noise_known=noise_known)


def _frame_tiles(
    clip: DecodedClip, frame: int, index: int, squeeze: float, misleading: Sequence[int]
) -> NDArray[np.float64]:
    """``[N, 3]``: number of a tile, its ln(s), the variance of that; tiles with texture only."""
    target = clip.meta.targets[index]
    usable, radius = surface_mask(clip, frame, index, misleading)
    usable &= radius >= MIN_RADIUS_PX
    if not usable.any():
        return np.empty((0, 3))
    rows, columns = np.nonzero(usable)
    expected = radius[rows, columns]

    # AIF through every scale, at the usable pixels.
    smallest = float(expected.min()) * SCALES[0]
    num_levels = math.ceil(math.log(float(expected.max()) * SCALES[-1] / smallest) / math.log(LADDER)) + 2
    radii = smallest * LADDER ** np.arange(num_levels)
    stack = blur_stack(display_source(clip.aif[frame], target), radii.tolist(), squeeze=squeeze)
    predicted = np.empty((len(SCALES), len(rows)), np.float32)
    for row, scale in enumerate(SCALES):
        position = np.log(scale * expected / smallest) / math.log(LADDER)
        level = np.clip(position.astype(np.intp), 0, num_levels - 2)
        part = (position - level).astype(np.float32)
        lower, upper = stack[level, rows, columns], stack[level + 1, rows, columns]
        predicted[row] = encoded(lower + part * (upper - lower), target)
    found = encoded(display_source(clip.bokeh[index][frame], target), target)[rows, columns]

    # Sums over tiles; each tile's mean is taken out, since light from afar adds a constant.
    number = (rows // TILE_PX) * 65536 + columns // TILE_PX
    order = np.argsort(number, kind="stable")
    tiles, starts, counts = np.unique(number[order], return_index=True, return_counts=True)

    def variance(values: Floats) -> NDArray[np.float64]:
        ordered = values[:, order].astype(np.float64)
        first, second = (np.add.reduceat(ordered**power, starts, axis=1) / counts for power in (1, 2))
        return np.maximum(second - first**2, 0.0)

    error = variance(predicted - found)
    contrast = variance(predicted[len(SCALES) // 2][None])[0]
    log_scales = np.log(SCALES)
    step, middle = log_scales[1] - log_scales[0], len(SCALES) // 2
    slope = variance((predicted[middle + 1 :][:1] - predicted[middle - 1 :][:1]) / np.float32(2 * step))[0]
    best = np.clip(error.argmin(axis=0), 1, len(SCALES) - 2)
    here = np.arange(len(tiles))
    before, at, after = error[best - 1, here], error[best, here], error[best + 1, here]
    bend = np.maximum(before - 2 * at + after, 1e-30)
    log_scale = log_scales[best] + step * np.clip(0.5 * (before - after) / bend, -1.0, 1.0)
    tile_variance = CORRELATED_PX * (at + 1e-12) / np.maximum(slope * counts, 1e-30)
    keep = (counts >= MIN_TILE_PX) & (contrast >= MIN_CONTRAST**2) & (tile_variance < MAX_TILE_ERROR**2)
    return np.stack([tiles.astype(np.float64), log_scale, tile_variance], axis=1)[keep]


def _pool_tiles(target: TargetMeta, tiles: NDArray[np.float64]) -> BlurScale:
    """Weighted median over tiles. A place in the image counts once for its error, in however many frames."""
    if len(tiles) < MIN_TILES:
        return BlurScale(target.name, None, None, len(tiles), "not enough texture")
    weights = 1.0 / (tiles[:, 2] + SYSTEMATIC**2)
    log_scale = weighted_median(tiles[:, 1], weights)
    spread = 1.4826 * weighted_median(np.abs(tiles[:, 1] - log_scale), weights)
    _, place = np.unique(tiles[:, 0], return_inverse=True)
    of_place = np.bincount(place, weights)
    num_effective = float(of_place.sum() ** 2 / (of_place**2).sum())
    standard_error = 1.2533 * spread / math.sqrt(num_effective)
    if standard_error > MAX_STANDARD_ERROR:
        return BlurScale(target.name, None, None, len(tiles), "not enough texture")
    return BlurScale(target.name, log_scale, standard_error, len(tiles), None)


def weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The value below which half of the weight lies."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][int(np.searchsorted(total, total[-1] / 2))])


def pool_scales(scales: Sequence[BlurScale]) -> tuple[float, float, bool] | None:
    """Pool the scales of all measured videos.

    Returns:
        ln(s), its standard error with `SYSTEMATIC` in it, and whether it is off; None if nothing is measured.
    """
    known = [(s.log_scale, s.standard_error) for s in scales if s.log_scale is not None and s.standard_error]
    if not known:
        return None
    values, errors = np.array(known).T
    weights = 1.0 / (errors**2 + SYSTEMATIC**2)
    log_scale, error = float((weights * values).sum() / weights.sum()), float(1.0 / math.sqrt(weights.sum()))
    noise_known = all(scale.noise_known for scale in scales)
    return log_scale, error, _is_off(log_scale, error, CORPUS_TOLERANCE, noise_known=noise_known)
