"""Whether the scene families hold: random specs of each are drawn, built and looked at in a 1-path probe.

A row per family: how many specs kill the process, how many are refused with a message, what drawing and
building cost in CPU seconds, how large the scenes are, and which share has a problem. Every clip is looked at
in three frames. Ten clips share a process of one thread; the time of the first, which pays for imports, is
left out.

Run it from the root of the repository: ``python -m tests.benchmarks.probes`` (about a second per spec and
core). The rows are kept in ``--out`` and continued.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.color import encode_display
from focuspull.render.build import Built, build
from focuspull.render.frames import Session, View, fit_disparity_map
from focuspull.render.randomize import randomize
from focuspull.render.spec import SceneSpec
from tests.benchmarks.worlds import (
    Worlds,
    chosen_families,
    cpu_seconds,
    family_names,
    in_threads,
    in_view,
    probe_all,
    size,
    worlds_of,
)

FRAMES = (0, 12, 24)
MIN_SUBJECT = 0.02
"""Share of the pixels that a subject has, of all frames together."""
MIN_BRIGHTNESS, MAX_BRIGHTNESS = 0.04, 0.85
"""Mean of the display values of an image."""
MAX_CLIPPED = 0.25
"""Share of the pixels that are white in all channels."""
MIN_DEPTH_RATIO = 1.5
"""Between the farthest and the nearest, 95th and 5th percentile; sky counts as far."""


def verdict(scene: SceneSpec, built: Built, session: Session) -> list[str]:
    """What is wrong with a clip, from a probe of some frames; empty if it can be rendered.

    Args:
        scene: The clip.
        built: Its arrays.
        session: A renderer with the scene loaded.
    """
    frames = in_view(scene, FRAMES)
    truths = [session.truth(frame) for frame in frames]
    depth, instance = (np.stack(arrays) for arrays in zip(*truths, strict=True))
    fit_disparity_map(depth)  # raises where a clip would be refused
    session.plan([[View(None, 1, 0)]] * scene.film.num_frames)
    images = [session.render(frame, [View(None, 1, 0)])[0].pixels for frame in frames]
    names = {item.owner: item.instance for item in built.items}
    subjects = [names[item.name] for item in scene.world.objects if item.role == "subject"]
    return [
        *subject_problems(instance, subjects),
        *exposure_problems(encode_display(np.stack(images), exposure_ev=scene.film.exposure_ev)),
        *depth_problems(depth),
    ]


def subject_problems(instance: NDArray, subjects: Sequence[int]) -> list[str]:
    """Whether a subject is well in view, of ``[T, H, W]`` ids."""
    shares = [float((instance == subject).mean()) for subject in subjects]
    if max(shares, default=0.0) < MIN_SUBJECT:
        return ["subject small"]
    in_frames = np.isin(instance, subjects).any(axis=(1, 2))
    return [] if in_frames.all() else ["subject hidden"]


def exposure_problems(images: NDArray) -> list[str]:
    """Whether ``[T, H, W, 3]`` display values are too dark, too bright or burnt out."""
    mean, clipped = float(images.mean()), float((images.min(axis=-1) >= 1).mean())
    problems = ["dark"] if mean < MIN_BRIGHTNESS else ["bright"] if mean > MAX_BRIGHTNESS else []
    return [*problems, "burnt out"] if clipped > MAX_CLIPPED else problems


def depth_problems(depth_m: NDArray) -> list[str]:
    """Whether ``[T, H, W]`` depths, ``inf`` for the sky, are all much the same."""
    near, far = depth_percentiles(depth_m)
    return [] if far > MIN_DEPTH_RATIO * near else ["flat"]


def depth_percentiles(depth_m: NDArray) -> tuple[float, float]:
    """The 5th and the 95th percentile of depths; of sky they may be ``inf``."""
    near, far = np.percentile(1 / depth_m, (95, 5))
    with np.errstate(divide="ignore"):
        return float(np.divide(1.0, near)), float(np.divide(1.0, far))


# --- In the child ---------------------------------------------------------------------------------


def probe(worlds: Worlds, number: int, backend: str) -> dict[str, Any]:
    """Draws, builds and looks at a clip; CPU seconds of each, and what the scene is."""
    from focuspull.render.backends import get_backend

    start = cpu_seconds()
    scene = randomize(worlds.spec, number)
    drawn = cpu_seconds()
    built = build(scene, worlds.files)
    made = cpu_seconds()
    session = get_backend(backend).load().open_session(built, threads=1)
    problems = verdict(scene, built, session)
    return {
        "draw_s": drawn - start,
        "build_s": made - drawn,
        "probe_s": cpu_seconds() - made,
        "triangles": sum(len(item.mesh.triangles) for item in built.items),
        "objects": len(scene.world.objects),
        "problems": problems,
    }


# --- Table ----------------------------------------------------------------------------------------

HEADINGS = (
    "family",
    "specs",
    "crashed",
    "refused",
    "with problems",
    "draw + build, CPU s: median",
    "95 %",
    "build alone: median",
    "with probe: median",
    "triangles: median",
    "largest",
    "objects: median",
)


def table_row(family: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The cells of one family, see `HEADINGS`."""
    built = [row for row in rows if "build_s" in row]
    share = sum(bool(row["problems"]) for row in built) + sum("refused" in row for row in rows)
    counts = [
        family,
        str(len(rows)),
        str(sum("crash" in row for row in rows)),
        str(sum("refused" in row for row in rows)),
        f"{share / len(rows):.1%}",
    ]
    if not built:
        return [*counts, *["-"] * (len(HEADINGS) - len(counts))]
    timed = [row for row in built if not row["is_first"]] or built
    make = [row["draw_s"] + row["build_s"] for row in timed]
    triangles = [row["triangles"] for row in built]
    return [
        *counts,
        f"{np.median(make):.2f}",
        f"{np.percentile(make, 95):.2f}",
        f"{np.median([row['build_s'] for row in timed]):.2f}",
        f"{np.median([row['draw_s'] + row['build_s'] + row['probe_s'] for row in timed]):.2f}",
        f"{np.median(triangles):,.0f}",
        f"{max(triangles):,}",
        f"{np.median([row['objects'] for row in built]):.0f}",
    ]


def reasons(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[int]]]:
    """What is wrong, and with which clips; the most frequent first."""
    found: Counter[str] = Counter()
    where: dict[str, list[int]] = {}
    for row in rows:
        single = [row[kind] for kind in ("crash", "refused") if kind in row]
        for reason in (*single, *row.get("problems", ())):
            found[reason] += 1
            where.setdefault(reason, []).append(row["number"])
    return [(reason, where[reason]) for reason, _ in found.most_common()]


def main() -> None:
    """Prints a row per family, then the problems with their clips."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--families", type=chosen_families, default=family_names(), help="such as night,street"
    )
    parser.add_argument("--specs", type=int, default=200, help="per family")
    parser.add_argument("--size", type=size, default=(128, 72), help="of a probe (default: 128x72)")
    parser.add_argument("--backend", default="mitsuba", choices=("mitsuba", "cycles"))
    parser.add_argument(
        "--out", type=Path, default=Path("runs/probes"), help="folder of what is known so far"
    )
    parser.add_argument("--assets-of", metavar="SPEC", help="spec whose assets the families may use")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    width, height = options.size

    def measure(family: str) -> list[dict[str, Any]]:
        worlds = worlds_of(
            family,
            options.specs,
            {"width": width, "height": height},
            {"denoise": False, "max_bounces": 3},
            options.assets_of,
        )
        folder = options.out / options.backend
        return list(probe_all(probe, worlds, range(options.specs), folder, options.backend))

    found = dict(zip(options.families, in_threads(measure, options.families, options.workers), strict=True))
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    for family, rows in found.items():
        print(f"| {' | '.join(table_row(family, rows))} |")
    for family, rows in found.items():
        for reason, clips in reasons(rows):
            shown = ", ".join(map(str, clips[:8])) + (", ..." if len(clips) > 8 else "")
            print(f"{family}: {reason}: {len(clips)} (clips {shown})")
    raise SystemExit(any("crash" in row for rows in found.values() for row in rows))


if __name__ == "__main__":
    main()
