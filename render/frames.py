"""`Frames`: the float arrays of one rendered clip; and the renderer-independent way to them.

A backend opens a `Session` on a built scene. The clip is then rendered in two steps: ground truth of all
frames from pixel-centre pinhole rays (never from an open lens), which fixes the disparity map, the focus
tracks and so the lens; then light, all-in-focus and every target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import optics
from focuspull.dataset.errors import UserError
from focuspull.render import noise, spec
from focuspull.render.build import Built
from focuspull.render.focus import focus_track

MAX_FOCUS_DISTANCE_M = 1e6
"""Stands for infinity in the renderers; at 1000 km a lens of 0.5 m radius blurs by less than 1e-3 px."""

Method = Literal["separate", "rebinned", "planes"]
"""How targets are rendered: each by itself, all from one set of rays, or as planes (cards only)."""

BLACK = 1e-3
"""An image without a brighter value is black; OIDN turns exact zeros into values up to 6e-4."""


@dataclass(frozen=True)
class Aperture:
    """An open lens at one frame.

    Attributes:
        k: Blur radius in pixels per unit of disparity, positive.
        focus_disparity: Disparity of the plane in focus.
        focal_px: Focal length in pixels.
        disparity_map: The clip's map between disparity and depth.
        lens: Shape and faults of the lens.
    """

    k: float
    focus_disparity: float
    focal_px: float
    disparity_map: optics.DisparityMap
    lens: spec.LensSpec

    @property
    def radius_m(self) -> float:
        """Radius of the disc with the aperture's area, metres."""
        return float(optics.lens_radius_from_k(self.k, self.focal_px, self.disparity_map))

    @property
    def focus_distance_m(self) -> float:
        """Distance of the plane in focus, metres; `MAX_FOCUS_DISTANCE_M` stands for infinity."""
        distance = optics.focus_distance_m(self.focus_disparity, self.disparity_map)
        return float(np.minimum(distance, MAX_FOCUS_DISTANCE_M))


@dataclass(frozen=True)
class View:
    """One image of a frame: ``aperture`` None is the pinhole. ``stream`` numbers its noise (0: AIF)."""

    aperture: Aperture | None
    samples: int
    stream: int
    domain: spec.BlurDomain = "linear_hdr"


@dataclass(frozen=True)
class Image:
    """A rendered view.

    Attributes:
        pixels: ``[H, W, 3]`` float32, scene-linear.
        squared_error: Mean squared error to be expected between this and the converged image, both
            display-encoded; None: not measured.
        samples: Paths per pixel that were spent.
    """

    pixels: NDArray[np.float32]
    squared_error: float | None
    samples: int


class Session(Protocol):
    """A backend with a scene loaded; it keeps it between frames."""

    variant: str

    def truth(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Planar depth in metres (``inf``: sky) and instance ids at pixel centres, ``[H, W]`` each."""
        ...

    def plan(self, frames: Sequence[Sequence[View]]) -> Method:
        """Chooses how to render the clip from the views of all its frames, and names the method."""
        ...

    def render(self, frame: int, views: Sequence[View]) -> list[Image]:
        """The images of a frame, in the order of ``views``; `plan` was called before."""
        ...


@dataclass(frozen=True)
class Frames:
    """One clip, decoded. T counts the frames in ``numbers``, usually all of them.

    Attributes:
        numbers: Frame numbers that were rendered.
        aif: ``[T, H, W, 3]`` float32, scene-linear.
        bokeh: One ``[T, H, W, 3]`` per target.
        disparity: ``[T, H, W]`` float32 in [0, 1].
        instance: ``[T, H, W]`` uint16, 0 is sky.
        disparity_map: Affine map to inverse depth.
        k: ``[P, T]`` blur strength in pixels of this width.
        focus_disparity: ``[P, T]`` in [0, 1].
        focal_px: Focal length in pixels.
        camera_to_world: ``[T, 4, 4]``, the camera looks along -Z.
        variant: What exactly rendered it, e.g. ``llvm_ad_rgb``.
        method: How the targets were rendered: ``separate``, ``rebinned`` or ``planes``.
        noise_floor_db: AIF, then each target: estimated PSNR of the 8-bit video against the converged one;
            None: not measured.
        samples: AIF, then each target: paths per pixel, mean over the frames.
    """

    numbers: tuple[int, ...]
    aif: NDArray[np.float32]
    bokeh: tuple[NDArray[np.float32], ...]
    disparity: NDArray[np.float32]
    instance: NDArray[np.uint16]
    disparity_map: optics.DisparityMap
    k: NDArray[np.float64]
    focus_disparity: NDArray[np.float64]
    focal_px: float
    camera_to_world: NDArray[np.float64]
    variant: str
    method: Method
    noise_floor_db: tuple[float | None, ...]
    samples: tuple[float, ...]


def render_frames(session: Session, built: Built, frames: Sequence[int] | None = None) -> Frames:
    """Renders a clip, or some of its frames exactly as they are in the whole clip.

    Raises:
        UserError: If the scene cannot make a clip: nothing in view, or a focus subject never visible.
        FloatingPointError: If the renderer returned values that are not finite, or a black image.
    """
    scene, film = built.scene, built.scene.film
    truths = [session.truth(frame) for frame in range(film.num_frames)]
    depth = np.stack([t[0] for t in truths])
    instance = np.stack([t[1] for t in truths])
    disparity_map = fit_disparity_map(depth)
    disparity = np.clip(disparity_map.disparity(depth), 0.0, 1.0).astype(np.float32)
    names = {item.owner: item.instance for item in built.items}
    focus = np.stack([focus_track(t, disparity, instance, names, film.fps) for t in scene.targets])
    k = optics.k_at_width([t.k_at_1024 for t in scene.targets], film.width)
    camera = scene.world.camera
    focal_px = optics.focal_length_px(camera.focal_length_mm, camera.sensor_width_mm, film.width)

    lenses = [
        [
            Aperture(float(k[p, frame]), float(focus[p, frame]), focal_px, disparity_map, target.lens)
            # A lens of radius 0 is the pinhole; it still is a render of its own, with its own noise.
            if k[p, frame] > 0
            else None
            for p, target in enumerate(scene.targets)
        ]
        for frame in range(film.num_frames)
    ]
    quality = scene.quality
    views = [
        [
            View(None, quality.aif_samples, 0),
            *(
                View(aperture, quality.bokeh_samples, p + 1, target.domain)
                for p, (aperture, target) in enumerate(zip(apertures, scene.targets, strict=True))
            ),
        ]
        for apertures in lenses
    ]
    method = session.plan(views)
    numbers = tuple(range(film.num_frames)) if frames is None else tuple(frames)
    images = [[_checked(image, frame) for image in session.render(frame, views[frame])] for frame in numbers]
    streams = [np.stack([image.pixels for image in stream]) for stream in zip(*images, strict=True)]
    errors = [[image.squared_error for image in stream] for stream in zip(*images, strict=True)]
    samples = [[image.samples for image in stream] for stream in zip(*images, strict=True)]
    chosen = list(numbers)
    return Frames(
        numbers=numbers,
        aif=streams[0],
        bokeh=tuple(streams[1:]),
        disparity=disparity[chosen],
        instance=instance[chosen],
        disparity_map=disparity_map,
        k=k[:, chosen],
        focus_disparity=focus[:, chosen],
        focal_px=focal_px,
        camera_to_world=np.stack([built.camera(frame) for frame in numbers]),
        variant=session.variant,
        method=method,
        noise_floor_db=tuple(_noise_floor_db(stream) for stream in errors),
        samples=tuple(float(np.mean(stream)) for stream in samples),
    )


def fit_disparity_map(depth_m: NDArray) -> optics.DisparityMap:
    """The clip's map: its nearest pixel has disparity 1, its farthest (sky: infinity) 0.

    Raises:
        UserError: If there is nothing in view, or everything at one depth.
    """
    near, far = float(depth_m.min()), float(depth_m.max())
    if not np.isfinite(near):
        raise UserError("scene: nothing but sky is in view. Move the camera or the objects.")
    if far - near < 1e-6 * near:
        raise UserError(f"scene: everything in view is {near:.3f} m away, disparity needs depth. Add depth.")
    return optics.DisparityMap(near, far)


def shutter_times(film: spec.FilmSpec, frame: int) -> list[float]:
    """Frame numbers of the passes that make up a frame: one, or stratified within the open shutter."""
    if film.shutter == 0:
        return [float(frame)]
    n = film.shutter_samples
    return [frame + film.shutter * ((i + 0.5) / n - 0.5) for i in range(n)]


def split_samples(samples: int, passes: int) -> int:
    """Samples of one of ``passes`` equal passes, at least one."""
    return max(1, -(-samples // passes))


def _checked(image: Image, frame: int) -> Image:
    pixels = image.pixels
    if not np.isfinite(pixels).all():
        raise FloatingPointError(f"frame {frame}: {int((~np.isfinite(pixels)).sum())} values are not finite")
    if pixels.max() < BLACK:
        raise FloatingPointError(f"frame {frame}: is all black. Add light to the scene")
    return replace(image, pixels=np.maximum(pixels, 0.0).astype(np.float32))


def _noise_floor_db(squared_errors: Sequence[float | None]) -> float | None:
    """Of a video whose frames have these squared errors."""
    known = [error for error in squared_errors if error is not None]
    return noise.floor_db(float(np.mean(known))) if len(known) == len(squared_errors) else None
