"""Mitsuba 3 backend: LLVM-compiled path tracing, ground truth from its own pixel-centre rays.

The scene is described as a dictionary whose meshes and textures are files in a temporary folder, loaded once
per clip; moving things get new vertices per frame. Scenes with cut-outs use ``volpath``, which lets
shadow rays through transparent texels and does not count them as bounces; others use ``path``.
"""

# mitsuba and drjit are typed per variant; the modules are handled as Any.
# pyright: basic, reportAttributeAccessIssue=false
from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import optics
from focuspull.dataset.errors import UserError
from focuspull.render import noise
from focuspull.render.backends.denoise import Denoiser
from focuspull.render.backends.mitsuba_encoded8 import Encoded8
from focuspull.render.backends.mitsuba_rebin import Rebinner, pays
from focuspull.render.build import MAX_TRANSPARENT_HITS, MIN_ALPHA, Built, Item, Pose, Surface
from focuspull.render.frames import Aperture, Image, Method, Session, View, shutter_times, split_samples
from focuspull.render.textures import TextureMap

VARIANT_VARIABLE = "FOCUSPULL_MITSUBA_VARIANT"
GUIDE_SAMPLES = {False: 16, True: 32}
"""For separate and for re-binned views, whose guides are not denoised themselves."""
NEAR_CLIP_M = 1e-3
FAR_CLIP_M = 1e6

# Dr.Jit's own search finds the system's LLVM first, and versions below 18 abort the process when they
# meet a floating-point minimum. karellen-llvm-core puts a recent one into the environment's lib folder.
_PROBE = """
import sys
import mitsuba as mi
mi.set_variant(sys.argv[1])
import drjit as dr
dr.eval(dr.minimum(mi.Float([1, 2]), mi.Float([2, 1])))
print(float(mi.render(mi.load_dict(mi.cornell_box()), spp=1).array[0]))
"""


def find_llvm() -> Path | None:
    """The LLVM library of the Python environment (PyPI package karellen-llvm-core), with its full version."""
    found = sorted((Path(sys.prefix) / "lib").glob("libLLVM.so*"), key=lambda p: len(p.name), reverse=True)
    return found[0] if found else None


@functools.cache
def choose_variant() -> str:
    """``cuda_ad_rgb`` where there is a GPU, else ``llvm_ad_rgb``, whichever really works.

    If none does it is ``scalar_rgb``, which is said on standard error. Trials are processes of their own
    because a wrong LLVM aborts instead of raising. A variant forced with ``FOCUSPULL_MITSUBA_VARIANT`` is
    taken as it is.
    """
    llvm = find_llvm()
    if llvm is not None:
        os.environ.setdefault("DRJIT_LIBLLVM_PATH", str(llvm))
    forced = os.environ.get(VARIANT_VARIABLE)
    if forced:
        return forced
    for variant in ("cuda_ad_rgb", "llvm_ad_rgb") if _has_cuda() else ("llvm_ad_rgb",):
        # -P: no file in the user's folder may take the place of a module.
        trial = [sys.executable, "-P", "-c", _PROBE, variant]
        if subprocess.run(trial, capture_output=True, check=False).returncode == 0:
            return variant
    print("mitsuba: no LLVM works here, so it renders with scalar_rgb, many times slower", file=sys.stderr)
    return "scalar_rgb"


def _has_cuda() -> bool:
    """Whether NVIDIA's driver is installed."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def force_variant(variant: str) -> None:
    """Makes `choose_variant` answer this, in this process."""
    if variant:
        os.environ[VARIANT_VARIABLE] = variant


def import_mitsuba(threads: int) -> Any:
    """Imports Mitsuba, sets the variant and the number of threads, registers our plugins."""
    variant = choose_variant()
    import drjit as dr
    import mitsuba as mi

    if mi.variant() != variant:
        mi.set_variant(variant)
        from focuspull.render.backends import mitsuba_surface

        mitsuba_surface.register()
        mi.set_log_level(mi.LogLevel.Error)  # else: a warning whenever a sample count is rounded up
    dr.set_thread_count(threads)
    os.environ["OIDN_NUM_THREADS"] = "1"  # its result depends on the number of threads
    return mi


def open_session(built: Built, *, threads: int) -> Session:
    """Loads a scene."""
    mi = import_mitsuba(threads)
    from focuspull.render.backends.mitsuba_cards import CardSession, is_card_scene

    return CardSession(built, mi) if is_card_scene(built) else MitsubaSession(built, mi)


def export_scene(built: Built, frame: int, folder: Path) -> None:
    """Writes ``scene.xml`` with meshes and textures for one frame, seen through the pinhole.

    Mitsuba loads it after `focuspull.render.backends.mitsuba_surface.register`.
    """
    mi = import_mitsuba(1)
    description = describe(mi, built, frame, folder)
    description["sensor"] = _sensor(mi, built, float(frame), View(None, 64, 0))
    state = mi.parser.parse_dict(mi.parser.ParserConfig(mi.variant()), description)
    for node in state.nodes:
        # The writer knows the kinds of stock plugins only.
        if node.props.plugin_name() == "focuspull_surface":
            node.type = mi.ObjectType.BSDF
    # Without the folder, so that it can be moved: Mitsuba looks beside the file.
    text = mi.parser.write_string(state).replace(f'"{folder}/', '"')
    (folder / "scene.xml").write_text(text)


class MitsubaSession:
    """A scene in Mitsuba; see `focuspull.render.frames.Session`."""

    def __init__(self, built: Built, mi: Any) -> None:
        self.variant = mi.variant()
        self._mi, self._built = mi, built
        self._changes_surface = any(len(item.surfaces) > 1 for item in built.items)
        # A pass of its own: nested in one kernel, path tracing and guides cost twice the sum of the two.
        self._guide = mi.load_dict({"type": "aov", "aovs": "albedo:albedo,normal:sh_normal"})
        self._method: Method = "separate"
        self._forced: Method | None = None
        self._frame = -1
        self._time = math.nan
        self._scene: Any = None
        self._params: Any = None

    def truth(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Marches pixel-centre pinhole rays through texels with opacity below one half."""
        self._move_to(frame, float(frame))
        film = self._built.scene.film
        sensor = self._mi.load_dict(_sensor(self._mi, self._built, float(frame), View(None, 1, 0)))
        march = self._march_scalar if self.variant.startswith("scalar") else self._march_vectorized
        depth, shape = march(sensor, self._built.camera(float(frame)))
        # Row 0 of the tables is for rays that hit nothing, row i + 1 for item i.
        instances = np.array([0, *(item.instance for item in self._built.items)], np.uint16)
        is_sky = np.array([True, *(item.is_sun for item in self._built.items)])
        depth = np.where(is_sky[shape], np.inf, depth).astype(np.float32)
        size = (film.height, film.width)
        return depth.reshape(size), instances[shape].reshape(size)

    def _march_vectorized(self, sensor: Any, pose: Pose) -> tuple[NDArray, NDArray]:
        """Planar depth and item number + 1 (0: nothing) per pixel, as one kernel."""
        import drjit as dr

        mi, film = self._mi, self._built.scene.film
        index = dr.arange(mi.UInt32, film.width * film.height)
        at = mi.Point2f(
            (mi.Float(index % film.width) + 0.5) / film.width,
            (mi.Float(index // film.width) + 0.5) / film.height,
        )
        ray, _ = sensor.sample_ray(0.0, 0.5, at, mi.Point2f(0.5))
        origin, forward = mi.Point3f(pose[:3, 3].tolist()), mi.Vector3f((-pose[:3, 2]).tolist())
        depth, handle = dr.zeros(mi.Float, index.shape[0]), dr.zeros(mi.UInt32, index.shape[0])
        active = dr.full(mi.Bool, True, index.shape[0])
        for _ in range(MAX_TRANSPARENT_HITS):
            si = self._scene.ray_intersect(ray, active)
            active &= si.is_valid()
            opaque = mi.Bool(active)
            if self._built.has_cards:
                opaque &= mi.luminance(si.bsdf().eval_null_transmission(si, active)) <= 0.5
            depth = dr.select(opaque, dr.dot(si.p - origin, forward), depth)
            handle = dr.select(opaque, dr.reinterpret_array(mi.UInt32, si.shape), handle)
            active &= ~opaque
            if not dr.any(active):
                break
            ray = si.spawn_ray(ray.d)
        number = np.zeros(int(np.array(handle).max()) + 1, np.int64)
        for shape, i in self._numbered_shapes():
            h = int(np.array(dr.reinterpret_array(mi.UInt32, mi.ShapePtr(shape)))[0])
            if h < number.size:
                number[h] = i
        return np.array(depth), number[np.array(handle)]

    def _march_scalar(self, sensor: Any, pose: Pose) -> tuple[NDArray, NDArray]:
        """The same, ray by ray."""
        mi, film = self._mi, self._built.scene.film
        numbers = {shape.id(): i for shape, i in self._numbered_shapes()}
        depth, hit = np.zeros(film.width * film.height), np.zeros(film.width * film.height, np.int64)
        for i in range(depth.size):
            at = mi.Point2f((i % film.width + 0.5) / film.width, (i // film.width + 0.5) / film.height)
            ray, _ = sensor.sample_ray(0.0, 0.5, at, mi.Point2f(0.5))
            for _ in range(MAX_TRANSPARENT_HITS):
                si = self._scene.ray_intersect(ray)
                if not si.is_valid():
                    break
                if mi.luminance(si.bsdf().eval_null_transmission(si)) <= 0.5:
                    depth[i] = np.dot(np.array(si.p) - pose[:3, 3], -pose[:3, 2])
                    hit[i] = numbers[si.shape.id()]
                    break
                ray = si.spawn_ray(ray.d)
        return depth, hit

    def _numbered_shapes(self) -> list[tuple[Any, int]]:
        numbers = {_shape_id(item): i + 1 for i, item in enumerate(self._built.items)}
        return [(shape, numbers[shape.id()]) for shape in self._scene.shapes()]

    def plan(self, frames: Sequence[Sequence[View]]) -> Method:
        """``rebinned`` where that needs less time for the same noise, else ``separate``.

        Raises:
            UserError: If the variant cannot render a target.
        """
        film = self._built.scene.film
        vectorized = not self.variant.startswith("scalar")
        if not vectorized and any(view.domain == "encoded8" for views in frames for view in views):
            raise UserError(
                f"targets: domain 'encoded8' cannot be rendered with {self.variant}, which is what works "
                f"here. Leave it out, or run where focuspull-render info names an llvm or cuda variant."
            )
        # Targets of display values have rays of their own in any case.
        apertures = [
            [view.aperture for view in views if view.aperture is not None and view.domain != "encoded8"]
            for views in frames
        ]
        rebins = vectorized and pays(
            apertures, (film.height, film.width), denoised=self._built.scene.quality.denoise
        )
        self._method = self._forced or ("rebinned" if rebins else "separate")
        return self._method

    def force_method(self, method: Method) -> None:
        """Makes `plan` choose this, for comparisons."""
        self._forced = method

    def render(self, frame: int, views: Sequence[View]) -> list[Image]:
        """Renders what is to be rendered together, one batch after the other."""
        encoded = [i for i, view in enumerate(views) if view.domain == "encoded8" and view.aperture]
        lenses = [i for i, view in enumerate(views) if view.aperture and i not in encoded]
        together = lenses if self._method == "rebinned" else []
        batches = [[i] for i in range(len(views)) if i not in together + encoded]
        batches += [together] if together else []
        images: dict[int, Image] = {}
        for batch in batches:
            rendered = self._render_batch(frame, [views[i] for i in batch], rebinned=batch == together)
            images.update(zip(batch, rendered, strict=True))
        if encoded:
            rendered = self._render_encoded8(frame, [views[i] for i in encoded], images[0].pixels)
            images.update(zip(encoded, rendered, strict=True))
        return [images[i] for i in range(len(views))]

    def _render_batch(self, frame: int, views: Sequence[View], *, rebinned: bool) -> list[Image]:
        """Adds samples in rounds until every view has as little noise as is asked for."""
        scene, stream = self._built.scene, views[0].stream
        light = self._batch(views, channels=3, rebinned=rebinned)
        filters: list[Denoiser | None] = [None] * len(views)
        if scene.quality.denoise:
            guides = self._batch(views, channels=6, rebinned=rebinned)
            self._add(guides, self._guide, frame, GUIDE_SAMPLES[rebinned], (stream, 0))
            filters = [
                Denoiser(guides.halves(i).mean(axis=0), prefilter=not rebinned) for i in range(len(views))
            ]
        spent, wanted = 0, max(view.samples for view in views)
        for turn in itertools.count(1):
            spent += self._add(light, None, frame, wanted - spent, (stream, turn))
            done = [
                noise.finish(light.halves(i), scene.film.exposure_ev, denoiser)
                for i, denoiser in enumerate(filters)
            ]
            wanted = noise.next_samples(scene.quality, spent, max(error for _, error in done))
            if wanted <= spent:
                return [Image(pixels, error, spent) for pixels, error in done]
        raise AssertionError("unreachable")

    def _render_encoded8(self, frame: int, views: Sequence[View], aif: NDArray[np.float32]) -> list[Image]:
        """Blurs 8-bit values, of the moment in the middle of the shutter."""
        scene = self._built.scene
        ev = scene.film.exposure_ev
        apertures = [view.aperture for view in views if view.aperture]
        values = self._rebinner(apertures, channels=3, scale=1.0)
        depth, _ = self.truth(frame)
        seen = Encoded8(
            self._mi,
            self._built.camera(float(frame)),
            focal_px=apertures[0].focal_px,
            aif=aif,
            depth_m=depth,
            margin=values.base.margin,
            exposure_ev=ev,
            has_cards=self._built.has_cards,
        )
        dry = self._rebinner(apertures, channels=3, scale=1.0)
        spent, wanted = 0, max(view.samples for view in views)
        for turn in itertools.count(1):
            seed = scene.noise_seed(frame, views[0].stream, turn, 0)
            count = split_samples(wanted - spent, 2)
            dry.add(self._scene, seen.gather(self._scene.integrator()), float(frame), count, seed)
            spent += 2 * values.add(self._scene, seen.look_up(), float(frame), count, seed)
            done = [noise.finish_encoded(values.halves(i), ev) for i in range(len(views))]
            wanted = noise.next_samples(scene.quality, spent, max(error for _, error in done))
            if wanted <= spent:
                return [Image(pixels, error, spent) for pixels, error in done]
        raise AssertionError("unreachable")

    def _batch(self, views: Sequence[View], *, channels: int, rebinned: bool) -> Separate | Rebinner:
        if not rebinned:
            # Nobody asks how noisy guides are.
            return Separate(self._mi, self._built, views[0], num_sets=2 if channels == 3 else 1)
        scale = 2.0**self._built.scene.film.exposure_ev if channels == 3 else 1.0
        return self._rebinner(
            [view.aperture for view in views if view.aperture], channels=channels, scale=scale
        )

    def _rebinner(self, apertures: Sequence[Aperture], *, channels: int, scale: float) -> Rebinner:
        film = self._built.scene.film
        return Rebinner(
            self._mi,
            self._built.camera,
            size=(film.height, film.width),
            apertures=apertures,
            num_channels=channels,
            scale=scale,
        )

    def _add(
        self, batch: Separate | Rebinner, integrator: Any, frame: int, samples: int, stream: tuple[int, int]
    ) -> int:
        """Samples per pixel that were added, evenly to all sets and at all times in the shutter."""
        scene = self._built.scene
        times = shutter_times(scene.film, frame)
        spent = 0
        for number, time in enumerate(times):
            self._move_to(frame, time)
            seed = scene.noise_seed(frame, *stream, number)
            count = split_samples(samples, batch.num_sets * len(times))
            spent += batch.num_sets * batch.add(
                self._scene, integrator or self._scene.integrator(), time, count, seed
            )
        return spent

    def _move_to(self, frame: int, time: float) -> None:
        """Puts everything where it is at a time; reloads only if a card shows another image."""
        if self._scene is None or (self._changes_surface and frame != self._frame):
            # Files for the time of loading only: the worker ends without unwinding, and may be killed.
            with tempfile.TemporaryDirectory(prefix="focuspull-mitsuba-") as folder:
                description = describe(self._mi, self._built, frame, Path(folder))
                self._scene = self._mi.load_dict(description, optimize=False)  # else shapes lose their names
            self._params = self._mi.traverse(self._scene)
            self._frame, self._time = frame, float(frame)
        if time == self._time:
            return
        moving = [item for item in self._built.items if item.moves]
        for item in moving:
            vertices, normals = item.placed(time)
            self._params[f"{_shape_id(item)}.vertex_positions"] = vertices.ravel()
            self._params[f"{_shape_id(item)}.vertex_normals"] = normals.ravel()
        if moving:
            self._params.update()
        self._frame, self._time = frame, time


class Separate:
    """One view, rendered by itself: the counterpart of `Rebinner`."""

    def __init__(self, mi: Any, built: Built, view: View, *, num_sets: int = 2) -> None:
        self._mi, self._built, self._view, self.num_sets = mi, built, view, num_sets
        self._sums: NDArray[np.float64] | None = None
        self._count = 0

    def add(self, scene: Any, integrator: Any, time: float, samples: int, seed: int) -> int:
        """Adds ``samples`` per pixel to each set; says how many they became."""
        sensor = self._mi.load_dict(_sensor(self._mi, self._built, time, self._view))
        sensor.sampler().set_sample_count(samples)
        samples = sensor.sampler().sample_count()
        images = [
            np.array(self._mi.render(scene, sensor=sensor, integrator=integrator, spp=samples, seed=s))
            # Seeds of scenes are below 2^31.
            for s in (seed, seed + 2**31)[: self.num_sets]
        ]
        new = np.stack(images).astype(np.float64) * samples
        self._sums = new if self._sums is None else self._sums + new
        self._count += samples
        return samples

    def halves(self, view: int) -> NDArray[np.float64]:
        """The image from each set of samples, ``[num_sets, H, W, C]``."""
        assert view == 0 and self._sums is not None
        return self._sums / self._count


def describe(mi: Any, built: Built, frame: int, folder: Path) -> dict[str, Any]:
    """The scene at a frame as a Mitsuba dictionary (no sensor); meshes and textures go to ``folder``."""
    quality = built.scene.quality
    integrator: dict[str, Any] = {
        "type": "volpath" if built.has_cards else "path",
        "max_depth": quality.max_bounces + 2,  # Mitsuba counts path edges up to the light, Cycles bounces
        "rr_depth": 1000,
    }
    scene: dict[str, Any] = {"type": "scene", "integrator": integrator}
    for item in built.items:
        scene[_shape_id(item)] = _shape(mi, item, frame, folder)
    for name, weight in _emitter_weights(built).items():
        scene[name]["emitter"]["sampling_weight"] = weight
    for i, light in enumerate(built.points):
        scene[f"point-{i}"] = {
            "type": "point",
            "position": list(light.position_m),
            "intensity": _rgb(light.intensity_w_sr),
        }
    if built.environment is not None:
        scene["environment"] = {
            "type": "envmap",
            "filename": _write_pfm(_environment_grid(built.environment), folder / "environment.pfm"),
            "to_world": mi.ScalarTransform4f([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
        }
    elif max(built.environment_color) > 0:
        scene["environment"] = {"type": "constant", "radiance": _rgb(built.environment_color)}
    return scene


def _emitter_weights(built: Built) -> dict[str, float]:
    """How often to sample each emitting shape, against 1 for the environment and for points.

    Mitsuba picks emitters evenly; forty small bulbs would leave the window one sample in forty. The weight
    is the shape's irradiance at the point that the camera looks at, against that of the environment, no
    less than 2 % of the strongest.
    """
    aim = np.asarray(built.scene.world.camera.path.look_at_m)
    sky = built.environment.mean() if built.environment is not None else np.mean(built.environment_color)
    strength = {}
    for item in built.items:
        if item.surfaces[0].emits:
            vertices, _ = item.placed(0.0)
            a, b, c = (vertices[item.mesh.triangles[:, i]].astype(np.float64) for i in range(3))
            area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
            distance = np.linalg.norm(vertices.mean(axis=0) - aim)
            strength[_shape_id(item)] = item.surfaces[0].mean_emission * area / max(distance**2, area)
    if not strength:
        return {}
    strongest = max(*strength.values(), math.pi * sky)
    reference = math.pi * sky if sky > 0 else strongest
    reference = max(reference, 0.02 * strongest)
    return {name: float(max(value, 0.02 * strongest) / reference) for name, value in strength.items()}


def _sensor(mi: Any, built: Built, time: float, view: View) -> dict[str, Any]:
    scene = built.scene
    film, camera = scene.film, scene.world.camera
    focal_px = optics.focal_length_px(camera.focal_length_mm, camera.sensor_width_mm, film.width)
    # Our camera looks along -z with +x to the right, Mitsuba's along +z with +x to the left.
    pose = built.camera(time) @ np.diag([-1.0, 1.0, -1.0, 1.0])
    sensor: dict[str, Any] = {
        "type": "perspective",
        "fov": optics.field_of_view_deg(focal_px, film.width),
        "fov_axis": "x",
        "near_clip": NEAR_CLIP_M,
        "far_clip": FAR_CLIP_M,
        "to_world": mi.ScalarTransform4f(pose.tolist()),
        "film": {
            "type": "hdrfilm",
            "width": film.width,
            "height": film.height,
            "pixel_format": "rgb",
            "component_format": "float32",
            "rfilter": {"type": "box"},
        },
        "sampler": {"type": "multijitter", "sample_count": view.samples},
    }
    if view.aperture is None:
        return sensor
    lens = view.aperture.lens
    sensor |= {"aperture_radius": view.aperture.radius_m, "focus_distance": view.aperture.focus_distance_m}
    if lens.is_ideal:
        return sensor | {"type": "thinlens"}
    for unused in ("fov_axis", "near_clip", "far_clip"):
        del sensor[unused]
    sensor |= {"lens": lens.model_dump_json(), "disparity_scale": view.aperture.disparity_map.scale}
    return sensor | {"type": "focuspull_lens"}


def _shape_id(item: Item) -> str:
    # Mitsuba divides paths of parameters at dots.
    return f"shape-{item.name.replace('.', '_')}"


def _shape(mi: Any, item: Item, frame: int, folder: Path) -> dict[str, Any]:
    surface = item.surface(frame)
    stem = folder / item.name.replace(".", "_")
    if item.is_area_light:
        pose = item.pose(float(frame))
        # Sampling points of a mesh costs an eighth of the whole path.
        to_world = pose @ np.diag([*item.mesh.vertices.max(axis=0)[:2], 1.0, 1.0])
        shape: dict[str, Any] = {
            "type": "rectangle",
            "to_world": mi.ScalarTransform4f(to_world.tolist()),
        }
    else:
        shape = {"type": "ply", "filename": _write_ply(item, frame, stem)}
    if surface.emits:
        # Black is a number here: sampling by a texture without any light is an error.
        light = surface.emission if surface.mean_emission > 0 else (0.0, 0.0, 0.0)
        radiance = _texture(mi, light, stem.with_name(f"{stem.name}-emission.pfm"))
        shape["emitter"] = {"type": "area", "radiance": radiance}
        shape["bsdf"] = _cut_out(mi, surface, stem, {"type": "diffuse", "reflectance": _rgb((0.0, 0.0, 0.0))})
    else:
        bsdf = _bumpy(mi, surface, stem, _bsdf(mi, surface, stem))
        shape["bsdf"] = _cut_out(mi, surface, stem, bsdf)
    return shape


def _cut_out(mi: Any, surface: Surface, stem: Path, bsdf: dict[str, Any]) -> dict[str, Any]:
    """A material behind the opacity of its surface; Mitsuba lets emission through as it is."""
    if surface.opacity is None:
        return bsdf
    opacity = _texture(mi, surface.opacity, stem.with_name(f"{stem.name}-opacity.pfm"))
    return {"type": "mask", "opacity": opacity, "bsdf": bsdf}


def _bumpy(mi: Any, surface: Surface, stem: Path, bsdf: dict[str, Any]) -> dict[str, Any]:
    """A material whose normals an image bends."""
    if surface.normals is None:
        return bsdf
    image = _texture(mi, surface.normals, stem.with_name(f"{stem.name}-normals.pfm"))
    return {"type": "normalmap", "normalmap": image, "bsdf": bsdf}


def _bsdf(mi: Any, surface: Surface, stem: Path) -> dict[str, Any]:
    color = _texture(mi, surface.base_color, stem.with_name(f"{stem.name}-color.pfm"))
    layers: list[dict[str, Any]] = []
    if surface.transmission < 1:
        layers.append(
            {
                "type": "focuspull_surface",
                "base_color": color,
                "roughness": _texture(mi, surface.roughness, stem.with_name(f"{stem.name}-roughness.pfm")),
                "metallic": surface.metallic,
                "ior": surface.ior,
            }
        )
    if surface.transmission > 0:
        glass = {
            "int_ior": surface.ior,
            "ext_ior": 1.0,
            "specular_reflectance": color,
            "specular_transmittance": color,
        }
        if surface.roughness == 0:
            layers.append({"type": "dielectric", **glass})
        else:
            alpha = _texture(mi, _squared(surface.roughness), stem.with_name(f"{stem.name}-alpha.pfm"))
            layers.append({"type": "roughdielectric", "distribution": "ggx", "alpha": alpha, **glass})
    bsdf = layers[0]
    if len(layers) == 2:
        bsdf = {"type": "blendbsdf", "weight": surface.transmission, "opaque": layers[0], "glass": layers[1]}
    return bsdf


def _squared(roughness: float | TextureMap) -> float | TextureMap:
    if isinstance(roughness, TextureMap):
        return TextureMap(np.maximum(roughness.pixels**2, MIN_ALPHA), roughness.tiles, roughness.repeats)
    return max(roughness**2, MIN_ALPHA)


def _rgb(color: Sequence[float]) -> dict[str, Any]:
    return {"type": "rgb", "value": [float(c) for c in color]}


def _texture(mi: Any, value: float | Sequence[float] | TextureMap, path: Path) -> dict[str, Any]:
    if not isinstance(value, TextureMap):
        return _rgb([value] * 3 if isinstance(value, float | int) else value)
    return {
        "type": "bitmap",
        "filename": _write_pfm(value.pixels[::-1], path),  # Mitsuba has v = 0 in the first row
        "raw": True,
        "format": "variant",
        "filter_type": "bilinear",
        "wrap_mode": "repeat" if value.repeats else "clamp",
        "to_uv": mi.ScalarTransform3f().scale([float(n) for n in value.tiles]),
    }


def _write_pfm(pixels: NDArray[np.float32], path: Path) -> str:
    """Portable float map, 1 or 3 channels, bottom row first; Mitsuba's EXR codec hangs on one thread."""
    height, width, channels = pixels.shape
    header = f"{'PF' if channels == 3 else 'Pf'}\n{width} {height}\n-1.0\n"
    path.write_bytes(header.encode() + np.ascontiguousarray(pixels[::-1], "<f4").tobytes())
    return str(path)


def _write_ply(item: Item, frame: int, stem: Path) -> str:
    """Binary PLY in world space with normals and texture coordinates."""
    vertices, normals = item.placed(float(frame))
    header = "\n".join(
        [
            "ply",
            "format binary_little_endian 1.0",
            f"element vertex {len(vertices)}",
            *(f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz", "u", "v")),
            f"element face {len(item.mesh.triangles)}",
            "property list uchar int vertex_indices",
            "end_header\n",
        ]
    )
    faces = np.empty(len(item.mesh.triangles), [("count", "u1"), ("index", "<i4", 3)])
    faces["count"], faces["index"] = 3, item.mesh.triangles
    path = stem.with_suffix(".ply")
    body = np.concatenate([vertices, normals, item.mesh.uvs], axis=1).astype("<f4").tobytes()
    path.write_bytes(header.encode() + body + faces.tobytes())
    return str(path)


def _environment_grid(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Our rows are texel centres, Mitsuba's first and last rows are the poles: twice the rows, plus one."""
    grid = np.empty((2 * len(pixels) + 1, *pixels.shape[1:]), np.float32)
    grid[1::2] = pixels
    grid[2:-1:2] = (pixels[:-1] + pixels[1:]) / 2
    grid[0], grid[-1] = pixels[0].mean(axis=0), pixels[-1].mean(axis=0)
    return grid
