"""Mitsuba 3 backend: LLVM-compiled path tracing, ground truth from its own pixel-centre rays.

The scene is described as a dictionary whose meshes and textures are files in a temporary folder, loaded once
per clip; moving things get new vertices per frame. Scenes with cut-outs use ``volpath``, which lets
shadow rays through transparent texels and does not count them as bounces; others use ``path``.
"""

# mitsuba and drjit are typed per variant; the modules are handled as Any.
# pyright: basic, reportAttributeAccessIssue=false
from __future__ import annotations

import functools
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
from focuspull.render.build import MAX_TRANSPARENT_HITS, MIN_ALPHA, Built, Item, Pose, Surface
from focuspull.render.frames import View, shutter_times, split_samples
from focuspull.render.textures import TextureMap

VARIANT_VARIABLE = "FOCUSPULL_MITSUBA_VARIANT"
GUIDE_SAMPLES = 16
NEAR_CLIP_M = 1e-3
FAR_CLIP_M = 1e6

# Dr.Jit's own search finds the system's LLVM first, and versions below 18 abort the process when they
# meet a floating-point minimum. karellen-llvm-core puts a recent one into the environment's lib folder.
_PROBE = """
import mitsuba as mi
mi.set_variant("llvm_ad_rgb")
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
    """``llvm_ad_rgb`` if it really works, else ``scalar_rgb``, which is said on standard error.

    The trial is a process of its own because a wrong LLVM aborts instead of raising. A variant forced with
    ``FOCUSPULL_MITSUBA_VARIANT`` is taken as it is.
    """
    llvm = find_llvm()
    if llvm is not None:
        os.environ.setdefault("DRJIT_LIBLLVM_PATH", str(llvm))
    forced = os.environ.get(VARIANT_VARIABLE)
    if forced:
        return forced
    # -P: no file in the user's folder may take the place of a module.
    trial = subprocess.run([sys.executable, "-P", "-c", _PROBE], capture_output=True, check=False)
    if trial.returncode == 0:
        return "llvm_ad_rgb"
    print("mitsuba: no LLVM works here, so it renders with scalar_rgb, many times slower", file=sys.stderr)
    return "scalar_rgb"


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


def open_session(built: Built, *, threads: int) -> MitsubaSession:
    """Loads a scene."""
    return MitsubaSession(built, import_mitsuba(threads))


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

    def render(self, frame: int, views: Sequence[View]) -> list[NDArray[np.float32]]:
        """Sums passes at stratified times in the shutter, then denoises each image once."""
        mi, scene = self._mi, self._built.scene
        times = shutter_times(scene.film, frame)
        size = (scene.film.height, scene.film.width)
        colors = [np.zeros((*size, 3)) for _ in views]
        guides = [np.zeros((*size, 6)) for _ in views]
        for number, time in enumerate(times):
            self._move_to(frame, time)
            for i, view in enumerate(views):
                sensor = mi.load_dict(_sensor(mi, self._built, time, view))
                seed = scene.noise_seed(frame, view.stream, number)
                spp = split_samples(view.samples, len(times))
                colors[i] += np.array(mi.render(self._scene, sensor=sensor, spp=spp, seed=seed))
                if scene.quality.denoise:
                    spp = split_samples(GUIDE_SAMPLES, len(times))
                    guides[i] += np.array(
                        mi.render(self._scene, sensor=sensor, spp=spp, seed=seed, integrator=self._guide)
                    )
        images = [(color / len(times)).astype(np.float32) for color in colors]
        if not scene.quality.denoise:
            return images
        means = [(guide / len(times)).astype(np.float32) for guide in guides]
        return [_denoise(image, mean) for image, mean in zip(images, means, strict=True)]

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
            vertices, normals = item.mesh.moved(item.pose(time))
            self._params[f"{_shape_id(item)}.vertex_positions"] = vertices.ravel()
            self._params[f"{_shape_id(item)}.vertex_normals"] = normals.ravel()
        if moving:
            self._params.update()
        self._frame, self._time = frame, time


def _denoise(color: NDArray[np.float32], guides: NDArray[np.float32]) -> NDArray[np.float32]:
    """OIDN on ``[H, W, 3]`` with ``[H, W, 6]`` albedo and normal, which are denoised first themselves.

    Seen through an open lens the guides are noisy too; filtering them first is worth 1 dB.
    """
    import mitsuba_oidn as oidn

    device = oidn.Device(oidn.DeviceType.CPU)

    def run(**images: NDArray[np.float32]) -> NDArray[np.float32]:
        output = np.empty_like(color)
        job = device.new_filter("RT")
        for name, pixels in images.items():
            job.set_image(name, np.ascontiguousarray(pixels))
        job.set_image("output", output)
        if "color" in images:
            job.hdr, job.clean_aux = True, True
        job.execute()
        return output

    return run(color=color, albedo=run(albedo=guides[..., :3]), normal=run(normal=guides[..., 3:]))


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
            vertices, _ = item.mesh.moved(item.pose(0.0))
            a, b, c = (vertices[item.mesh.triangles[:, i]].astype(np.float64) for i in range(3))
            area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
            distance = np.linalg.norm(vertices.mean(axis=0) - aim)
            strength[_shape_id(item)] = np.mean(item.surfaces[0].emission) * area / max(distance**2, area)
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
    if lens.blades == 0 and lens.squeeze == 1:
        return sensor | {"type": "thinlens"}
    for unused in ("fov_axis", "near_clip", "far_clip"):
        del sensor[unused]
    shape = {"blades": lens.blades, "rotation": math.radians(lens.rotation_deg), "squeeze": lens.squeeze}
    return sensor | {"type": "focuspull_lens"} | shape


def _shape_id(item: Item) -> str:
    return f"shape-{item.name}"


def _shape(mi: Any, item: Item, frame: int, folder: Path) -> dict[str, Any]:
    surface = item.surface(frame)
    stem = folder / item.name
    shape: dict[str, Any] = {"type": "ply", "filename": _write_ply(item, item.pose(float(frame)), stem)}
    if surface.emits:
        shape["emitter"] = {"type": "area", "radiance": _rgb(surface.emission)}
        shape["bsdf"] = {"type": "diffuse", "reflectance": _rgb((0.0, 0.0, 0.0))}
    else:
        shape["bsdf"] = _bsdf(mi, surface, stem)
    return shape


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
    if surface.opacity is not None:
        opacity = _texture(mi, surface.opacity, stem.with_name(f"{stem.name}-opacity.pfm"))
        bsdf = {"type": "mask", "opacity": opacity, "bsdf": bsdf}
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


def _write_ply(item: Item, pose: Pose, stem: Path) -> str:
    """Binary PLY in world space with normals and texture coordinates."""
    vertices, normals = item.mesh.moved(pose)
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
