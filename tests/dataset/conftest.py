"""A tiny synthetic corpus, made through the public functions only: a disc that moves before a wall."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from focuspull.dataset import optics
from focuspull.dataset.clip import (
    CameraMeta,
    Clip,
    ClipMeta,
    DisparityMeta,
    RendererMeta,
    SamplingMeta,
    TargetMeta,
    encode_clip,
)
from focuspull.dataset.shards import publish_shard, read_staged, stage_clip

SPEC_SHA256 = hashlib.sha256(b"the corpus specification").hexdigest()
IDENTITY = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
FOCAL_MM, SENSOR_MM = 50.0, 36.0


def make_meta(
    key: str = "clip-000000",
    *,
    split: str = "train",
    width: int = 24,
    height: int = 16,
    num_frames: int = 3,
    k_at_1024: tuple[float, ...] = (100.0, 0.0),
) -> ClipMeta:
    """Consistent metadata: target p pulls focus from near to far at K ``k_at_1024[p]``."""
    mapping = optics.DisparityMap(1.0, np.inf)
    focal_px = optics.focal_length_px(FOCAL_MM, SENSOR_MM, width)
    focus = np.linspace(1.0, 0.0, num_frames)
    targets = []
    for index, k_paper in enumerate(k_at_1024):
        k = optics.k_at_width(np.full(num_frames, k_paper), width)
        radius_m = optics.lens_radius_from_k(k, focal_px, mapping)
        targets.append(
            TargetMeta(
                name=f"bokeh{index}",
                k=tuple(k),
                k_at_1024=(k_paper,) * num_frames,
                focus_disparity=tuple(focus),
                focus_distance_m=_finite_or_none(optics.focus_distance_m(focus, mapping)),
                lens_radius_m=tuple(radius_m),
                f_number=_finite_or_none(optics.f_number(FOCAL_MM, radius_m)),
                lens={"blades": 0},
                lens_label="disc",
                domain="linear_hdr",
                twin_of=None,
            )
        )
    return ClipMeta(
        key=key,
        split=split,
        scene={"family": "disc", "key": key},
        scene_sha256=hashlib.sha256(key.encode()).hexdigest(),
        width=width,
        height=height,
        num_frames=num_frames,
        fps=24.0,
        exposure_ev=0.5,
        targets=tuple(targets),
        disparity=DisparityMeta(scale=mapping.scale, offset=mapping.offset, z_near_m=1.0, z_far_m=None),
        camera=CameraMeta(
            focal_length_px=focal_px,
            focal_length_mm=FOCAL_MM,
            sensor_width_mm=SENSOR_MM,
            camera_to_world=(IDENTITY,) * num_frames,
        ),
        instances={"disc": 1},
        renderer=RendererMeta(
            backend="discs", backend_version="1.0", variant="cpu", focuspull_version="0.1.0"
        ),
        sampling=SamplingMeta(
            method="separate",
            samples=(64.0,) * (1 + len(targets)),
            noise_floor_db=(45.0, *(40.0 + p for p in range(len(targets)))),
        ),
    )


def make_arrays(meta: ClipMeta) -> dict[str, Any]:
    """Arrays for `encode_clip`: a shaded disc before a lit grid whose disparity falls from 0.4 to 0."""
    y, x = np.mgrid[0 : meta.height, 0 : meta.width].astype(np.float32) / meta.width
    phase = int(meta.scene_sha256[:4], 16) / 65536
    lamps = np.cos(60 * x + 9 * phase) * np.cos(60 * y) > 0.93
    wall = np.stack([0.08 + 0.3 * x, 0.1 + 0.2 * y, 0.15 + 0.25 * (x * y)], -1) + 4.0 * lamps[..., None]
    wall_disparity = (0.4 * x / x.max()).astype(np.float32)
    aif, disparity, instance = [], [], []
    bokeh: list[list[np.ndarray]] = [[] for _ in meta.targets]
    for frame in range(meta.num_frames):
        centre = 0.25 + 0.5 * frame / max(1, meta.num_frames - 1)
        distance = np.hypot(x - centre, y - 0.5 * y.max())
        disc = (distance < 0.14).astype(np.float32)
        shade = np.stack([0.9 - 2 * (x - centre), 0.45 + 0 * x, 0.2 + phase * (0.5 - y)], -1).clip(0.05)
        stripes = np.where(np.sin(70 * (x - centre + y)) > 0, 1.0, 0.35)[..., None]
        layers = [(wall, np.ones_like(disc), wall_disparity.mean()), (shade * stripes, disc, 1.0)]
        aif.append(_composite(layers, [0.0, 0.0]))
        for target, images in zip(meta.targets, bokeh, strict=True):
            focus = target.focus_disparity[frame]
            images.append(_composite(layers, [target.k[frame] * abs(d - focus) for _, _, d in layers]))
        disparity.append(np.where(disc > 0, np.float32(1), wall_disparity))
        instance.append(disc.astype(np.uint16))
    return {
        "aif": np.stack(aif),
        "bokeh": [np.stack(images) for images in bokeh],
        "disparity": np.stack(disparity),
        "instance": np.stack(instance),
    }


def _composite(layers: list[tuple[np.ndarray, np.ndarray, float]], radii_px: list[float]) -> np.ndarray:
    image = np.zeros((*layers[0][1].shape, 3))
    for (colour, alpha, _), radius in zip(layers, radii_px, strict=True):
        reach = int(np.ceil(radius))
        dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        kernel = (np.hypot(dx, dy) <= max(radius, 0.5)).astype(np.float64)
        kernel /= kernel.sum()
        premultiplied = cv2.filter2D(colour * alpha[..., None], -1, kernel, borderType=cv2.BORDER_REPLICATE)
        coverage = cv2.filter2D(alpha, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        image = premultiplied + (1 - coverage[..., None]) * image
    return image.clip(0).astype(np.float32)


def _finite_or_none(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(float(value) if np.isfinite(value) else None for value in values)


def make_clip(key: str = "clip-000000", **options: Any) -> Clip:
    """An encoded synthetic clip."""
    meta = make_meta(key, **options)
    return encode_clip(meta, **make_arrays(meta))


def publish(corpus: Path, name: str, clips: list[Clip], seconds: float = 1.5) -> None:
    """Stage clips and publish them as one shard."""
    staging = corpus / "staging"
    for clip in clips:
        stage_clip(clip, staging, record={"render_seconds": seconds, "render_cpu_seconds": 2 * seconds})
    staged = read_staged(staging)
    publish_shard(corpus, name, [staged[clip.meta.key] for clip in clips], spec_sha256=SPEC_SHA256)


def build_corpus(corpus: Path, **options: Any) -> None:
    """Two shards: two clips to train with, one to validate."""
    publish(corpus, "train-000000", [make_clip(f"clip-{index:06d}", **options) for index in range(2)])
    publish(corpus, "val-000000", [make_clip("clip-000002", split="val", **options)])
    (corpus / "corpus.json").write_text(json.dumps({"spec_sha256": SPEC_SHA256}))


@pytest.fixture(scope="session")
def _pristine_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = tmp_path_factory.mktemp("pristine") / "corpus"
    build_corpus(corpus)
    return corpus


@pytest.fixture
def corpus(_pristine_corpus: Path, tmp_path: Path) -> Path:
    """A copy of the tiny corpus that the test may damage."""
    return Path(shutil.copytree(_pristine_corpus, tmp_path / "corpus"))


@pytest.fixture(name="make_meta")
def _make_meta() -> Callable[..., ClipMeta]:
    return make_meta


@pytest.fixture(name="make_arrays")
def _make_arrays() -> Callable[[ClipMeta], dict[str, Any]]:
    return make_arrays


@pytest.fixture(name="make_clip")
def _make_clip() -> Callable[..., Clip]:
    return make_clip


@pytest.fixture(name="publish")
def _publish() -> Callable[..., None]:
    return publish
