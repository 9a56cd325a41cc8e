"""How fast and how exact is the tracer of card scenes, and what does it save against path tracing them?

Scenes are stages of procedural cut-outs: a wall with lamps, people with loose hair, leaves close to the lens.

Run it from the root of the repository: ``python -m tests.benchmarks.cards`` (about ten minutes on
one core). Times are CPU seconds of one thread, after a first image that compiles the kernel.
"""

from __future__ import annotations

import argparse
import functools
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import optics
from focuspull.dataset.color import encode_display, psnr_db
from focuspull.render import spec
from focuspull.render.frames import Aperture, View, fit_disparity_map, render_frames
from tests.benchmarks.agreement import Files
from tests.rendering import in_child, open_session, simple_scene

RADII_PX = (8.0, 16.0, 32.0)
POINTS = (64, 128, 256, 512)
REFERENCE_POINTS = 8192
LAYERS = (2, 4, 8)
INK = (1.0,)


# --- A stage --------------------------------------------------------------------------------------


@functools.cache
def wall(lamp: float) -> NDArray[np.float32]:
    """Dusk behind a row of houses, with small lamps ``lamp`` times as bright as white: RGBA, linear."""
    rng = np.random.default_rng(1)
    height, width = 720, 1280
    v = np.mgrid[0:height, 0:width][0] / height
    color = np.stack([0.25 + 0.5 * v, 0.2 + 0.25 * v, 0.45 - 0.2 * v], axis=2) * 0.6
    left = 0
    while left < width:
        right, top = left + int(rng.integers(60, 150)), int(rng.integers(150, 420))
        color[top:, left:right] = rng.uniform(0.02, 0.09, 3)
        for x in range(left + 8, min(right, width) - 12, 22):
            for y in range(top + 12, height - 20, 30):
                if rng.random() < 0.35:
                    color[y : y + 14, x : x + 9] = np.array([0.9, 0.65, 0.3]) * rng.uniform(0.2, 1.2)
        left = right
    lamps = np.zeros((height, width, 3), np.float32)
    for _ in range(40):
        x, y = int(rng.integers(10, width - 10)), int(rng.integers(120, height - 60))
        tint = np.array([(1.0, 0.75, 0.4), (0.6, 0.8, 1.0), (1.0, 0.35, 0.25)][int(rng.integers(3))])
        cv2.circle(lamps, (x, y), 3, tuple(float(c) for c in lamp * tint), -1, cv2.LINE_AA)
    color = np.maximum(color, cv2.GaussianBlur(lamps, (0, 0), 0.7))
    return np.concatenate([color, np.ones((height, width, 1))], axis=2).astype(np.float32)


@functools.cache
def person(seed: int) -> NDArray[np.uint8]:
    """A figure from head to hip, its hair in thin half-transparent strands: RGBA, sRGB."""
    rng = np.random.default_rng(seed)
    image = np.zeros((900, 640, 4), np.float32)

    def put(layer: NDArray, color: NDArray, alpha: float = 1.0) -> None:
        layer = layer[..., None] * alpha
        image[:] = layer * np.array([*color, 1.0], np.float32) + (1 - layer) * image

    def ellipse(centre: tuple[int, int], axes: tuple[int, int], start: int, end: int, color: NDArray) -> None:
        put(cv2.ellipse(_empty(image), centre, axes, 0, start, end, INK, -1, cv2.LINE_AA), color)

    skin, hair = rng.uniform((0.6, 0.4, 0.3), (0.95, 0.75, 0.65)), rng.uniform(0.05, 0.4, 3)
    coat, dark = rng.uniform(0.1, 0.9, 3), rng.uniform(0.05, 0.3, 3)
    ellipse((320, 310), (125, 165), 0, 360, hair)
    ellipse((320, 900), (240, 450), 180, 360, coat)
    for x in range(125, 525, 40):
        put(cv2.line(_empty(image), (320, 475), (x, 900), INK, 7, cv2.LINE_AA), coat * 0.7)
    put(cv2.rectangle(_empty(image), (280, 420), (360, 500), INK, -1), skin * 0.8)
    ellipse((320, 325), (95, 125), 0, 360, skin)
    for side in (-1, 1):
        ellipse((320 + side * 37, 310), (10, 10), 0, 360, dark)
    ellipse((320, 385), (35, 12), 0, 180, np.array([0.6, 0.15, 0.15]))
    ellipse((320, 240), (120, 85), 180, 360, hair)
    t = np.linspace(0, 1, 24)
    for _ in range(10):  # locks of one opacity
        strands = []
        for _ in range(26):
            angle, bend = rng.uniform(math.pi, 2 * math.pi), rng.normal(0, 45)
            reach = 115 + rng.uniform(10, 95) * t
            x = 320 + reach * math.cos(angle) + bend * t**2
            y = 300 + reach * math.sin(angle) * 1.2 + 130 * t**2
            strands.append(np.stack([x, y], axis=1).astype(np.int32)[:, None])
        put(
            cv2.polylines(_empty(image), strands, False, INK, 1, cv2.LINE_AA),
            hair * rng.uniform(0.7, 1.6),
            rng.uniform(0.3, 0.9),
        )
    return _straight8(image)


def _empty(image: NDArray) -> NDArray[np.float32]:
    return np.zeros(image.shape[:2], np.float32)


@functools.cache
def leaves(seed: int) -> NDArray[np.uint8]:
    """A twig with leaves, RGBA, sRGB."""
    rng = np.random.default_rng(seed)
    image = np.zeros((800, 1200, 4), np.float32)
    for _ in range(34):
        cx, cy, angle = int(rng.uniform(140, 1060)), int(rng.uniform(140, 660)), rng.uniform(0, 2 * math.pi)
        length, color = rng.uniform(60, 130), np.array([0.15, 0.45, 0.1]) * rng.uniform(0.5, 1.8)
        y, x = np.mgrid[-140:140, -140:140].astype(np.float32)
        along = (x * math.cos(angle) + y * math.sin(angle)) / length
        across = (y * math.cos(angle) - x * math.sin(angle)) / length
        width = 0.38 * np.clip(1 - along**2, 0, 1) * (1 - 0.4 * along)
        alpha = (np.clip((width - abs(across)) * length, 0, 1) * (width > 0))[..., None]
        vein = 1 + 0.5 * np.exp(-((across * length / 2) ** 2))
        shade = (color * (1 + 0.6 * across[..., None])) * vein[..., None]
        leaf = alpha * np.concatenate([shade, np.ones_like(alpha)], axis=2)
        place = image[cy - 140 : cy + 140, cx - 140 : cx + 140]
        place[:] = leaf + (1 - alpha) * place
    return _straight8(image)


def _straight8(image: NDArray) -> NDArray[np.uint8]:
    color = image[..., :3] / np.maximum(image[..., 3:], 1e-6)
    return np.rint(255 * np.clip(np.concatenate([color, image[..., 3:]], axis=2), 0, 1)).astype(np.uint8)


def stage(
    files: Files,
    num_cards: int,
    *,
    width: int = 1024,
    num_frames: int = 1,
    k_at_1024: float = 16.0,
    lamp: float = 40.0,
    **fields: Any,
) -> spec.SceneSpec:
    """A wall 10 m away and cut-outs before it, the nearest 1.6 m away, turned a little; all of them move."""
    places = [  # image, height, x, y, z, turn about z, speed
        ("wall", lambda: wall(lamp), 8.0, 0.0, 6.0, -2.9, 0.0, 0.0),
        ("anna", lambda: person(3), 1.7, -0.5, 0.0, -0.25, 15.0, 0.15),
        ("twig-a", lambda: leaves(7), 0.7, 0.55, -2.4, 0.65, -10.0, -0.1),
        ("bert", lambda: person(8), 1.7, 1.2, 2.5, -0.35, -20.0, -0.2),
        ("cleo", lambda: person(11), 1.7, -2.0, 3.5, -0.35, 25.0, 0.2),
        ("twig-b", lambda: leaves(9), 0.6, -0.75, -2.2, 1.2, 12.0, 0.1),
        ("dora", lambda: person(15), 1.7, 2.4, 4.5, -0.4, 10.0, -0.1),
        ("twig-c", lambda: leaves(13), 0.8, -0.8, -1.2, 0.3, 0.0, 0.05),
    ]
    objects = []
    for name, make, height, x, y, z, turn, speed in places[:num_cards]:
        pixels = make()
        image = files.add(f"{name}-{lamp:g}.exr" if name == "wall" else f"{name}.png", pixels)
        objects.append(
            {
                "name": name,
                "shape": {"type": "card", "image": image, "height_m": height, "unlit": True},
                "position_m": (x, y, z),
                "rotation_deg": (0.0, 0.0, turn),
                "motion": [{"type": "linear", "velocity_m_s": (speed, 0.0, 0.0)}],
            }
        )
    scene = simple_scene(
        objects,
        eye=(0.0, -4.0, 1.2),
        aim=(0.0, 0.0, 1.1),
        size=(width, width * 9 // 16),
        environment={"type": "constant", "radiance": (0.02, 0.02, 0.03)},
        film={"num_frames": num_frames},
        quality={"max_bounces": 0, "bokeh_samples": 64, "aif_samples": 64},
        camera={
            "focal_length_mm": 35.0,
            "path": {
                "type": "dolly",
                "position_m": (0.0, -4.0, 1.2),
                "look_at_m": (0.0, 0.0, 1.1),
                "offset_m": (0.15, 0.0, 0.0),
            },
        },
        k_at_1024=k_at_1024,
        **fields,
    )
    world = scene.model_dump()
    last = num_frames - 1
    keys = [{"frame": 0, "disparity": 0.95}, {"frame": last, "disparity": 0.08}]
    world["targets"][0]["focus"] = keys if last else [{"frame": 0, "disparity": 1.0}]
    return spec.SceneSpec.model_validate(world)


# --- Measuring ------------------------------------------------------------------------------------


def _sessions(scene: spec.SceneSpec, files: dict[str, Path], *, path_traced: bool) -> tuple[Any, Any]:
    """A session of the tracer, or of Mitsuba's path tracer on the same scene, and the built scene."""
    session, built = open_session("mitsuba", scene, files, 1)
    if not path_traced:
        return session, built
    from focuspull.render.backends import mitsuba

    return mitsuba.MitsubaSession(built, mitsuba.import_mitsuba(1)), built


def _aperture(session: Any, built: Any, k: float, focus_disparity: float) -> Aperture:
    film, camera = built.scene.film, built.scene.world.camera
    focal_px = optics.focal_length_px(camera.focal_length_mm, camera.sensor_width_mm, film.width)
    disparity_map = fit_disparity_map(session.truth(0)[0])
    return Aperture(k, focus_disparity, focal_px, disparity_map, spec.LensSpec())


def speed(text: str, files: dict[str, Path], radius_px: float, points: int) -> float:
    """Lens rays per CPU second; a ray goes through all cards. Runs in a child."""
    session, built = _sessions(spec.SceneSpec.model_validate_json(text), files, path_traced=False)
    view = View(_aperture(session, built, radius_px, 1.0), points, 1)
    session.render(0, [view])
    start = time.process_time()
    (image,) = session.render(0, [view])
    seconds = time.process_time() - start
    return image.samples * image.pixels[..., 0].size / seconds


def quality(text: str, files: dict[str, Path], radius_px: float) -> list[tuple[float, float]]:
    """True and estimated decibels for each of `POINTS`; in focus is what is nearest. Runs in a child."""
    session, built = _sessions(spec.SceneSpec.model_validate_json(text), files, path_traced=False)
    aperture = _aperture(session, built, radius_px, 1.0)
    (best,) = session.render(0, [View(aperture, REFERENCE_POINTS, 9)])
    result = []
    for points in POINTS:
        # Past `render`, which would take more where it must.
        image = session._trace(0, View(aperture, points, 1), int(math.log2(points // 2)))
        true = psnr_db(encode_display(image.pixels), encode_display(best.pixels))
        result.append((true, -10 * math.log10(image.squared_error)))
    return result


def clip(text: str, files: dict[str, Path]) -> tuple[float, float, float, float]:
    """CPU seconds of ground truth, all-in-focus and target of a whole clip; points per pixel. In a child."""
    session, built = _sessions(spec.SceneSpec.model_validate_json(text), files, path_traced=False)
    seconds = [0.0, 0.0, 0.0]

    class Timed:
        variant = session.variant
        plan = session.plan

        def truth(self, frame: int) -> Any:
            start = time.process_time()
            result = session.truth(frame)
            seconds[0] += time.process_time() - start
            return result

        def render(self, frame: int, views: Any) -> Any:
            images = []
            for i, view in enumerate(views):
                start = time.process_time()
                images += session.render(frame, [view])
                seconds[1 + i] += time.process_time() - start
            return images

    frames = render_frames(Timed(), built)
    return seconds[0], seconds[1], seconds[2], frames.samples[1]


def path_tracing(text: str, files: dict[str, Path], k: float, samples: int) -> tuple[float, float, float]:
    """Mitsuba's paths per CPU second, squared error of one path, that of the tracer's image; in a child."""
    rate, errors = 0.0, []
    for path_traced in (False, True):
        session, built = _sessions(spec.SceneSpec.model_validate_json(text), files, path_traced=path_traced)
        view = View(_aperture(session, built, k, 0.5), samples, 1)
        session.render(0, [view])
        start = time.process_time()
        (image,) = session.render(0, [view])
        rate = image.samples * image.pixels[..., 0].size / (time.process_time() - start)
        errors.append(image.squared_error * (image.samples if path_traced else 1))
    return rate, errors[1], errors[0]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=1024, help="of the clip and of the speed test")
    parser.add_argument("--frames", type=int, default=25)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder))

        print(
            "million lens rays per CPU second, through all cards\n| cards | r 8 px | r 32 px |\n|---|---|---|"
        )
        for num_cards in LAYERS:
            text = stage(files, num_cards, width=options.width).canonical_json()
            rates = [in_child(speed, text, files.paths, radius, 256) / 1e6 for radius in (8.0, 32.0)]
            print(f"| {num_cards} | {rates[0]:.0f} | {rates[1]:.0f} |", flush=True)

        print(f"\ndB against {REFERENCE_POINTS} points, 512 px wide, 4 cards (in brackets: as estimated)")
        print("| r_max | lamps |", " | ".join(map(str, POINTS)), "points |\n|---|---|" + "---|" * len(POINTS))
        for lamp in (1.0, 40.0):
            text = stage(files, 4, width=512, lamp=lamp).canonical_json()
            for radius in RADII_PX:
                found = in_child(quality, text, files.paths, radius)
                cells = " | ".join(f"{true:.1f} ({estimated:.1f})" for true, estimated in found)
                print(f"| {radius:.0f} px | {lamp:.0f} x white | {cells} |", flush=True)

        print(f"\nCPU seconds of {options.frames} frames, {options.width} px wide, 4 cards")
        print("| K at 1024 | points | ground truth | all-in-focus | target |\n|---|---|---|---|---|")
        for k in (8.0, 32.0):
            text = stage(
                files, 4, width=options.width, num_frames=options.frames, k_at_1024=k
            ).canonical_json()
            truth, aif, target, points = in_child(clip, text, files.paths)
            print(f"| {k:.0f} | {points:.0f} | {truth:.1f} | {aif:.1f} | {target:.1f} |", flush=True)

        text = stage(files, 4, width=256, lamp=1.0).canonical_json()
        rate, error_of_one, error = in_child(path_tracing, text, files.paths, 8.0, 256)
        pixels = options.width * (options.width * 9 // 16) * options.frames
        seconds = pixels / rate  # of one path per pixel
        same = error_of_one / error
        print("\nthe same through Mitsuba's mask material, not denoised, from one frame 256 px wide")
        print("| million paths per CPU s | paths | dB | CPU s |\n|---|---|---|---|")
        for paths in (256, same):
            decibels = -10 * math.log10(error_of_one / paths)
            print(f"| {rate / 1e6:.2f} | {paths:.0f} | {decibels:.1f} | {paths * seconds:.0f} |")


if __name__ == "__main__":
    main()
