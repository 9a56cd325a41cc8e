"""What a clip of a scene family costs: CPU seconds of frames at full size, by paths per pixel.

One process, one thread, per clip: it draws, builds, renders the first frame (which compiles kernels), then
the second frame at `FEW` and at `MANY` paths per pixel. Time is linear in paths, so that::

    clip = setup + frames * (truth + encoding + fixed + paths * per_path)

with ``per_path`` the slope between the two counts and ``fixed`` what is left of a frame (scene update,
denoiser, read-out). Truth is depth and instances of a frame; setup is all that happens once. Where frames are
measured at another size, all of a frame is scaled with the number of its pixels. The farm's own share and the
packing of shards are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from focuspull.dataset import codec, color, optics
from focuspull.render.build import build
from focuspull.render.frames import Aperture, View, fit_disparity_map
from focuspull.render.randomize import randomize
from tests.benchmarks.worlds import Worlds, cpu_seconds

FEW, MANY = 4, 12
PARTS = ("setup", "truth", "encoding", "fixed", "per_path")


def measure(worlds: Worlds, number: int, backend: str) -> dict[str, Any]:
    """CPU seconds of the `PARTS` of a clip; for a process of its own."""
    from focuspull.render.backends import get_backend

    scene = randomize(worlds.spec, number)
    built = build(scene, worlds.files)
    session = get_backend(backend).load().open_session(built, threads=1)
    depth, instance = session.truth(0)
    start = cpu_seconds()
    depth, instance = session.truth(1)
    truth = cpu_seconds() - start

    film, camera, depths = scene.film, scene.world.camera, fit_disparity_map(depth)
    focal_px = optics.focal_length_px(camera.focal_length_mm, camera.sensor_width_mm, film.width)
    apertures = [
        Aperture(float(optics.k_at_width(t.k_at_1024[0], film.width)), 0.5, focal_px, depths, t.lens)
        for t in scene.targets
    ]

    def frame(number: int, samples: int) -> tuple[float, list[Any]]:
        views = [View(a, samples, i) for i, a in enumerate((None, *apertures))]
        session.plan([views] * film.num_frames)
        begin = cpu_seconds()
        images = session.render(number, views)
        return cpu_seconds() - begin, images

    frame(0, FEW)
    once = cpu_seconds()
    (few, images), (many, _) = frame(1, FEW), frame(1, MANY)
    begin = cpu_seconds()
    for image in images:
        codec.encode_rgb(color.to_uint8(color.encode_display(image.pixels, exposure_ev=film.exposure_ev)))
    codec.encode_disparity(np.clip(depths.disparity(depth), 0, 1).astype(np.float32))
    codec.encode_instance(instance)
    encoding = cpu_seconds() - begin
    per_path = max(0.0, (many - few) / (MANY - FEW))
    # One truth more than the first, which compiles, and a frame at few paths are in what came before.
    seconds = (once - 2 * truth - few, truth, encoding, few - FEW * per_path, per_path)
    return dict(zip(PARTS, seconds, strict=True))


def medians(rows: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Each of the `PARTS` over clips; None: none could be measured."""
    known = [row for row in rows if "setup" in row]
    return {part: float(np.median([row[part] for row in known])) for part in PARTS} if known else None


def frame_s(parts: Mapping[str, float], paths: int, pixels: float = 1.0) -> float:
    """CPU seconds of a frame with this many paths per pixel and times as many pixels as were measured."""
    return pixels * (parts["truth"] + parts["encoding"] + parts["fixed"] + paths * parts["per_path"])


def clip_s(parts: Mapping[str, float], frames: int, paths: int, pixels: float = 1.0) -> float:
    """CPU seconds of a clip (module docstring)."""
    return max(0.0, parts["setup"]) + frames * frame_s(parts, paths, pixels)


def table(
    costs: Mapping[tuple[str, str], Mapping[str, float]], clip: Mapping[str, int], paths: int, pixels: float
) -> str:
    """A row per family and renderer.

    Args:
        costs: `PARTS` by family and name of the renderer.
        clip: ``frames``, ``width``, ``height`` of the clip that is estimated.
        paths: Per pixel of it.
        pixels: Of a frame of it, against the frames that were measured.
    """
    lines = [
        f"| family | renderer | setup, CPU s | {clip['width']}x{clip['height']} frame, {paths} paths, CPU s "
        f"| of which per path | clip of {clip['frames']} frames, CPU min | 1,000 clips, core days |",
        "|---|---|---|---|---|---|---|",
    ]
    for (family, backend), parts in costs.items():
        seconds = clip_s(parts, clip["frames"], paths, pixels)
        cells = (
            f"{parts['setup']:.1f}",
            f"{frame_s(parts, paths, pixels):.1f}",
            f"{pixels * parts['per_path']:.3f}",
            f"{seconds / 60:.1f}",
            f"{1000 * seconds / 86400:.1f}",
        )
        lines.append(f"| {family} | {backend} | {' | '.join(cells)} |")
    return "\n".join(lines)
