"""Do the two renderers agree? One row per class of materials, lights and lenses, in display space.

Noise is taken out, not averaged away: each renderer renders twice with different seeds, and the mean of
``(a1 - b1) (a2 - b2)`` over the pixels is the squared difference of the noise-free images (independent noise
has mean 0; what the display curve makes of noise is far below the figures here). Where nothing is left but
the estimate's own noise, twice its standard error is shown: the agreement is better than that. The plain
columns have the noise in them.

Run it from the root of the repository: ``python -m tests.benchmarks.agreement --width 512 --samples 64``
(about an hour on one core, nearly all of it Cycles). Tables of README come from here.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.color import encode_display, psnr_db
from focuspull.render import spec
from focuspull.render.frames import Frames
from tests.rendering import BACKENDS, render

DIFFUSE_DB, FULL_DB = 45.0, 36.0
SHAPES: tuple[tuple[dict[str, Any], float], ...] = (
    ({"type": "sphere", "radius_m": 0.4}, 0.4),
    ({"type": "box", "size_m": (0.6, 0.6, 0.6), "bevel_m": 0.05}, 0.3),
    ({"type": "torus", "major_radius_m": 0.35, "minor_radius_m": 0.12}, 0.12),
    ({"type": "lathe", "profile_m": ((0.25, 0.0), (0.35, 0.3), (0.15, 0.7), (0.17, 0.85), (0.0, 0.9))}, 0.0),
    ({"type": "blob", "radius_m": 0.4, "segments": 64}, 0.45),
    ({"type": "cylinder", "radius_m": 0.3, "height_m": 0.7}, 0.0),
)
GAP_M = 0.002
"""Below each object: which of two surfaces in one place a path meets is not defined, and glass shows it."""
MATT = {"ior": 1.01, "roughness": 1.0}
"""Lambert, nearly: the coat has the smallest index there is."""
AREA = {
    "type": "area",
    "position_m": (-3, -4, 5),
    "look_at_m": (0, 1, 0),
    "size_m": (2, 2),
    "radiance": (12, 11, 9),
}
SKY = {"type": "sky"}
DIM = {"type": "constant", "radiance": (0.05, 0.06, 0.08)}


class Files:
    """Image files that scenes use, by content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.paths: dict[str, Path] = {}

    def add(self, name: str, pixels: NDArray) -> dict[str, str]:
        """Writes an image (RGB or RGBA, 8 bit or float32) and returns its reference."""
        path = self._folder / name
        order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
        assert cv2.imwrite(str(path), cv2.cvtColor(pixels, order))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.paths[digest] = path
        return {"name": name, "sha256": digest}


def still_life(
    width: int,
    samples: int,
    *,
    seed: int,
    materials: list[dict[str, Any]],
    ground: dict[str, Any] | None = None,
    lights: tuple[dict[str, Any], ...] = (AREA,),
    environment: dict[str, Any] = SKY,
    lens: dict[str, Any] | None = None,
    more: tuple[dict[str, Any], ...] = (),
    motions: tuple[tuple[dict[str, Any], ...], ...] = ((),),
    camera: dict[str, Any] | None = None,
    film: dict[str, Any] | None = None,
) -> spec.SceneSpec:
    """Six shapes, each twice, on a checkered ground; the materials and motions are used in turn."""
    checker = {"type": "checker", "color_a": (0.7, 0.6, 0.5), "color_b": (0.2, 0.25, 0.3), "tiles": (6, 6)}
    objects: list[dict[str, Any]] = [
        {
            "name": "ground",
            "shape": {"type": "plane", "size_m": (24, 24)},
            "material": ground or {"base_color": checker, **MATT},
        }
    ]
    for i in range(12):
        shape, lift = SHAPES[i % 6]
        objects.append(
            {
                "name": f"object-{i}",
                "shape": shape,
                "material": materials[i % len(materials)],
                "position_m": ((i % 4 - 1.5) * 1.15 + 0.2 * (i // 4 - 1), i // 4 * 1.6 - 1.2, lift + GAP_M),
                "rotation_deg": (0.0, 0.0, 25.0 * i),
                "motion": motions[i % len(motions)],
            }
        )
    film = {"width": width, "height": width * 9 // 16, "num_frames": 1} | (film or {})
    path = {"type": "static", "position_m": (0, -7, 2.2), "look_at_m": (0, 0.5, 0.4)}
    return spec.SceneSpec.model_validate(
        {
            "seed": seed,
            "film": film,
            "quality": {"aif_samples": samples, "bokeh_samples": samples, "denoise": False, "max_bounces": 6},
            "world": {
                "objects": [*objects, *more],
                "lights": lights,
                "environment": environment,
                "camera": {"focal_length_mm": 50, "path": path} | (camera or {}),
            },
            "targets": [
                {
                    "k_at_1024": (24.0,) * film["num_frames"],
                    "focus": [{"frame": 0, "subject": "object-5"}],
                    "lens": lens or {},
                }
            ],
        }
    )


def _colors(**fields: Any) -> list[dict[str, Any]]:
    """Six materials that differ in colour."""
    rng = np.random.default_rng(3)
    return [{"base_color": tuple(rng.uniform(0.1, 0.9, 3)), **fields} for _ in range(6)]


def _rough(*roughness: float, **fields: Any) -> list[dict[str, Any]]:
    materials = _colors(**fields)
    return [m | {"roughness": roughness[i % len(roughness)]} for i, m in enumerate(materials)]


def photo() -> NDArray[np.uint8]:
    """A test image without any symmetry, sRGB."""
    v, u = np.mgrid[0:48, 0:64] / 64
    image = np.stack([u, v, 0.5 + 0.5 * np.sin(40 * u * v)], axis=2)
    image[4:14, 4:28] = (0.9, 0.1, 0.1)
    image[30:44, 40:46] = (0.1, 0.8, 0.2)
    return (255 * image).astype(np.uint8)


def cutout(phase: float = 0.0) -> NDArray[np.uint8]:
    """A soft-edged flower with a hole, RGBA."""
    y, x = (np.mgrid[0:128, 0:96] - np.array([63.5, 47.5])[:, None, None]) / 48
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    edge = 0.7 + 0.25 * np.sin(5 * angle + phase)
    alpha = np.clip((edge - radius) * 12 + 0.5, 0, 1) * np.clip((radius - 0.25) * 12 + 0.5, 0, 1)
    color = np.stack([0.5 + 0.5 * np.sin(3 * angle), 0.3 + 0.4 * radius, 0.2 + 0 * radius, alpha], axis=2)
    return (255 * np.clip(color, 0, 1)).astype(np.uint8)


def panorama() -> NDArray[np.float32]:
    """A sky with a small bright sun and a coloured wall on one side, linear."""
    v = (np.mgrid[0:64, 0:128][0] + 0.5) / 64
    image = np.stack([0.3 + 0.2 * v, 0.4 + 0.1 * v, 0.8 - 0.3 * v], axis=2)
    image[20:40, 10:30] = (1.5, 0.3, 0.1)
    image[12:15, 82:85] = 60.0
    return image.astype(np.float32)


def _glow(position: tuple[float, float, float], name: str) -> dict[str, Any]:
    shape = {"type": "sphere", "radius_m": 0.06, "segments": 24}
    return {"name": name, "shape": shape, "material": {"emission": (40, 30, 20)}, "position_m": position}


def _card(name: str, position: tuple[float, float, float], source: dict[str, Any]) -> dict[str, Any]:
    shape = {"type": "card", "height_m": 1.1, **source}
    return {"name": name, "shape": shape, "material": {"roughness": 1.0}, "position_m": position}


def _bowl(name: str, position: tuple[float, float, float]) -> dict[str, Any]:
    shape = {"type": "lathe", "profile_m": ((0.0, 0.0), (0.25, 0.05), (0.45, 0.4))}
    return {
        "name": name,
        "shape": shape,
        "material": {"base_color": (0.8, 0.4, 0.2), "roughness": 0.2},
        "position_m": position,
    }


def _turned_away(name: str, position: tuple[float, float, float]) -> dict[str, Any]:
    return {
        "name": name,
        "shape": {"type": "plane", "size_m": (0.7, 0.9)},
        "material": {"base_color": (0.2, 0.5, 0.8), "roughness": 0.15},
        "position_m": position,
        "rotation_deg": (-90.0, 0.0, 20.0),
    }


GLOWS = tuple(
    _glow((x, y, z), f"glow-{i}")
    for i, (x, y, z) in enumerate([(-1.6, -2.6, 0.5), (1.2, 3.2, 1.2), (0.2, 4.5, 0.8)])
)


def bumps() -> NDArray[np.uint8]:
    """Gentle round bumps as tangent-space normals, green upwards."""
    v, u = np.mgrid[0:64, 0:64] / 64 * 2 * np.pi
    slope = np.stack([-0.35 * np.cos(3 * u), 0.35 * np.cos(2 * v), np.ones_like(u)], axis=2)
    return np.rint(255 * (0.5 + 0.5 * slope / np.linalg.norm(slope, axis=2, keepdims=True))).astype(np.uint8)


DEFORMED = (
    {
        "name": "reed",
        "shape": {
            "type": "tube",
            "points_m": ((0, 0, 0), (0, 0, 1.4)),
            "radius_m": 0.06,
            "steps": 32,
            "tip_radius_m": 0.02,
        },
        "material": {"base_color": (0.3, 0.6, 0.2), **MATT},
        "position_m": (-0.5, -2.6, 0.0),
        "deform": {"type": "wind", "amplitude_m": 0.4, "height_m": 1.4, "frequency_hz": 1.5},
    },
    {
        "name": "flag",
        "shape": {"type": "terrain", "size_m": (1.2, 0.8), "amplitude_m": 0.0, "resolution": 48},
        "material": {"base_color": (0.7, 0.2, 0.2), **MATT},
        "position_m": (0.9, -2.2, 1.0),
        "rotation_deg": (90.0, 0.0, 0.0),
        "deform": {"type": "ripple", "amplitude_m": 0.08, "wavelength_m": 0.6, "fixed_m": 0.2},
    },
)
MOTIONS = (
    ({"type": "linear", "velocity_m_s": (0.8, 0.0, 0.0)},),
    ({"type": "spin", "rate_deg_s": 200.0, "axis": (0.2, 0.1, 1.0)},),
    ({"type": "sway", "amplitude_m": (0.0, 0.1, 0.15), "frequency_hz": 1.5},),
    (
        {
            "type": "keys",
            "times_s": (0, 0.1, 0.3),
            "positions_m": ((0, 0, 0), (0.1, 0, 0), (0, 0, 0.3)),
            "rotations_deg": ((0, 0, 0), (0, 0, 40), (20, 0, 60)),
        },
    ),
)


def _everything(files: Files) -> dict[str, Any]:
    noisy = {
        "type": "perlin",
        "color_a": (0.1, 0.1, 0.1),
        "color_b": (0.7, 0.7, 0.7),
        "cells": 4,
        "resolution": 128,
    }
    image = {"type": "image", "file": files.add("photo.png", photo()), "tiles": (2, 2)}
    return {
        "materials": [
            {"base_color": (0.8, 0.5, 0.3), "metallic": 1.0, "roughness": 0.25},
            {"base_color": (0.95, 0.97, 1.0), "transmission": 1.0, "roughness": 0.0},
            {"base_color": image, "roughness": noisy},
            {"base_color": (0.9, 0.95, 0.9), "transmission": 1.0, "roughness": 0.3},
            {"base_color": (0.2, 0.3, 0.8), "roughness": 0.1},
            {"base_color": (0.7, 0.2, 0.2), "metallic": 0.5, "transmission": 0.4, "roughness": 0.4},
        ],
        "lights": (
            AREA | {"radiance": (6, 5.5, 4.5)},
            {"type": "point", "position_m": (2, -3, 3), "intensity_w_sr": (6, 7, 9)},
        ),
        "environment": {
            "type": "hdri",
            "file": files.add("panorama.hdr", panorama()),
            "rotation_deg": 30,
            "strength": 0.8,
        },
        "more": (*GLOWS, _card("card", (-0.9, -2.4, 0.0), {"image": files.add("cutout.png", cutout())})),
        "lens": {"blades": 7, "rotation_deg": 15.0, "squeeze": 1.33},
    }


@dataclass(frozen=True)
class Case:
    """One class: what differs from the diffuse still life, and the agreement asked for."""

    fields: Callable[[Files], dict[str, Any]]
    wanted_db: float = FULL_DB


CASES: dict[str, Case] = {
    "diffuse": Case(lambda _: {"materials": _colors(**MATT)}, DIFFUSE_DB),
    "coat (ior 1.5, roughness 0.1 to 1)": Case(lambda _: {"materials": _rough(0.1, 0.3, 0.6, 1.0)}),
    "metal (roughness 0.1 to 0.8)": Case(lambda _: {"materials": _rough(0.1, 0.25, 0.5, 0.8, metallic=1.0)}),
    "half metallic": Case(lambda _: {"materials": _rough(0.2, 0.5, metallic=0.5)}),
    "smooth glass": Case(lambda _: {"materials": _rough(0.0, transmission=1.0)}),
    "rough glass (0.1 to 0.5)": Case(lambda _: {"materials": _rough(0.1, 0.3, 0.5, transmission=1.0)}),
    "half transmission": Case(lambda _: {"materials": _rough(0.0, 0.3, transmission=0.5)}),
    "textures": Case(lambda files: {"materials": _textured(files)}),
    "open shapes and back faces": Case(
        lambda _: {
            "materials": _rough(0.2, 0.6),
            "more": (_bowl("bowl", (0.1, -2.4, 0.01)), _turned_away("screen", (-1.5, -2.0, 0.5))),
        }
    ),
    "point light": Case(
        lambda _: {
            "materials": _rough(0.3, 1.0),
            "lights": ({"type": "point", "position_m": (-2, -3, 4), "intensity_w_sr": (25, 22, 18)},),
            "environment": DIM,
        }
    ),
    "sun": Case(
        lambda _: {
            "materials": _rough(0.3, 1.0),
            "lights": (
                {
                    "type": "sun",
                    "direction": (-1, -1.5, 1.2),
                    "irradiance_w_m2": (4, 3.6, 3),
                    "angle_deg": 2.0,
                },
            ),
        }
    ),
    "HDRI": Case(
        lambda files: {
            "materials": _rough(0.3, 1.0),
            "lights": (),
            "environment": {
                "type": "hdri",
                "file": files.add("panorama.hdr", panorama()),
                "rotation_deg": 77.0,
            },
        }
    ),
    "cut-out cards": Case(
        lambda files: {
            "materials": _colors(**MATT),
            "more": (
                _card("card-0", (-0.8, -2.2, 0.0), {"image": files.add("cutout.png", cutout())}),
                _card("card-1", (1.4, 1.0, 0.2), {"image": files.add("cutout-1.png", cutout(1.5))}),
            ),
        }
    ),
    "emitters, 5 blades": Case(
        lambda _: {"materials": _rough(0.4), "more": GLOWS, "lens": {"blades": 5, "rotation_deg": 20.0}}
    ),
    "emitters, squeeze 1.8": Case(
        lambda _: {"materials": _rough(0.4), "more": GLOWS, "lens": {"squeeze": 1.8}}
    ),
    "normal map": Case(
        lambda files: {
            "materials": _rough(
                0.3, 0.8, normal_map={"type": "image", "file": files.add("bumps.png", bumps())}
            )
        }
    ),
    "deformed, shutter 0.5": Case(
        lambda _: {
            "materials": _colors(**MATT),
            "more": DEFORMED,
            "film": {"num_frames": 3, "shutter": 0.5, "shutter_samples": 4, "fps": 12.0},
        },
        DIFFUSE_DB,
    ),
    "motion, shutter 0.5": Case(
        lambda _: {
            "materials": _colors(**MATT),
            "motions": MOTIONS,
            "film": {"num_frames": 3, "shutter": 0.5, "shutter_samples": 4, "fps": 12.0},
            "camera": {
                "path": {
                    "type": "orbit",
                    "position_m": (0, -7, 2.2),
                    "look_at_m": (0, 0.5, 0.4),
                    "sweep_deg": 8.0,
                },
                "handheld": {"translation_m": 0.02, "rotation_deg": 0.6},
            },
        }
    ),
    "everything together": Case(_everything),
}


def _textured(files: Files) -> list[dict[str, Any]]:
    pair: dict[str, Any] = {"color_a": (0.08, 0.05, 0.04), "color_b": (0.8, 0.6, 0.4), "resolution": 256}
    image = {"type": "image", "file": files.add("photo.png", photo()), "tiles": (1.5, 2.0)}
    grey = {
        "type": "perlin",
        "color_a": (0.05, 0.05, 0.05),
        "color_b": (0.8, 0.8, 0.8),
        "cells": 5,
        "resolution": 128,
    }
    kinds = ("marble", "wood", "bricks", "perlin")
    return [
        {"base_color": image, "roughness": 0.6},
        {"base_color": (0.9, 0.7, 0.3), "metallic": 1.0, "roughness": grey},
        *(
            {"base_color": {"type": kind, **pair}, "roughness": grey if i % 2 else 0.4}
            for i, kind in enumerate(kinds)
        ),
    ]


def scenes(name: str, files: Files, width: int, samples: int) -> tuple[spec.SceneSpec, spec.SceneSpec]:
    """The two scenes of a class, which differ in the seed of the noise only."""
    fields = CASES[name].fields(files)
    return tuple(still_life(width, samples, seed=seed, **fields) for seed in (1, 2))  # type: ignore[return-value]


def compare(a: list[Frames], b: list[Frames]) -> dict[str, tuple[float, float]]:
    """Decibels of ``aif`` and ``bokeh``, each without noise and plain; see the module.

    Args:
        a: The two renders of one renderer.
        b: The two renders of the other.
    """
    result = {}
    for stream in ("aif", "bokeh"):
        a1, a2, b1, b2 = (
            encode_display(getattr(f, stream) if stream == "aif" else f.bokeh[0]) for f in (*a, *b)
        )
        a1, a2, b1, b2 = (image.astype(np.float64) for image in (a1, a2, b1, b2))
        squared = (((a1 - b1) * (a2 - b2) + (a1 - b2) * (a2 - b1)) / 2).mean(axis=-1)
        # What is below two standard errors of the estimate cannot be told from nothing.
        seen = max(float(squared.mean()), 2 * float(squared.std()) / math.sqrt(squared.size))
        result[stream] = (-10 * math.log10(seen), psnr_db((a1 + a2) / 2, (b1 + b2) / 2))
    return result


def main() -> None:
    """Prints one row per class."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--samples", type=int, default=64, help="paths per pixel, for each of the two seeds")
    parser.add_argument("--only", default="", help="classes whose name contains this")
    options = parser.parse_args()
    failed = False
    print(f"{options.width} px, {options.samples} paths per pixel and seed; dB in display space")
    print("| class | AIF | bokeh | AIF with noise | bokeh with noise | wanted |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder))
        for name in (name for name in CASES if options.only in name):
            pair = scenes(name, files, options.width, options.samples)
            frames = (CASES[name].fields(files).get("film", {}).get("num_frames", 1)) // 2
            cycles, mitsuba = (render(b, *pair, files=files.paths, frames=[frames]) for b in BACKENDS)
            found = compare(cycles, mitsuba)
            clean = [found[stream][0] for stream in ("aif", "bokeh")]
            plain = [found[stream][1] for stream in ("aif", "bokeh")]
            failed |= min(clean) < CASES[name].wanted_db
            cells = [*(f"{db:.1f}" for db in (*clean, *plain)), f"{CASES[name].wanted_db:.0f}"]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
