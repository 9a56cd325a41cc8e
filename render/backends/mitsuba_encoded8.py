"""Blur of display-encoded 8-bit colours, as in data made from flat images: the blur domain ``encoded8``.

The rays are those of `Rebinner`; a ray brings the AIF's 8-bit value of the pixel in which the pinhole sees
what the ray hits. What the AIF does not show, hidden or beyond its border, has no such value: the light of
all rays that go there is averaged per pixel, encoded and rounded in its place. Cut-outs count as solid from
an opacity of one half.
"""

# mitsuba and drjit are typed per variant; the modules are handled as Any.
# pyright: basic, reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import color
from focuspull.render.backends.mitsuba_rebin import QUANTUM
from focuspull.render.build import Pose

DEPTH_TOLERANCE = 1e-3
"""Relative difference of inverse depth within which two hits are the same surface."""


class Encoded8:
    """What the pinhole sees of a frame as 8-bit values.

    First `gather` stands for the integrator, to learn about what the AIF does not show; then `look_up`, with
    the same seeds.

    Args:
        mi: Mitsuba, with a vectorised variant.
        camera_to_world: ``[4, 4]`` at the middle of the frame.
        focal_px: Focal length in pixels.
        aif: ``[H, W, 3]`` scene-linear.
        depth_m: ``[H, W]`` planar, ``inf`` for sky.
        margin: Pixels around the frame that lenses see.
        exposure_ev: Of the display transform.
        has_cards: Whether there are cut-outs to look through.
    """

    def __init__(
        self,
        mi: Any,
        camera_to_world: Pose,
        *,
        focal_px: float,
        aif: NDArray[np.float32],
        depth_m: NDArray[np.float32],
        margin: int,
        exposure_ev: float,
        has_cards: bool,
    ) -> None:
        import drjit as dr

        self._mi, self._focal_px, self._margin, self._has_cards = mi, focal_px, margin, has_cards
        self._exposure_ev = exposure_ev
        self._height, self._width = depth_m.shape
        self._rows, self._columns = self._height + 2 * margin, self._width + 2 * margin
        self._axes = [mi.Vector3f(axis) for axis in camera_to_world[:3].T.tolist()]
        # A pixel shows a hit if its inverse depth lies in the range of the pixel and its neighbours.
        inverse = 1 / depth_m.astype(np.float64)
        square = np.ones((3, 3))
        self._low = self._padded(cv2.erode(inverse, square) * (1 - DEPTH_TOLERANCE) - 1e-9, np.inf)
        self._high = self._padded(cv2.dilate(inverse, square) * (1 + DEPTH_TOLERANCE) + 1e-9, -np.inf)
        self._shown = self._padded(self._encode(aif), 0.0)
        self._hidden_sums = dr.zeros(mi.Float64, 4 * self._rows * self._columns)

    def gather(self, integrator: Any) -> Any:
        """An integrator that traces only rays to what the AIF does not show, and keeps their light."""
        import drjit as dr

        mi = self._mi

        def sample(
            scene: Any, sampler: Any, ray: Any, medium: Any, active: Any
        ) -> tuple[Any, Any, list[Any]]:
            index, is_shown = self._find(scene, ray, active)
            active = active & ~is_shown
            radiance, valid, _ = integrator.sample(scene, sampler, ray, medium, active)
            scale = 2.0**self._exposure_ev / QUANTUM
            light = [
                *(mi.Float64(dr.round(channel * scale)) for channel in radiance),
                mi.Float64(1 / QUANTUM),
            ]
            dr.scatter_reduce(dr.ReduceOp.Add, self._hidden_sums, mi.Vector4d(light), index, active)
            return radiance, valid, []

        return _Integrator(sample)

    def look_up(self) -> Any:
        """An integrator that answers with 8-bit values in [0, 1]."""
        import drjit as dr

        mi = self._mi
        sums = np.array(self._hidden_sums).reshape(self._rows, self._columns, 4)
        mean = sums[..., :3] / np.maximum(sums[..., 3:], 1.0)
        hidden = mi.Float(self._encode(mean * 2.0**-self._exposure_ev).ravel())

        def sample(
            scene: Any, sampler: Any, ray: Any, medium: Any, active: Any
        ) -> tuple[Any, Any, list[Any]]:
            index, is_shown = self._find(scene, ray, active)
            shown = dr.gather(mi.Color3f, self._shown, index, active & is_shown)
            rest = dr.gather(mi.Color3f, hidden, index, active & ~is_shown)
            return dr.select(is_shown, shown, rest), active, []

        return _Integrator(sample)

    def _encode(self, linear: NDArray) -> NDArray[np.float32]:
        encoded = color.encode_display(np.maximum(linear, 0), exposure_ev=self._exposure_ev)
        return (color.to_uint8(encoded) / 255).astype(np.float32)

    def _padded(self, image: NDArray, outside: float) -> Any:
        margins = ((self._margin, self._margin),) * 2 + ((0, 0),) * (image.ndim - 2)
        return self._mi.Float(np.pad(image, margins, constant_values=outside).astype(np.float32).ravel())

    def _find(self, scene: Any, ray: Any, active: Any) -> tuple[Any, Any]:
        """Where the pinhole sees what rays hit, an index into padded images, and whether the AIF shows it."""
        import drjit as dr

        mi = self._mi
        right, up, back, position = self._axes

        def step(origin: Any, walking: Any, point: Any, hit: Any) -> tuple[Any, Any, Any, Any]:
            si = scene.ray_intersect(mi.Ray3f(origin, ray.d), walking)
            walking = walking & si.is_valid()
            solid = walking
            if self._has_cards:
                solid = walking & (mi.luminance(si.bsdf().eval_null_transmission(si, walking)) <= 0.5)
            point = dr.select(solid, mi.Vector3f(si.p) - position, point)
            return si.spawn_ray(ray.d).o, walking & ~solid, point, hit | solid

        width = dr.width(ray.o)
        state = (
            mi.Point3f(ray.o),
            mi.Bool(active),
            dr.zeros(mi.Vector3f, width),
            dr.full(mi.Bool, False, width),
        )
        if self._has_cards:
            state = dr.while_loop(state, lambda _, walking, *rest: walking, step)
        else:
            state = step(*state)
        _, _, point, hit = state
        # The sky is where its direction points.
        point = dr.select(hit, point, ray.d)
        depth = -dr.dot(point, back)
        x = dr.dot(point, right) / depth * self._focal_px + (self._width / 2 + self._margin)
        y = -dr.dot(point, up) / depth * self._focal_px + (self._height / 2 + self._margin)
        column = mi.UInt32(dr.clip(x, 0, self._columns - 1))
        row = mi.UInt32(dr.clip(y, 0, self._rows - 1))
        index = row * self._columns + column
        inverse = dr.select(hit, dr.rcp(depth), 0.0)
        low, high = (
            dr.gather(mi.Float, self._low, index, active),
            dr.gather(mi.Float, self._high, index, active),
        )
        return index, active & (inverse >= low) & (inverse <= high)


class _Integrator:
    """What `Rebinner.add` asks of an integrator."""

    def __init__(self, sample: Callable[..., tuple[Any, Any, list[Any]]]) -> None:
        self.sample = sample
