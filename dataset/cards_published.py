"""``cards200``: the test protocol of Any-to-Bokeh's paper, made anew whenever a window of it is asked for.

Its 200 videos are not published; its generator says how they were drawn (arXiv 2505.21593, released code):
four cut-outs before a still picture, 25 frames of 1024x576, every cut-out facing the camera at a depth z of
its own, ``d = 1/z`` as it is (1 is nearest, the background has 0.005 to 0.01), focus on each of the four, K
one of 4, 8, 16 and 32 for each. Depths are 1, 2.33, 3.67 and 5 in a random order, each off by up to 0.25,
the background's is in [100, 200].

With ``official_jitter`` they move as published: depths are drawn anew in every frame, so that the blur of
what is out of focus flickers, places take a random step of up to 40 px along each axis, and a moving matte
is cropped to itself in every frame. Otherwise depths hold for the clip, places follow smooth paths that go
about as far in a clip (a random walk of such steps has gone 115 px after 25 frames), and a matte keeps its
own motion.

Light is blurred by lens rays (`focuspull.dataset.cards_lens`), where the published generator blurs 8-bit
display values; highlights apart the two differ by little. The user's mattes are RGBA PNGs, or folders of
them, a frame each (the last one holds); without any, cut-outs are drawn.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from focuspull.dataset import optics
from focuspull.dataset.cards_lens import Layer, see_through_lens, see_through_pinhole
from focuspull.dataset.cards_scene import Card, Scene, Wave, what_is_seen
from focuspull.dataset.cards_shapes import (
    REC709,
    random_cutout,
    random_spots,
    random_texture,
    read_background,
    read_matte,
)
from focuspull.dataset.clip import FrozenModel, canonical_json
from focuspull.dataset.color import encode_display, to_uint8
from focuspull.dataset.documents import document_path, read_document, set_field, validated
from focuspull.dataset.errors import UserError
from focuspull.dataset.reader import ClipRow, Sample

ADDRESS = "cards200"
"""What stands for the folder of this test set: ``cards200``, or ``cards200:PATH.yaml`` with other fields."""
SPECS = Path(__file__).parent / "specs"
SPLIT = "test"
NUM_OBJECTS = 4
DEPTHS = tuple(np.linspace(1, 5, NUM_OBJECTS).tolist())
JITTER = (DEPTHS[-1] - DEPTHS[0]) / NUM_OBJECTS / 4
FAR = (100.0, 200.0)
SCALES, ANGLES_DEG = (0.5, 0.8), (-10.0, 10.0)
STEP_PX, WALK_PX, BORDER_PX = 40, 115, 20
"""At 1024: the largest step of a frame, how far 25 of them go, and the border that slots keep."""
_VERSION = 1


class PublishedCardsSpec(FrozenModel):
    """The test set.

    Args:
        num_clips: How many.
        num_frames: T.
        width: Pixels.
        height: Pixels.
        ks: Of which each target has one, at 1024 px.
        seed: Of everything.
        lens_samples: Points of the lens at most; the published generator has 7841.
        official_jitter: Whether depths and places jump from frame to frame, as published.
        cutouts: Folder of RGBA PNGs, or of folders of them; None: drawn.
        backgrounds: Folder of RGB PNGs; None: drawn.
    """

    num_clips: int = Field(default=200, gt=0)
    num_frames: int = Field(default=25, gt=0)
    width: int = Field(default=1024, ge=32, le=4096)
    height: int = Field(default=576, ge=32, le=4096)
    ks: tuple[float, ...] = Field(default=(4, 8, 16, 32), min_length=1)
    seed: int = Field(ge=0)
    lens_samples: int = Field(default=1024, ge=16, le=7841)
    official_jitter: bool = False
    cutouts: Path | None = None
    backgrounds: Path | None = None


@dataclass(frozen=True)
class Object:
    """A cut-out over the frames of a clip.

    Args:
        images: ``[h, w, 4]`` linear light times opacity, opacity, in the pixels of the frame; one per
            frame, or one for all.
        angle: Clockwise, radians.
        centres: ``[T, 2]`` x and y, pixels.
        disparity: ``[T]``.
    """

    images: tuple[NDArray[np.float32], ...]
    angle: float
    centres: NDArray[np.float64]
    disparity: NDArray[np.float64]


@dataclass(frozen=True)
class PublishedClip:
    """A clip.

    Args:
        background: ``[H, W, 3]`` linear, with the margin.
        background_disparity: ``[T]``.
        objects: In the order of the targets.
        k_at_1024: Of each target.
        turns: ``[P, T]``, by which the pattern of lens points is turned.
    """

    background: NDArray[np.float32]
    background_disparity: NDArray[np.float64]
    objects: tuple[Object, ...]
    k_at_1024: tuple[float, ...]
    turns: NDArray[np.float64]


@dataclass
class _Nowhere:
    address: str

    def path(self, name: str) -> str:
        return self.address


class PublishedCards:
    """The clips, in the place of a `focuspull.dataset.reader.CorpusReader`; threads may share it.

    Args:
        spec: What they are like.
        address: What it is called in messages.

    Raises:
        UserError: If a folder of pictures has none.
    """

    def __init__(self, spec: PublishedCardsSpec, *, address: str = ADDRESS) -> None:
        self.spec = spec
        self.folder = _Nowhere(address)
        self._cutouts = _mattes(spec.cutouts, f"{address}: cutouts")
        self._backgrounds = _pngs(spec.backgrounds, f"{address}: backgrounds")
        files = [file for matte in self._cutouts for file in matte] + self._backgrounds
        facts = spec.model_dump(mode="json", exclude={"num_clips", "cutouts", "backgrounds"})
        facts |= {"version": _VERSION, "files": [(file.name, file.stat().st_size) for file in files]}
        digest = hashlib.sha256(canonical_json(facts)).hexdigest()
        self.rows: list[ClipRow] = [
            ClipRow(
                key=f"{ADDRESS}-{number:06d}",
                split=SPLIT,
                shard=f"{SPLIT}-000000.tar",
                num_frames=spec.num_frames,
                num_targets=NUM_OBJECTS,
                members_sha256=digest,
            )
            for number in range(spec.num_clips)
        ]
        """The clips. All have one hash: of what, besides their names, they depend on."""

    def sample(self, row: ClipRow, *, target: int, frames: Sequence[int], instance: bool = False) -> Sample:
        """Make a window.

        Args:
            row: One of `rows`.
            target: Number of the target, and of the object in focus.
            frames: Frame numbers, any.
            instance: Whether instance ids are wanted; 0 is the background, n + 1 object n.

        Raises:
            UserError: If one of the user's pictures cannot be used.
            ValueError: If the clip has no such target or frame.
        """
        spec = self.spec
        if not 0 <= target < NUM_OBJECTS or not all(0 <= frame < spec.num_frames for frame in frames):
            raise ValueError(
                f"{row.key}: has targets 0 to {NUM_OBJECTS - 1}, frames 0 to {spec.num_frames - 1}, not "
                f"target {target} and frames {list(frames)}"
            )
        clip = self.clip(int(row.key.rpartition("-")[2]))
        k = float(optics.k_at_width(clip.k_at_1024[target], spec.width))
        focus = clip.objects[target].disparity
        shape = (len(frames), spec.height, spec.width)
        aif, bokeh = (np.empty((*shape, 3), np.uint8) for _ in range(2))
        disparity, ids = np.empty(shape, np.float32), np.empty(shape, np.uint16)
        for i, frame in enumerate(frames):
            layers, numbers = self._layers(clip, frame)
            disparity[i], order = what_is_seen(layers)
            ids[i] = numbers[order]
            aif[i] = _displayed(see_through_pinhole(layers))
            light = see_through_lens(
                layers,
                k=k,
                focus_disparity=float(focus[frame]),
                max_points=spec.lens_samples,
                turn=float(clip.turns[target, frame]),
            )
            bokeh[i] = _displayed(light)
        return Sample(
            key=row.key,
            target=target,
            frames=tuple(frames),
            aif=aif,
            bokeh=bokeh,
            disparity=disparity,
            instance=ids if instance else None,
            k=np.full(len(frames), k, np.float32),
            focus_disparity=focus[list(frames)].astype(np.float32),
        )

    def clip(self, number: int) -> PublishedClip:
        """A clip by its number, always the same."""
        spec = self.spec
        rng = np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=(number,)))
        depths = self._depths(rng)
        objects = [self._object(rng, slot, depths[:, slot]) for slot in range(NUM_OBJECTS)]
        far = rng.uniform(*FAR, spec.num_frames if spec.official_jitter else 1)
        height, width = (side + 2 * self._margin for side in (spec.height, spec.width))
        return PublishedClip(
            background=self._background(rng, height, width),
            background_disparity=np.broadcast_to(1 / far, spec.num_frames),
            objects=tuple(objects),
            k_at_1024=tuple(float(k) for k in rng.choice(spec.ks, NUM_OBJECTS)),
            turns=rng.random((NUM_OBJECTS, spec.num_frames)),
        )

    @property
    def _margin(self) -> int:
        return math.ceil(float(optics.k_at_width(max(self.spec.ks), self.spec.width))) + 3

    def _depths(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Depths ``[T, 4]`` of the objects."""
        spec = self.spec
        order = rng.permutation(NUM_OBJECTS)
        count = spec.num_frames if spec.official_jitter else 1
        jitter = rng.uniform(-JITTER, JITTER, (count, NUM_OBJECTS))
        depths = (np.array(DEPTHS)[order] + jitter).clip(DEPTHS[0], DEPTHS[-1])
        return np.broadcast_to(depths, (spec.num_frames, NUM_OBJECTS))

    def _object(self, rng: np.random.Generator, slot: int, depth: NDArray[np.float64]) -> Object:
        spec = self.spec
        scale = rng.uniform(*SCALES)
        if self._cutouts:
            matte = self._cutouts[rng.integers(len(self._cutouts))]
            images = _fitted(matte[: spec.num_frames], spec, scale)
        else:
            images = (random_cutout(rng, max(8, round(scale * min(spec.height, spec.width)))),)
        across, down = math.ceil(math.sqrt(NUM_OBJECTS)), math.floor(math.sqrt(NUM_OBJECTS))
        px = spec.width / optics.REFERENCE_WIDTH_PX
        border = BORDER_PX / 2 * px
        cell = np.array([(spec.width - 2 * border) / across, (spec.height - 2 * border) / down])
        start = border + (np.array([slot % across, slot // across]) + rng.random(2)) * cell
        return Object(
            images=images,
            angle=math.radians(rng.uniform(*ANGLES_DEG)),
            centres=self._walk(rng, start, px) if spec.official_jitter else self._path(rng, start, px),
            disparity=1 / depth,
        )

    def _walk(self, rng: np.random.Generator, start: NDArray[np.float64], px: float) -> NDArray[np.float64]:
        """Whole steps of up to 40 px at 1024, independent from frame to frame."""
        most = max(1, round(STEP_PX * px))
        steps = rng.integers(-most, most + 1, (self.spec.num_frames - 1, 2))
        return start + np.concatenate([np.zeros((1, 2)), steps.cumsum(0)])

    def _path(self, rng: np.random.Generator, start: NDArray[np.float64], px: float) -> NDArray[np.float64]:
        """A straight drift with a slow swing, towards the middle where it would leave the frame."""
        size = np.array([self.spec.width, self.spec.height])
        drift = rng.normal(0, WALK_PX * px, 2).clip(-2.5 * WALK_PX * px, 2.5 * WALK_PX * px)
        end = start + drift
        drift = np.where((end < 0) | (end > size), -drift, drift)
        swing, phase = rng.uniform(0, 0.2 * WALK_PX * px, 2), rng.random(2)
        t = np.linspace(0, 1, self.spec.num_frames)[:, None]
        wave = np.sin(2 * np.pi * (t + phase)) - np.sin(2 * np.pi * phase)
        return start + t * drift + swing * wave

    def _background(self, rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
        if self._backgrounds:
            return read_background(self._backgrounds[rng.integers(len(self._backgrounds))], height, width)
        light = random_texture(rng, height, width)
        light *= np.float32(np.exp(rng.uniform(np.log(0.1), np.log(0.45)))) / (light @ REC709).mean()
        if rng.random() < 0.5:
            light += random_spots(rng, height, width, int(rng.integers(4, 30)))
        return light

    def _layers(self, clip: PublishedClip, frame: int) -> tuple[list[Layer], NDArray[np.uint16]]:
        """The layers of a frame, the farthest first, and what id each has."""
        spec = self.spec
        order = sorted(range(NUM_OBJECTS), key=lambda n: clip.objects[n].disparity[frame])
        centre = (spec.width - 1) / 2, (spec.height - 1) / 2
        cards = [_still(clip.background, centre, 0.0, clip.background_disparity[frame])]
        for number in order:
            thing = clip.objects[number]
            image = thing.images[min(frame, len(thing.images) - 1)]
            x, y = thing.centres[frame]
            if spec.official_jitter:  # The pasted box is kept in the frame, while its centre walks on.
                half = min(image.shape[1], spec.width) / 2, min(image.shape[0], spec.height) / 2
                x, y = (
                    float(np.clip(at, h, side - h))
                    for at, h, side in zip((x, y), half, (spec.width, spec.height), strict=True)
                )
            cards.append(_still(image, (x, y), thing.angle, thing.disparity[frame]))
        scene = Scene((spec.height, spec.width), 1, self._margin, tuple(cards), (Wave(0.0), Wave(0.0)))
        return scene.layers(0), np.array([0, *(number + 1 for number in order)], np.uint16)


def is_published_cards(address: str) -> bool:
    """Whether an address means this test set; a folder of that name is ``./cards200``."""
    return address == ADDRESS or address.startswith(f"{ADDRESS}:")


def open_published_cards(address: str, *, overrides: Mapping[str, Any]) -> PublishedCards:
    """The clips that ``cards200`` or ``cards200:PATH.yaml`` stand for.

    Args:
        address: One of these.
        overrides: Fields in place of the file's.

    Raises:
        UserError: If the spec cannot be read or is not one, or a folder of pictures has none.
    """
    name = address.removeprefix(ADDRESS).removeprefix(":")
    if not name and address != ADDRESS:
        raise UserError(
            f"{address}: names no spec. Write {ADDRESS} for the published one, or {ADDRESS}:PATH.yaml."
        )
    path = Path(name) if name else document_path(ADDRESS, SPECS, "spec")
    document = read_document(path, "Start from the shipped one: fields of a PublishedCardsSpec.")
    for field, value in overrides.items():
        set_field(document, field, str(value).lower() if isinstance(value, bool) else str(value))
    return PublishedCards(validated(PublishedCardsSpec, document, path.name), address=address)


def _still(image: NDArray[np.float32], centre: tuple[float, float], angle: float, disparity: float) -> Card:
    x, y = (Wave(float(at)) for at in centre)
    return Card(image, x, y, Wave(0.0), Wave(angle), Wave(float(disparity)), (0.0, 0.0))


def _fitted(files: Sequence[Path], spec: PublishedCardsSpec, scale: float) -> tuple[NDArray[np.float32], ...]:
    """Mattes cropped to what they show and scaled to a part of what fits the frame."""
    mattes = [read_matte(file) for file in files]
    for file, matte in zip(files, mattes, strict=True):
        if matte.shape != mattes[0].shape:
            raise UserError(f"{file}: has another size than {files[0].name}. Frames of one matte must agree.")
        if not (matte[..., 3] > 0).any() and spec.official_jitter:
            raise UserError(f"{file}: is all transparent. Take it out of the folder.")
    boxes = [_box(matte[..., 3]) for matte in mattes]
    if not spec.official_jitter:
        together = _box(np.max([matte[..., 3] for matte in mattes], axis=0))
        boxes = [together] * len(mattes)
    if boxes[0][1] == boxes[0][0]:
        raise UserError(f"{files[0]}: is all transparent. Take it out of the folder.")
    images: list[NDArray[np.float32]] = []
    for matte, (top, bottom, left, right) in zip(mattes, boxes, strict=True):
        # The scale is that of the first frame, as published.
        height, width = boxes[0][1] - boxes[0][0], boxes[0][3] - boxes[0][2]
        zoom = scale * min(spec.width / width, spec.height / height)
        size = max(1, round((right - left) * zoom)), max(1, round((bottom - top) * zoom))
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(matte[top:bottom, left:right], size, interpolation=how)
        # A transparent rim, so that its edge is soft when it is turned.
        images.append(np.pad(np.asarray(resized, np.float32), ((1, 1), (1, 1), (0, 0))))
    return tuple(images)


def _box(alpha: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is not transparent; four zeros if there is nothing."""
    rows, columns = (np.flatnonzero(alpha.max(axis) > 0) for axis in (1, 0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _mattes(folder: Path | None, where: str) -> list[list[Path]]:
    """Files of every matte: one of a still, several of a moving one."""
    if folder is None:
        return []
    moving = sorted(path for path in folder.glob("*") if path.is_dir())
    found = [[path] for path in sorted(folder.glob("*")) if path.suffix.lower() == ".png"]
    found += [_pngs(path, where) for path in moving]
    if not found:
        raise UserError(f"{where}: {folder} has no PNG files and no folders of them. Give a folder that has.")
    return found


def _pngs(folder: Path | None, where: str) -> list[Path]:
    if folder is None:
        return []
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() == ".png")
    if not found:
        raise UserError(f"{where}: {folder} has no PNG files. Give a folder that has.")
    return found


def _displayed(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    return to_uint8(encode_display(light))
