"""What do the scene families look like, and what do they cost? Some clips of each, in both renderers.

A contact sheet per family: a row per clip with its first and last frame, its bokeh in both renderers, a focus
pull and disparity; and one page of all of them. Frames are rendered as ``focuspull-render still`` renders
them, in processes of their own, with the bytes that a corpus would have; what is there is not rendered again.

Then a table of what clips of `CLIP` cost, measured at ``--cost-size`` as `tests.benchmarks.costs` says.

Run it from the root of the repository: ``python -m tests.benchmarks.gallery --out runs/gallery``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import codec
from focuspull.dataset.clip import frame_member
from focuspull.dataset.color import psnr_db
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.render.backends import get_backend
from focuspull.render.randomize import randomize
from focuspull.render.spec import SceneSpec
from focuspull.render.worker import Job, Timing, spawn
from tests.benchmarks import costs
from tests.benchmarks.sheets import Tile, jpeg, overview, sheet
from tests.benchmarks.worlds import (
    Worlds,
    chosen_families,
    family_names,
    in_threads,
    probe_all,
    size,
    worlds_of,
)
from tests.rendering import BACKENDS

CLIP = {"frames": 25, "width": 1024, "height": 576}
TILE_WIDTH, SMALL_WIDTH = 272, 240
OVERVIEW_COLUMNS = 4
OVERVIEW_BYTES = 390_000
NAMES = {"mitsuba": "Mitsuba", "cycles": "Cycles"}


@dataclass(frozen=True)
class Shot:
    """Frames of a clip by one renderer.

    Attributes:
        worlds: The corpus of its family.
        number: Of the clip.
        backend: The renderer.
        scene: What is rendered; None: the clip cannot be drawn.
        frames: Frame numbers.
        folder: Where the frames are.
        problem: Why the clip cannot be drawn.
    """

    worlds: Worlds
    number: int
    backend: str
    scene: SceneSpec | None
    frames: tuple[int, ...]
    folder: Path
    problem: str = ""

    @property
    def key(self) -> str:
        """Name of the clip, which its files begin with."""
        return f"{self.worlds.family}-{self.number}"

    @property
    def timing(self) -> Timing | None:
        """What it took; None: it is not rendered."""
        path = self.folder / f"{self.key}.timing.json"
        return Timing.model_validate_json(path.read_bytes()) if path.exists() else None

    def image(self, stream: str, frame: int) -> NDArray[np.uint8] | None:
        """A frame as display values ``[H, W, 3]``, disparity in colours; None: it is not rendered."""
        if self.scene is None or self.timing is None:
            return None
        data = (
            self.folder / f"{self.key}.{frame_member(stream, frame, self.scene.film.num_frames)}"
        ).read_bytes()
        if stream != "disparity":
            return codec.decode_rgb(data)
        grey = np.round(codec.decode_disparity(data) * 255).astype(np.uint8)
        return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_TURBO), np.uint8)[..., ::-1]


def shots_of(worlds: Worlds, backend: str, out: Path) -> list[Shot]:
    """The clips of a family as they are to be rendered.

    Cycles gets the first frame and the first target only: it is there for comparison.
    """
    shots = []
    for number in range(worlds.spec.num_clips):
        try:
            scene, problem = randomize(worlds.spec, number), ""
        except UserError as error:
            scene, problem = None, str(error)
        frames: tuple[int, ...] = (0, worlds.spec.film.num_frames - 1)
        if backend == "cycles":
            frames = (0,)
            scene = scene and scene.model_copy(update={"targets": scene.targets[:1]})
        digest = "none" if scene is None else scene.sha256()[:10]
        folder = out / "frames" / f"{worlds.family}-{number}-{backend}-{digest}"
        shots.append(Shot(worlds, number, backend, scene, frames, folder.absolute(), problem))
    return shots


def render_shot(shot: Shot, threads: int) -> str:
    """Renders frames that are not there; returns why not, or nothing."""
    if shot.scene is None or shot.timing is not None:
        return shot.problem
    shot.folder.mkdir(parents=True, exist_ok=True)
    job = Job(
        mode="still",
        key=shot.key,
        split="train",
        scene=shot.scene,
        files=dict(shot.worlds.files),
        backend=shot.backend,
        threads=threads,
        folder=shot.folder,
        frames=shot.frames,
        timeout_min=20,
    )
    ended = spawn(job)
    print(f"{shot.key} {shot.backend}: {'done' if ended.done else ended.reason}", flush=True)
    return "" if ended.done else ended.reason


# --- Sheets ---------------------------------------------------------------------------------------

TITLES = (
    "all in focus, first frame",
    "all in focus, last frame",
    "bokeh0 in Mitsuba",
    "bokeh0 in Cycles",
    "bokeh1, first frame",
    "bokeh1, last frame",
    "disparity, near is red",
)


def clip_tiles(mitsuba: Shot | None, cycles: Shot | None) -> list[Tile]:
    """A row of a sheet, as `TITLES` says; what is not rendered stays empty."""

    def of(shot: Shot | None, stream: str, frame: int, caption: str) -> Tile:
        image = None if shot is None else shot.image(stream, frame)
        return Tile(image, caption if image is not None else "not rendered")

    last = mitsuba.frames[-1] if mitsuba else 0
    number = next(shot.number for shot in (mitsuba, cycles) if shot is not None)
    pairs = {s: [x and x.image(s, 0) for x in (mitsuba, cycles)] for s in ("aif", "bokeh0")}
    found = {
        s: psnr_db(a / 255.0, b / 255.0) for s, (a, b) in pairs.items() if a is not None and b is not None
    }
    agreement = f"{found['bokeh0']:.1f} dB, all in focus {found['aif']:.1f} dB" if found else ""
    k, pull = ("", "")
    if mitsuba and mitsuba.scene:
        k, pull = (f"K {target.k_at_1024[0]:.0f}" for target in mitsuba.scene.targets)
    return [
        of(mitsuba, "aif", 0, f"clip {number}"),
        of(mitsuba, "aif", last, f"frame {last}"),
        of(mitsuba, "bokeh0", 0, f"{k}, on the subject"),
        of(cycles, "bokeh0", 0, agreement),
        of(mitsuba, "bokeh1", 0, f"{pull}, on the foreground"),
        of(mitsuba, "bokeh1", last, f"{pull}, on the background"),
        of(mitsuba, "disparity", 0, ""),
    ]


def overview_tiles(rows: Sequence[Sequence[Tile]]) -> list[Tile]:
    """All in focus, bokeh and disparity of the first clip; bokeh of the others.

    The second clip is shown in Cycles, where that rendered it; the others have focus here and there.
    """
    if not rows:
        return []
    first, others = rows[0], []
    for i, row in enumerate(rows[1:]):
        in_cycles = i == 0 and row[3].image is not None
        others.append(row[3] if in_cycles else row[(2, 5, 4)[i % 3]])
    return [first[0], first[2], first[6], *others]


def backends(text: str) -> tuple[str, ...]:
    """Names from ``mitsuba,cycles``."""
    names = tuple(text.split(","))
    for name in names:
        if name not in BACKENDS:
            raise argparse.ArgumentTypeError(f"'{name}' is no renderer. Use some of: {','.join(BACKENDS)}.")
    return names


def cost_table(options: argparse.Namespace, quality: dict[str, Any]) -> str:
    """Times clips of every family in every renderer; a clip that cannot be timed says so."""
    width, height = options.cost_size
    found = {}
    for family, backend in product(options.families, options.backends):
        film = {"width": width, "height": height, "num_frames": CLIP["frames"]}
        worlds = worlds_of(family, options.cost_clips, film, quality, options.assets_of)
        folder = options.out / "costs" / backend
        rows = list(probe_all(costs.measure, worlds, range(options.cost_clips), folder, backend, batch=1))
        for row in rows:
            if problem := row.get("crash") or row.get("refused"):
                print(f"{family}-{row['number']} {backend}: not timed: {problem}")
        if parts := costs.medians(rows):
            found[family, NAMES[backend]] = parts
    pixels = CLIP["width"] * CLIP["height"] / (width * height)
    return costs.table(found, CLIP, options.cost_paths, pixels)


def main() -> None:
    """Renders what is not there, draws the sheets and prints the costs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/gallery"))
    parser.add_argument("--families", type=chosen_families, default=family_names(), help="such as a,b")
    parser.add_argument("--clips", type=int, default=6, help="per family (default: 6)")
    parser.add_argument("--backends", type=backends, default=("mitsuba", "cycles"))
    parser.add_argument("--size", type=size, default=(320, 180), help="of a frame (default: 320x180)")
    parser.add_argument("--frames", type=int, default=CLIP["frames"], help="of a clip; two are rendered")
    parser.add_argument("--samples", type=int, default=36, help="paths per pixel (default: 36)")
    parser.add_argument("--cost-clips", type=int, default=1, help="clips per family that are timed; 0: none")
    parser.add_argument("--cost-size", type=size, default=(512, 288), help="of timed frames")
    parser.add_argument("--cost-paths", type=int, default=64, help="per pixel, of the clips in the table")
    parser.add_argument("--assets-of", metavar="SPEC", help="spec whose assets the families may use")
    parser.add_argument("--threads", type=int, default=1, help="per renderer")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="clips at a time")
    options = parser.parse_args()
    width, height = options.size
    film = {"width": width, "height": height, "num_frames": options.frames}
    quality = {
        "aif_samples": options.samples,
        "bokeh_samples": options.samples,
        "max_bounces": 6,
        "denoise": True,
    }
    shots = {
        (family, backend): shots_of(
            worlds_of(family, options.clips, film, quality, options.assets_of), backend, options.out
        )
        for family in options.families
        for backend in options.backends
    }
    every = [shot for some in shots.values() for shot in some]
    problems = in_threads(lambda shot: render_shot(shot, options.threads), every, options.workers)
    for shot, problem in zip(every, problems, strict=True):
        if problem:
            print(f"{shot.key} {shot.backend}: {problem}")

    versions = ", ".join(f"{NAMES[b]} {get_backend(b).version()}" for b in options.backends)
    facts = f"{width} x {height}, {options.samples} paths per pixel, denoised   ·   {versions}"
    tile_height = TILE_WIDTH * height // width
    blocks = []
    for family in options.families:
        columns = [shots.get((family, b), [None] * options.clips) for b in ("mitsuba", "cycles")]
        rows = [clip_tiles(*pair) for pair in zip(*columns, strict=True)]
        path = options.out / f"{family}.png"
        page = sheet(family, facts, TITLES, rows, (TILE_WIDTH, tile_height))
        write_atomic(path, lambda file, page=page: page.save(file, format="PNG"))
        print(path)
        blocks.append((family, overview_tiles(rows)))
    page = overview(blocks, OVERVIEW_COLUMNS, (SMALL_WIDTH, SMALL_WIDTH * height // width))
    write_atomic(options.out / "gallery.jpg", jpeg(page, OVERVIEW_BYTES))
    print(options.out / "gallery.jpg")

    if options.cost_clips:
        print(cost_table(options, quality))
    raise SystemExit(any(problems))


if __name__ == "__main__":
    main()
