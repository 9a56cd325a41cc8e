"""Whether the certified noise floor is the true one: clips of `demo` against converged references.

Run from the root of the repository: ``python -m tests.benchmarks.noise``. Every clip is one small frame, or
with ``--frames`` several, which count as one video; each is rendered separately and re-binned, with and
without the denoiser. The reference is rendered separately
without one; its own noise, known from its halves, is subtracted from the measured error.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from focuspull.dataset import color
from focuspull.render import spec
from focuspull.render.corpus import load_corpus
from focuspull.render.noise import ROUNDING, floor_db
from focuspull.render.randomize import randomize
from tests.rendering import in_child


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="number of the first clip")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=1)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--reference-samples", type=int, default=1024)
    arguments = parser.parse_args()
    differences: dict[str, list[float]] = {}
    print("clip  image    how                     estimated   true   difference (dB)")
    for clip in range(arguments.first, arguments.first + arguments.clips):
        sizes = (arguments.frames, arguments.width, arguments.samples, arguments.reference_samples)
        rows = in_child(_compare, clip, *sizes)
        for image, how, estimated, true in rows:
            print(
                f"{clip:4}  {image:7}  {how:22}  {estimated:9.2f} {true:7.2f} {estimated - true:+9.2f}",
                flush=True,
            )
            differences.setdefault(how, []).append(estimated - true)
    for how, found in differences.items():
        print(
            f"{how}: mean {np.mean(found):+.2f} dB, standard deviation {np.std(found):.2f}, largest "
            f"{max(found, key=abs):+.2f}, within 1 dB {sum(abs(d) <= 1 for d in found)} of {len(found)}"
        )


def _compare(
    clip: int, num_frames: int, width: int, samples: int, reference_samples: int
) -> list[tuple[str, str, float, float]]:
    """Rows of image, how it was made, estimated and true PSNR."""
    from focuspull.render.backends import get_backend
    from focuspull.render.build import build
    from focuspull.render.frames import render_frames

    height = width * 9 // 16
    overrides = {"film.width": str(width), "film.height": str(height), "film.num_frames": str(1 + num_frames)}
    loaded = load_corpus("demo", overrides)
    scene = randomize(loaded.spec, clip)

    def frames(method: str, denoise: bool, count: int, seed: int) -> Any:
        quality = spec.QualitySpec(aif_samples=count, bokeh_samples=count, denoise=denoise, max_bounces=4)
        changed = scene.model_copy(update={"quality": quality, "seed": seed})
        built = build(changed, loaded.files)
        session: Any = get_backend("mitsuba").load().open_session(built, threads=1)
        session.force_method(method)
        return render_frames(session, built, list(range(num_frames)))

    reference = frames("separate", False, reference_samples, 99)
    ev = scene.film.exposure_ev
    rows = []
    for how, method, denoise in (
        ("separate", "separate", False),
        ("separate, denoised", "separate", True),
        ("rebinned", "rebinned", False),
        ("rebinned, denoised", "rebinned", True),
    ):
        found = frames(method, denoise, samples, scene.seed)
        streams = zip(
            ["aif", *(f"bokeh{p}" for p in range(len(found.bokeh)))],
            [found.aif, *found.bokeh],
            [reference.aif, *reference.bokeh],
            found.noise_floor_db,
            reference.noise_floor_db,
            strict=True,
        )
        for name, image, converged, estimated, own in streams:
            if method == "rebinned" and name == "aif":
                continue  # the same as separate
            encoded = [color.encode_display(i, exposure_ev=ev).astype(float) for i in (image, converged)]
            error = np.mean((encoded[0] - encoded[1]) ** 2) - (10 ** (-own / 10) - ROUNDING)
            rows.append((name, how, estimated, floor_db(max(error, 0.0))))
    return rows


if __name__ == "__main__":
    main()
