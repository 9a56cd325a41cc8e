"""Disparity as a depth estimator might have got it wrong: for training stage 2 and for robustness benchmarks.

Seven corruptions, applied in this order to the frames that the gate lets through:

| field          | what it does                                                 | strength 1            |
|----------------|--------------------------------------------------------------|-----------------------|
| `elastic`      | warps the focused object, which spills over its outline      | published             |
| `ring`         | adds Perlin noise where it spilled: in the ring              | published             |
| `morphology`   | dilates or erodes the whole map with a square                | published             |
| `low_pass`     | blurs the whole map                                          | sigma 4 px            |
| `scale_shift`  | gain and offset of the clip: relative depth leaves them open | std 0.1 and 0.05      |
| `flicker`      | gain and offset of every frame                               | std 0.02 and 0.01     |
| `quantization` | rounds to levels                                             | 256 levels (8 bit)    |

The first three are those of Any-to-Bokeh's released code (arXiv 2505.21593; the paper names the first two).
`OFFICIAL` does what that code does, `CORRECTED` what it should have done:

| what         | `OFFICIAL`                                      | `CORRECTED`                               |
|--------------|-------------------------------------------------|-------------------------------------------|
| time         | every frame for itself, with p = 1/2: teaches   | the whole clip with p = 1/2, smoothly in  |
|              | to undo flicker rather than to bear wrong depth | time, as an estimator's errors vary       |
| warp         | std 1.81 px in x, 0.57 px in y: torchvision     | 1.02 px in both: torchvision's own        |
|              | divides x by the height and y by the width      | strength with the right divisor           |
| warp, border | disparity is 0 beyond the frame: a dark rim     | the last pixel is repeated                |
|              | where the frame cuts the object                 |                                           |
| noise, zero  | minimum and maximum of the frame become -+0.1   | mean 0 in the ring, nothing elsewhere     |
|              | d_f, where noise is 0 outside the ring: ALL     |                                           |
|              | pixels get an offset, std 1 % of d_f, and       |                                           |
|              | -10 % of d_f where the ring is empty            |                                           |
| noise, scale | stretched: every frame has both ends            | fixed; same standard deviation in the     |
|              |                                                 | ring, 3.7 % of d_f; seldom beyond 0.1 d_f |
| range        | not clipped after the warp: in [-0.1, 1.1]      | clipped to [0, 1]                         |

Kept in both: the warp is smoothed with sigma 4 px (the code asks for 5 and then draws with 4), and the
outline only moves outwards, since what the object leaves keeps its disparity. Left to the caller: the
released code perturbs no focus pulls, flips a clip exactly when its last frame was not perturbed, and takes
another clip when the object is hidden in a perturbed frame; here such a frame gets neither warp nor noise.
``d_f`` is never perturbed; regions and defocus are to be computed from the perturbed map, as there, unclipped
values and all.

Conventions: disparity is float in [0, 1] (the released code has 0..255). Lengths are in pixels of an image
1024 px wide and scale with the width, whatever the height. Time is in frames: `white` draws every frame by
itself, `correlated` smoothly, with a correlation that falls to 1/e in ``correlation_frames``, `constant` once
per clip; one frame alone has the same statistics in all three. Every corruption has random numbers of its
own: turning one off or up leaves what the others draw.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.optics import REFERENCE_WIDTH_PX

Temporal = Literal["white", "correlated", "constant"]
Length = Annotated[float, Field(gt=0)]

_LATTICE_PERIOD = 256
_RING_HALF_RANGE = 0.28
"""Divides noise that is not stretched, which gives it the standard deviation of the stretched."""
_RING_DRIFT_PX = 12.0
"""Distance at which the correlation of published noise falls to 1/e, pixels."""


class Corruption(FrozenModel):
    """What all corruptions have.

    Args:
        strength: 0 is off, exactly; 1 as in the module docstring; at most 100.
        probability: Of a frame that the gate lets through if `white`, else of the clip: to switch within a
            clip would be a step in time.
        temporal: How it varies in time (module docstring).
        correlation_frames: Frames after which the correlation of `correlated` is 1/e.
    """

    strength: float = Field(default=0.0, ge=0, le=100)
    probability: float = Field(default=1.0, ge=0, le=1)
    temporal: Temporal = "white"
    correlation_frames: float = Field(default=8.0, ge=1)


class Elastic(Corruption):
    """Warp of the focused object by smoothed uniform noise.

    Where the moved mask of the object is, the moved disparity replaces what was there.

    Args:
        std_px: Standard deviation of the displacement in x and y, pixels at 1024; that far from the image's
            border, where reflection makes it a little larger.
        sigma_px: Of the Gaussian that smooths it, pixels at 1024; cut off at 4 sigma.
        border: What lies beyond the image: ``zero`` disparity or the ``nearest`` pixel.
    """

    std_px: tuple[Length, Length] = (1.0, 1.0)
    sigma_px: Length = 4.0
    border: Literal["zero", "nearest"] = "nearest"


class Ring(Corruption):
    """Perlin noise in the ring, the pixels that the warp added to the object; no ring without `Elastic`.

    In time the frames move over the noise, which changes the statistics of none.

    Args:
        amplitude: Half of the noise's range in a frame (``ring``: its mean), relative to the focus disparity.
        scales_px: Cells of the lattices, pixels at 1024.
        weights: Of the scales, one each.
        octaves: Of every scale; each has half the cell and half the amplitude of the one before.
        normalization: ``ring``: zero mean, fixed scale; ``frame``: as published (module docstring).
    """

    amplitude: float = Field(default=0.1, ge=0)
    scales_px: tuple[Length, ...] = Field(default=(50.0, 20.0, 10.0), min_length=1)
    weights: tuple[float, ...] = (0.5, 0.3, 0.2)
    octaves: int = Field(default=3, ge=1, le=16)
    normalization: Literal["ring", "frame"] = "ring"

    @model_validator(mode="after")
    def _every_scale_has_its_weight(self) -> Ring:
        if len(self.weights) != len(self.scales_px):
            raise ValueError(f"weights: needs {len(self.scales_px)}, one per scale, got {len(self.weights)}")
        return self


class Morphology(Corruption):
    """Dilation or erosion, equally likely, of the whole map with a square of side ``2 r + 1``.

    A radius between two integers (small images, odd strengths) blends the maps of both.

    Args:
        radii_px: The radii r, equally likely, pixels at 1024.
    """

    radii_px: tuple[Length, ...] = Field(default=(1.0, 2.0, 3.0), min_length=1)


class LowPass(Corruption):
    """Gaussian blur of the whole map, which mixes near and far along edges as upsampled depth does.

    Args:
        sigma_px: At strength 1, pixels at 1024.
    """

    sigma_px: Length = 4.0


class Affine(Corruption):
    """``d * (1 + gain) + shift`` with normal gain and shift.

    Args:
        gain_std: Standard deviation of the gain at strength 1.
        shift_std: Standard deviation of the shift at strength 1, disparity.
    """

    gain_std: float = Field(default=0.1, ge=0)
    shift_std: float = Field(default=0.05, ge=0)


class Quantization(Corruption):
    """Rounding to multiples of ``strength / (levels - 1)``.

    Args:
        levels: Number of levels in [0, 1] at strength 1.
    """

    levels: int = Field(default=256, ge=2)


class Perturbation(FrozenModel):
    """All corruptions of a clip; what is not given is off.

    Args:
        probability: Of perturbing a frame or clip at all.
        gate: Whether that is decided per ``frame`` or once per ``clip``.
        elastic: First of the corruptions in the module docstring, and so on.
        ring: As above.
        morphology: As above.
        low_pass: As above.
        scale_shift: As above.
        flicker: As above.
        quantization: As above.
        clip_to_unit: Whether the result is clipped to [0, 1]; otherwise perturbed frames may leave it.
    """

    probability: float = Field(default=1.0, ge=0, le=1)
    gate: Literal["frame", "clip"] = "clip"
    elastic: Elastic = Elastic()
    ring: Ring = Ring()
    morphology: Morphology = Morphology()
    low_pass: LowPass = LowPass()
    scale_shift: Affine = Affine(temporal="constant")
    flicker: Affine = Affine(gain_std=0.02, shift_std=0.01)
    quantization: Quantization = Quantization()
    clip_to_unit: bool = True


def _kernel_size(sigma: float) -> int:
    """Side of the Gaussian that torchvision takes for a warp: 8 sigma and one, made odd."""
    return int(8 * sigma + 1) | 1


def _smoothed_std(sigma: float) -> float:
    """Standard deviation that is left of uniform noise in [-1, 1] (variance 1/3) after the Gaussian."""
    return math.sqrt(1 / 3) * float((cv2.getGaussianKernel(_kernel_size(sigma), sigma) ** 2).sum())


def torchvision_std_px(
    alpha: float, sigma_px: float, height: int = 576, width: int = REFERENCE_WIDTH_PX
) -> tuple[float, float]:
    """Displacement of torchvision's ElasticTransform, standard deviation in x and y.

    It is in pixels of the given size, far from the border. Uniform noise in [-1, 1] of variance 1/3 is
    smoothed, which leaves the sum of the squared kernel of it. The result, times ``alpha / height`` in x and
    ``alpha / width`` in y, is taken for halves of the image's width and height.
    """
    unit = _smoothed_std(sigma_px)
    return unit * alpha / height * width / 2, unit * alpha / width * height / 2


_OFFICIAL_STD_PX = torchvision_std_px(50.0, 4.0)
_CORRECTED_STD_PX = math.sqrt(_OFFICIAL_STD_PX[0] * _OFFICIAL_STD_PX[1])

OFFICIAL = Perturbation(
    probability=0.5,
    gate="frame",
    elastic=Elastic(strength=1.0, std_px=_OFFICIAL_STD_PX, border="zero"),
    ring=Ring(strength=1.0, normalization="frame"),
    morphology=Morphology(strength=1.0, probability=0.5),
    clip_to_unit=False,
)
"""What the released code does (module docstring)."""

CORRECTED = Perturbation(
    probability=0.5,
    elastic=Elastic(strength=1.0, temporal="correlated", std_px=(_CORRECTED_STD_PX, _CORRECTED_STD_PX)),
    ring=Ring(strength=1.0, temporal="correlated"),
    morphology=Morphology(strength=1.0, temporal="correlated", probability=0.5),
)
"""The same without its faults (module docstring)."""

PRESETS = {"official": OFFICIAL, "corrected": CORRECTED}


def perturb_disparity(
    disparity: NDArray[np.float32],
    *,
    focus_mask: NDArray[np.bool_],
    focus_disparity: NDArray[np.floating[Any]],
    perturbation: Perturbation,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Corrupt the disparity of a clip.

    Args:
        disparity: ``[T, H, W]`` float32 in [0, 1], 1 is nearest; not changed.
        focus_mask: ``[T, H, W]`` bool, visible pixels of the object in focus. A frame without any gets
            neither elastic warp nor ring.
        focus_disparity: ``[T]`` in [0, 1], the disparity that scales the noise of the ring; not perturbed.
        perturbation: What to do, for example one of `PRESETS`.
        rng: The same state gives the same bytes (with one version of NumPy and OpenCV).

    Returns:
        ``[T, H, W]`` float32, finite, in [0, 1] unless ``clip_to_unit`` is off.

    Raises:
        ValueError: If an array has another shape, dtype or range.
    """
    _validate(disparity, focus_mask, focus_disparity)
    num_frames, _, width = disparity.shape
    px = width / REFERENCE_WIDTH_PX
    p = perturbation
    seeds = iter(rng.integers(0, 2**63, size=8))
    gate_rng = np.random.default_rng(next(seeds))
    if p.gate == "frame":
        perturbed = gate_rng.random(num_frames) < p.probability
    else:
        perturbed = np.full(num_frames, gate_rng.random() < p.probability)

    def draw(corruption: Corruption) -> tuple[NDArray[np.int_], np.random.Generator]:
        """Its frames and its random numbers."""
        own = np.random.default_rng(next(seeds))
        decisions = own.random(num_frames if corruption.temporal == "white" else 1) < corruption.probability
        return np.flatnonzero(perturbed & decisions & (corruption.strength > 0)), own

    out = disparity.copy()

    # What spills over the outline of the object, and noise there.
    frames, own = draw(p.elastic)
    rings = _warp(out, focus_mask, frames, p.elastic, px, own)
    frames, own = draw(p.ring)
    offsets = _offsets_px(p.ring, num_frames, own)
    for t in frames:
        if focus_mask[t].any():
            amplitude = p.ring.strength * p.ring.amplitude * float(focus_disparity[t])
            _add_ring(out[t], rings.get(int(t)), p.ring, amplitude, offsets[t], px)

    # The whole map.
    frames, own = draw(p.morphology)
    radii_px = _signed_radii_px(p.morphology, num_frames, own)
    for t in frames:
        out[t] = _morph(out[t], p.morphology.strength * float(radii_px[t]) * px)
    frames, _ = draw(p.low_pass)
    for t in frames:
        sigma = p.low_pass.strength * p.low_pass.sigma_px * px
        out[t] = cv2.GaussianBlur(out[t], (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    for affine in (p.scale_shift, p.flicker):
        frames, own = draw(affine)
        gain, shift = _normals(affine, num_frames, 2, own)
        for t in frames:
            out[t] *= np.float32(1 + affine.strength * affine.gain_std * gain[t])
            out[t] += np.float32(affine.strength * affine.shift_std * shift[t])
    frames, _ = draw(p.quantization)
    step = np.float32(p.quantization.strength / (p.quantization.levels - 1))
    for t in frames:
        out[t] = np.rint(out[t] / step) * step

    if p.clip_to_unit:
        np.clip(out, 0, 1, out=out)
    return out


def perlin(x: NDArray[np.float32], y: NDArray[np.float32], octaves: int = 1) -> NDArray[np.float32]:
    """Perlin's improved noise in the plane: the values of ``noise.pnoise2``, within float32 rounding.

    Args:
        x: Lattice coordinates, one unit per cell, below 2**24 in every octave.
        y: The same, broadcast against ``x``.
        octaves: Each after the first has half the cell and half the amplitude.

    Returns:
        Broadcast shape, float32, mean 0, mostly within [-0.7, 0.7]; repeats every 256 cells.

    Source: K. Perlin, "Improving noise", SIGGRAPH 2002, with its permutation. As in the package ``noise``
    1.2.2 the gradients are the first two components of the 12 three-dimensional ones (and 4 of them again),
    and the sum is divided by that of the amplitudes.
    """
    num_axes = max(np.ndim(x), np.ndim(y))
    x, y = (np.asarray(c, np.float32).reshape((1,) * (num_axes - np.ndim(c)) + np.shape(c)) for c in (x, y))
    octave = np.arange(octaves, dtype=np.float32).reshape(-1, *(1,) * num_axes)
    noise = _perlin_octave(x * 2**octave, y * 2**octave) * np.float32(0.5) ** octave
    # One after the other, as the package does, so that the last bit is the same.
    return functools.reduce(np.add, noise) / np.float32(2 - 0.5 ** (octaves - 1))


def _perlin_octave(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    column, row = np.floor(x), np.floor(y)
    x, y = x - column, y - row
    # Where the four corners of the cell are in the tables.
    left, top = (axis.astype(np.int64) % _LATTICE_PERIOD for axis in (column, row))
    right = (left + 1) % _LATTICE_PERIOD
    top, bottom = top * _LATTICE_PERIOD, (top + 1) % _LATTICE_PERIOD * _LATTICE_PERIOD
    fade_x, fade_y = (t * t * t * (t * (t * 6 - 15) + 10) for t in (x, y))

    def along(corner_row: NDArray[np.int64], y: NDArray[np.float32]) -> NDArray[np.float32]:
        a, b = corner_row + left, corner_row + right
        at_left = _GRADIENT_X.take(a) * x + _GRADIENT_Y.take(a) * y
        at_right = _GRADIENT_X.take(b) * (x - 1) + _GRADIENT_Y.take(b) * y
        return at_left + fade_x * (at_right - at_left)

    upper, lower = along(top, y), along(bottom, y - 1)
    return upper + fade_y * (lower - upper)


# fmt: off
_PERMUTATION = np.array([
    151, 160, 137, 91, 90, 15, 131, 13, 201, 95, 96, 53, 194, 233, 7, 225, 140, 36, 103, 30, 69, 142, 8,
    99, 37, 240, 21, 10, 23, 190, 6, 148, 247, 120, 234, 75, 0, 26, 197, 62, 94, 252, 219, 203, 117, 35,
    11, 32, 57, 177, 33, 88, 237, 149, 56, 87, 174, 20, 125, 136, 171, 168, 68, 175, 74, 165, 71, 134,
    139, 48, 27, 166, 77, 146, 158, 231, 83, 111, 229, 122, 60, 211, 133, 230, 220, 105, 92, 41, 55, 46,
    245, 40, 244, 102, 143, 54, 65, 25, 63, 161, 1, 216, 80, 73, 209, 76, 132, 187, 208, 89, 18, 169, 200,
    196, 135, 130, 116, 188, 159, 86, 164, 100, 109, 198, 173, 186, 3, 64, 52, 217, 226, 250, 124, 123, 5,
    202, 38, 147, 118, 126, 255, 82, 85, 212, 207, 206, 59, 227, 47, 16, 58, 17, 182, 189, 28, 42, 223,
    183, 170, 213, 119, 248, 152, 2, 44, 154, 163, 70, 221, 153, 101, 155, 167, 43, 172, 9, 129, 22, 39,
    253, 19, 98, 108, 110, 79, 113, 224, 232, 178, 185, 112, 104, 218, 246, 97, 228, 251, 34, 242, 193,
    238, 210, 144, 12, 191, 179, 162, 241, 81, 51, 145, 235, 249, 14, 239, 107, 49, 192, 214, 31, 181,
    199, 106, 157, 184, 84, 204, 176, 115, 121, 50, 45, 127, 4, 150, 254, 138, 236, 205, 93, 222, 114, 67,
    29, 24, 72, 243, 141, 128, 195, 78, 66, 215, 61, 156, 180,
])
# x and y of the gradients (+-1, +-1, 0), (+-1, 0, +-1), (0, +-1, +-1), and the four that fill up to 16.
_DIRECTIONS = np.array([
    (1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (1, 0), (-1, 0),
    (0, 1), (0, -1), (0, 1), (0, -1), (1, 0), (-1, 0), (0, -1), (0, 1),
], np.float32)
# fmt: on


def _gradient_tables() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """X and y of the gradient at every lattice point, ``[256 * 256]``, row-major."""
    i = np.arange(_LATTICE_PERIOD)
    corner = _PERMUTATION[(_PERMUTATION[i][None, :] + i[:, None]) % _LATTICE_PERIOD]
    gradients = _DIRECTIONS[_PERMUTATION[corner] % 16]
    return gradients[..., 0].ravel(), gradients[..., 1].ravel()


_GRADIENT_X, _GRADIENT_Y = _gradient_tables()


def _warp(
    out: NDArray[np.float32],
    focus_mask: NDArray[np.bool_],
    frames: NDArray[np.int_],
    elastic: Elastic,
    px: float,
    rng: np.random.Generator,
) -> dict[int, tuple[NDArray[np.int_], NDArray[np.int_]]]:
    """Warp the object in place; rows and columns of the ring of every frame where there is an object."""
    frames = np.array([t for t in frames if focus_mask[t].any()], int)
    rings: dict[int, tuple[NDArray[np.int_], NDArray[np.int_]]] = {}
    if len(frames) == 0:
        return rings
    std_px = np.array(elastic.std_px) * elastic.strength * px
    # Only around the object: as far as anything is moved. Near the border, where the filter reflects, the
    # standard deviation is up to twice as large; beyond 5 of those nothing is moved further.
    limit_px = 10 * std_px
    reach_x, reach_y = np.ceil(limit_px).astype(int) + 1
    seen = focus_mask[frames].any(axis=0)
    top, bottom = _extent(seen.any(axis=1), reach_y)
    left, right = _extent(seen.any(axis=0), reach_x)
    window = slice(top, bottom), slice(left, right)
    rows, columns = (np.arange(axis.start, axis.stop, dtype=np.float32) for axis in window)
    fields = _smooth_fields(elastic, len(focus_mask), frames, seen.shape, window, px, rng)
    border = cv2.BORDER_CONSTANT if elastic.border == "zero" else cv2.BORDER_REPLICATE
    for t, field in zip(frames, fields, strict=True):
        for plane, std, limit, place in zip(field, std_px, limit_px, (columns, rows[:, None]), strict=True):
            plane *= np.float32(std)
            np.clip(plane, -np.float32(limit), np.float32(limit), out=plane)
            plane += place
        source_x, source_y = field
        mask = focus_mask[t].view(np.uint8)
        moved = cv2.remap(mask, source_x, source_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT) > 0
        warped = cv2.remap(out[t], source_x, source_y, cv2.INTER_LINEAR, borderMode=border)
        np.copyto(out[t][window], warped, where=moved)
        ring_rows, ring_columns = np.nonzero(moved & ~focus_mask[t][window])
        rings[int(t)] = ring_rows + top, ring_columns + left
    return rings


def _smooth_fields(
    elastic: Elastic,
    num_frames: int,
    frames: NDArray[np.int_],
    size: tuple[int, ...],
    window: tuple[slice, slice],
    px: float,
    rng: np.random.Generator,
) -> Iterator[NDArray[np.float32]]:
    """Smoothed uniform noise of unit standard deviation, ``[2, h, w]`` of the window, for each of the frames.

    All share one buffer.
    """
    sigma = elastic.sigma_px * px
    kernel = _kernel_size(sigma)
    # Outside the window as far as the filter reaches, so that only the border of the image is reflected.
    drawn = [
        slice(max(axis.start - kernel // 2, 0), min(axis.stop + kernel // 2, length))
        for axis, length in zip(window, size, strict=True)
    ]
    inside = tuple(
        slice(axis.start - more.start, axis.stop - more.start)
        for axis, more in zip(window, drawn, strict=True)
    )
    # Uniform in [0, 1] here: half of the published range, about another mean.
    scale = np.float32(2 / _smoothed_std(sigma))
    shape = (2, *(axis.stop - axis.start for axis in drawn))
    reflect = cv2.BORDER_REFLECT_101

    def draw(into: NDArray[np.float32]) -> NDArray[np.float32]:
        for plane, uniform in zip(into, rng.random(shape, dtype=np.float32), strict=True):
            smooth = cv2.GaussianBlur(uniform, (kernel, kernel), sigma, borderType=reflect)
            np.subtract(smooth[inside], np.float32(0.5), out=plane)
        into *= scale
        return into

    field = np.empty((2, *(axis.stop - axis.start for axis in window)), np.float32)
    if elastic.temporal == "white":
        for _ in frames:
            yield draw(field)
        return
    mixing = _mixing(elastic, num_frames).astype(np.float32)
    keys = np.empty((mixing.shape[1], field.size), np.float32)
    for key in keys:
        draw(key.reshape(field.shape))
    for t in frames:
        yield np.matmul(mixing[t], keys, out=field.reshape(-1)).reshape(field.shape)


def _add_ring(
    frame: NDArray[np.float32],
    where: tuple[NDArray[np.int_], NDArray[np.int_]] | None,
    ring: Ring,
    amplitude: float,
    offset_px: NDArray[np.float64],
    px: float,
) -> None:
    """Add the noise to one frame in place; ``where`` is rows and columns of its ring, None without one."""
    rows, columns = where if where is not None else (np.empty(0, int), np.empty(0, int))
    scales = np.array(ring.scales_px)[:, None]
    x, y = ((axis / px + offset) / scales for axis, offset in zip((columns, rows), offset_px, strict=True))
    noise = np.array(ring.weights, np.float32) @ perlin(
        x.astype(np.float32), y.astype(np.float32), ring.octaves
    )
    if ring.normalization == "ring":
        frame[rows, columns] += noise * np.float32(amplitude / _RING_HALF_RANGE)
        return
    # Minimum and maximum of the frame, where the noise is 0 outside the ring.
    ends = noise if rows.size == frame.size else np.append(noise, np.float32(0))
    low, high = float(ends.min()), float(ends.max())
    stretch = 2 / (high - low) if high > low else 0.0
    frame += np.float32(amplitude * (-low * stretch - 1))
    frame[rows, columns] += noise * np.float32(amplitude * stretch)


def _offsets_px(ring: Ring, num_frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where in the noise the frames lie: x and y in pixels at 1024, ``[T, 2]``.

    Whole numbers as published, uniform over the period of the coarsest lattice. In time the window moves over
    the noise in a straight line, which changes the statistics of no frame.
    """
    period = math.ceil(_LATTICE_PERIOD * max(ring.scales_px))
    if ring.temporal == "white":
        return rng.integers(0, period, (num_frames, 2)).astype(np.float64)
    start = rng.integers(0, period, (1, 2)).astype(np.float64)
    if ring.temporal == "constant":
        return start.repeat(num_frames, axis=0)
    angle = rng.uniform(0, 2 * math.pi)
    velocity = np.array([math.cos(angle), math.sin(angle)]) * _RING_DRIFT_PX / ring.correlation_frames
    return start + np.arange(num_frames)[:, None] * velocity


def _signed_radii_px(
    morphology: Morphology, num_frames: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Radius of every frame, pixels at 1024, positive to dilate, negative to erode; in time in this order."""
    radii = sorted([*morphology.radii_px, *(-r for r in morphology.radii_px)])
    (normal,) = _normals(morphology, num_frames, 1, rng)
    uniform = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in normal])
    return np.array(radii)[np.minimum((uniform * len(radii)).astype(int), len(radii) - 1)]


def _morph(frame: NDArray[np.float32], radius_px: float) -> NDArray[np.float32]:
    """Dilation (positive radius) or erosion by a square; between two whole radii a blend of both."""
    apply = cv2.dilate if radius_px > 0 else cv2.erode
    whole, part = divmod(abs(radius_px), 1.0)
    lower, upper = (
        apply(frame, np.ones((side, side), np.uint8)) if side > 1 else frame
        for side in (2 * int(whole) + 1, 2 * int(whole + math.ceil(part)) + 1)
    )
    return np.asarray(lower if part == 0 else lower + np.float32(part) * (upper - lower), np.float32)


def _mixing(corruption: Corruption, num_frames: int) -> NDArray[np.float64]:
    """Weights ``[T, K]`` that make the T frames of K independent draws; the squares of a row sum to 1.

    For `correlated` the draws lie half a correlation length apart and each frame sees them through a Gaussian
    window of that standard deviation, so that the correlation is ``exp(-(lag / correlation_frames)**2)``.
    """
    if corruption.temporal == "white" or num_frames == 1:
        return np.eye(num_frames)
    if corruption.temporal == "constant":
        return np.ones((num_frames, 1))
    spacing = corruption.correlation_frames / 2
    draws = np.arange(-3, math.ceil((num_frames - 1) / spacing) + 4)
    weights = np.exp(-0.5 * (np.arange(num_frames)[:, None] / spacing - draws) ** 2)
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def _normals(
    corruption: Corruption, num_frames: int, count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Independent series ``[count, T]`` of standard normal numbers, each as the corruption varies in time."""
    mixing = _mixing(corruption, num_frames)
    return rng.standard_normal((count, mixing.shape[1])) @ mixing.T


def _extent(occupied: NDArray[np.bool_], margin: int) -> tuple[int, int]:
    """First and last place (exclusive) that is occupied, widened by a margin inside the array."""
    places = np.flatnonzero(occupied)
    return max(int(places[0]) - margin, 0), min(int(places[-1]) + 1 + margin, len(occupied))


def _validate(
    disparity: NDArray[np.float32], focus_mask: NDArray[np.bool_], focus_disparity: NDArray[np.floating[Any]]
) -> None:
    if disparity.ndim != 3 or disparity.size == 0 or disparity.dtype != np.float32:
        raise ValueError(
            f"disparity: must be float32 [T, H, W], got {disparity.dtype} {list(disparity.shape)}"
        )
    if focus_mask.shape != disparity.shape or focus_mask.dtype != np.bool_:
        raise ValueError(
            f"focus_mask: must be bool {list(disparity.shape)}, "
            f"got {focus_mask.dtype} {list(focus_mask.shape)}"
        )
    if focus_disparity.shape != disparity.shape[:1]:
        raise ValueError(
            f"focus_disparity: must be {list(disparity.shape[:1])}, got {list(focus_disparity.shape)}"
        )
    for name, values in (("disparity", disparity), ("focus_disparity", focus_disparity)):
        # NaN fails both comparisons.
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(
                f"{name}: must be finite and in [0, 1], but spans [{values.min()}, {values.max()}]"
            )
