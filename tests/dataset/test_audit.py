"""The audit passes what a lens does and names every fault that is planted.

The sound corpus is ray traced here, through an open lens of the radius that its metadata state: textured
rectangles in space and a moving camera, a second implementation of what the backends render.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

from focuspull.dataset import codec, color, optics
from focuspull.dataset.audit import Audit, audit_corpus
from focuspull.dataset.audit_blur import BlurScale, blur_stack, measure_blur, outline_squeeze, pool_scales
from focuspull.dataset.audit_disparity import lattice_bits
from focuspull.dataset.check import check_corpus
from focuspull.dataset.cli import main
from focuspull.dataset.clip import (
    CameraMeta,
    Clip,
    ClipMeta,
    DecodedClip,
    DisparityMeta,
    RendererMeta,
    SamplingMeta,
    TargetMeta,
    decode_clip,
    encode_clip,
    encode_meta,
    member_names,
)
from focuspull.dataset.errors import UserError
from focuspull.dataset.markers import read_markers, read_members
from focuspull.dataset.shards import publish_shard, read_staged, stage_clip

SPEC_SHA256 = hashlib.sha256(b"planes").hexdigest()
WIDTH, HEIGHT, NUM_FRAMES = 224, 126, 6
FOCAL_MM, SENSOR_MM = 36.0, 36.0
FOCAL_PX = optics.focal_length_px(FOCAL_MM, SENSOR_MM, WIDTH)
K_AT_1024 = (48.0, 72.0)
NUM_LENS_POINTS, NUM_PIXEL_POINTS = 96, 16

# Corner and two edges of each rectangle; the camera starts at the origin and looks along -z, y is up.
RECTANGLES = [
    ((-6.0, -1.0, -9.0), (12.0, 0.0, 0.0), (0.0, 0.0, 10.0)),  # floor
    ((-8.0, -2.0, -6.0), (16.0, 0.0, 0.0), (0.0, 9.0, 0.0)),  # wall
    ((-0.75, -1.0, -2.6), (0.9, 0.0, 0.1), (0.0, 1.3, 0.0)),  # subject
    ((0.35, -0.9, -1.5), (0.4, 0.0, 0.05), (0.0, 0.8, 0.0)),  # foreground
]
NAMES = ("floor", "wall", "subject", "foreground")


def camera_to_world(frame: int, seed: int) -> np.ndarray:
    """A camera that moves sideways and forwards and turns a little."""
    t, turn = frame / (NUM_FRAMES - 1), 0.03 * frame / (NUM_FRAMES - 1)
    pose = np.eye(4)
    pose[0, 0], pose[0, 2], pose[2, 0], pose[2, 2] = np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)
    pose[:3, 3] = [(0.12 + 0.03 * seed) * t, 0.02 * t, -0.25 * t]
    return pose


def textures(seed: int) -> list[np.ndarray]:
    """One smooth random image ``[512, 512]`` per rectangle, never near black or white."""
    rng = np.random.default_rng(seed)
    results = []
    for _ in RECTANGLES:
        octaves = [cv2.GaussianBlur(rng.standard_normal((512, 512)), (0, 0), s) * s for s in (2, 4, 9)]
        image = np.sum(octaves, axis=0)
        results.append((0.3 + 0.12 * image / image.std()).clip(0.02, 0.9).astype(np.float32))
    return results


def trace(
    pose: np.ndarray,
    images: Sequence[np.ndarray],
    jitter: tuple[float, float],
    lens: np.ndarray,
    focus_m: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Light, depth and instance ``[H, W]`` along rays from a lens point (metres) through the plane in
    focus."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    x = (columns + jitter[0] - WIDTH / 2) / FOCAL_PX
    y = -(rows + jitter[1] - HEIGHT / 2) / FOCAL_PX
    direction = np.stack([x * focus_m - lens[0], y * focus_m - lens[1], np.full(x.shape, -focus_m)], -1)
    direction = direction @ pose[:3, :3].T / focus_m  # depth 1 per unit of length
    origin = pose[:3, :3] @ np.array([lens[0], lens[1], 0.0]) + pose[:3, 3]
    light = np.zeros((HEIGHT, WIDTH), np.float32)
    depth = np.full((HEIGHT, WIDTH), np.inf)
    instance = np.zeros((HEIGHT, WIDTH), np.uint16)
    for number, ((corner, along, up), image) in enumerate(zip(RECTANGLES, images, strict=True)):
        corner_m, along_m, up_m = (np.array(vector) for vector in (corner, along, up))
        normal = np.cross(along_m, up_m)
        distance = (corner_m - origin) @ normal / (direction @ normal)
        point = origin + distance[..., None] * direction - corner_m
        u, v = (point @ edge / (edge @ edge) for edge in (along_m, up_m))
        hit = (distance > 0) & (distance < depth) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
        scale = 150.0  # texels per metre
        column = ((u * np.linalg.norm(along_m) * scale) % 511).astype(np.float32)
        row = ((v * np.linalg.norm(up_m) * scale) % 511).astype(np.float32)
        shade = cv2.remap(image, column, row, cv2.INTER_LINEAR)
        light[hit], depth[hit], instance[hit] = shade[hit], distance[hit], number + 1
    return light, depth, instance


def render_clip(key: str, split: str, seed: int) -> Clip:
    """One clip: a target focused on the subject and one that pulls focus from near to far."""
    images = textures(seed)
    poses = [camera_to_world(frame, seed) for frame in range(NUM_FRAMES)]
    truths = [trace(pose, images, (0.5, 0.5), np.zeros(2), 1.0) for pose in poses]
    depth = np.stack([truth[1] for truth in truths])
    mapping = optics.DisparityMap(float(depth.min()), float(depth.max()))
    disparity = mapping.disparity(depth).clip(0, 1).astype(np.float32)
    focus = [np.full(NUM_FRAMES, float(mapping.disparity(2.4))), np.linspace(0.9, 0.1, NUM_FRAMES)]
    index = np.arange(NUM_LENS_POINTS)
    height, turn = np.sqrt((index + 0.5) / NUM_LENS_POINTS), index * np.pi * (3 - np.sqrt(5))
    disc = np.stack([height * np.cos(turn), height * np.sin(turn)], -1)
    pixel = (0.5 + np.outer(index, [0.7548776662, 0.5698402910])) % 1.0
    aif = [
        np.mean([trace(pose, images, (a, b), np.zeros(2), 1.0)[0] for a, b in pixel[:NUM_PIXEL_POINTS]], 0)
        for pose in poses
    ]
    targets, bokeh = [], []
    for number, k_paper in enumerate(K_AT_1024):
        k = optics.k_at_width(np.full(NUM_FRAMES, k_paper), WIDTH)
        radius_m = optics.lens_radius_from_k(k, FOCAL_PX, mapping)
        focus_m = optics.focus_distance_m(focus[number], mapping)
        bokeh.append(
            [
                np.mean(
                    [
                        trace(pose, images, tuple(p), radius_m[frame] * u, focus_m[frame])[0]
                        for p, u in zip(pixel, disc, strict=True)
                    ],
                    axis=0,
                )
                for frame, pose in enumerate(poses)
            ]
        )
        targets.append(
            TargetMeta(
                name=f"bokeh{number}",
                k=tuple(k),
                k_at_1024=(k_paper,) * NUM_FRAMES,
                focus_disparity=tuple(focus[number]),
                focus_distance_m=tuple(focus_m),
                lens_radius_m=tuple(radius_m),
                f_number=tuple(optics.f_number(FOCAL_MM, radius_m)),
                lens={"blades": 0},
                lens_label="disc",
                domain="linear_hdr",
                twin_of=None,
            )
        )
    meta = ClipMeta(
        key=key,
        split=split,
        scene={"world": {"objects": [{"name": name} for name in NAMES], "seed": seed}},
        scene_sha256=hashlib.sha256(key.encode()).hexdigest(),
        width=WIDTH,
        height=HEIGHT,
        num_frames=NUM_FRAMES,
        fps=12.0,
        exposure_ev=0.0,
        targets=tuple(targets),
        disparity=DisparityMeta(
            scale=mapping.scale, offset=mapping.offset, z_near_m=mapping.z_near_m, z_far_m=mapping.z_far_m
        ),
        camera=CameraMeta(
            focal_length_px=FOCAL_PX,
            focal_length_mm=FOCAL_MM,
            sensor_width_mm=SENSOR_MM,
            camera_to_world=cast("Any", tuple(tuple(map(tuple, pose.tolist())) for pose in poses)),
        ),
        instances={name: number + 1 for number, name in enumerate(NAMES)},
        renderer=RendererMeta(
            backend="planes", backend_version="1", variant="cpu", focuspull_version="0.1.0"
        ),
        sampling=SamplingMeta(
            method="separate", samples=(16.0, 96.0, 96.0), noise_floor_db=(45.0, 45.0, 45.0)
        ),
    )
    return encode_clip(
        meta,
        aif=colour(aif),
        bokeh=[colour(frames) for frames in bokeh],
        disparity=disparity,
        instance=np.stack([truth[2] for truth in truths]),
    )


def colour(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Grey light as linear RGB ``[T, H, W, 3]``, a little warm."""
    return (np.stack(frames)[..., None] * np.array([1.0, 0.9, 0.8])).astype(np.float32)


def encoded_again(clip: DecodedClip, **changes: Any) -> Clip:
    """A clip of other arrays or metadata, encoded without the checks that would refuse it."""
    clip = replace(clip, **changes)
    frames = [
        *(codec.encode_rgb(image) for video in (clip.aif, *clip.bokeh) for image in video),
        *(codec.encode_disparity(image) for image in clip.disparity),
        *(codec.encode_instance(image) for image in clip.instance),
    ]
    names = member_names(len(clip.bokeh), clip.meta.num_frames)
    contents = [encode_meta(clip.meta), *frames]
    return Clip(meta=clip.meta, members=tuple(zip(names, contents, strict=True)))


def published(corpus: Path, clips: Sequence[Clip]) -> Path:
    """A corpus with one shard per split."""
    for clip in clips:
        stage_clip(clip, corpus / "staging", record={})
    staged = read_staged(corpus / "staging")
    for split in sorted({clip.meta.split for clip in clips}):
        keys = [clip.meta.key for clip in clips if clip.meta.split == split]
        publish_shard(corpus, f"{split}-000000", [staged[key] for key in keys], spec_sha256=SPEC_SHA256)
    (corpus / "corpus.json").write_text(json.dumps({"spec_sha256": SPEC_SHA256}))
    return corpus


def with_k(clip: DecodedClip, factor: float) -> Clip:
    """The clip with another K in everything that its metadata tie to it."""
    targets = tuple(
        target.model_copy(
            update={
                "k": tuple(factor * k for k in target.k),
                "k_at_1024": tuple(factor * k for k in target.k_at_1024),
                "lens_radius_m": tuple(factor * radius for radius in target.lens_radius_m),
                "f_number": tuple(None if n is None else n / factor for n in target.f_number),
            }
        )
        for target in clip.meta.targets
    )
    return encoded_again(clip, meta=clip.meta.model_copy(update={"targets": targets}))


def with_file(clip: Clip, shape: dict[str, Any]) -> Clip:
    """The clip with one more object in its scene."""
    world = clip.meta.scene["world"]
    scene = {"world": {**world, "objects": [*world["objects"], {"name": "thing", "shape": shape}]}}
    meta = clip.meta.model_copy(update={"scene": scene})
    return Clip(meta=meta, members=(("json", encode_meta(meta)), *clip.members[1:]))


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """Two sound clips, in two splits."""
    return [render_clip("clip-000000", "train", 0), render_clip("clip-000001", "val", 1)]


@pytest.fixture(scope="module")
def clip(clips: list[Clip]) -> DecodedClip:
    """The first of them, decoded."""
    return decode_clip(dict(clips[0].members))


@pytest.fixture(scope="module")
def sound(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of both."""
    return published(tmp_path_factory.mktemp("audit") / "sound", clips)


@pytest.fixture
def audited(clips: list[Clip], tmp_path: Path) -> Callable[[Clip], Audit]:
    """A function that puts a clip in place of the first one, finds nothing to check, and audits."""

    def audit(faulty: Clip) -> Audit:
        corpus = published(tmp_path / "corpus", [faulty, clips[1]])
        assert check_corpus(corpus) == []
        return audit_corpus(corpus, max_clips=9, seed=0)

    return audit


def verdicts(audit: Audit) -> dict[str, str]:
    """Check to verdict."""
    return {row.check: row.verdict for row in audit.rows}


def failed(audit: Audit) -> list[str]:
    """The checks that failed."""
    return [row.check for row in audit.rows if row.verdict == "FAIL"]


def test_a_sound_corpus_passes(sound: Path):
    audit = audit_corpus(sound, max_clips=9, seed=0)
    assert audit.problems == []
    found = verdicts(audit)
    assert {name for name, verdict in found.items() if verdict == "ok"} == set(found) - {
        "coverage of d_f",
        "coverage of K",
    }
    assert audit.table().splitlines()[-1] == f"{sound}: no problems"


def test_the_scale_of_every_sound_video_is_one(clips: list[Clip]):
    for clip in clips:
        decoded = decode_clip(dict(clip.members))
        for index in range(2):
            blur = measure_blur(decoded, index, range(NUM_FRAMES))
            assert blur.log_scale is not None and abs(blur.log_scale) < 0.02
            assert blur.standard_error is not None and blur.standard_error < 0.01


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_wrong_k_is_found_and_measured(clip: DecodedClip, audited: Callable[[Clip], Audit], factor: float):
    audit = audited(with_k(clip, factor))
    assert failed(audit)[0] == "blur radius"
    problems = [line for line in audit.problems if "blur radius must be K |d - d_f|" in line]
    assert [line.split(": ")[1] for line in problems] == ["bokeh0, frames 0 to 5", "bokeh1, frames 0 to 5"]
    for line in problems:
        assert line.startswith("train-000000.tar, clip-000000: ")
        assert float(line.split(", is ")[1].split()[0]) == pytest.approx(1 / factor, abs=0.02)


@pytest.mark.parametrize("pair", [(2, 3), (0, 5)])
def test_swapped_bokeh_frames_are_named(
    clip: DecodedClip, audited: Callable[[Clip], Audit], pair: tuple[int, int]
):
    bokeh = [clip.bokeh[0].copy(), clip.bokeh[1]]
    bokeh[0][list(pair)] = clip.bokeh[0][list(pair[::-1])]
    audit = audited(encoded_again(clip, bokeh=bokeh))
    assert failed(audit) == ["order of bokeh frames"]
    assert [line.split(": must show")[0] for line in audit.problems] == [
        f"train-000000.tar, clip-000000: bokeh0, frame {frame}" for frame in pair
    ]
    assert f"fits frame {pair[1]}: frames are swapped. Render it again with: rm -f" in audit.problems[0]


@pytest.mark.parametrize("pair", [(2, 3), (0, 5)])
def test_swapped_disparity_frames_are_named(
    clip: DecodedClip, audited: Callable[[Clip], Audit], pair: tuple[int, int]
):
    disparity = clip.disparity.copy()
    disparity[list(pair)] = clip.disparity[list(pair[::-1])]
    audit = audited(encoded_again(clip, disparity=disparity))
    assert failed(audit) == ["order of disparity frames"]
    assert [line.split(": must fit")[0] for line in audit.problems] == [
        f"train-000000.tar, clip-000000: disparity, frame {frame}" for frame in pair
    ]
    assert f"fits those of frame {pair[1]}: the frames are swapped" in audit.problems[0]


def test_swapped_disparity_and_instances_are_found_by_the_camera(
    clip: DecodedClip, audited: Callable[[Clip], Audit]
):
    order = [0, 1, 3, 2, 4, 5]
    audit = audited(encoded_again(clip, disparity=clip.disparity[order], instance=clip.instance[order]))
    assert "order of disparity frames" in failed(audit)


def test_frames_normalised_one_by_one_are_found(clip: DecodedClip, audited: Callable[[Clip], Audit]):
    low, high = (reduce(clip.disparity, axis=(1, 2), keepdims=True) for reduce in (np.min, np.max))
    audit = audited(encoded_again(clip, disparity=(clip.disparity - low) / (high - low)))
    assert failed(audit) == ["steadiness of disparity"]
    assert "as if every frame had been normalised by itself" in audit.problems[0]


def test_one_frame_that_jumps_is_found(clip: DecodedClip, audited: Callable[[Clip], Audit]):
    disparity = clip.disparity.copy()
    disparity[3] *= 0.99
    audit = audited(encoded_again(clip, disparity=disparity))
    assert failed(audit) == ["steadiness of disparity"]
    assert "disparity, frame 3: points that do not move" in audit.problems[0]


def test_disparity_through_an_open_lens_is_found(clip: DecodedClip, audited: Callable[[Clip], Audit]):
    target, mapping = clip.meta.targets[0], clip.meta.disparity
    index = np.arange(24)
    height, turn = np.sqrt((index + 0.5) / 24), index * np.pi * (3 - np.sqrt(5))
    blank = textures(0)
    frames = []
    for frame in range(NUM_FRAMES):
        depths = [
            trace(
                camera_to_world(frame, 0),
                blank,
                (0.5, 0.5),
                target.lens_radius_m[frame] * np.array([h * np.cos(a), h * np.sin(a)]),
                target.focus_distance_m[frame] or 1.0,
            )[1]
            for h, a in zip(height, turn, strict=True)
        ]
        frames.append(np.mean([(1 / depth - mapping.offset) / mapping.scale for depth in depths], axis=0))
    disparity = np.stack(frames)
    disparity = (disparity - disparity.min()) / (disparity.max() - disparity.min())
    audit = audited(encoded_again(clip, disparity=disparity.astype(np.float32)))
    assert "edges of disparity" in failed(audit)
    assert any("it comes from an open lens" in line for line in audit.problems)


def test_disparity_averaged_over_pixels_is_found(clip: DecodedClip, audited: Callable[[Clip], Audit]):
    averaged = np.stack([cv2.blur(image, (3, 3)) for image in clip.disparity])
    averaged = (averaged - averaged.min()) / (averaged.max() - averaged.min())
    assert "edges of disparity" in failed(audited(encoded_again(clip, disparity=averaged)))


@pytest.mark.parametrize("bits", [8, 10])
def test_coarse_disparity_is_found(clip: DecodedClip, audited: Callable[[Clip], Audit], bits: int):
    steps = 2**bits - 1
    audit = audited(encoded_again(clip, disparity=np.round(clip.disparity * steps) / np.float32(steps)))
    assert "bits of disparity" in failed(audit)
    assert f"must have 16 bits, has {bits}: all values are multiples of 1/{steps}" in "".join(audit.problems)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda video: np.roll(video, 1, axis=2), r"is displaced by \d\.\d+ px"),
        (lambda video: brighter(video, 1.1), r"but has 1\.10\d times its light"),
        (
            lambda video: np.stack([cv2.GaussianBlur(f, (0, 0), 1.0) for f in video]),
            r"blurred by another [12]\.\d px",
        ),
    ],
)
def test_what_is_in_focus_must_be_the_aif(
    clip: DecodedClip,
    audited: Callable[[Clip], Audit],
    change: Callable[[np.ndarray], np.ndarray],
    found: str,
):
    audit = audited(encoded_again(clip, bokeh=[change(clip.bokeh[0]), clip.bokeh[1]]))
    assert "AIF is bokeh in focus" in failed(audit)
    assert [line for line in audit.problems if re.search(rf"clip-000000: bokeh0, .*{found}", line)]


def brighter(video: np.ndarray, factor: float) -> np.ndarray:
    """The video with more light."""
    return color.to_uint8(color.linear_to_srgb((factor * color.srgb_to_linear(video / 255.0)).clip(0, 1)))


def test_a_noise_floor_that_the_pixels_contradict_is_found(
    clip: DecodedClip, audited: Callable[[Clip], Audit]
):
    noise = np.random.default_rng(0).normal(0, 6, clip.bokeh[0].shape)
    noisy = [(video + noise).clip(0, 254).astype(np.uint8) for video in clip.bokeh]
    audit = audited(encoded_again(clip, bokeh=noisy))
    assert failed(audit) == ["recorded noise floors"]
    assert "the recorded noise floors 45.0 and 45.0 dB promise 41." in audit.problems[0]


def test_a_clip_twice_is_found_in_one_split_and_in_two(clips: list[Clip], tmp_path: Path):
    for split, places in (("train", "split train"), ("test", "splits test and train")):
        meta = clips[0].meta.model_copy(
            update={"key": "clip-000007", "split": split, "scene_sha256": hashlib.sha256(b"7").hexdigest()}
        )
        copy = Clip(meta=meta, members=(("json", encode_meta(meta)), *clips[0].members[1:]))
        audit = audit_corpus(published(tmp_path / split, [*clips, copy]), max_clips=1, seed=0)
        assert failed(audit) == ["splits"]
        (problem,) = audit.problems
        assert "has the same pixels in all 5 streams" in problem and places in problem
        assert "clip-000000" in problem and "clip-000007" in problem


def test_a_world_in_two_splits_is_found(clips: list[Clip], tmp_path: Path):
    def with_world(split: str) -> Audit:
        scene = {"world": clips[0].meta.scene["world"], "seed": 9}
        meta = clips[1].meta.model_copy(update={"scene": scene, "split": split})
        other = Clip(meta=meta, members=(("json", encode_meta(meta)), *clips[1].members[1:]))
        return audit_corpus(published(tmp_path / split, [clips[0], other]), max_clips=1, seed=0)

    assert "the same world" in with_world("val").problems[0]
    assert with_world("train").problems == []


def test_a_file_in_two_splits_is_found_unless_blender_brings_it(clips: list[Clip], tmp_path: Path):
    def with_shape(folder: str, name: str) -> Audit:
        shape = {"type": "mesh", "file": {"name": name, "sha256": "ab" * 32}}
        corpus = published(tmp_path / folder, [with_file(clip, shape) for clip in clips])
        return audit_corpus(corpus, max_clips=1, seed=0)

    audit = with_shape("own", "bunny.glb")
    assert failed(audit) == ["splits"]
    (problem,) = audit.problems
    assert "its file bunny.glb (SHA-256 abababababab) must be in one split" in problem
    bundled = with_shape("bundled", "bpy:studiolights/world/forest.exr")
    assert bundled.problems == []
    assert "1 of Blender's shared" in bundled.rows[-1].measured


def test_what_has_no_texture_is_counted_and_does_not_pass(
    clip: DecodedClip, audited: Callable[[Clip], Audit], tmp_path: Path
):
    flat = np.full_like(clip.aif, 90)
    flat[:, 0, 0] = 91  # the check refuses images of one colour
    meta = clip.meta.model_copy(update={"split": "val"})
    blank = encoded_again(clip, meta=meta, aif=flat, bokeh=[flat, flat])
    audit = audit_corpus(published(tmp_path / "flat", [blank]), max_clips=9, seed=0)
    row = next(row for row in audit.rows if row.check == "blur radius")
    assert row.verdict == "not measured"
    assert row.measured == "0 of 2 videos; 2 not measured: not enough texture"
    assert audit.problems == []


def test_lenses_that_no_ellipse_describes_are_left_out_and_counted(
    clip: DecodedClip, audited: Callable[[Clip], Audit]
):
    lens = {"blades": 0, "cat_eye": 0.5, "squeeze": 1.0}
    first = clip.meta.targets[0].model_copy(update={"lens": lens, "lens_label": "disc, cat-eye 0.5"})
    meta = clip.meta.model_copy(update={"targets": (first, clip.meta.targets[1])})
    row = next(r for r in audited(encoded_again(clip, meta=meta)).rows if r.check == "blur radius")
    assert row.verdict == "ok"
    assert "3 of 4 videos" in row.measured
    assert "1 not measured: lens disc, cat-eye 0.5" in row.measured


@pytest.mark.parametrize(
    ("lens", "squeeze"),
    [
        ({}, 1.0),
        ({"blades": 6, "rotation_deg": 12.0}, 1.0),
        ({"blades": 3, "roundness": 1.0}, 1.0),
        ({"blades": 0, "squeeze": 1.8, "cat_eye_radius": 1.0, "vignetting": False}, 1.8),
        ({"blades": 4}, None),
        ({"spherical": -0.1}, None),
        ({"obstruction": 0.4}, None),
    ],
)
def test_lenses_close_to_an_ellipse_are_measured(
    clip: DecodedClip, lens: dict[str, Any], squeeze: float | None
):
    target = clip.meta.targets[0].model_copy(update={"lens": lens})
    assert outline_squeeze(target) == squeeze


@pytest.mark.parametrize(
    ("log_scale", "noise_known", "is_wrong"),
    [
        (0.06, True, True),
        (0.06, False, False),
        (0.08, False, True),
        (-0.06, False, True),
        (-0.04, True, False),
    ],
)
def test_unrecorded_noise_excuses_a_little_more_blur_and_nothing_else(
    log_scale: float, noise_known: bool, is_wrong: bool
):
    blur = BlurScale("bokeh0", log_scale, 0.005, 100, None, noise_known=noise_known)
    assert blur.is_wrong == is_wrong


def test_many_videos_together_show_less_than_one_alone():
    blurs = [BlurScale("bokeh0", 0.04, 0.005, 100, None)] * 9
    assert not any(blur.is_wrong for blur in blurs)
    pooled = pool_scales(blurs)
    assert pooled is not None and pooled[2]


@pytest.mark.parametrize("squeeze", [1.0, 2.0])
def test_blurring_a_wave_by_a_disc_gives_its_bessel_factor(squeeze: float):
    columns = np.arange(256)
    period, radius = 16.0, 4.0
    wave = np.tile(np.cos(2 * np.pi * columns / period), (256, 1)).astype(np.float32)
    blurred = blur_stack(wave, [radius], squeeze=squeeze)[0]
    u = (np.arange(200000) + 0.5) / 100000 - 1
    across = radius / np.sqrt(squeeze)
    factor = np.sum(np.sqrt(1 - u**2) * np.cos(2 * np.pi * across * u / period)) / np.sum(np.sqrt(1 - u**2))
    middle = slice(96, 160)
    np.testing.assert_allclose(blurred[128, middle], factor * wave[128, middle], atol=2e-3)


def test_levels_of_flat_cards_are_not_taken_for_few_bits():
    rng = np.random.default_rng(0)
    cards = rng.integers(0, 65536, 12)
    assert lattice_bits((rng.choice(cards, (3, 8, 8)) / 65535).astype(np.float32)) is None


def test_the_draw_of_clips_follows_the_seed(sound: Path):
    draws = [
        [clip["clip"] for clip in audit_corpus(sound, max_clips=1, seed=seed).clips]
        for seed in (0, 0, 1, 2, 3)
    ]
    assert draws[0] == draws[1]
    assert len({draw[0] for draw in draws}) == 2


def test_an_unreadable_clip_is_a_problem_and_the_rest_is_measured(
    sound: Path, clips: list[Clip], tmp_path: Path
):
    corpus = published(tmp_path / "corpus", clips)
    (marker,) = [m for m in read_markers(corpus) if m.name == "train-000000"]
    entry = next(m for m in marker.clips[0].members if m.name == "bokeh1.002.png")
    content = bytearray((corpus / marker.shard).read_bytes())
    content[entry.offset : entry.offset + 64] = bytes(64)
    (corpus / marker.shard).write_bytes(content)
    audit = audit_corpus(corpus, max_clips=9, seed=0)
    assert failed(audit) == ["clips"]
    (problem,) = audit.problems
    assert problem.startswith("train-000000.tar, clip-000000: cannot be read: bokeh1.002.png: ")
    assert len(audit.clips) == 1


def test_no_corpus_is_one_line_and_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UserError, match="is not a folder"):
        audit_corpus(tmp_path / "nowhere", max_clips=1, seed=0)
    assert main(["audit", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_prints_the_table_and_writes_json(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["audit", str(sound), "--clips", "1", "--json", str(tmp_path / "audit.json")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("check ") and "blur radius" in printed
    content = json.loads((tmp_path / "audit.json").read_text())
    assert content["problems"] == []
    assert content["clips"][0]["blur"][0]["target"] == "bokeh0"


RENDERED = """
name: audited
description: a textured floor, a wall and boxes
seed: 4
backend: mitsuba
splits: {train: 2}
clips_per_shard: 2
film: {width: 224, height: 126, fps: 12, num_frames: 4}
quality: {aif_samples: 36, bokeh_samples: 36, max_bounces: 1, denoise: false}
scenes:
  - family: world
    world:
      objects:
        - name: floor
          shape: {type: plane, size_m: [20, 20]}
          material: {roughness: 0.9, base_color: {type: perlin, color_a: [0.1, 0.1, 0.1], color_b: [0.8, 0.7,
              0.6], cells: 32, tiles: [6, 6]}}
        - name: wall
          shape: {type: box, size_m: [16, 0.2, 8]}
          position_m: [0, 5, 4]
          material: {roughness: 0.9, base_color: {type: bricks, color_a: [0.7, 0.3, 0.2], color_b: [0.2, 0.2,
              0.2], cells: 8, tiles: [8, 8]}}
        - name: subject
          role: subject
          shape: {type: box, size_m: [0.8, 0.5, 1]}
          position_m: [-0.4, 0, 0.5]
          material: {roughness: 0.9, base_color: {type: checker, color_a: [0.8, 0.2, 0.1], color_b: [0.1, 0.1,
              0.4], cells: 8}}
        - name: near
          role: foreground
          shape: {type: box, size_m: [0.3, 0.3, 0.6]}
          position_m: [0.6, -2, 0.3]
          material: {roughness: 0.9}
      lights:
        - {type: area, position_m: [-2, -3, 4], look_at_m: [0, 0, 0], size_m: [2, 2], radiance: [5, 5, 5]}
      environment: {type: constant, radiance: [0.4, 0.4, 0.4]}
      camera:
        path: {type: dolly, position_m: [0, -4, 1.2], look_at_m: [0, 0, 0.6], offset_m: [0.15, 0.2, 0]}
targets:
  - {k_at_1024: [48, 64], focus: [subject]}
  - {k_at_1024: [48, 64], focus: [foreground, subject], lens: {blades: 6}}
"""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips rendered by Mitsuba through the command."""
    folder = tmp_path_factory.mktemp("rendered")
    (folder / "audited.yaml").write_text(RENDERED)
    command = ["-m", "focuspull.render", "run", str(folder / "audited.yaml"), "--out", str(folder / "corpus")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "corpus"


@pytest.mark.mitsuba
def test_what_mitsuba_renders_passes(rendered: Path):
    audit = audit_corpus(rendered, max_clips=9, seed=0)
    assert audit.problems == []
    assert verdicts(audit)["blur radius"] == "ok"


@pytest.mark.mitsuba
@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_wrong_k_of_mitsuba_is_found(rendered: Path, tmp_path: Path, factor: float):
    (marker,) = read_markers(rendered)
    clips = [decode_clip(read_members(rendered, marker, clip.key)) for clip in marker.clips]
    corpus = published(tmp_path / "corpus", [with_k(clips[0], factor), encoded_again(clips[1])])
    assert check_corpus(corpus) == []
    audit = audit_corpus(corpus, max_clips=9, seed=0)
    assert "blur radius" in failed(audit)
    assert all(line.startswith(f"{marker.shard}, {clips[0].meta.key}: ") for line in audit.problems)
