"""A corpus as one HTML page that opens offline: clips, frames, targets, exact disparities, provenance.

The page is `templates/viewer.html` with its style, its script and JSON inside; it asks the network for
nothing, and a content security policy forbids that and every script but its own. What comes from metadata
reaches the page only as JSON without ``<``, ``>`` and ``&``, and the document only as text.

* **Pictures** (AIF, bokeh) are WebP: the stored pixels exactly if the budget allows, else smaller and lossy.
* **Disparity and instance ids** are always exact 16-bit values, of every ``step``-th pixel in each direction
  (`_sample_positions`); the step is 1 if the pictures have their own size. A grid is stored as its planar
  residual, zigzag coded, all high bytes before all low bytes, zlib (`_pack_grid`): surfaces are planes in
  disparity, so little is left of them.
* **Budget**: `PAGE_BUDGET_BYTES`. The first of these that fits is taken: lossless; then pictures
  at most 1024 px wide, and ever smaller ones down to 240 px; then every second, fourth, ... frame.

The same corpus gives the same bytes (with the same libraries).
"""

from __future__ import annotations

import html
import io
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from focuspull.dataset.clip import (
    ClipMeta,
    DecodedClip,
    canonical_json,
    stream_names,
)
from focuspull.dataset.errors import UserError
from focuspull.dataset.excerpt import clip_rows, load_frames, spread
from focuspull.dataset.files import write_atomic
from focuspull.dataset.markers import ShardMarker, read_marker
from focuspull.dataset.optics import REFERENCE_WIDTH_PX
from focuspull.dataset.page import as_base64, fill, inline_json, policy

ItemT = TypeVar("ItemT")

PAGE_BUDGET_BYTES = 40_000_000
"""The page is never larger: it should open in a second and fit into a message to a colleague."""

_TEMPLATES = Path(__file__).parent / "templates"
_MAX_WIDTH, _MIN_WIDTH = 1024, 240
_LOSSY_QUALITY = 90
_LOSSLESS_SHARE = 0.8
"""Bytes of lossless WebP and packed grids over those of the stored PNGs: 0.7 on rendered clips, and room."""
_THUMBNAIL_WIDTH, _THUMBNAIL_QUALITY = 384, 86
_FLOW_WIDTH = 256
_SAMPLE_CLIPS = 12
_DISPARITY_MAX = 65535


@dataclass(frozen=True)
class _Detail:
    """How much of the clips goes into the page.

    Args:
        width: Pictures are at most so wide, pixels.
        lossless: The stored pixels exactly.
        frame_step: Every how many-th frame.
    """

    width: int
    lossless: bool
    frame_step: int

    def frames(self, num_frames: int) -> range:
        return range(0, num_frames, self.frame_step)

    def picture_size(self, width: int, height: int) -> tuple[int, int]:
        shown = min(width, self.width)
        return shown, max(1, round(height * shown / width))

    def grid_step(self, width: int) -> int:
        """The smallest step whose grid is no wider than the picture."""
        return -(-width // min(width, self.width))


def write_viewer(
    corpus: Path, out_html: Path, *, max_clips: int, budget_bytes: int = PAGE_BUDGET_BYTES
) -> None:
    """Write the viewer of a corpus, one self-contained HTML file.

    Its address takes a state: ``#clip=KEY&frame=3&view=bokeh&focus=0.6&k=24`` (``templates/viewer.js``).

    Args:
        corpus: Folder of the corpus.
        out_html: The page, written atomically.
        max_clips: Clips shown at most, spread evenly over the corpus; the histograms of what the index knows
            are over all clips.
        budget_bytes: Size of the page at most.

    Raises:
        UserError: If the corpus cannot be read, its clips cannot fit, or the page cannot be written.
    """
    rows = clip_rows(corpus)
    shown = spread(rows, max_clips)
    markers = {
        shard: read_marker(corpus, shard.removesuffix(".tar"))
        for shard in sorted({row["shard"] for row in shown})
    }
    estimate = _Estimate(corpus, markers, shown)
    for detail in _details(max(row["width"] for row in shown), max(row["num_frames"] for row in shown)):
        if estimate.page_bytes(detail) > budget_bytes:
            continue
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            clips = list(
                pool.map(lambda row, d=detail: _encode_clip(corpus, markers[row["shard"]], row, d), shown)
            )
        page = _page(corpus.resolve().name, rows, shown, clips, detail)
        if len(page) <= budget_bytes:
            write_atomic(out_html, page)
            return
    raise UserError(
        f"{out_html}: {len(shown)} clips do not fit {budget_bytes} bytes even as single small frames. "
        f"Show fewer clips."
    )


def _details(widest: int, longest: int) -> Iterator[_Detail]:
    """What to try, best first."""
    if widest <= _MAX_WIDTH:
        yield _Detail(widest, True, 1)
    width = min(widest, _MAX_WIDTH)
    yield _Detail(width, False, 1)
    while width > _MIN_WIDTH:
        width = max(_MIN_WIDTH, round(0.85 * width))
        yield _Detail(width, False, 1)
    step = 2
    while step < 2 * longest:
        yield _Detail(width, False, step)
        step *= 2


class _Estimate:
    """Predicts the size of the page from middle frames of some clips, so that few pages are made in vain."""

    def __init__(self, corpus: Path, markers: dict[str, ShardMarker], rows: Sequence[dict[str, Any]]) -> None:
        self._rows = rows
        self._samples = [
            load_frames(corpus, markers[row["shard"]], row, [row["num_frames"] // 2])
            for row in spread(rows, _SAMPLE_CLIPS)
        ]

    def page_bytes(self, detail: _Detail) -> float:
        if detail.lossless:
            return sum(row["bytes"] for row in self._rows) * _LOSSLESS_SHARE * 4 / 3
        picture_bytes = pixels = grid_bytes = cells = 0
        for clip in self._samples:
            size = detail.picture_size(clip.meta.width, clip.meta.height)
            for image in (clip.aif, clip.bokeh[0]):
                picture_bytes += len(_webp(_resize(image[0], size), _LOSSY_QUALITY))
                pixels += size[0] * size[1]
            for grid in _grids(clip, detail.grid_step(clip.meta.width)):
                grid_bytes += len(_pack_grid(grid))
                cells += grid.size
        total = 0.0
        for row in self._rows:
            width, height = detail.picture_size(row["width"], row["height"])
            step = detail.grid_step(row["width"])
            per_frame = (
                width * height * (1 + row["num_targets"]) * picture_bytes / pixels
                + 2 * (row["width"] / step) * (row["height"] / step) * grid_bytes / cells
            )
            total += len(detail.frames(row["num_frames"])) * per_frame + 20_000
        return total * 4 / 3


# One clip


@dataclass(frozen=True)
class _EncodedClip:
    """What the page has of one clip.

    Args:
        facts: JSON for the page's own data: metadata, thumbnail.
        payload: Stream name to one base64 text per frame shown.
        camera_motion_px: Per pair of consecutive frames, `_camera_motion_px`.
        image_motion_px: Per pair of consecutive frames shown, `_image_motion_px`.
        brightness: Per frame shown, mean display value of the AIF in [0, 1].
    """

    facts: dict[str, Any]
    payload: dict[str, list[str]]
    camera_motion_px: list[float]
    image_motion_px: list[float]
    brightness: list[float]


def _encode_clip(corpus: Path, marker: ShardMarker, row: dict[str, Any], detail: _Detail) -> _EncodedClip:
    frames = detail.frames(row["num_frames"])
    size = detail.picture_size(row["width"], row["height"])
    step = detail.grid_step(row["width"])
    payload: dict[str, list[str]] = {stream: [] for stream in stream_names(row["num_targets"])}
    camera_motion, image_motion, brightness = [], [], []
    thumbnail, before, clip = "", None, None
    for frame in frames:
        clip = load_frames(corpus, marker, row, [frame])
        pictures = {"aif": clip.aif} | {
            target.name: images for target, images in zip(clip.meta.targets, clip.bokeh, strict=True)
        }
        for name, images in pictures.items():
            picture = _resize(images[0], size)
            payload[name].append(as_base64(_webp(picture, None if detail.lossless else _LOSSY_QUALITY)))
        for name, grid in zip(("disparity", "instance"), _grids(clip, step), strict=True):
            payload[name].append(as_base64(_pack_grid(grid)))

        if frame == frames[len(frames) // 2]:
            small = _Detail(_THUMBNAIL_WIDTH, False, 1).picture_size(row["width"], row["height"])
            thumbnail = as_base64(_webp(_resize(clip.bokeh[0][0], small), _THUMBNAIL_QUALITY))
        brightness.append(round(float(clip.aif.mean()) / 255, 4))
        if frame + 1 < row["num_frames"]:
            camera_motion.append(round(_camera_motion_px(clip.meta, clip.disparity[0], frame), 3))
        grey = _flow_input(clip.aif[0])
        if before is not None:
            image_motion.append(round(_image_motion_px(before, grey) / detail.frame_step, 2))
        before = grey
    assert clip is not None, "a clip has frames"
    facts = _facts(clip.meta, marker, row, frames) | {
        "picture": {"width": size[0], "height": size[1]},
        "grid": {
            "step": step,
            "width": len(_sample_positions(row["width"], step)),
            "height": len(_sample_positions(row["height"], step)),
        },
        "thumbnail": thumbnail,
        "brightness": _mean(brightness),
        "camera_motion_px": _mean(camera_motion),
        "image_motion_px": _mean(image_motion),
    }
    return _EncodedClip(facts, payload, camera_motion, image_motion, brightness)


def _facts(meta: ClipMeta, marker: ShardMarker, row: dict[str, Any], frames: range) -> dict[str, Any]:
    """The metadata that the page shows; per-frame values of the frames shown only."""
    samples, noise = meta.sampling.samples, meta.sampling.noise_floor_db
    return {
        "key": meta.key,
        "split": meta.split,
        "shard": marker.shard,
        "width": meta.width,
        "height": meta.height,
        "num_frames": meta.num_frames,
        "frames": list(frames),
        "fps": meta.fps,
        "exposure_ev": meta.exposure_ev,
        "disparity": meta.disparity.model_dump(mode="json"),
        "focal_length_mm": meta.camera.focal_length_mm,
        "sensor_width_mm": meta.camera.sensor_width_mm,
        "instances": {str(number): name for name, number in meta.instances.items()},
        "renderer": meta.renderer.model_dump(mode="json"),
        "method": meta.sampling.method,
        "spec_sha256": marker.spec_sha256,
        "scene_sha256": meta.scene_sha256,
        "members_sha256": marker.clip(meta.key).members_sha256,
        "bytes": row["bytes"],
        "render_seconds": row["render_seconds"],
        "aif": {"samples": samples[0], "noise_floor_db": _rounded(noise[0])},
        "targets": [
            {
                "name": target.name,
                "lens": canonical_json(target.lens).decode("ascii").strip(),
                "lens_label": target.lens_label,
                "domain": target.domain,
                "twin_of": target.twin_of,
                "samples": samples[1 + index],
                "noise_floor_db": _rounded(noise[1 + index]),
                **{
                    field: [_rounded(getattr(target, field)[frame]) for frame in frames]
                    for field in ("k", "k_at_1024", "focus_disparity", "focus_distance_m", "f_number")
                },
            }
            for index, target in enumerate(meta.targets)
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if image.shape[1::-1] == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _webp(image: NDArray[np.uint8], quality: int | None) -> bytes:
    """WebP of ``[H, W, 3]`` sRGB; without loss if quality is None."""
    file = io.BytesIO()
    if quality is None:
        # Effort 40 of method 3: 15 % smaller than the fastest, eight times as slow; more gains 3 %.
        Image.fromarray(image).save(file, format="WEBP", lossless=True, quality=40, method=3)
    else:
        Image.fromarray(image).save(file, format="WEBP", quality=quality, method=4, use_sharp_yuv=True)
    return file.getvalue()


def _grids(clip: DecodedClip, step: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Stored disparities (times 65535) and ids of the first decoded frame, every ``step``-th pixel."""
    where = np.ix_(_sample_positions(clip.meta.height, step), _sample_positions(clip.meta.width, step))
    # The decoder's float32 is the nearest to value / 65535, so rounding gives the stored integer back.
    disparity = np.round(clip.disparity[0][where].astype(np.float64) * _DISPARITY_MAX).astype(np.uint16)
    return disparity, clip.instance[0][where]


def _sample_positions(length: int, step: int) -> NDArray[np.int64]:
    """The pixels of a row or column that a grid has: the middle of each run of ``step`` pixels."""
    return np.minimum(np.arange(-(-length // step)) * step + step // 2, length - 1)


def _pack_grid(grid: NDArray[np.uint16]) -> bytes:
    """Compress a grid ``[H, W]`` without loss; ``unpackGrid`` of the script is the inverse."""
    residual = np.diff(np.diff(grid, axis=0, prepend=np.uint16(0)), axis=1, prepend=np.uint16(0))
    signed = residual.view(np.int16).astype(np.int32)
    zigzag = ((signed << 1) ^ (signed >> 15)).astype(np.uint16)
    planes = np.stack([zigzag >> 8, zigzag & 255]).astype(np.uint8)
    return zlib.compress(planes.tobytes(), 9)


def _camera_motion_px(meta: ClipMeta, disparity: NDArray[np.float32], frame: int) -> float:
    """Mean shift of the picture from a frame to the next by the camera alone, as if the scene stood still.

    Args:
        meta: The clip.
        disparity: ``[H, W]`` of the frame.
        frame: Its number; not the last one.

    Returns:
        Pixels of a picture 1024 px wide, mean over the pixels that stay in front of the camera.
    """
    y, x = np.mgrid[0 : meta.height : 4, 0 : meta.width : 4]
    x, y = x + 0.5 - meta.width / 2, y + 0.5 - meta.height / 2
    focal = meta.camera.focal_length_px
    here, there = (np.array(meta.camera.camera_to_world[index]) for index in (frame, frame + 1))
    move = np.linalg.inv(there) @ here
    # Points over their depth, so that infinity needs no exception; the camera looks along -Z, +Y is up.
    rays = np.stack([x / focal, -y / focal, np.full(x.shape, -1.0)], -1)
    inverse_depth = meta.disparity.offset + meta.disparity.scale * disparity[::4, ::4].astype(np.float64)
    moved = rays @ move[:3, :3].T + inverse_depth[..., None] * move[:3, 3]
    visible = moved[..., 2] < -1e-6
    if not visible.any():
        return 0.0
    moved, x, y = moved[visible], x[visible], y[visible]
    shift = np.hypot(focal * moved[:, 0] / -moved[:, 2] - x, focal * moved[:, 1] / moved[:, 2] - y)
    return float(shift.mean()) * REFERENCE_WIDTH_PX / meta.width


def _flow_input(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, _ = image.shape
    size = _Detail(_FLOW_WIDTH, False, 1).picture_size(width, height)
    return np.asarray(cv2.cvtColor(_resize(image, size), cv2.COLOR_RGB2GRAY), np.uint8)


def _image_motion_px(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Mean length of the optical flow between two grey images, pixels of a picture 1024 px wide.

    Farneback's method: its result does not depend on the number of threads. What has no texture counts as
    still.
    """
    flow = cv2.calcOpticalFlowFarneback(
        before, after, np.zeros((*before.shape, 2), np.float32), 0.5, 4, 15, 3, 5, 1.2, 0
    )
    return float(np.hypot(flow[..., 0], flow[..., 1]).mean()) * REFERENCE_WIDTH_PX / before.shape[1]


# Histograms


def _charts(
    rows: Sequence[dict[str, Any]], shown: Sequence[dict[str, Any]], clips: Sequence[_EncodedClip]
) -> list[dict[str, Any]]:
    """The histograms as JSON: of the whole corpus where the index knows, of the clips shown always."""

    def targets(some: Iterable[dict[str, Any]], field: str) -> list[tuple[float, float]]:
        return [pair for row in some for pair in zip(row[f"{field}_min"], row[f"{field}_max"], strict=True)]

    def depths(some: Iterable[dict[str, Any]]) -> list[tuple[float, float]]:
        return [(row["z_near_m"], math.inf if row["z_far_m"] is None else row["z_far_m"]) for row in some]

    def points(values: Iterable[float]) -> list[tuple[float, float]]:
        return [(value, value) for value in values]

    k, depth = targets(rows, "k_at_1024"), depths(rows)
    camera = points(value for clip in clips for value in clip.camera_motion_px)
    image = points(value for clip in clips for value in clip.image_motion_px)
    charts = [
        _chart("K at 1024", "px", "targets with such a K", _linear_edges(k), k, targets(shown, "k_at_1024")),
        _chart(
            "Focus disparity",
            "",
            "targets that focus there in some frame",
            list(np.linspace(0, 1, 21)),
            targets(rows, "focus_disparity"),
            targets(shown, "focus_disparity"),
        ),
        _chart(
            "Depth", "m", "clips whose depth range has such depths", _log_edges(depth), depth, depths(shown)
        ),
        _chart("Camera motion", "px", "frames, shift at 1024 px width", _linear_edges(camera), None, camera),
        _chart(
            "Image motion", "px", "frames, optical flow at 1024 px width", _linear_edges(image), None, image
        ),
        _chart(
            "Brightness",
            "",
            "frames, mean display value of the AIF",
            list(np.linspace(0, 1, 21)),
            None,
            points(value for clip in clips for value in clip.brightness),
        ),
    ]
    if any(math.isinf(far) for _, far in depth):
        charts[2]["infinite"] = True
    return charts


def _chart(
    title: str,
    unit: str,
    counted: str,
    edges: list[float],
    corpus: list[tuple[float, float]] | None,
    shown: list[tuple[float, float]],
) -> dict[str, Any]:
    return {
        "title": title,
        "unit": unit,
        "counted": counted,
        "edges": [float(f"{edge:.4g}") for edge in edges],
        "corpus": None if corpus is None else _counts(corpus, edges),
        "num_corpus": None if corpus is None else len(corpus),
        "shown": _counts(shown, edges),
        "num_shown": len(shown),
        "infinite": False,
    }


def _counts(ranges: Iterable[tuple[float, float]], edges: Sequence[float]) -> list[int]:
    """How many of the ranges touch each bin; what lies beyond the edges counts in the bins at the ends."""
    counts = [0] * (len(edges) - 1)
    for ends in ranges:
        first, last = np.clip(np.searchsorted(edges, ends, side="right") - 1, 0, len(counts) - 1)
        for position in range(first, last + 1):
            counts[position] += 1
    return counts


def _linear_edges(ranges: Sequence[tuple[float, float]]) -> list[float]:
    """20 bins from 0 to the largest value, rounded up to two digits."""
    top = max((high for _, high in ranges), default=0.0)
    if top <= 0:
        top = 1.0
    unit = 10.0 ** (math.floor(math.log10(top)) - 1)
    return list(np.linspace(0, math.ceil(top / unit) * unit, 21))


def _log_edges(ranges: Sequence[tuple[float, float]]) -> list[float]:
    """20 bins of one ratio from the smallest to the largest finite value, and one for infinity if needed."""
    finite = [value for ends in ranges for value in ends if math.isfinite(value)]
    edges = list(np.geomspace(min(finite), max(max(finite), 2 * min(finite)) * 1.001, 21))
    return [*edges, edges[-1] ** 2 / edges[-2]] if any(math.isinf(high) for _, high in ranges) else edges


# The page


def _page(
    name: str,
    rows: Sequence[dict[str, Any]],
    shown: Sequence[dict[str, Any]],
    clips: Sequence[_EncodedClip],
    detail: _Detail,
) -> bytes:
    style, script = ((_TEMPLATES / file).read_text(encoding="utf-8") for file in ("viewer.css", "viewer.js"))
    turbo = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_TURBO)[0, :, ::-1]
    document = {
        "corpus": _summary(name, rows),
        "detail": {
            "lossless": detail.lossless,
            "quality": _LOSSY_QUALITY,
            "width": detail.width,
            "frame_step": detail.frame_step,
        },
        "charts": _charts(rows, shown, clips),
        "clips": [clip.facts for clip in clips],
        "turbo": as_base64(np.asarray(turbo, np.uint8).tobytes()),
    }
    payloads = "\n".join(
        f'<script type="application/json" id="payload-{index}">{inline_json(clip.payload)}</script>'
        for index, clip in enumerate(clips)
    )
    parts = {
        "policy": html.escape(policy(style, script)),
        "title": html.escape(name),
        "style": style,
        "script": script,
        "document": inline_json(document),
        "payloads": payloads,
    }
    return fill(_TEMPLATES / "viewer.html", parts)


def _summary(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the index says of the whole corpus."""
    seconds = [row["render_cpu_seconds"] for row in rows]
    splits = sorted({row["split"] for row in rows})
    return {
        "name": name,
        "num_clips": len(rows),
        "num_frames": sum(row["num_frames"] for row in rows),
        "num_targets": sum(row["num_targets"] for row in rows),
        "bytes": sum(row["bytes"] for row in rows),
        "cpu_seconds": None if None in seconds else round(sum(seconds)),
        "splits": {split: sum(row["split"] == split for row in rows) for split in splits},
        "sizes": sorted({f"{row['width']} × {row['height']}" for row in rows}),
        "backends": sorted({f"{row['backend']} {row['backend_version']}" for row in rows}),
    }
