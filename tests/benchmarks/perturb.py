"""How long does one frame of disparity perturbation take, against a direct loop over `noise.pnoise2`?

Run from the root of the repository: ``python -m tests.benchmarks.perturb`` (about ten seconds). All times
are CPU seconds of this process, in one run. The loops are what the noise takes when it is written down
directly: three scales of three octaves per pixel. ``full map`` is the same noise at every pixel by
`perturb.perlin`, and says how far it is from the loop's; ``whole frame`` is all that a preset does to a
frame, noise included, which is computed in the ring only.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import cv2
import noise
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import perturb

HEIGHT, WIDTH = 576, 1024
SCALES_PX, WEIGHTS, OCTAVES = (50.0, 20.0, 10.0), (0.5, 0.3, 0.2), 3
OFFSET_PX = (4321.0, 1234.0)
BLOCK = 8
"""Rows at a time, so that what is between stays in the cache."""


def scene(height: int = HEIGHT, width: int = WIDTH) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Disparity ``[H, W]`` of a person on a floor before a wall, behind a post, and the person's mask."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / width
    disparity = np.maximum(0.08 + 0.05 * x, 1.4 * (y - 0.32)).astype(np.float32)
    head = np.hypot((x - 0.45) / 0.8, y - 0.14) < 0.065
    body = (np.hypot((x - 0.45) / 0.62, (y - 0.46) / 1.3) < 0.2) & (y > 0.2)
    arm = (np.abs(x - 0.60 - 0.5 * (y - 0.3)) < 0.022) & (np.abs(y - 0.30) < 0.1)
    post = np.abs(x - 0.86) < 0.02
    mask = (head | body | arm) & ~post
    disparity[mask] = (0.50 + 0.10 * np.cos(6 * (x - 0.45)) - 0.02 * np.sin(20 * y))[mask]
    disparity[post] = 0.95
    return disparity, mask


def direct_map(where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Noise by a loop over all pixels, 0 outside ``where``."""
    result = np.zeros(where.shape)
    for row in range(where.shape[0]):
        for column in range(where.shape[1]):
            if where[row, column]:
                value = 0.0
                for scale, weight in zip(SCALES_PX, WEIGHTS, strict=True):
                    x, y = (column + OFFSET_PX[0]) / scale, (row + OFFSET_PX[1]) / scale
                    value += weight * noise.pnoise2(x, y, octaves=OCTAVES)
                result[row, column] = value
    return result


def full_map(height: int, width: int) -> NDArray[np.float32]:
    """The same at all pixels."""
    result = np.zeros((height, width), np.float32)
    for top in range(0, height, BLOCK):
        rows = slice(top, top + BLOCK)
        for scale, weight in zip(SCALES_PX, WEIGHTS, strict=True):
            x = ((np.arange(width) + OFFSET_PX[0]) / scale).astype(np.float32)
            y = ((np.arange(height)[rows] + OFFSET_PX[1]) / scale).astype(np.float32)
            result[rows] += np.float32(weight) * perturb.perlin(x[None, :], y[:, None], OCTAVES)
    return result


def cpu_seconds(call: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """CPU time of one call, the mean over repeats, and what it returned."""
    result = None
    started = time.process_time()
    for _ in range(repeats):
        result = call()
    return (time.process_time() - started) / repeats, result


def main() -> None:
    """Prints the table; fails if an official frame is not 100 times faster than the loop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    cv2.setNumThreads(1)
    disparity, mask = scene()
    loop_s, expected = cpu_seconds(lambda: direct_map(np.ones_like(mask)))
    ring = cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)) > mask
    ring_s, _ = cpu_seconds(lambda: direct_map(ring))
    map_s, found = cpu_seconds(lambda: full_map(HEIGHT, WIDTH), 5)
    rows = [
        ("loop, every pixel", loop_s, ""),
        (
            "loop, ring only",
            ring_s,
            f"{np.count_nonzero(ring)} pixels",
        ),
        ("full map", map_s, f"largest difference from the loop {np.abs(found - expected).max():.1e}"),
    ]
    always = {name: p.model_copy(update={"probability": 1.0}) for name, p in perturb.PRESETS.items()}
    object_share = f"object {100 * mask.mean():.0f} % of the frame"
    official_s = 0.0
    for name, preset in always.items():
        for frames in (1, 8):
            clip, masks = np.repeat(disparity[None], frames, axis=0), np.repeat(mask[None], frames, axis=0)

            whole = functools.partial(
                perturb.perturb_disparity,
                clip,
                focus_mask=masks,
                focus_disparity=np.full(frames, 0.55),
                perturbation=preset,
                rng=np.random.default_rng(0),
            )
            whole()
            seconds = cpu_seconds(whole, repeats)[0] / frames
            official_s = seconds if (name, frames) == ("official", 1) else official_s
            rows.append((f"whole frame, {name}, one of {frames}", seconds, object_share))
    print(f"{WIDTH}x{HEIGHT}, one thread of OpenCV\n")
    print("| what | CPU ms per frame | loop / this | |\n|---|---|---|---|")
    for what, seconds, remark in rows:
        print(f"| {what} | {1e3 * seconds:.2f} | {loop_s / seconds:.1f} | {remark} |")
    if loop_s < 100 * official_s:
        raise SystemExit("an official frame is not 100 times faster than the loop")


if __name__ == "__main__":
    main()
