"""Scenes of unlit cards, traced without a path tracer: every lens ray through every card's plane.

An unlit card neither reflects nor casts shadows, so the light along a ray is what its cards let through,
front to back, and then the environment. That is one kernel: a lane is a pixel, a loop runs over points of
the lens, each card is a division for its plane and one bilinear texel of premultiplied light. Nothing is
added across lanes, so the same scene gives the same bytes on any number of threads.

Conventions: camera coordinates are x to the right, y up, z along the view, the pupil's centre at 0. A ray is
``(x, y) / z = slope + u (q - q_f)``: slope of the pinhole's ray through the point of the film, u the
lens point, q = 1/z, q_f the inverse depth in focus. This stays exact for infinity (0).

Sampling: points of a Fibonacci lattice, on the lens as a spiral, within the pixel (a box filter) as they
are. Each pixel shifts them by random amounts of its own, which makes its mean unbiased and turns ghost copies
of highlights into noise. Every image is the mean of two halves with independent shifts; their difference
measures the error.

``encoded8`` adds up the cards' display values, each texel clipped and rounded, in place of their light; so do
the passes of an open shutter.
"""

# mitsuba and drjit are typed per variant.
# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportOptionalMemberAccess=false
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import drjit as dr
import mitsuba as mi
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import optics
from focuspull.dataset.color import encode_display, to_uint8
from focuspull.render import noise, spec
from focuspull.render.backends import mitsuba_lens
from focuspull.render.backends.mitsuba import FAR_CLIP_M, NEAR_CLIP_M
from focuspull.render.build import Built, Item, Surface
from focuspull.render.frames import Aperture, Image, Method, View, shutter_times, split_samples
from focuspull.render.textures import Pixels, TextureMap

OPAQUE = 1e-3
"""A ray ends when less than this share of the light behind would pass."""
MIN_POINTS = 64
"""Points per pixel of the pinhole, at least."""
POINTS = ((8.0, 128), (16.0, 256), (32.0, 512), (math.inf, 1024))
"""Points per pixel that blur up to a radius in pixels needs for about 50 dB, if nothing is brighter than
white (``tests/benchmarks/cards.py``)."""
TOUCH_M = 1e-6
"""Cards may reach through each other's planes by this much and count as touching."""

GOLDEN = 0x9E3779B9  # 2^32 / golden ratio: multiples of it are evenly spread over the 32-bit integers
FROM_32_BITS = 2.0**-32


def is_card_scene(built: Built) -> bool:
    """Whether `CardSession` takes a scene: nothing but unlit cards and an environment, a compiled variant."""
    only_cards = all(isinstance(item.surfaces[0].emission, TextureMap) for item in built.items)
    return only_cards and not built.points and not mi.variant().startswith("scalar")


class CardSession:
    """A scene of cards; see `focuspull.render.frames.Session`. There is no noise to denoise."""

    def __init__(self, built: Built, mitsuba: Any) -> None:
        self.variant = mitsuba.variant()
        self._built = built
        self._textures: dict[tuple[int, int, spec.BlurDomain], _Texture] = {}
        self._skies: dict[spec.BlurDomain, _Sky] = {}

    def truth(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Meets pixel-centre pinhole rays with every card; what passes more than half is looked through."""
        film = self._built.scene.film
        x, y = self._slope(_pixel(film), (0.5, 0.5))
        nearest, hit = dr.zeros(mi.Float, dr.width(x)), dr.zeros(mi.UInt32, dr.width(x))
        for pane in self._panes(float(frame)):
            texture = self._texture(pane.number, frame, "linear_hdr")
            q, rgba = _Plane(pane, texture).layer(
                x, y, (mi.Float(0), mi.Float(0)), mi.Float(0), mi.Bool(True)
            )
            found = (rgba.w >= 0.5) & (q > nearest)
            nearest, hit = dr.select(found, q, nearest), dr.select(found, mi.UInt32(pane.number + 1), hit)
        instances = np.array([0, *(item.instance for item in self._built.items)], np.uint16)
        with np.errstate(divide="ignore"):
            depth = (1.0 / np.array(nearest)).astype(np.float32)
        size = (film.height, film.width)
        return depth.reshape(size), instances[np.array(hit)].reshape(size)

    def plan(self, frames: Sequence[Sequence[View]]) -> Method:
        """There is one way."""
        return "planes"

    def render(self, frame: int, views: Sequence[View]) -> list[Image]:
        """Doubles the points of a view until its error is below the floor, if there is one."""
        return [self._render(frame, view) for view in views]

    def _render(self, frame: int, view: View) -> Image:
        quality, passes = self._built.scene.quality, len(shutter_times(self._built.scene.film, frame))
        log2_points = _log2_points(max(view.samples, _points_needed(view.aperture)), passes)
        while True:
            # A new set in place of more points: a lattice of 2 n points is 1.8 dB better than two of n.
            image = self._trace(frame, view, log2_points)
            assert image.squared_error is not None
            log2_points = _log2_points(
                noise.next_samples(quality, image.samples, image.squared_error), passes
            )
            if 2 * passes << log2_points > quality.max_samples:
                log2_points -= 1
            if 2 * passes << log2_points <= image.samples:
                return image

    def _trace(self, frame: int, view: View, log2_points: int) -> Image:
        """An image from two halves with so many points per pixel in each pass."""
        scene = self._built.scene
        film = scene.film
        times = shutter_times(film, frame)
        halves = np.zeros((2, film.height, film.width, 3))
        for number, time in enumerate(times):
            seed = scene.noise_seed(frame, view.stream, number)
            halves += self._pass(frame, time, view, log2_points, seed) / len(times)
        if view.domain == "encoded8":
            pixels, squared_error = noise.finish_encoded(halves, film.exposure_ev)
        else:
            pixels, squared_error = noise.finish(halves, film.exposure_ev, None)
        return Image(pixels, squared_error, 2 * len(times) << log2_points)

    def _pass(self, frame: int, time: float, view: View, log2_points: int, seed: int) -> NDArray[np.float64]:
        """Both halves ``[2, H, W, 3]`` at one moment of the shutter."""
        film, aperture = self._built.scene.film, view.aperture
        shown = {(i, frame % len(item.surfaces)) for i, item in enumerate(self._built.items)}
        self._textures = {key: value for key, value in self._textures.items() if key[:2] in shown}
        panes = self._panes(time)
        reach = 0.0 if aperture is None else aperture.radius_m * mitsuba_lens.extent(aperture.lens)
        layers = [
            [_Plane(panes[i], self._texture(panes[i].number, frame, view.domain)) for i in group]
            for group in front_to_back([pane.corners for pane in panes], reach)
        ]
        sky = self._sky(view.domain)
        turn = [[dr.opaque(mi.Float, float(n)) for n in row] for row in _to_camera(self._built, time)[:3, :3]]

        def color(x: Any, y: Any, lens: tuple[Any, Any], focus: Any) -> Any:
            light, passing = mi.Color3f(0), mi.Float(1)
            for group in layers:
                hits = [plane.layer(x, y, lens, focus, passing > OPAQUE) for plane in group]
                for rgba in _sorted(hits):
                    light += passing * mi.Color3f(rgba.x, rgba.y, rgba.z)
                    passing *= 1 - rgba.w
            toward = mi.Vector3f(x - lens[0] * focus, y - lens[1] * focus, 1)
            world = [turn[0][i] * toward.x + turn[1][i] * toward.y + turn[2][i] for i in range(3)]
            return light + passing * sky.look_up(mi.Vector3f(*world), passing > OPAQUE)

        index = dr.arange(mi.UInt32, 2 * film.width * film.height)
        pixel = (index % film.width, (index // film.width) % film.height)
        sums = self._integrate(color, index, pixel, aperture, log2_points, seed)
        return np.stack([np.array(s) for s in sums], axis=-1).reshape(2, film.height, film.width, 3)

    def _integrate(
        self, color: Callable, index: Any, pixel: Any, aperture: Aperture | None, log2_points: int, seed: int
    ) -> list[Any]:
        """Means over lens and pixel, one array per channel."""
        film = self._built.scene.film
        number = 1 << log2_points
        count, size = dr.opaque(mi.UInt32, number), dr.opaque(mi.Float, 1 / number)
        # Multiples of an odd number: pixel and lens visit their lattices in different orders.
        order = dr.opaque(mi.UInt32, int(0.3247 * number) | 1)
        up = dr.opaque(mi.UInt32, 32 - log2_points)
        ring, turn = mi.sample_tea_32(index, dr.opaque(mi.UInt32, seed))
        column, row = mi.sample_tea_32(index, dr.opaque(mi.UInt32, seed ^ GOLDEN))
        ring = mi.Float(ring) * FROM_32_BITS
        half_diagonal = 0.5 * math.hypot(film.width, film.height)
        radius = focus = span = reach = mi.Float(0)
        if aperture is not None:
            inverse = aperture.disparity_map
            focus = dr.opaque(mi.Float, inverse.offset + inverse.scale * aperture.focus_disparity)
            span = dr.opaque(mi.Float, inverse.scale)
            radius = dr.opaque(mi.Float, aperture.radius_m)
            reach = dr.opaque(mi.Float, mitsuba_lens.extent(aperture.lens))

        def body(k: Any, red: Any, green: Any, blue: Any, total: Any) -> tuple[Any, ...]:
            kth = (k * order) & (count - 1)
            offset = (
                mi.Float((kth << up) + column) * FROM_32_BITS,
                mi.Float(kth * GOLDEN + row) * FROM_32_BITS,
            )
            x, y = self._slope(pixel, offset)
            if aperture is None:
                light = color(x, y, (mi.Float(0), mi.Float(0)), mi.Float(0))
                return k + 1, red + light.x, green + light.y, blue + light.z, total + 1
            sine, cosine = dr.sincos(mi.Float(k * GOLDEN + turn) * (FROM_32_BITS * 2 * math.pi))
            distance = dr.sqrt((mi.Float(k) + ring) * size) * reach
            p = mi.Point2f(distance * cosine, distance * sine)
            at = mi.Point2f(
                (pixel[0] + offset[0] - film.width / 2) / half_diagonal,
                (film.height / 2 - pixel[1] - offset[1]) / half_diagonal,
            )
            weight, reference = mitsuba_lens.transmission(aperture.lens, p, at)
            shifts = mitsuba_lens.focus_shift(aperture.lens, p)
            # A point in front of the focus is shifted away from the lens point that sees it.
            lens = (-radius * p.x, -radius * p.y)
            if shifts is None:
                light = color(x, y, lens, focus)
            elif aperture.lens.axial_chromatic == 0:
                light = color(x, y, lens, focus + span * shifts[0])
            else:
                light = mi.Color3f(*(color(x, y, lens, focus + span * shifts[i])[i] for i in range(3)))
            return (
                k + 1,
                red + weight * light.x,
                green + weight * light.y,
                blue + weight * light.z,
                total + reference,
            )

        zero = dr.zeros(mi.Float, dr.width(index))
        start = (mi.UInt32(0), zero, mi.Float(zero), mi.Float(zero), mi.Float(zero))
        _, red, green, blue, total = dr.while_loop(start, lambda k, *_: k < count, body)
        total = dr.maximum(total, 1e-8)
        means = [red / total, green / total, blue / total]
        dr.eval(*means)
        return means

    def _slope(self, pixel: tuple[Any, Any], offset: tuple[Any, Any]) -> tuple[Any, Any]:
        """Where the pinhole's ray through a point of the film goes: x and y at depth 1."""
        film, camera = self._built.scene.film, self._built.scene.world.camera
        focal_px = optics.focal_length_px(camera.focal_length_mm, camera.sensor_width_mm, film.width)
        x = (pixel[0] + offset[0] - film.width / 2) / focal_px
        return x, (film.height / 2 - pixel[1] - offset[1]) / focal_px

    def _panes(self, time: float) -> list[_Pane]:
        """The cards that are not wholly behind the camera."""
        to_camera = _to_camera(self._built, time)
        panes = [_Pane.of(i, item, to_camera @ item.pose(time)) for i, item in enumerate(self._built.items)]
        return [pane for pane in panes if pane.corners[:, 2].max() > NEAR_CLIP_M]

    def _texture(self, number: int, frame: int, domain: spec.BlurDomain) -> _Texture:
        item = self._built.items[number]
        key = (number, frame % len(item.surfaces), domain)
        if key not in self._textures:
            self._textures[key] = _Texture(_texels(item.surface(frame), domain, self._exposure_ev))
        return self._textures[key]

    def _sky(self, domain: spec.BlurDomain) -> _Sky:
        if domain not in self._skies:
            light = self._built.environment
            if light is None:
                light = np.asarray(self._built.environment_color, np.float32).reshape(1, 1, 3)
            if domain == "encoded8":
                light = _encoded8(light, self._exposure_ev)
            self._skies[domain] = _Sky(light)
        return self._skies[domain]

    @property
    def _exposure_ev(self) -> float:
        return self._built.scene.film.exposure_ev


def _pixel(film: spec.FilmSpec) -> tuple[Any, Any]:
    index = dr.arange(mi.UInt32, film.width * film.height)
    return index % film.width, index // film.width


def _points_needed(aperture: Aperture | None) -> int:
    """Points for the largest blur that a disparity in [0, 1] can get."""
    if aperture is None:
        return MIN_POINTS
    reach = mitsuba_lens.extent(aperture.lens)
    away = max(aperture.focus_disparity, 1 - aperture.focus_disparity)
    radius = aperture.k * (away + mitsuba_lens.max_focus_shift(aperture.lens)) * reach
    points = next(n for limit, n in POINTS if radius <= limit)
    return math.ceil(points * reach**2)  # those beside the aperture do not count


def _log2_points(points: int, passes: int) -> int:
    """Of the points in each half of each pass, so that there are at least so many in all."""
    return math.ceil(math.log2(max(split_samples(points, 2 * passes), 2)))


def _to_camera(built: Built, time: float) -> NDArray[np.float64]:
    """World to camera coordinates; the scene's camera looks along -z."""
    return np.diag([1.0, 1.0, -1.0, 1.0]) @ np.linalg.inv(built.camera(time))


def _encoded8(linear: NDArray, exposure_ev: float) -> Pixels:
    """Display values as 8 bits hold them, in [0, 1]."""
    return (to_uint8(encode_display(linear, exposure_ev=exposure_ev)) / 255.0).astype(np.float32)


def _texels(surface: Surface, domain: spec.BlurDomain, exposure_ev: float) -> Pixels:
    """Premultiplied ``[H + 2, W + 2, 4]`` of an unlit card in a blur domain, outermost texels repeated."""
    assert isinstance(surface.emission, TextureMap) and surface.opacity is not None
    light, opacity = surface.emission.pixels, surface.opacity.pixels
    if domain == "encoded8":
        straight = np.where(opacity > 0, light / np.maximum(opacity, 1e-12), 0.0)
        light = _encoded8(straight, exposure_ev) * opacity
    return np.pad(np.concatenate([light, opacity], axis=2), ((1, 1), (1, 1), (0, 0)), mode="edge")


# --- One card -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pane:
    """A card at one moment, in camera coordinates.

    Attributes:
        number: Of the item.
        normal: ``[3]``, to the side that shines.
        offset: ``normal . P`` of its points.
        uv: ``[2, 4]``, texture coordinates of (P, 1).
        corners: ``[4, 3]`` of the whole image, in order around it.
    """

    number: int
    normal: NDArray[np.float64]
    offset: float
    uv: NDArray[np.float64]
    corners: NDArray[np.float64]

    @classmethod
    def of(cls, number: int, item: Item, to_camera: NDArray[np.float64]) -> _Pane:
        """From a card's triangles: their points are an affine function of their texture coordinates."""
        mesh = item.mesh
        known = np.concatenate([mesh.uvs, np.ones((len(mesh.uvs), 1))], axis=1).astype(np.float64)
        along_u, along_v, base = np.linalg.lstsq(known, mesh.vertices.astype(np.float64), rcond=None)[0]
        turn, move = to_camera[:3, :3], to_camera[:3, 3]
        along_u, along_v, base = turn @ along_u, turn @ along_v, turn @ base + move
        normal = turn @ mesh.normals[0].astype(np.float64)
        normal /= np.linalg.norm(normal)
        inverse = np.linalg.inv(np.stack([along_u, along_v, normal], axis=1))[:2]
        uv = np.concatenate([inverse, -(inverse @ base)[:, None]], axis=1)
        corners = np.stack([base, base + along_u, base + along_u + along_v, base + along_v])
        return cls(number, normal, float(normal @ base), uv, corners)


class _Texture:
    """RGBA texels ``[H, W, 4]`` on the device, bilinear; centres are at whole columns and rows."""

    def __init__(self, texels: NDArray) -> None:
        self.size = (texels.shape[1], texels.shape[0])
        self._data = mi.Float(np.ascontiguousarray(texels, np.float32).ravel())
        self._stride = dr.opaque(mi.UInt32, texels.shape[1])

    def look_up(self, column: Any, row: Any, active: Any) -> Any:
        """RGBA between the outermost texels; zeros where not active."""

        def mix(column: Any, row: Any) -> Any:
            left, top = mi.UInt32(column), mi.UInt32(row)
            x, y = column - mi.Float(left), row - mi.Float(top)
            first = top * self._stride + left
            a, b, c, d = (
                dr.gather(mi.Vector4f, self._data, first + i) for i in (0, 1, self._stride, self._stride + 1)
            )
            return dr.lerp(dr.lerp(a, b, x), dr.lerp(c, d, x), y)

        # A branch and not a mask: rays that pass beside a card are most, and neighbours do it together.
        return dr.if_stmt((column, row), active, mix, lambda column, row: mi.Vector4f(0))


class _Plane:
    """A pane with its texture, on the device."""

    def __init__(self, pane: _Pane, texture: _Texture) -> None:
        self._texture = texture
        # A border of one texel is around the image; v runs upwards.
        width, height = (n - 2 for n in texture.size)
        column = pane.uv[0] * width + np.array([0, 0, 0, 0.5])
        row = np.array([0, 0, 0, height + 0.5]) - pane.uv[1] * height
        self._normal = [dr.opaque(mi.Float, float(n)) for n in pane.normal]
        self._offset = dr.opaque(mi.Float, pane.offset)
        self._column = [dr.opaque(mi.Float, float(n)) for n in column]
        self._row = [dr.opaque(mi.Float, float(n)) for n in row]
        self._limits = (dr.opaque(mi.Float, width + 0.5), dr.opaque(mi.Float, height + 0.5))

    def layer(self, x: Any, y: Any, lens: tuple[Any, Any], focus: Any, active: Any) -> tuple[Any, Any]:
        """Inverse depth of the plane on a ray, and premultiplied RGBA: zeros beside the card, a black back.

        Args:
            x: Slope of the pinhole's ray, and ``y``.
            y: Upwards.
            lens: Point of the lens, metres.
            focus: Inverse depth in focus.
            active: Rays that look.
        """
        a, b, c = self._normal
        side = a * lens[0] + b * lens[1]
        ahead = self._offset - side  # negative: the lens point is on the side that shines
        q = (a * x + b * y + c - focus * side) / ahead
        blur = q - focus
        x, y, z = x + lens[0] * blur, y + lens[1] * blur, 1 / q
        column, row = ((m[0] * x + m[1] * y + m[2]) * z + m[3] for m in (self._column, self._row))
        active &= (q > 1 / FAR_CLIP_M) & (q < 1 / NEAR_CLIP_M)
        active &= (column >= 0.5) & (column <= self._limits[0]) & (row >= 0.5) & (row <= self._limits[1])
        rgba = self._texture.look_up(column, row, active)
        light = dr.select(ahead < 0, mi.Color3f(rgba.x, rgba.y, rgba.z), 0)
        return q, mi.Vector4f(light.x, light.y, light.z, rgba.w)


def _sorted(layers: list[tuple[Any, Any]]) -> list[Any]:
    """RGBA of layers ``(inverse depth, RGBA)``, nearest first on every ray."""
    layers = list(layers)
    for end in range(len(layers) - 1, 0, -1):
        for i in range(end):
            (p, a), (q, b) = layers[i], layers[i + 1]
            swap = q > p
            layers[i] = (dr.select(swap, q, p), dr.select(swap, b, a))
            layers[i + 1] = (dr.select(swap, p, q), dr.select(swap, a, b))
    return [rgba for _, rgba in layers]


# --- Environment --------------------------------------------------------------------------------


class _Sky:
    """An environment ``[H, 2 H, 3]`` (see `Built`), or ``[1, 1, 3]``: the same from everywhere."""

    def __init__(self, light: NDArray) -> None:
        self._height, self._width = light.shape[:2]
        if self._height == 1:
            self._constant = mi.Color3f(*(dr.opaque(mi.Float, float(c)) for c in light[0, 0]))
            return
        # One column more on either side; beyond the outer rows what makes the mean of a row at the pole.
        top, bottom = (2 * row.mean(axis=0, keepdims=True) - row for row in (light[0], light[-1]))
        light = np.concatenate([top[None], light, bottom[None]])
        light = np.concatenate([light[:, -1:], light, light[:, :1]], axis=1)
        light = np.concatenate([light, np.zeros_like(light[..., :1])], axis=2)
        self._texture = _Texture(light)

    def look_up(self, direction: Any, active: Any) -> Any:
        """Radiance from a direction in the world."""
        if self._height == 1:
            return self._constant
        d = dr.normalize(direction)
        column = (0.5 - dr.atan2(d.y, d.x) / (2 * math.pi)) * self._width + 0.5
        row = dr.safe_acos(d.z) / math.pi * self._height + 0.5
        rgba = self._texture.look_up(column, row, active)
        return mi.Color3f(rgba.x, rgba.y, rgba.z)


# --- Order --------------------------------------------------------------------------------------


def front_to_back(quads: Sequence[NDArray[np.float64]], lens_radius_m: float) -> list[list[int]]:
    """Groups of cards in an order that holds on every ray from the lens; within a group it is the ray's.

    Args:
        quads: ``[4, 3]`` corners of each card in camera coordinates.
        lens_radius_m: Radius of the disc about the origin, in the plane z = 0, that rays start from.
    """
    n = len(quads)
    reaches = np.eye(n, dtype=bool)
    for i in range(n):
        for j in range(i):
            reaches[i, j], reaches[j, i] = _may_hide(quads[i], quads[j], lens_radius_m)
    for k in range(n):
        reaches |= reaches[:, k, None] & reaches[None, k]
    # Whoever may hide another reaches all that the other reaches, and more unless they are in one group.
    groups = {tuple(np.flatnonzero(reaches[i] & reaches[:, i])) for i in range(n)}
    return [[int(i) for i in group] for group in sorted(groups, key=lambda g: (-reaches[g[0]].sum(), g))]


def _may_hide(a: NDArray[np.float64], b: NDArray[np.float64], lens_radius_m: float) -> tuple[bool, bool]:
    """Whether on some ray a may lie in front of b, and b in front of a.

    If a plane parts the two, the one on the lens's side of it cannot be hidden by the other. Tried are the
    directions of both planes, of pairs of edges, and of planes through the pupil's centre and an edge.
    """
    edges = [(q[1] - q[0], q[3] - q[0]) for q in (a, b)]
    normals = [np.cross(*edges[0]), np.cross(*edges[1])]
    normals += [np.cross(e, f) for e in edges[0] for f in edges[1]]
    normals += [np.cross(q[k], q[(k + 1) % 4]) for q in (a, b) for k in range(4)]
    a_hides, b_hides = True, True
    for normal in normals:
        length = float(np.linalg.norm(normal))
        if length < 1e-12:
            continue
        for m in (normal / length, -normal / length):
            a_high, b_low = float((a @ m).max()), float((b @ m).min())
            lens = lens_radius_m * math.hypot(m[0], m[1])
            if a_high <= b_low + TOUCH_M:
                b_hides &= lens > b_low + TOUCH_M
                a_hides &= -lens < a_high - TOUCH_M
    return a_hides, b_hides
