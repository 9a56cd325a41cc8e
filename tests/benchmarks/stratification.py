"""Noise and time of re-binned targets by the sampler of the paths, against separate renders.

Run from the root of the repository: ``python -m tests.benchmarks.stratification``. Targets differ in
focus only, so that their rays are moved by 0 to 8 pixels at most. PSNR is that of display-encoded
images against multijittered separate renders: of pixels, of means over blocks of 8x8 pixels (noise
that pixels share shows there), and after denoising. ``bias`` is the mean signed error of all images
in standard errors over the repeats.
"""

# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

import argparse
import hashlib
import resource
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import color, optics
from focuspull.render import spec
from focuspull.render.families import props
from tests.rendering import in_child, open_session

FOCUS = (0.5, 0.6, 0.3, 0.1, 0.9)
"""Disparities in focus; their middle, and so the base focus, is the first."""
K = 20.0
BLOCK = 8
REBINNED = ("multijitter", "kronecker")
SEPARATE = ("independent", "multijitter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", nargs="+", default=["spheres", "still-life"])
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--samples", type=int, default=64, help="per pixel, in two halves")
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--reference-samples", type=int, default=4096)
    arguments = parser.parse_args()
    numbers = (arguments.width, arguments.samples, arguments.repeats, arguments.reference_samples)
    for name in arguments.scenes:
        print(in_child(measure, name, *numbers), flush=True)


def measure(name: str, width: int, samples: int, repeats: int, reference_samples: int) -> str:
    """The table of one scene."""
    from focuspull.render.backends.denoise import Denoiser
    from focuspull.render.backends.mitsuba_rebin import Rebinner
    from focuspull.render.frames import Aperture, View, fit_disparity_map

    scene, files = benchmark_scene(name, width)
    session, built = open_session("mitsuba", scene, files, 1)
    mi, size = session._mi, (scene.film.height, scene.film.width)
    disparity_map = fit_disparity_map(session.truth(0)[0][None])
    camera = scene.world.camera
    focal_px = optics.focal_length_px(camera.focal_length_mm, camera.sensor_width_mm, width)
    apertures = [Aperture(K, focus, focal_px, disparity_map, spec.LensSpec()) for focus in FOCUS]

    def separate(sampler: str, count: int, seed: int) -> NDArray[np.float64]:
        from focuspull.render.backends.mitsuba import _sensor

        images = []
        for i, aperture in enumerate(apertures):
            sensor = _sensor(mi, built, 0.0, View(aperture, count, i + 1))
            sensor["sampler"] = {"type": sampler, "sample_count": count}
            sensor = mi.load_dict(sensor)
            count_used = sensor.sampler().sample_count()
            image = mi.render(session._scene, sensor=sensor, spp=count_used, seed=seed * 100 + i)
            images.append(np.array(image).astype(np.float64))
        return np.stack(images)

    def rebinned(sampler: Any, count: int, seed: int, integrator: Any, channels: int) -> NDArray[np.float64]:
        rebinner = Rebinner(
            mi,
            built.camera,
            size=size,
            apertures=apertures,
            num_channels=channels,
            scale=1.0,
            sampler=sampler,
        )
        rebinner.add(session._scene, integrator, 0.0, count // 2, seed)
        return np.stack([rebinner.halves(i).mean(axis=0) for i in range(len(apertures))])

    # Several renders, each short enough for one kernel.
    rounds = max(1, reference_samples // 512)
    reference = np.mean(
        [separate("multijitter", reference_samples // rounds, 500 + i) for i in range(rounds)], axis=0
    )
    guides = rebinned("multijitter", 32, 999, session._guide, 6)
    denoisers = [Denoiser(guide, prefilter=True) for guide in guides]

    shifts = [f"{K * abs(focus - FOCUS[0]):.0f}" for focus in FOCUS]
    lines = [
        f"{name}, {size[1]}x{size[0]}, {samples} samples; by shift of {', '.join(shifts)} px",
        f"{'':24}  {'pixels':29}  {'blocks':29}  {'denoised':29}  CPU s  bias",
    ]
    rows = [(f"separate, {s}", separate, (s,), ()) for s in SEPARATE]
    integrator = session._scene.integrator()
    rows += [(f"re-binned, {s}", rebinned, (s,), (integrator, 3)) for s in REBINNED]
    for label, render, first, last in rows:
        render(*first, samples, 99, *last)  # compiles
        scores, errors, seconds = [], [], []
        for seed in range(repeats):
            start = _cpu_s()
            images = render(*first, samples, seed, *last)
            seconds.append(_cpu_s() - start)
            errors.append((images - reference).mean())
            scores.append([_scores(*each) for each in zip(images, reference, denoisers, strict=True)])
        table = np.mean(scores, axis=0).T
        parts = ["  ".join(" ".join(f"{x:5.1f}" for x in row) for row in table)]
        bias = np.mean(errors) / (np.std(errors, ddof=1) / np.sqrt(repeats))
        lines.append(f"{label:24}  {parts[0]}  {np.median(seconds):5.2f}  {bias:+4.1f}")
    return "\n".join(lines) + "\n"


def benchmark_scene(name: str, width: int) -> tuple[spec.SceneSpec, dict[str, Path]]:
    """``spheres`` under an area light, or ``still-life``: textured props under an HDR environment.

    Returns:
        The scene, and its files by SHA-256.
    """
    rng = np.random.default_rng(1)
    files: dict[str, Path] = {}
    ground: dict[str, Any] = {"name": "ground", "shape": {"type": "plane", "size_m": [80, 80]}}
    ground["material"] = {"base_color": [0.5, 0.5, 0.5], "roughness": 1.0}
    environment: dict[str, Any] = {"type": "constant", "radiance": (0.6, 0.7, 0.9)}
    lights = [{"type": "area", "position_m": [-4, 0, 8], "look_at_m": [0, 8, 0], "size_m": [3, 3]}]
    lights[0]["radiance"] = [12, 12, 12]
    if name == "still-life":
        package = find_spec("bpy")
        assert package is not None and package.submodule_search_locations
        world = "studiolights/world/forest.exr"
        path = max(Path(package.submodule_search_locations[0]).glob(f"[0-9]*/datafiles/{world}"))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        files[sha256] = path
        environment = {"type": "hdri", "file": {"name": f"bpy:{world}", "sha256": sha256}}
        lights = []
        ground["material"] = {
            "base_color": props.wood(3, tiles=(20.0, 20.0), resolution=1024),
            "roughness": 0.5,
        }
    objects = [ground]
    for i in range(20):
        away = 2 + 28 * (i / 19) ** 1.6
        across, radius = rng.uniform(-0.38, 0.38) * away, rng.uniform(0.25, 0.6) * (0.5 + away / 12)
        item: dict[str, Any] = {"name": f"object-{i}", "role": "subject"}
        if name == "still-life":
            prop = props.random_prop(rng, props.PALETTES[i % len(props.PALETTES)], 2 * radius)
            item |= {"shape": prop.shape, "material": prop.material}
            height = prop.lift_m + 0.001
        else:
            item["shape"] = {"type": "sphere", "radius_m": radius}
            item["material"] = {
                "base_color": rng.uniform(0.1, 0.9, 3).tolist(),
                "roughness": rng.uniform(0.1, 0.8),
                "metallic": float(rng.random() < 0.3),
            }
            height = radius
        objects.append(item | {"position_m": [across, away, height]})
    path = {"type": "static", "position_m": [0, -0.5, 1.6], "look_at_m": [0, 8, 1.0]}
    target = {"k_at_1024": (K,), "focus": [{"frame": 0, "disparity": 0.5}]}
    return spec.SceneSpec.model_validate(
        {
            "seed": 3,
            "film": {"width": width, "height": width * 9 // 16, "num_frames": 1},
            "quality": {"aif_samples": 1, "bokeh_samples": 1, "denoise": False, "max_bounces": 5},
            "world": {
                "objects": objects,
                "lights": lights,
                "environment": environment,
                "camera": {"focal_length_mm": 43.5, "path": path},
            },
            "targets": [target],
        }
    ), files


def _scores(image: NDArray, reference: NDArray, denoise: Any) -> tuple[float, float, float]:
    error = _encoded(image) - _encoded(reference)
    height, width = (side // BLOCK * BLOCK for side in error.shape[:2])
    blocks = (
        error[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3).mean(axis=(1, 3))
    )
    denoised = _encoded(denoise(image)) - _encoded(reference)
    return _psnr(error), _psnr(blocks), _psnr(denoised)


def _encoded(image: NDArray) -> NDArray[np.float64]:
    return color.encode_display(np.maximum(image, 0), exposure_ev=0.0).astype(np.float64)


def _psnr(error: NDArray) -> float:
    return float(-10 * np.log10(np.mean(error**2)))


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
