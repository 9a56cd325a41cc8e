"""Re-binning: one set of path-traced rays for every (K, focus, lens) of a frame.

A camera ray is a film point x0 and a lens point U (pixels per unit of disparity, as points in front of the
focus are displaced) under a focus d0. What it carries does not depend on the focus of a target, only where
it lands does: under focus d1 that is ``x1 = x0 - U (d1 - d0)``, whatever the ray hits (Isaksen et al.,
Dynamically Reparameterized Light Fields, 2000, with rays in place of a light field). The map preserves
area, so that evenly spread rays stay evenly spread; aperture shapes are weights on U.
"""

# mitsuba and drjit are typed per variant; the modules are handled as Any.
# pyright: basic, reportAttributeAccessIssue=false
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import optics
from focuspull.render.backends import mitsuba_lens, mitsuba_sampler
from focuspull.render.build import Pose
from focuspull.render.frames import Aperture

QUANTUM = 2.0**-20
"""Radiance is added up in multiples of this (after exposure): such sums are exact in float64, so they do
not depend on the order in which threads add."""
LOSS = {False: 2.5, True: 4.0}
"""Samples that a shifted target needs for the noise of a multijittered render of its own; denoised (True) the
latter has better guides."""
LANDING_COST = 0.01
"""Of one more target, in parts of the cost of a path."""
SamplerName = Literal["kronecker", "multijitter"]
MAX_LANES = 2**28
"""Rays in one kernel; Mitsuba's limit is 2^32."""


@dataclass(frozen=True)
class BaseLens:
    """The lens that the rays of a frame are drawn from.

    Attributes:
        radius: Of the lens, pixels per unit of disparity.
        focus_disparity: d0, the middle of the targets', which keeps the guard band narrow.
        guard: Pixels added to every side of the film, whole.
        discs: Radii of the discs in the mixture as parts of ``radius``, the largest (1) first.
        shares: Chance of each disc; adds up to 1.
    """

    radius: float
    focus_disparity: float
    guard: int
    discs: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def margin(self) -> int:
        """Pixels around the frame in which the pinhole would see all that the rays can meet."""
        return self.guard + math.ceil(self.radius * max(self.focus_disparity, 1 - self.focus_disparity))


def base_lens(apertures: Sequence[Aperture]) -> BaseLens:
    """The lens from which every target of a frame gets its rays."""
    radii = np.array([a.k * mitsuba_lens.extent(a.lens) for a in apertures])
    shifts = np.array([mitsuba_lens.max_focus_shift(a.lens) for a in apertures])
    focus = np.array([a.focus_disparity for a in apertures])
    middle = float(((focus - shifts).min() + (focus + shifts).max()) / 2)
    guard = math.ceil(float((radii * (abs(focus - middle) + shifts)).max()))
    largest = float(radii.max())
    discs = np.unique((radii / largest).round(6))[::-1]
    shares = balance(discs)
    return BaseLens(largest, middle, guard, tuple(discs.tolist()), tuple(shares.tolist()))


def balance(discs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of a mixture of centred discs that serve the worst-served disc best.

    Weighting by the mixture's density is the balance heuristic (Veach and Guibas, Optimally Combining
    Sampling Techniques for Monte Carlo Rendering, 1995).

    Args:
        discs: Radii ``[n]``, falling.

    Returns:
        Shares ``[n]``, not negative, sum 1.
    """
    shares = np.full(len(discs), 1 / len(discs))
    for _ in range(500):
        shares *= np.sqrt(1 / efficiency(discs, shares))
        shares /= shares.sum()
    return shares


def efficiency(discs: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rays of its own that one ray of the mixture q is worth to each disc, ``1 / integral(p^2 / q)``.

    Args:
        discs: Radii ``[n]``, falling.
        shares: Of the mixture, ``[n]``.

    Returns:
        ``[n]`` in (0, 1].
    """
    area = discs**2
    rings = area - np.append(area[1:], 0.0)  # ring i: between disc i + 1 and disc i
    density = np.cumsum(shares / area)  # in ring i: of discs 0 to i
    inside = np.cumsum((rings / density)[::-1])[::-1]  # integral of 1 / q over disc i
    return area**2 / inside


def pays(frames: Sequence[Sequence[Aperture]], size: tuple[int, int], *, denoised: bool) -> bool:
    """Whether re-binning a clip costs less than separate renders of the same noise.

    Args:
        frames: The open lenses of every frame.
        size: Height and width in pixels.
        denoised: Whether a denoiser follows.
    """
    height, width = size
    separate = rebinned = 0.0
    for apertures in frames:
        if not apertures:
            continue
        base = base_lens(apertures)
        area = (1 + 2 * base.guard / height) * (1 + 2 * base.guard / width)
        worst = efficiency(np.array(base.discs), np.array(base.shares)).min()
        shape = max(mitsuba_lens.extent(aperture.lens) for aperture in apertures) ** 2
        separate += len(apertures)
        rebinned += area * (LOSS[denoised] * shape / worst + LANDING_COST * len(apertures))
    return rebinned < separate


@dataclass
class _Landing:
    """Where and with what weight a ray lands in a target; one for all channels, or one for each."""

    at: Any
    weight: Any
    reference: Any
    inside: Any


class Rebinner:
    """The targets of one frame, to which rays are added.

    Two independent sets of rays are kept apart, so that their difference measures the noise.

    Args:
        mi: Mitsuba, with a vectorised variant.
        camera: Camera to world ``[4, 4]`` at a time; the camera looks along -Z.
        size: Height and width of the film in pixels.
        apertures: The targets, at least one.
        num_channels: Of the values that rays carry.
        scale: Of the values before they are added up in multiples of `QUANTUM`.
        sampler: Of the paths behind the lens; film and lens points are always multijittered.
    """

    num_sets = 2

    def __init__(
        self,
        mi: Any,
        camera: Callable[[float], Pose],
        *,
        size: tuple[int, int],
        apertures: Sequence[Aperture],
        num_channels: int,
        scale: float,
        sampler: SamplerName = "kronecker",
    ) -> None:
        import drjit as dr

        self._sampler: SamplerName = sampler
        self._mi, self._camera = mi, camera
        self._apertures, self._num_channels = tuple(apertures), num_channels
        self._height, self._width = size
        self._scale = scale / QUANTUM
        self.base = base_lens(apertures)
        # Per landing, packets of four: values, their weight, padding. Packets are scattered in one go.
        pixels = 2 * self._height * self._width
        self._sums = [
            [
                [dr.zeros(mi.Float64, 4 * pixels) for _ in range(-(-(len(channels) + 1) // 4))]
                for channels in self._channels(aperture)
            ]
            for aperture in self._apertures
        ]

    def _channels(self, aperture: Aperture) -> list[list[int]]:
        """The channels that land together. Guides of the denoiser follow green."""
        channels = list(range(self._num_channels))
        return [[c] for c in channels] if self._splits(aperture) else [channels]

    def _splits(self, aperture: Aperture) -> bool:
        return aperture.lens.axial_chromatic != 0 and self._num_channels == 3

    def add(self, scene: Any, integrator: Any, time: float, samples: int, seed: int) -> int:
        """Traces rays through the base lens, in passes, and adds each to every target that it meets.

        Args:
            scene: Loaded.
            integrator: Its AOVs are added if it has any, else its radiance.
            time: Frame number of the camera; the scene is where it is.
            samples: Per pixel and set.
            seed: Of the noise.

        Returns:
            Samples per pixel and set that were traced: the multijittered sampler rounds up to a product.
        """
        pixels = 2 * (self._width + 2 * self.base.guard) * (self._height + 2 * self.base.guard)
        largest = max(1, MAX_LANES // pixels)
        spent = 0
        while spent < samples:
            spent += self._add(scene, integrator, time, min(samples - spent, largest), seed)
            # Far apart, since neighbours belong to other frames and rounds.
            seed = (seed + 0x9E3779B9) % 2**32
        return spent

    def _add(self, scene: Any, integrator: Any, time: float, samples: int, seed: int) -> int:
        import drjit as dr

        mi, base = self._mi, self.base
        camera_sampler = mi.load_dict({"type": "multijitter", "sample_count": samples})
        samples = camera_sampler.sample_count()
        columns, rows = self._width + 2 * base.guard, self._height + 2 * base.guard
        lanes = 2 * columns * rows * samples
        camera_sampler.set_samples_per_wavefront(samples)
        camera_sampler.seed(seed, lanes)

        # Film point x0 in pixels with y down, lens point in units of the base lens with y up. Numbers that
        # change from frame to frame are data (opaque), so that no frame compiles anew.
        lane, count = dr.arange(mi.UInt32, lanes), dr.opaque(mi.UInt32, samples)
        sequence = lane // count
        film_size, row_size = dr.opaque(mi.UInt32, columns * rows), dr.opaque(mi.UInt32, columns)
        half, pixel = sequence // film_size, sequence % film_size
        row, column = pixel // row_size, pixel % row_size
        guard = self._number(base.guard)
        film = mi.Point2f(mi.Float(column) - guard, mi.Float(row) - guard) + camera_sampler.next_2d()
        lens, density = self._draw_lens(mi.warp.square_to_uniform_disk_concentric(camera_sampler.next_2d()))

        sampler = camera_sampler
        if self._sampler == "kronecker":
            sampler = mitsuba_sampler.path_sampler(mi, sequence, lane % count, seed)

        landings = [self._land(aperture, film, lens, density) for aperture in self._apertures]
        needed = mi.Bool(False)
        for landing in (each for target in landings for each in target):
            needed |= landing.inside
        ray = self._ray(self._camera(time), film, lens)
        radiance, _, aovs = integrator.sample(scene, sampler, ray, None, needed)
        values = [value * self._number(self._scale) for value in (aovs or radiance)]

        offset = half * (self._height * self._width)
        for aperture, target, sums in zip(self._apertures, landings, self._sums, strict=True):
            for channels, landing, packets in zip(self._channels(aperture), target, sums, strict=True):
                index = offset + mi.UInt32(landing.at.y) * self._width + mi.UInt32(landing.at.x)
                entries = [values[c] * landing.weight for c in channels]
                entries.append(landing.reference * self._number(self._scale))
                entries += [mi.Float(0)] * (-len(entries) % 4)
                for i, packet in enumerate(packets):
                    whole = mi.Vector4d([mi.Float64(dr.round(e)) for e in entries[4 * i : 4 * i + 4]])
                    dr.scatter_reduce(dr.ReduceOp.Add, packet, whole, index, landing.inside)
        dr.eval(self._sums)
        return samples

    def halves(self, target: int) -> NDArray[np.float64]:
        """The image from each of the two sets of rays.

        Pixels that no ray met take the mean of their neighbours'.

        Returns:
            Values ``[2, H, W, C]``.
        """
        shape = (2, self._height, self._width)
        values = np.empty((*shape, self._num_channels))
        weights = np.empty((*shape, self._num_channels))
        groups = zip(self._channels(self._apertures[target]), self._sums[target], strict=True)
        for channels, packets in groups:
            sums = np.concatenate([np.array(p).reshape(*shape, 4) for p in packets], axis=-1)
            values[..., channels] = sums[..., : len(channels)]
            weights[..., channels] = sums[..., len(channels)][..., None]
        return np.stack([_divide(v, w) for v, w in zip(values, weights, strict=True)])

    def _number(self, value: float) -> Any:
        import drjit as dr

        return dr.opaque(self._mi.Float, value)

    def _draw_lens(self, point: Any) -> tuple[Any, Any]:
        """An evenly spread point of the unit disc, moved along its radius to the mixture's density."""
        import drjit as dr

        mi, base = self._mi, self.base
        if len(base.discs) == 1:
            return point, mi.Float(1)
        areas, shares = np.square(base.discs), np.array(base.shares)
        # Of the discs' areas r^2: cumulative chance at each, piecewise linear in r^2 between.
        inner = np.append(areas[1:], 0.0)
        density = np.cumsum(shares / areas)  # within ring i lie discs 0 to i
        chance = np.array([np.minimum(a / areas, 1) @ shares for a in inner])
        u = dr.squared_norm(point)
        square, at = mi.Float(0), mi.Float(0)
        for a, q, c in zip(inner, density, chance, strict=True):
            in_ring = (u >= self._number(c)) & (square == 0)
            square = dr.select(in_ring, self._number(a) + (u - self._number(c)) / self._number(q), square)
            at = dr.select(in_ring, self._number(q), at)
        return point * dr.sqrt(square / dr.maximum(u, 1e-20)), at

    def _land(self, aperture: Aperture, film: Any, lens: Any, density: Any) -> list[_Landing]:
        mi = self._mi
        size = mi.Point2f(self._width, self._height)
        picture = lens * self._number(self.base.radius / aperture.k)
        move = self._number(aperture.focus_disparity - self.base.focus_disparity)
        shifts = mitsuba_lens.focus_shift(aperture.lens, picture)
        if shifts is None:
            moves = [move]
        elif self._splits(aperture):
            moves = [move + shift for shift in shifts]
        else:
            moves = [move + shifts[1]]
        landings = []
        for each in moves:
            step = lens * (self._number(self.base.radius) * each)
            at = mi.Point2f(film.x - step.x, film.y + step.y)
            inside = (at.x >= 0) & (at.x < size.x) & (at.y >= 0) & (at.y < size.y)
            middle = (at - size / 2) * (2 / math.hypot(self._width, self._height))
            weight, reference = mitsuba_lens.transmission(
                aperture.lens, picture, mi.Point2f(middle.x, -middle.y)
            )
            inside &= reference > 0
            landings.append(_Landing(at, weight / density, reference / density, inside))
        return landings

    def _ray(self, camera_to_world: Pose, film: Any, lens: Any) -> Any:
        import drjit as dr

        mi, base, any_ = self._mi, self.base, self._apertures[0]
        depth = any_.disparity_map
        inverse_distance = depth.offset + depth.scale * base.focus_disparity
        radius_m = float(optics.lens_radius_from_k(base.radius, any_.focal_px, depth))
        pixel = 1 / any_.focal_px
        # The spec wants the aperture's picture upright in front of the focus, where points move away from the
        # lens point that sees them: so the lens point is minus the picture's.
        origin = mi.Vector3f(lens.x, lens.y, 0) * self._number(-radius_m)
        through = mi.Vector3f(
            (film.x - self._width / 2) * self._number(pixel),
            (self._height / 2 - film.y) * self._number(pixel),
            -1,
        )
        direction = dr.normalize(through - origin * self._number(inverse_distance))
        right, up, back, position = (
            mi.Vector3f([self._number(x) for x in column]) for column in camera_to_world[:3].T.tolist()
        )

        def to_world(v: Any) -> Any:
            return right * v.x + up * v.y + back * v.z

        return mi.RayDifferential3f(mi.Ray3f(mi.Point3f(position + to_world(origin)), to_world(direction)))


def _divide(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """``values / weights`` ``[H, W, C]``; where the weight is 0, of ever larger surroundings."""
    result = values / np.maximum(weights, np.finfo(np.float64).tiny)
    width = 3
    while (empty := weights == 0).any():
        values, weights = (
            np.asarray(cv2.blur(sums, (width, width)), np.float64).reshape(sums.shape)
            for sums in (values, weights)
        )
        result = np.where(empty, values / np.maximum(weights, np.finfo(np.float64).tiny), result)
        width = 2 * width + 1
    return result
