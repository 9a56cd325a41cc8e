"""What do the lenses look like? One scene of highlights through each, in one labelled picture.

Highlights lie in rows across the whole frame: behind the focus above, in front of it below, in focus
between, beside a subject. The background is evenly grey. All open lenses get their light from one set of
rays.

Run it from the root of the repository: ``python -m tests.benchmarks.lenses --out lenses.jpg`` (a minute on
two cores).
"""

from __future__ import annotations

import argparse
import os
import time
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.color import encode_display, to_uint8
from focuspull.render import spec
from tests.rendering import render

LENSES: dict[str, dict[str, Any]] = {
    "thin lens": {},
    "pentagon": {"blades": 5, "rotation_deg": 90},
    "rounded blades": {"blades": 6, "roundness": 0.5},
    "anamorphic": {"squeeze": 1.8},
    "optical vignetting": {"cat_eye": 0.9},
    "with light fall-off": {"cat_eye": 0.9, "vignetting": True},
    "mirror lens": {"obstruction": 0.5},
    "smooth trans focus": {"apodization_ev": 6},
    "soap bubbles": {"spherical": -0.1},
    "axial colour": {"axial_chromatic": -0.05},
    "several": {"blades": 9, "roundness": 0.6, "cat_eye": 0.7, "spherical": 0.05, "axial_chromatic": -0.03},
}
COLUMNS = 3
LABEL_PX = 26
NEAR_M, FOCUS, FAR = 2.0, 0.6, 0.2
EMITTER_SHARE = 1 / 240
"""Radius of a highlight over the image's width."""
EMISSION = 12.0
K_AT_1024 = 64.0
COLORS = ((1.0, 0.62, 0.3), (1.0, 0.85, 0.65), (0.65, 0.85, 1.0), (1.0, 0.45, 0.35), (0.6, 1.0, 0.75))
ROWS = {
    # Disparity, and places in widths from the middle, y up.
    "far": (FAR, list(product(np.linspace(-0.45, 0.45, 9), (0.23, 0.13, 0.03)))),
    "focus": (FOCUS, [(x, -0.06) for x in np.linspace(-0.45, 0.45, 19) if abs(x) > 0.16]),
    "near": (1.0, list(product([x for x in np.linspace(-0.45, 0.45, 9) if abs(x) > 0.12], (-0.125, -0.22)))),
}


def scene(width: int, samples: int) -> spec.SceneSpec:
    """Highlights, a subject on a table, one target per lens."""
    focal = 50 / 36  # in widths
    objects: list[dict[str, Any]] = []
    for row, (disparity, places) in ROWS.items():
        z = NEAR_M / disparity
        for i, (x, y) in enumerate(places):
            color = COLORS[(i // 3 + 2 * i) % len(COLORS)]
            objects.append(
                {
                    "name": f"{row}-{i}",
                    "shape": {"type": "sphere", "radius_m": EMITTER_SHARE * z / focal, "segments": 16},
                    "material": {"emission": tuple(EMISSION * c for c in color)},
                    "position_m": (float(x) * z / focal, z, float(y) * z / focal),
                }
            )
    z, table_m = NEAR_M / FOCUS, -0.34
    marble = {"type": "marble", "color_a": (0.75, 0.7, 0.6), "color_b": (0.25, 0.12, 0.08), "cells": 4}
    wood = {"type": "wood", "color_a": (0.1, 0.06, 0.03), "color_b": (0.2, 0.12, 0.06), "cells": 4}
    profile = ((0.0, 0.0), (0.13, 0.0), (0.2, 0.14), (0.16, 0.3), (0.08, 0.4), (0.1, 0.47), (0.12, 0.48))
    objects += [
        {
            "name": "vase",
            "role": "subject",
            "shape": {"type": "lathe", "profile_m": profile},
            "material": {"base_color": marble, "roughness": 0.4},
            "position_m": (0.0, z, table_m),
        },
        {
            "name": "table",
            "shape": {"type": "plane", "size_m": (6.0, 4.0)},
            "material": {"base_color": wood | {"tiles": (3, 2)}, "roughness": 0.8},
            "position_m": (0.0, NEAR_M + 2.0, table_m),
        },
    ]
    lamp = {"type": "area", "position_m": (-1.5, 1.0, 2.0), "look_at_m": (0.0, z, -0.2), "size_m": (0.6, 0.6)}
    return spec.SceneSpec.model_validate(
        {
            "seed": 2,
            "film": {"width": width, "height": width * 9 // 16, "num_frames": 1},
            "quality": {"aif_samples": samples, "bokeh_samples": samples, "max_bounces": 2},
            "world": {
                "objects": objects,
                "lights": [lamp | {"radiance": (12.0, 11.0, 9.0)}],
                "environment": {"type": "constant", "radiance": (0.04, 0.044, 0.056)},
                "camera": {"path": {"type": "static", "position_m": (0, 0, 0), "look_at_m": (0, 1, 0)}},
            },
            "targets": [
                {"k_at_1024": (K_AT_1024,), "focus": [{"frame": 0, "disparity": FOCUS}], "lens": lens}
                for lens in LENSES.values()
            ],
        }
    )


def labelled(tile: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A tile ``[H, W, 3]`` with a line of text below, in letters that fit."""
    strip = np.full((LABEL_PX, tile.shape[1], 3), 24, np.uint8)
    (length, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    size = 0.45 * min(1.0, (tile.shape[1] - 12) / length)
    cv2.putText(strip, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, size, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack([tile, strip])


def main() -> None:
    """Renders and writes the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("lenses.jpg"))
    parser.add_argument("--width", type=int, default=480, help="of a tile, pixels")
    parser.add_argument("--samples", type=int, default=512, help="paths per pixel")
    options = parser.parse_args()
    started = time.monotonic()
    what = scene(options.width, options.samples)
    (frames,) = render("mitsuba", what, threads=os.cpu_count() or 1)
    names = ["all in focus"]
    for name, target in zip(LENSES, what.targets, strict=True):
        details = target.lens.label.removeprefix("disc").removeprefix(", ")
        names.append(f"{name}: {details}" if details else name)
    images = [frames.aif[0], *(bokeh[0] for bokeh in frames.bokeh)]
    tiles = [
        labelled(to_uint8(encode_display(image, exposure_ev=0.0)), name)
        for image, name in zip(images, names, strict=True)
    ]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    picture = np.vstack([np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)])
    cv2.imwrite(str(options.out), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(f"{options.out}: {len(LENSES)} lenses, {frames.method}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
