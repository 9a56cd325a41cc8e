"""Is the blur right? Measured disc radius against K |d - d_f| for tiny emitters, in both renderers.

Estimator: the image behind the lens is the pinhole image convolved with the disc, and second moments add
under convolution. So ``R = sqrt(2 (<rho^2>_bokeh - <rho^2>_aif))`` for a disc of uniform light, with rho the
distance to the centroid: pixel box and size of the emitter cancel exactly, whatever its shape, and no
threshold is chosen. Its noise is about ``0.29 R / sqrt(n)`` for n paths that met the emitter. Depth is that
of the emitter's centre, not a pixel's.

Run it from the root of the repository: ``python -m tests.benchmarks.blur --backend both --width 1024``
(about a minute for Mitsuba and ten for Cycles on one core).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focuspull.render import spec
from focuspull.render.frames import Frames
from tests.rendering import BACKENDS, render

DISPARITIES = (1.0, 0.85, 0.7, 0.5, 0.35, 0.2, 0.1)
NEAR_M = 2.0
EMITTER_RADIUS_PX = 1.0
FOCUS = {"near": 1.0, "middle": 0.5, "far": 0.1}
MIN_RADIUS_PX = 2.0
"""From this radius on the blur must be right within `TOLERANCE_PX`."""
TOLERANCE_PX = 0.3
MAX_IN_FOCUS_PX = 1.0
FOCAL_MM, SENSOR_MM = 50.0, 36.0


@dataclass(frozen=True)
class Disc:
    """One emitter's blur in one image, pixels; x to the right, y up.

    Attributes:
        expected: ``k (d - d_f)``, positive in front of the plane in focus.
        moments: ``[2, 2]`` second moments of the aperture's image (the emitter's own subtracted).
        third: ``<(x + i y)^3>``, which tells where the corner of a triangle is.
        shift: Distance of its centroid from that in the all-in-focus image.
        flux: Its light over that of the all-in-focus image.
    """

    expected: float
    moments: NDArray[np.float64]
    third: complex
    shift: float
    flux: float

    @property
    def radius(self) -> float:
        """Radius of the disc with this polar moment."""
        return math.sqrt(max(2 * float(np.trace(self.moments)), 0.0))


def emitters(
    width: int, k: float, focus: tuple[float, ...], samples: int, lenses: tuple[dict[str, Any], ...] = ({},)
) -> spec.SceneSpec:
    """A row of emitting spheres before a black sky, one target for each focus disparity and lens.

    Disparity 1 is the nearest sphere, 0 the sky; nothing is lit, so light comes from the emitters alone.
    """
    focal_px = FOCAL_MM / SENSOR_MM * width
    objects = []
    for i, (disparity, x_px) in enumerate(zip(DISPARITIES, _columns(width), strict=True)):
        z = NEAR_M / disparity
        objects.append(
            {
                "name": f"emitter-{i}",
                "shape": {"type": "sphere", "radius_m": EMITTER_RADIUS_PX * z / focal_px, "segments": 32},
                "material": {"emission": (100.0, 100.0, 100.0)},
                "position_m": (x_px * z / focal_px, z, 0.0),
            }
        )
    stretch = max(math.sqrt(lens.get("squeeze", 1.0)) for lens in lenses) * (1.6 if any(lenses) else 1.0)
    height = max(16, 2 * math.ceil(k * stretch + 4))
    return spec.SceneSpec.model_validate(
        {
            "seed": 7,
            "film": {"width": width, "height": height, "num_frames": 1},
            "quality": {"aif_samples": 256, "bokeh_samples": samples, "denoise": False, "max_bounces": 0},
            "world": {
                "objects": objects,
                "environment": {"type": "constant", "radiance": (0, 0, 0)},
                "camera": {
                    "focal_length_mm": FOCAL_MM,
                    "sensor_width_mm": SENSOR_MM,
                    "path": {"type": "static", "position_m": (0, 0, 0), "look_at_m": (0, 1, 0)},
                },
            },
            "targets": [
                {"k_at_1024": (k * 1024 / width,), "focus": [{"frame": 0, "disparity": d}], "lens": lens}
                for d, lens in product(focus, lenses)
            ],
        }
    )


def measure(frames: Frames) -> list[list[Disc]]:
    """The discs of every target and emitter of a scene of `emitters`."""
    aif = frames.aif[0].mean(axis=2, dtype=np.float64)
    result = []
    for p, bokeh in enumerate(frames.bokeh):
        image = bokeh[0].mean(axis=2, dtype=np.float64)
        k, focus = float(frames.k[p, 0]), float(frames.focus_disparity[p, 0])
        discs = []
        for d, column in zip(DISPARITIES, _columns(aif.shape[1]), strict=True):
            half = aif.shape[1] / len(DISPARITIES) / 2
            left, right = (round(aif.shape[1] / 2 + column + side * half) for side in (-1, 1))
            sharp, blurred = _moments(aif[:, left:right]), _moments(image[:, left:right])
            discs.append(
                Disc(
                    expected=k * (float(frames.disparity_map.disparity(NEAR_M / d)) - focus),
                    moments=blurred[2] - sharp[2],
                    third=blurred[3] - sharp[3],
                    shift=float(np.hypot(*(blurred[1] - sharp[1]))),
                    flux=blurred[0] / sharp[0],
                )
            )
        result.append(discs)
    return result


def _columns(width: int) -> NDArray[np.float64]:
    """Where the emitters are, in pixels from the middle."""
    return ((np.arange(len(DISPARITIES)) + 0.5) / len(DISPARITIES) - 0.5) * width


def _moments(image: NDArray) -> tuple[float, NDArray, NDArray, complex]:
    """Sum, centroid, central second moments and complex third moment of an image; y is up."""
    rows, columns = np.indices(image.shape)
    total = float(image.sum())
    x, y = columns, -rows
    centre = np.array([(x * image).sum(), (y * image).sum()]) / total
    x, y = x - centre[0], y - centre[1]
    second = np.array(
        [[(x * x * image).sum(), (x * y * image).sum()], [(x * y * image).sum(), (y * y * image).sum()]]
    )
    return total, centre, second / total, complex((((x + 1j * y) ** 3) * image).sum() / total)


def main() -> None:
    """Prints the largest error per renderer, K and focus, in front of and behind the plane in focus."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", choices=[*BACKENDS, "both"], default="both")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--samples", type=int, default=4096, help="paths per pixel at the largest K")
    options = parser.parse_args()
    failed = False
    print(f"{options.width} px wide; largest errors of the radius, and largest radius in focus, in pixels")
    print("| renderer | K at 1024 | focus | discs | in front | behind | in focus | |")
    print("|---|---|---|---|---|---|---|---|")
    for backend in BACKENDS if options.backend == "both" else (options.backend,):
        for k_at_1024 in (4, 8, 16, 32):
            # The estimator's noise grows with the radius.
            samples = max(256, options.samples * k_at_1024**2 // 32**2)
            scene = emitters(options.width, k_at_1024 * options.width / 1024, tuple(FOCUS.values()), samples)
            (frames,) = render(backend, scene)
            for name, discs in zip(FOCUS, measure(frames), strict=True):
                large = [disc for disc in discs if abs(disc.expected) >= MIN_RADIUS_PX]
                sharp = max(disc.radius for disc in discs if abs(disc.expected) < 0.01 * k_at_1024)
                errors = [disc.radius - abs(disc.expected) for disc in large]
                front = [e for e, disc in zip(errors, large, strict=True) if disc.expected > 0]
                behind = [e for e, disc in zip(errors, large, strict=True) if disc.expected < 0]
                good = max(map(abs, errors), default=0.0) <= TOLERANCE_PX and sharp < MAX_IN_FOCUS_PX
                failed |= not good
                cells = [
                    backend,
                    k_at_1024,
                    name,
                    len(large),
                    _largest(front),
                    _largest(behind),
                    f"{sharp:.2f}",
                ]
                print("|", " | ".join(map(str, [*cells, "ok" if good else "WRONG"])), "|", flush=True)
    raise SystemExit(failed)


def _largest(errors: list[float]) -> str:
    return f"{max(errors, key=abs):+.3f}" if errors else "none"


if __name__ == "__main__":
    main()
