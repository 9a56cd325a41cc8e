"""What do the scene families look like, and what do they cost? Some clips of each, in both renderers.

A contact sheet per family: a row per clip with its first and last frame, its bokeh in both renderers, a focus
pull and disparity; and one page of all of them. Frames are rendered as ``focuspull-render still`` renders
them: in processes of their own, with the bytes that a corpus would have. What is there is not rendered again.

Then a table of costs. A clip is taken to cost ``rest + frames * frame * pixels * paths``: what one frame costs
here, scaled with pixels and paths to a clip of `CLIP`, and once what else the process does (start, build,
ground truth). A frame's fixed costs are scaled too, so that the estimate is on the safe side. Cycles renders
target by target: its frame, measured with the pinhole and one target, is scaled by half the number of images.

Run it from the root of the repository: ``python -m tests.benchmarks.gallery --out runs/gallery``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
from tests.benchmarks.sheets import Tile, jpeg, overview, sheet
from tests.benchmarks.worlds import Worlds, chosen_families, family_names, in_threads, size, worlds_of
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
        if backend != BACKENDS[1]:
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
    number = (mitsuba or cycles).number if mitsuba or cycles else 0
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
    """Of the first clip all in focus, bokeh and disparity; of the others bokeh, each end of the pull in turn."""
    if not rows:
        return []
    first = rows[0]
    return [first[0], first[2], first[6], *(row[(4, 2, 5)[i % 3]] for i, row in enumerate(rows[1:]))]


# --- Costs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one frame and of all else in a clip, medians over some clips."""

    frame_s: float
    rest_s: float
    num_clips: int

    def clip_s(self, pixels: float, images: float = 1.0, paths: float = 1.0) -> float:
        """CPU seconds of a clip of `CLIP`; factors against what was measured (module docstring)."""
        return self.rest_s + CLIP["frames"] * self.frame_s * pixels * images * paths


def cost_of(shots: Sequence[Shot]) -> Cost | None:
    """What the rendered ones of some clips took; None: none is rendered."""
    timings = [(shot.timing, len(shot.frames)) for shot in shots]
    frames = [t.frames_cpu_s / n for t, n in timings if t]
    rests = [t.cpu_s - t.frames_cpu_s for t, _ in timings if t]
    return Cost(float(np.median(frames)), float(np.median(rests)), len(frames)) if frames else None


def cost_table(
    costs: dict[tuple[str, str], Cost],
    film_size: tuple[int, int],
    samples: int,
    for_samples: int,
    images: int,
) -> str:
    """A row per family and renderer.

    Args:
        costs: By family and renderer.
        film_size: Of the frames that were measured.
        samples: Paths per pixel of those.
        for_samples: Paths per pixel of the clip that is estimated.
        images: Of a frame of it: all-in-focus and targets.
    """
    width, height = film_size
    pixels = CLIP["width"] * CLIP["height"] / (width * height)
    clip = f"{CLIP['frames']} frames of {CLIP['width']}x{CLIP['height']}, {for_samples} paths"
    lines = [
        f"| family | renderer | frame of {width}x{height}, {samples} paths: CPU s | rest: CPU s "
        f"| clip of {clip}: CPU min | 1,000 clips: core days |",
        "|---|---|---|---|---|---|",
    ]
    for (family, backend), cost in costs.items():
        factor = images / 2 if backend == "cycles" else 1.0
        clip_s = cost.clip_s(pixels, factor, for_samples / samples)
        lines.append(
            f"| {family} | {NAMES[backend]} | {cost.frame_s:.2f} | {cost.rest_s:.2f} | {clip_s / 60:.1f} "
            f"| {1000 * clip_s / 86400:.1f} |"
        )
    return "\n".join(lines)


def backends(text: str) -> tuple[str, ...]:
    """Names from ``mitsuba,cycles``."""
    names = tuple(text.split(","))
    for name in names:
        if name not in BACKENDS:
            raise argparse.ArgumentTypeError(f"'{name}' is no renderer. Use some of: {','.join(BACKENDS)}.")
    return names


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
    parser.add_argument("--cost-samples", type=int, default=64, help="paths of the clips in the table")
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

    costs = {key: cost for key, some in shots.items() if (cost := cost_of(some))}
    images = 1 + len(every[0].worlds.spec.targets)
    print(cost_table(costs, options.size, options.samples, options.cost_samples, images))
    raise SystemExit(any(problems))


if __name__ == "__main__":
    main()
