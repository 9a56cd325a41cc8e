"""What all-in-focus and P targets cost: re-binned, separate, and target by target in Cycles.

CPU seconds of one process with one thread, the best of several runs; every renderer and method has a child
process of its own, on the same scene in the same run. Paths cost in proportion to their number, so a run at
``--samples`` and one at a quarter of that give the slope, and what remains is overhead.

Noise is measured on the middle of the frame (``--crop`` pixels wide, the same pixels, lens and depths), in
display space, against two converged images r1 and r2 of the same renderer with independent noise: the mean of
``(x - r1) (x - r2)`` is the squared error of x whatever noise the two have left. How many samples a floor
takes is interpolated between sample counts, squared error and count both as logarithms; beyond the
counts that were measured the last two are extended, which is marked with ``~``.

Run it from the root of the repository: ``python -m tests.benchmarks.render`` (hours on one core;
``--scene spheres`` is a tenth of that, ``--skip-cycles`` and ``--skip-noise`` leave out most).
"""

# mitsuba and drjit are typed per variant; the modules are handled as Any.
from __future__ import annotations

import argparse
import hashlib
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import color, optics
from focuspull.render import noise, spec
from focuspull.render.build import Built, build
from focuspull.render.frames import Aperture, View, fit_disparity_map
from tests.rendering import ROOT, in_child

K_AT_1024 = 40.0
FOCUS = tuple(np.linspace(0.05, 0.95, 16).round(4).tolist())
NUM_TARGETS = (1, 2, 4, 8, 16)
SPREAD = 4.0
"""Between the largest and the smallest K of the targets whose K differs."""
PROBES = (0, 4, 7)
"""Of 8 targets, those that stand for all where each is rendered by itself."""
CYCLES, SEPARATE, REBINNED = "Cycles", "separate", "re-binned"
PATHS, GUIDES = "paths", "guides"
PATH = {"PYTHONPATH": str(ROOT)}
"""Lets a child find the classes of its arguments."""
STREAMS = 1000
"""Between the numbers of noise streams that are to be independent."""

Scene = Callable[[int, int, float, dict[str, Path]], spec.SceneSpec]
Targets = tuple[tuple[float, float], ...]
"""K at a width of 1024 and focus disparity of each."""
Key = tuple[str, bool, int]
"""Way of rendering, whether denoised, and number of targets; see `_sets`."""
Rows = dict[Key, list[tuple[int, list[float]]]]
"""Samples per pixel and the squared errors of the images."""
SPREAD_KEY = -1


# --- Scenes -------------------------------------------------------------------------------------


def spheres(width: int, height: int, zoom: float, files: dict[str, Path]) -> spec.SceneSpec:
    """20 untextured spheres on a ground, 2 to 30 m away; an area light and an even sky; one sphere moves."""
    rng = np.random.default_rng(1)
    objects: list[dict[str, Any]] = [_ground({"base_color": (0.5, 0.5, 0.5), "roughness": 1.0})]
    for i, y in enumerate(_depths(20)):
        radius = rng.uniform(0.25, 0.6) * (0.5 + y / 12)
        objects.append(
            {
                "name": f"sphere-{i}",
                "shape": {"type": "sphere", "radius_m": radius},
                "position_m": (rng.uniform(-0.38, 0.38) * y, y, radius),
                "material": {
                    "base_color": tuple(rng.uniform(0.1, 0.9, 3)),
                    "roughness": rng.uniform(0.1, 0.8),
                    "metallic": float(rng.random() < 0.3),
                },
                "motion": MOTION if i == 10 else (),
            }
        )
    light = {"type": "area", "position_m": (-4, 0, 8), "look_at_m": (0, 8, 0), "size_m": (3, 3)}
    lights = [light | {"radiance": (12, 12, 12)}]
    sky = {"type": "constant", "radiance": (0.6, 0.7, 0.9)}
    return _scene(width, height, zoom, objects, lights, sky)


def meshes(width: int, height: int, zoom: float, files: dict[str, Path]) -> spec.SceneSpec:
    """64 textured meshes of half a million triangles in all under an HDRI; four of them move."""
    rng = np.random.default_rng(2)
    kinds = ("checker", "marble", "wood", "bricks", "perlin")
    shapes: tuple[dict[str, Any], ...] = (
        {"type": "blob", "radius_m": 0.4, "segments": 96},
        {"type": "torus", "major_radius_m": 0.35, "minor_radius_m": 0.12, "segments": 128},
        {"type": "lathe", "profile_m": ((0.25, 0), (0.35, 0.3), (0.15, 0.7), (0.17, 0.85), (0, 0.9))},
        {"type": "sphere", "radius_m": 0.4, "segments": 96},
    )
    objects: list[dict[str, Any]] = [
        _ground({"base_color": _texture("bricks", rng) | {"tiles": (40, 40)}, "roughness": 0.7})
    ]
    for i, y in enumerate(_depths(64)):
        scale = rng.uniform(0.6, 1.3) * (0.5 + y / 14)
        objects.append(
            {
                "name": f"mesh-{i}",
                "shape": shapes[i % 4],
                "scale": (scale, scale, scale),
                "position_m": (rng.uniform(-0.45, 0.45) * y, y, 0.0 if i % 4 == 2 else 0.42 * scale),
                "rotation_deg": (0.0, 0.0, rng.uniform(0, 360)),
                "material": {
                    "base_color": _texture(kinds[i % 5], rng),
                    "roughness": _texture("perlin", rng) if i % 3 == 0 else rng.uniform(0.2, 0.8),
                    "metallic": float(i % 5 == 0),
                },
                "motion": MOTION if i % 16 == 8 else (),
            }
        )
    hdri = {"type": "hdri", "file": _from_bpy("studiolights/world/forest.exr", files), "rotation_deg": 90.0}
    return _scene(width, height, zoom, objects, [], hdri)


SCENES: dict[str, Scene] = {"spheres": spheres, "meshes": meshes}
MOTION = ({"type": "linear", "velocity_m_s": (0.3, 0.0, 0.0)},)


def _depths(n: int) -> list[float]:
    return [2 + 28 * (i / (n - 1)) ** 1.6 for i in range(n)]


def _ground(material: dict[str, Any]) -> dict[str, Any]:
    return {"name": "ground", "shape": {"type": "plane", "size_m": (80, 80)}, "material": material}


def _texture(kind: str, rng: np.random.Generator) -> dict[str, Any]:
    a, b = (tuple(rng.uniform(low, low + 0.4, 3)) for low in (0.05, 0.5))
    return {"type": kind, "color_a": a, "color_b": b, "resolution": 512, "tiles": (2, 2)}


def _from_bpy(name: str, files: dict[str, Path]) -> dict[str, str]:
    package = find_spec("bpy")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the scene 'meshes' takes its HDRI from bpy, which is not installed")
    (path,) = Path(package.submodule_search_locations[0]).glob(f"[0-9]*/datafiles/{name}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    files[digest] = path
    return {"name": path.name, "sha256": digest}


def _scene(
    width: int, height: int, zoom: float, objects: list[dict[str, Any]], lights: list[Any], environment: Any
) -> spec.SceneSpec:
    return spec.SceneSpec.model_validate(
        {
            "seed": 3,
            "film": {"width": width, "height": height, "num_frames": 2},
            "quality": {"denoise": False, "max_bounces": 5},
            "world": {
                "objects": objects,
                "lights": lights,
                "environment": environment,
                "camera": {
                    "focal_length_mm": 43.5 * zoom,
                    "path": {"type": "static", "position_m": (0, -0.5, 1.6), "look_at_m": (0, 8, 1.0)},
                },
            },
            "targets": [{"k_at_1024": (K_AT_1024,) * 2, "focus": [{"frame": 0, "disparity": 0.5}]}],
        }
    )


def same_k(num: int) -> Targets:
    """Targets of one K; the focus of fewer are some of those of more."""
    chosen = [8] if num == 1 else np.linspace(0, 15, num).round().astype(int).tolist()
    return tuple((K_AT_1024, FOCUS[i]) for i in chosen)


def spread_k() -> Targets:
    """8 targets whose K lies in even steps between 1 and 1 / `SPREAD`; near focus is not that of large K."""
    k = np.linspace(K_AT_1024 / SPREAD, K_AT_1024, 8)
    return tuple(zip(k[[5, 0, 3, 6, 1, 4, 7, 2]].tolist(), [f for _, f in same_k(8)], strict=True))


# --- In the child -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A renderer with a way of rendering, on a scene. ``crop``: of a frame this wide, in pixels; 0: all."""

    how: str
    scene: str
    width: int
    crop: int
    denoise: bool


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one frame, and where they go. ``resident``: peak of the process so far, bytes."""

    seconds: float
    parts: dict[str, float]
    samples: int
    resident: int


@dataclass(frozen=True)
class Line:
    """Seconds of a frame by samples per pixel; ``parts`` are those of its overhead."""

    fixed: float
    slope: float
    first: float
    parts: dict[str, float]
    resident: int

    def at(self, samples: float) -> float:
        """Seconds of a frame with this many samples per pixel."""
        return self.fixed + self.slope * samples


class Stage:
    """A session on a scene, and the views that targets are on it."""

    def __init__(self, job: Job) -> None:
        from focuspull.render.backends import get_backend

        self.job = job
        height = job.width * 9 // 16
        files: dict[str, Path] = {}
        whole = build(SCENES[job.scene](job.width, height, 1.0, files), files)
        self.built = whole
        if job.crop:
            # The middle of the frame: as many pixels per metre on a smaller film.
            small = SCENES[job.scene](job.crop, job.crop * 9 // 16, job.width / job.crop, files)
            self.built = build(small, files)
        quality = whole.scene.quality.model_copy(update={"denoise": job.denoise})
        self.built = replace(self.built, scene=self.built.scene.model_copy(update={"quality": quality}))
        backend = get_backend("cycles" if job.how == CYCLES else "mitsuba").load()
        # Of the whole frame in any case.
        self.map = fit_disparity_map(backend.open_session(whole, threads=1).truth(0)[0])
        self.session: Any = backend.open_session(self.built, threads=1)
        if job.how != CYCLES:
            self.session.force_method("rebinned" if job.how == REBINNED else "separate")

    def views(self, targets: Targets, samples: int, first_stream: int = 1) -> list[View]:
        """A view for each target."""
        camera = self.built.scene.world.camera
        focal_px = optics.focal_length_px(
            camera.focal_length_mm, camera.sensor_width_mm, self.built.scene.film.width
        )
        apertures = [
            Aperture(float(optics.k_at_width(k, self.job.width)), d, focal_px, self.map, spec.LensSpec())
            for k, d in targets
        ]
        return [View(a, samples, first_stream + p) for p, a in enumerate(apertures)]

    def render(self, views: list[View], frame: int = 0) -> list[Any]:
        """`frames.Image` of each view."""
        self.session.plan([views])
        return self.session.render(frame, views)


class Meter:
    """CPU seconds of this process, by what it was doing; what happens within something counts only there."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._open: list[float] = []

    def watch(self, owner: Any, name: str, label: str | Callable[..., str]) -> None:
        """Wraps a function of a class or a module."""
        original = getattr(owner, name)

        @wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            part = label if isinstance(label, str) else label(*args)
            begin = cpu_seconds()
            self._open.append(0.0)
            result = original(*args, **kwargs)
            if part in (PATHS, GUIDES):
                import drjit as dr

                dr.sync_thread()
            spent = cpu_seconds() - begin
            self.parts[part] = self.parts.get(part, 0.0) + spent - self._open.pop()
            if self._open:
                self._open[-1] += spent
            return result

        setattr(owner, name, wrapper)


def cpu_seconds() -> float:
    """User and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _meter_mitsuba() -> Meter:
    from focuspull.render.backends import denoise, mitsuba, mitsuba_rebin

    meter = Meter()
    meter.watch(mitsuba.MitsubaSession, "_add", lambda *args: PATHS if args[2] is None else GUIDES)
    meter.watch(mitsuba.MitsubaSession, "_move_to", "scene update")
    for owner in (mitsuba.Separate, mitsuba_rebin.Rebinner):
        meter.watch(owner, "halves", "read-out")
    meter.watch(noise, "squared_error", "noise estimate")
    meter.watch(noise, "denoised_squared_error", "noise estimate")
    meter.watch(denoise.Denoiser, "__init__", "OIDN of guides")
    meter.watch(denoise.Denoiser, "__call__", "OIDN of colour")
    return meter


def cost(job: Job, cases: list[tuple[Targets | None, int]], repeats: int) -> list[list[Cost]]:
    """The first frame and the best of the others of each case: targets (None: all-in-focus), samples."""
    stage = Stage(job)
    meter = _meter_mitsuba() if job.how != CYCLES else Meter()
    results = []
    for targets, samples in cases:
        views = [View(None, samples, 0)] if targets is None else stage.views(targets, samples)
        runs = []
        for turn in range(1 + repeats):
            meter.parts.clear()
            begin = cpu_seconds()
            images = stage.render(views, (turn + 1) % 2)  # things move between the two frames
            spent = cpu_seconds() - begin
            resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            runs.append(Cost(spent, dict(meter.parts), images[0].samples, resident))
        results.append([runs[0], min(runs[1:], key=lambda c: c.seconds)])
    return results


def errors(
    jobs: list[tuple[Job, dict[int, Targets | None]]], counts: list[int], reference_samples: int
) -> Rows:
    """Squared errors of the images of each set at each count, with the samples spent.

    Args:
        jobs: Of one renderer, with what to render; the first one renders the references, denoised by none.
        counts: Samples per pixel.
        reference_samples: Of each of the two references.
    """
    clean = Stage(replace(jobs[0][0], denoise=False))
    sharp = clean if clean.job.how == CYCLES else Stage(replace(clean.job, how=SEPARATE))
    asked = [targets for _, sets in jobs for targets in sets.values() if targets]
    references: dict[Any, list[NDArray[np.float64]]] = {None: []}
    for stream in (2, 3):
        views = [View(None, reference_samples, stream * STREAMS)]
        references[None] += [_encoded(clean.built, image.pixels) for image in sharp.render(views)]
    for targets in sorted(asked, key=len, reverse=True):
        if set(targets) <= references.keys():
            continue
        for stream in (2, 3):
            images = clean.render(clean.views(targets, reference_samples, stream * STREAMS + 1))
            for target, image in zip(targets, images, strict=True):
                references.setdefault(target, []).append(_encoded(clean.built, image.pixels))
    results: Rows = {}
    for job, sets in jobs:
        stage = Stage(job)
        for num, targets in sets.items():
            rows = results[job.how, job.denoise, num] = []
            for count in counts:
                views = [View(None, count, 0)] if targets is None else stage.views(targets, count)
                images = stage.render(views)
                squared = []
                for target, image in zip(targets or (None,), images, strict=True):
                    x, (r1, r2) = _encoded(stage.built, image.pixels), references[target][:2]
                    squared.append(float(np.mean((x - r1) * (x - r2))))
                rows.append((images[0].samples, squared))
    return results


def _encoded(built: Built, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    ev = built.scene.film.exposure_ev
    return color.encode_display(np.maximum(pixels, 0), exposure_ev=ev).astype(np.float64)


# --- In the parent ------------------------------------------------------------------------------


def line(runs: list[list[Cost]], images: int, slope: float | None) -> Line:
    """Of one image.

    Args:
        runs: The costs of some images, of a first frame and of a later one, at a small and a large number of
            samples; or, if ``slope`` is known, at one.
        images: How many were rendered.
        slope: Seconds per sample of all of them.
    """
    few, many = runs[0][1], runs[-1][1]
    if slope is None:
        a, b = (run.parts.get(PATHS, run.seconds) for run in (few, many))
        slope = (b - a) / (many.samples - few.samples)
    parts = dict(few.parts)
    if PATHS in parts:
        parts[PATHS] -= slope * few.samples
    fixed = few.seconds - slope * few.samples
    return Line(
        fixed / images,
        slope / images,
        (runs[0][0].seconds - few.seconds) / images,
        {name: seconds / images for name, seconds in parts.items()},
        max(run.resident for run in (few, many)),
    )


def samples_for(goal: float, rows: Sequence[tuple[int, float]]) -> tuple[float, bool]:
    """Samples with this squared error, and whether that lies beyond the ones measured."""
    x, y = (np.log([row[i] for row in rows]) for i in (0, 1))
    i = int(np.clip(np.searchsorted(-y, -np.log(goal)), 1, len(rows) - 1))
    slope = (x[i] - x[i - 1]) / (y[i] - y[i - 1])
    needed = float(np.exp(x[i] + slope * (np.log(goal) - y[i])))
    return needed, not rows[0][0] <= needed <= rows[-1][0]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scene", choices=[*SCENES, "both"], default="both")
    parser.add_argument("--targets", type=int, nargs="+", choices=NUM_TARGETS, default=NUM_TARGETS)
    parser.add_argument("--samples", type=int, default=64, help="paths per pixel whose cost is measured")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--crop", type=int, default=192, help="width on which noise is measured")
    parser.add_argument("--reference-samples", type=int, default=1024)
    parser.add_argument("--floor", type=float, default=45.0, help="PSNR in dB that images are to have")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--skip-cycles", action="store_true")
    parser.add_argument("--skip-noise", action="store_true")
    options = parser.parse_args()
    for scene in SCENES if options.scene == "both" else (options.scene,):
        _report(scene, options)


def _report(scene: str, options: argparse.Namespace) -> None:
    print(f"\n## {scene}, {options.width}x{options.width * 9 // 16}", flush=True)
    ways = (REBINNED, SEPARATE) if options.skip_cycles else (REBINNED, SEPARATE, CYCLES)
    lines: dict[Key, Line] = {}
    for denoise in (False, True):
        for how in ways:
            _measure(lines, Job(how, scene, options.width, 0, denoise), options)
        if not denoise:
            _print_costs(lines, ways, options)
    _print_overhead(lines)
    if options.skip_noise:
        return
    crop = options.crop
    jobs: list[tuple[Job, dict[int, Targets | None]]] = []
    for how, denoise in product((REBINNED, SEPARATE), (False, True)):
        sets = _sets(how, options.targets)
        if how == REBINNED:
            sets[SPREAD_KEY] = spread_k()
        jobs.append((Job(how, scene, options.width, crop, denoise), sets))
    rows = in_child(errors, jobs, [16, 64, 256], options.reference_samples, env=PATH)
    if CYCLES in ways:
        cycles = [(Job(CYCLES, scene, options.width, crop, True), _sets(CYCLES, options.targets))]
        rows |= in_child(errors, cycles, [16, 64, 256], options.reference_samples // 2, env=PATH)
    for denoise in (False, True):
        _print_noise(lines, rows, denoise, options)
    for samples, squared in rows[REBINNED, False, SPREAD_KEY]:
        _print_spread(samples, squared)


def _sets(how: str, counts: Sequence[int]) -> dict[int, Targets | None]:
    """What to render, by number of targets; 0 is all-in-focus, and 1 stands for each that is by itself."""
    if how == REBINNED:
        return {num: same_k(num) for num in counts}
    return {0: None, 1: tuple(same_k(8)[i] for i in PROBES)}


def _measure(lines: dict[Key, Line], job: Job, options: argparse.Namespace) -> None:
    """Adds what a way of rendering costs. Denoised, paths cost what they cost without."""
    many = options.samples if job.how != CYCLES else max(8, options.samples // 4)
    sets = _sets(job.how, options.targets)
    if job.how == CYCLES:
        sets[1] = same_k(1)
    counts = [max(2, many // 4)] if job.denoise else [max(2, many // 4), many]
    cases = [(targets, count) for targets in sets.values() for count in counts]
    repeats = 1 if job.denoise or job.how == CYCLES else options.repeats
    found = in_child(cost, job, cases, repeats, env=PATH)
    for i, (num, targets) in enumerate(sets.items()):
        runs = found[len(counts) * i : len(counts) * (i + 1)]
        images = 1 if job.how == REBINNED or targets is None else len(targets)
        known = lines[job.how, False, num].slope * images if job.denoise else None
        lines[job.how, job.denoise, num] = line(runs, images, known)


def _total(lines: dict[Key, Line], how: str, denoise: bool, num: int, aif: float, each: float) -> float:
    """Seconds of all-in-focus and ``num`` targets with these samples per pixel."""
    sharp = lines[SEPARATE if how == REBINNED else how, denoise, 0].at(aif)
    if how == REBINNED:
        return sharp + lines[how, denoise, num].at(each)
    return sharp + num * lines[how, denoise, 1].at(each)


def _print_costs(lines: dict[Key, Line], ways: Sequence[str], options: argparse.Namespace) -> None:
    n = options.samples
    one = lines[SEPARATE, False, 1].at(n)
    print(f"\nCPU seconds at {n} paths per pixel, not denoised: all-in-focus and P targets of one K.")
    print(f"All-in-focus {lines[SEPARATE, False, 0].at(n):.2f} s, one thin-lens render {one:.2f} s.\n")
    head = [
        "P",
        *ways,
        *(f"{how} / re-binned" for how in ways[1:]),
        "targets / one thin-lens render",
        "peak RSS",
    ]
    _head(head)
    for num in options.targets:
        totals = [_total(lines, how, False, num, n, n) for how in ways]
        own = lines[REBINNED, False, num]
        cells = [f"{t:.2f}" for t in totals] + [f"{t / totals[0]:.1f}" for t in totals[1:]]
        _row([str(num), *cells, f"{own.at(n) / one:.2f}", f"{own.resident / 2**30:.2f} GiB"])
    others = ", ".join(f"{how} {lines[how, False, 1].resident / 2**30:.2f} GiB" for how in ways[1:])
    print(f"\nPeak RSS of the others: {others}.", flush=True)


def _print_overhead(lines: dict[Key, Line]) -> None:
    print(
        "\nOverhead per frame apart from paths, CPU seconds. `paths`: what a call costs without any (tracing,"
    )
    print("launching); `first`: what the first frame costs more, mostly compilation; `other` has no name.\n")
    shown = {key: value for key, value in lines.items() if key[0] != CYCLES}
    names = sorted({name for value in shown.values() for name in value.parts})
    head = ["", "denoised", *names, "other", "sum", "first", "per sample"]
    _head(head)
    for (how, denoise, num), value in shown.items():
        label = "all-in-focus" if num == 0 else f"{how}, {num}" if how == REBINNED else "one separate target"
        parts = [value.parts.get(name, 0.0) for name in names]
        cells = [
            f"{x:.3f}" for x in (*parts, value.fixed - sum(parts), value.fixed, value.first, value.slope)
        ]
        _row([label, "yes" if denoise else "no", *cells])
    for (how, denoise, num), value in lines.items():
        if how == CYCLES:
            label = "target" if num else "all-in-focus"
            label += ", denoised" if denoise else ""
            print(f"Cycles, {label}: {value.fixed:.2f} s and {value.slope:.3f} s per sample")
    sys.stdout.flush()


def _print_noise(
    lines: dict[Key, Line],
    rows: Rows,
    denoise: bool,
    options: argparse.Namespace,
) -> None:
    how_clean = "denoised" if denoise else "not denoised"
    print(f"\nSquared errors as PSNR in dB, {how_clean} (mean error over targets; worst target)\n")
    known = {
        (how, num): row for (how, with_, num), row in rows.items() if with_ == denoise and num != SPREAD_KEY
    }
    for (how, num), row in known.items():
        cells = (
            f"{n}: {noise.floor_db(float(np.mean(e))):.2f} ({noise.floor_db(max(e)):.2f})" for n, e in row
        )
        print(f"- {how}, {num or 'all-in-focus'}: " + ", ".join(cells))
    goal = 10 ** (-options.floor / 10) - noise.ROUNDING
    needed = {key: samples_for(goal, [(n, float(np.mean(e))) for n, e in row]) for key, row in known.items()}
    shown = list(dict.fromkeys(how for how, _ in known))
    print(f"\nCPU seconds at {options.floor} dB, {how_clean}: all-in-focus and P targets (samples)\n")
    head = ["P", *shown, *(f"{how} / re-binned" for how in shown[1:]), "re-binned / separate, targets only"]
    _head(head)
    for num in options.targets:
        totals, texts = [], []
        for how in shown:
            aif = needed[SEPARATE if how == REBINNED else how, 0]
            each = needed[how, num if how == REBINNED else 1]
            totals.append(_total(lines, how, denoise, num, aif[0], each[0]))
            texts.append(
                f"{totals[-1]:.1f} ({', '.join('~' * beyond + f'{n:.0f}' for n, beyond in (aif, each))})"
            )
        ours = lines[REBINNED, denoise, num].at(needed[REBINNED, num][0])
        theirs = num * lines[SEPARATE, denoise, 1].at(needed[SEPARATE, 1][0])
        _row([str(num), *texts, *(f"{t / totals[0]:.1f}" for t in totals[1:]), f"{ours / theirs:.2f}"])
    sys.stdout.flush()


def _print_spread(samples: int, squared: list[float]) -> None:
    psnr = [noise.floor_db(e) for e in squared]
    print(f"\n8 targets with K {SPREAD:.0f}:1, {samples} samples, not denoised: PSNR in dB by K at 1024")
    print(", ".join(f"{k:.0f}: {p:.2f}" for (k, _), p in sorted(zip(spread_k(), psnr, strict=True))))
    print(f"best minus worst: {max(psnr) - min(psnr):.2f} dB", flush=True)


def _head(cells: Sequence[str]) -> None:
    _row(cells)
    _row(["---"] * len(cells))


def _row(cells: Sequence[str]) -> None:
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    # What goes to children and back is pickled with the name of its module, which must not be __main__.
    from tests.benchmarks import render

    render.main()
