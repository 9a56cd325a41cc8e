"""One clip: the metadata and the encoded members that become one sample of a shard.

Members of a clip with P targets and T frames, in this order (names without the clip's key)::

    json
    aif.000.png       ... aif.<T-1>.png         8-bit sRGB
    bokeh0.000.png    ...                       8-bit sRGB, one stream per target
    disparity.000.png ...                       16-bit, `focuspull.dataset.codec`
    instance.000.png  ...                       16-bit ids, named in the metadata

Stream-major and frame-minor, so that a window of frames of one stream is one byte range of the shard.
The same metadata and arrays always give the same bytes (with one version of OpenCV).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from focuspull.dataset import codec, color
from focuspull.dataset.difficulty import DifficultyMeta
from focuspull.dataset.records import FrozenModel as FrozenModel
from focuspull.dataset.tracks import TrackMeta

ScalarT = TypeVar("ScalarT", bound=np.generic)

DISPARITY_END_TOLERANCE = 2 * codec.DISPARITY_STEP
"""How far from 0 and 1 the extreme disparities of a clip may lie."""

UNITS = {
    "aif, bokeh": "8-bit sRGB of scene-linear Rec.709 radiance * 2**exposure_ev, clipped to [0, 1]",
    "camera_to_world": "per frame, 4x4 row-major, metres; camera looks along -Z, +Y up, +X right; world Z up",
    "disparity": "16-bit PNG / 65535, planar; 1 is nearest, 0 farthest; 1/z[m] = offset + scale * disparity",
    "focus_disparity": "per frame, disparity of the plane in focus",
    "instance": "16-bit PNG of ids; 0 is no instance",
    "k": "per frame, blur radius in pixels of this width per unit of disparity: r = k * |d - d_f|",
    "null": "focus_distance_m, z_far_m: infinity; f_number: pinhole",
}
"""The conventions of a clip in words; they travel in its metadata."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""A clip key, split or shard name: no dot, since readers of WebDataset end the key at the first one."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
NOTES = ("tracks", "difficulty")
"""Fields of metadata that are left out where there are none."""
Row = tuple[float, float, float, float]
Matrix = tuple[Row, Row, Row, Row]


class DisparityMeta(FrozenModel):
    """The map from disparity to depth, ``1/z = offset + scale * d``, one for all frames of the clip.

    Args:
        scale: 1/metres per unit of disparity.
        offset: 1/metres at disparity 0.
        z_near_m: Depth at disparity 1, metres.
        z_far_m: Depth at disparity 0, metres; None for infinity (sky).
    """

    scale: float = Field(gt=0)
    offset: float = Field(ge=0)
    z_near_m: float = Field(gt=0)
    z_far_m: float | None = Field(gt=0)


class CameraMeta(FrozenModel):
    """The pinhole camera of the clip; intrinsics are constant, the principal point is the centre.

    Args:
        focal_length_px: In pixels of the clip's own width; pixels are square.
        focal_length_mm: The same, for a sensor of ``sensor_width_mm``.
        sensor_width_mm: Width of the sensor, which spans the image width.
        camera_to_world: Per frame, 4x4 row-major, metres; the camera looks along -Z with +Y up and +X right,
            the world is Z-up.
    """

    focal_length_px: float = Field(gt=0)
    focal_length_mm: float = Field(gt=0)
    sensor_width_mm: float = Field(gt=0)
    camera_to_world: tuple[Matrix, ...]


class TargetMeta(FrozenModel):
    """One bokeh video of the clip: every tuple has one entry per frame.

    Args:
        name: ``bokeh0``, ``bokeh1``, ...: the stream's name.
        k: Blur radius in pixels of the clip's own width per unit of disparity.
        k_at_1024: The same for an image 1024 px wide, as papers quote it.
        focus_disparity: Disparity of the plane in focus, in [0, 1].
        focus_distance_m: Planar distance of that plane, metres; None for infinity.
        lens_radius_m: Radius of the entrance pupil, metres.
        f_number: Focal length over pupil diameter; None for a pinhole.
        lens: Shape and faults of the lens, as the scene asks for it; opaque here.
        lens_label: The same in usual terms; ``disc`` is the ideal lens.
        domain: What was blurred: light, or 8-bit display values of the all-in-focus video.
        twin_of: The target that this one repeats through the ideal lens; None if it is nobody's twin.
    """

    name: str = Field(pattern=r"^bokeh\d+$")
    k: tuple[Annotated[float, Field(ge=0)], ...]
    k_at_1024: tuple[Annotated[float, Field(ge=0)], ...]
    focus_disparity: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    focus_distance_m: tuple[Annotated[float, Field(gt=0)] | None, ...]
    lens_radius_m: tuple[Annotated[float, Field(ge=0)], ...]
    f_number: tuple[Annotated[float, Field(gt=0)] | None, ...]
    lens: dict[str, Any]
    lens_label: str
    domain: Literal["linear_hdr", "encoded8"]
    twin_of: Annotated[str, Field(pattern=r"^bokeh\d+$")] | None


class RendererMeta(FrozenModel):
    """What made the pixels, for example ``cycles``, ``5.0.1``, ``CPU``, ``0.1.0``."""

    backend: str
    backend_version: str
    variant: str
    focuspull_version: str


class SamplingMeta(FrozenModel):
    """How the light of a clip was sampled; tuples have one entry for the AIF, then one per target.

    Args:
        method: ``separate``: every target by itself; ``rebinned``: all targets from one set of rays, so that
            their noise is correlated; ``planes``: cards, traced as planes.
        samples: Paths per pixel, mean over the frames.
        noise_floor_db: Estimated PSNR of the 8-bit video against the converged one, dB; None: not measured.
    """

    method: Literal["separate", "rebinned", "planes"]
    samples: tuple[Annotated[float, Field(gt=0)], ...]
    noise_floor_db: tuple[float | None, ...]


class ClipMeta(FrozenModel):
    """The ``json`` member of a sample.

    Args:
        format: Changes when an old reader would misread a new clip.
        key: Name of the clip, unique in its corpus.
        split: ``train``, ``val``, ``test``, ...
        scene: The resolved scene specification; opaque here.
        scene_sha256: Its hash, the identity of the clip.
        width: Pixels.
        height: Pixels.
        num_frames: Number of frames T of every stream.
        fps: Frames per second.
        exposure_ev: Stops of the display transform, `focuspull.dataset.color`.
        transfer: Transfer function of AIF and bokeh.
        targets: The bokeh videos, ``bokeh0`` first; at least one.
        disparity: The map from disparity to depth.
        camera: Intrinsics and path.
        instances: Name to id; 0 is reserved for "no instance".
        renderer: What made the pixels.
        sampling: How, and how much noise is left.
        units: The conventions in words, `UNITS`.
        tracks: Where objects are in every frame, by name; None: the corpus did not ask for it.
        difficulty: How difficult the clip is; None likewise.
    """

    format: Literal["focuspull-clip-1"] = "focuspull-clip-1"
    key: Name
    split: Name
    scene: dict[str, Any]
    scene_sha256: Sha256
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    num_frames: int = Field(gt=0)
    fps: float = Field(gt=0)
    exposure_ev: float
    transfer: Literal["srgb"] = "srgb"
    targets: tuple[TargetMeta, ...] = Field(min_length=1)
    disparity: DisparityMeta
    camera: CameraMeta
    instances: dict[str, Annotated[int, Field(gt=0, le=65535)]]
    renderer: RendererMeta
    sampling: SamplingMeta
    units: dict[str, str] = Field(default_factory=lambda: dict(UNITS))
    tracks: dict[str, TrackMeta] | None = None
    difficulty: DifficultyMeta | None = None

    @property
    def labels(self) -> dict[str, str]:
        """What the clip is an example of: ``family`` and ``stratum`` of its scene, if that says so."""
        labels = self.scene.get("labels")
        return {str(name): str(text) for name, text in labels.items()} if isinstance(labels, dict) else {}

    @model_validator(mode="after")
    def _targets_are_numbered(self) -> ClipMeta:
        names = [target.name for target in self.targets]
        expected = [f"bokeh{index}" for index in range(len(names))]
        if names != expected:
            raise ValueError(f"targets must be named {expected} in this order, got {names}")
        for index, target in enumerate(self.targets):
            if target.twin_of is not None and target.twin_of not in names[:index]:
                raise ValueError(f"{target.name}.twin_of must name an earlier target, got {target.twin_of}")
        return self

    @model_validator(mode="after")
    def _every_stream_has_its_noise(self) -> ClipMeta:
        for field in ("samples", "noise_floor_db"):
            count = len(getattr(self.sampling, field))
            if count != 1 + len(self.targets):
                raise ValueError(f"sampling.{field} needs {1 + len(self.targets)} entries, got {count}")
        return self

    @model_validator(mode="after")
    def _every_frame_has_its_values(self) -> ClipMeta:
        per_frame: dict[str, Sequence[object]] = {"camera.camera_to_world": self.camera.camera_to_world}
        for target in self.targets:
            for field in (
                "k",
                "k_at_1024",
                "focus_disparity",
                "focus_distance_m",
                "lens_radius_m",
                "f_number",
            ):
                per_frame[f"{target.name}.{field}"] = getattr(target, field)
        for name, track in (self.tracks or {}).items():
            per_frame[f"tracks.{name}"] = track.share
        for field, values in per_frame.items():
            if len(values) != self.num_frames:
                raise ValueError(f"{field} needs one entry per frame, {self.num_frames}, got {len(values)}")
        return self


@dataclass(frozen=True)
class Clip:
    """An encoded clip, ready for a shard.

    Args:
        meta: The metadata, also the first member.
        members: Name (without the key) and bytes, in the order of `member_names`.
    """

    meta: ClipMeta
    members: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class DecodedClip:
    """A decoded clip, or a selection of its frames.

    Args:
        meta: The metadata, always of the whole clip.
        aif: ``[T, H, W, 3]`` uint8 sRGB.
        bokeh: One ``[T, H, W, 3]`` uint8 sRGB per target.
        disparity: ``[T, H, W]`` float32 in [0, 1], 1 is nearest.
        instance: ``[T, H, W]`` uint16; 0 is no instance.
    """

    meta: ClipMeta
    aif: NDArray[np.uint8]
    bokeh: list[NDArray[np.uint8]]
    disparity: NDArray[np.float32]
    instance: NDArray[np.uint16]


def stream_names(num_targets: int) -> list[str]:
    """Names of the streams of a clip, in the order in which they are stored."""
    return ["aif", *(f"bokeh{index}" for index in range(num_targets)), "disparity", "instance"]


def frame_member(stream: str, frame: int, num_frames: int) -> str:
    """Member name of one frame of one stream; numbers have 3 digits, or as many as the clip needs."""
    digits = max(3, len(str(num_frames - 1)))
    return f"{stream}.{frame:0{digits}d}.png"


def member_names(num_targets: int, num_frames: int) -> list[str]:
    """Names of all members of a clip, in the order in which they are stored (module docstring)."""
    frames = range(num_frames)
    return ["json"] + [
        frame_member(stream, frame, num_frames) for stream in stream_names(num_targets) for frame in frames
    ]


def encode_meta(meta: ClipMeta) -> bytes:
    """Canonical JSON of the metadata: sorted keys, no spaces, ASCII, one line.

    Raises:
        ValueError: If ``scene`` or ``lens`` holds NaN or infinity.
    """
    # Clips of corpora that do not ask for notes keep the bytes that they had before there were any.
    absent = {name for name in NOTES if getattr(meta, name) is None}
    return canonical_json(meta.model_dump(mode="json", exclude=absent))


def decode_meta(content: bytes) -> ClipMeta:
    """Metadata of a ``json`` member.

    Raises:
        ValueError: If it is not valid metadata; one line naming the first wrong field.
    """
    try:
        return ClipMeta.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(f"json: {first_problem(error)}") from error


def canonical_json(value: object) -> bytes:
    """The one JSON text focuspull stores for a value: the same value always gives the same bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii") + b"\n"


def first_problem(error: ValidationError) -> str:
    """One line for a failed validation: dotted field, what is wrong, what was found."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if not field:
        return message
    found = repr(problem["input"])
    return f"{field}: {message}, got {found if len(found) <= 80 else found[:77] + '...'}"


def encode_clip(
    meta: ClipMeta,
    *,
    aif: NDArray[np.float32],
    bokeh: Sequence[NDArray[np.float32]],
    disparity: NDArray[np.float32],
    instance: NDArray[np.uint16],
) -> Clip:
    """Check the arrays of a rendered clip and encode them.

    Args:
        meta: The metadata; ``exposure_ev`` is applied here.
        aif: ``[T, H, W, 3]`` float32, scene-linear Rec.709, not negative, HDR allowed.
        bokeh: One array like ``aif`` per target of ``meta``.
        disparity: ``[T, H, W]`` float32 in [0, 1]; reaches 0 and 1 within the clip (to 2/65535).
        instance: ``[T, H, W]`` uint16.

    Raises:
        ValueError: If an array does not fit the metadata or its range; the message names the first problem.
    """
    if len(bokeh) != len(meta.targets):
        raise ValueError(
            f"{meta.key}: metadata has {len(meta.targets)} targets, got {len(bokeh)} bokeh arrays"
        )
    size = (meta.num_frames, meta.height, meta.width)
    colour = {"aif": aif} | {target.name: array for target, array in zip(meta.targets, bokeh, strict=True)}
    for stream, radiance in colour.items():
        _validate_array(f"{meta.key}: {stream}", radiance, np.float32, (*size, 3))
        _validate_pixels(f"{meta.key}: {stream}", radiance, radiance >= 0, "negative")
    _validate_array(f"{meta.key}: disparity", disparity, np.float32, size)
    _validate_pixels(
        f"{meta.key}: disparity", disparity, (disparity >= 0) & (disparity <= 1), "outside [0, 1]"
    )
    if problem := disparity_end_problem(float(disparity.min()), float(disparity.max())):
        raise ValueError(f"{meta.key}: disparity: {problem}")
    _validate_array(f"{meta.key}: instance", instance, np.uint16, size)

    contents = [encode_meta(meta)]
    for radiance in colour.values():
        for frame in radiance:
            display = color.encode_display(frame, exposure_ev=meta.exposure_ev)
            contents.append(codec.encode_rgb(color.to_uint8(display)))
    contents.extend(codec.encode_disparity(frame) for frame in disparity)
    contents.extend(codec.encode_instance(frame) for frame in instance)
    names = member_names(len(bokeh), meta.num_frames)
    return Clip(meta=meta, members=tuple(zip(names, contents, strict=True)))


def decode_clip(members: Mapping[str, bytes], *, frames: Sequence[int] | None = None) -> DecodedClip:
    """Decode a clip, or some frames of it.

    Args:
        members: Name (without the key) to bytes: ``json``, and of every stream the frames asked for.
        frames: Frame numbers in the order wanted, at least one; None for all.

    Raises:
        ValueError: If a member is missing, unreadable, or of another size than the metadata says.
    """
    meta = decode_meta(_member(members, "json"))
    wanted = range(meta.num_frames) if frames is None else frames
    if len(wanted) == 0 or not all(0 <= frame < meta.num_frames for frame in wanted):
        raise ValueError(f"{meta.key}: frames must be in 0..{meta.num_frames - 1}, got {list(wanted)}")

    def stream(name: str, decode: Callable[..., NDArray[ScalarT]]) -> NDArray[ScalarT]:
        decoded: list[NDArray[ScalarT]] = []
        for frame in wanted:
            member = frame_member(name, frame, meta.num_frames)
            content = _member(members, member)
            try:
                decoded.append(decode(content, size=(meta.width, meta.height)))
            except ValueError as error:
                raise ValueError(f"{member}: {error}") from error
        return np.stack(decoded)

    return DecodedClip(
        meta=meta,
        aif=stream("aif", codec.decode_rgb),
        bokeh=[stream(target.name, codec.decode_rgb) for target in meta.targets],
        disparity=stream("disparity", codec.decode_disparity),
        instance=stream("instance", codec.decode_instance),
    )


def disparity_end_problem(lowest: float, highest: float) -> str | None:
    """What is wrong with the extreme disparities of a clip, or None: it must reach both 0 and 1."""
    if lowest <= DISPARITY_END_TOLERANCE and highest >= 1 - DISPARITY_END_TOLERANCE:
        return None
    return f"must reach 0 and 1 within the clip, but spans [{lowest:.6f}, {highest:.6f}]"


def _validate_array(where: str, array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(
            f"{where}: must be {np.dtype(dtype)} {list(shape)}, got {array.dtype} {list(array.shape)}"
        )


def _validate_pixels(where: str, array: NDArray[Any], in_range: NDArray[np.bool_], otherwise: str) -> None:
    """Name the first frame with bad values; a value that is not finite is reported as such first."""
    for bad, what in ((~np.isfinite(array), "not finite"), (~in_range, otherwise)):
        per_frame = np.count_nonzero(bad.reshape(len(bad), -1), axis=1)
        if per_frame.any():
            frame = int(np.argmax(per_frame > 0))
            raise ValueError(f"{where}: {per_frame[frame]} values in frame {frame} are {what}")


def _member(members: Mapping[str, bytes], name: str) -> bytes:
    if name not in members:
        raise ValueError(f"{name}: missing from the clip")
    return members[name]
