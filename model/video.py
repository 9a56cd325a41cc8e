"""Any video file or folder of frames, read frame by frame as display images with exact times.

Frames are counted by decoding, never by what a header claims or by seeking, so that frame N here is frame N
everywhere. They are upright: rotation in the metadata of phone videos is applied, and sizes and pixel
positions are those a player shows. A file is decoded again for every pass over it; nothing is kept.

Values are read with the file's own matrix (BT.601, 709, 2020, ...) and range; an untagged video is BT.709
from 720 lines and BT.601 below, as players do. The matrix is applied here and not by libswscale, whose
default conversion darkens by one level of 256. Interlaced video is not taken apart into fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Of images in a folder of frames."""
DEFAULT_FPS = Fraction(25)
"""Of a folder of frames."""

BT709 = 1
"""Matrix, primaries and transfer of BT.709 in ITU-T H.273; all three happen to have this number."""
_BT601 = 6
_UNSPECIFIED = 2
_LUMA = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
"""Weights of red and blue in luma, by the number of the matrix in ITU-T H.273."""
_HD_LINES = 720
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
_FULL_RANGE = 2
_COARSE_TICK = Fraction(1, 10_000)
"""Files with longer ticks, such as Matroska's milliseconds, round the times of their frames."""
_GREY_TOLERANCE = 0.03
"""Mean difference of the channels of what passes as grey; lossy codecs colour grey a little."""

ACCURATE = int(
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
"""How chroma is resampled."""


@dataclass(frozen=True)
class ColorTags:
    """How the numbers in a video mean colours, numbered as in ITU-T H.273.

    Args:
        matrix: Of YCbCr; 2 is not specified.
        primaries: Likewise.
        transfer: Likewise.
        full_range: Whether black and white are the ends of the scale.
    """

    matrix: int = BT709
    primaries: int = BT709
    transfer: int = BT709
    full_range: bool = False

    def known_matrix(self, width: int, height: int) -> int:
        """The matrix, or for an untagged video of this size the one that players assume."""
        assumed = BT709 if min(width, height) >= _HD_LINES else _BT601
        return self.matrix if self.matrix in _LUMA else assumed

    def luma_weights(self, width: int, height: int) -> tuple[float, float]:
        """Weights of red and blue in luma for a video of this size."""
        return _LUMA[self.known_matrix(width, height)]


@dataclass(frozen=True)
class Frame:
    """One frame of a `Video`, not converted yet.

    Args:
        number: From 0 in the whole video.
        time_s: When it is shown, on the clock of the file.
        duration_s: How long.
        rgb: Its display image ``[H, W, 3]``, float32 in [0, 1], upright.
        grey: Its luma ``[H, W]``, float32 in [0, 1], upright.
    """

    number: int
    time_s: Fraction
    duration_s: Fraction
    rgb: _Convert
    grey: _Convert


class _Convert(Protocol):
    def __call__(self) -> NDArray[np.float32]: ...


class Video(Protocol):
    """What is known before a frame is decoded; width and height are upright.

    Attributes:
        path: File or folder.
        fps: Mean rate; single frames may be irregular.
        time_base: Seconds per tick that times can be written with exactly.
        bits: Per channel.
        sample_aspect_ratio: Width of a pixel over its height.
        start_s: When the recording starts on the file's clock.
        has_audio: Whether it has at least one audio stream.
        notes: What a user should know, one line each.
    """

    path: Path
    width: int
    height: int
    fps: Fraction
    time_base: Fraction
    bits: int
    sample_aspect_ratio: Fraction
    color: ColorTags
    start_s: Fraction
    has_audio: bool
    notes: tuple[str, ...]

    def frames(self) -> Iterator[Frame]:
        """Decode from the first frame on.

        Raises:
            UserError: If a frame cannot be decoded or has another size than the first.
        """
        ...


def open_video(path: Path, *, fps: Fraction | None = None) -> Video:
    """A video file, or a folder of images in the order of the numbers in their names.

    Args:
        path: File or folder.
        fps: Rate of a folder of frames; None for `DEFAULT_FPS`.

    Raises:
        UserError: If it cannot be read or has no frame, or ``fps`` is given for a file.
    """
    if path.is_dir():
        return FrameFolder(path, fps or DEFAULT_FPS)
    if fps is not None:
        raise UserError(f"--fps {float(fps):g}: {path} has a rate of its own. It is for folders of frames.")
    return VideoFile(path)


class VideoFile:
    """A `Video` of anything that FFmpeg reads; the first video stream that is not a cover picture."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_input(path) as container:
            stream = _video_stream(container, path)
            first = next(_decoded(container, stream, path), None)
            if first is None:
                raise UserError(f"{path}: has a video stream but no frame in it.")
            self._turns = round(first.rotation / 90) % 4
            self._size = first.width, first.height
            self.width, self.height = self._size[::-1] if self._turns % 2 else self._size
            self.fps = stream.average_rate or stream.guessed_rate or DEFAULT_FPS
            self._tick = stream.time_base or 1 / self.fps
            self.time_base = self._tick
            if self._tick > _COARSE_TICK:
                self.time_base = Fraction(
                    1, self.fps.numerator * -(-_COARSE_TICK.denominator // self.fps.numerator)
                )
            self.bits = max(component.bits for component in first.format.components)
            aspect = stream.sample_aspect_ratio or Fraction(1)
            self.sample_aspect_ratio = 1 / aspect if self._turns % 2 else aspect
            self.color = _color_tags(first, path)
            self.start_s = max(Fraction(0), Fraction(container.start_time or 0, av.time_base))
            self.has_audio = bool(container.streams.audio)
            self.notes = tuple(self._notes(first))

    def _notes(self, first: av.VideoFrame) -> Iterator[str]:
        if self.color.transfer in _HDR_TRANSFERS:
            name = _HDR_TRANSFERS[self.color.transfer]
            yield f"{self.path} is HDR ({name}): it is blurred as if it were sRGB, so highlights are too dim"
        if first.interlaced_frame:
            yield f"{self.path} is interlaced: it is blurred as it is, with both fields in a frame"

    def frames(self) -> Iterator[Frame]:
        """See `Video`."""
        with open_input(self.path) as container:
            stream = _video_stream(container, self.path)
            start_s, last_s = Fraction(0), None
            for number, frame in enumerate(_decoded(container, stream, self.path)):
                if (frame.width, frame.height) != self._size:
                    raise UserError(
                        f"{self.path}: frame {number} is {frame.width}x{frame.height}, the first is "
                        f"{self._size[0]}x{self._size[1]}. Convert it to one size first."
                    )
                time_s = None if frame.pts is None else frame.pts * self._tick
                if number == 0:
                    start_s = time_s or Fraction(0)
                regular_s = start_s + number / self.fps
                # Undo the rounding of coarse ticks, and stand in for times that are missing or run backwards.
                snaps = time_s is not None and self._tick > _COARSE_TICK
                if time_s is None or (snaps and abs(time_s - regular_s) <= self._tick):
                    time_s = regular_s
                if last_s is not None and time_s <= last_s:
                    time_s = last_s + 1 / self.fps
                duration_s = frame.duration * self._tick or 1 / self.fps
                yield Frame(
                    number,
                    time_s,
                    1 / self.fps if abs(duration_s - 1 / self.fps) <= self._tick else duration_s,
                    partial(_rgb, frame, self.color, self._turns),
                    partial(_grey, frame, self.color, self._turns, self.path, number),
                )
                last_s = time_s


class FrameFolder:
    """A `Video` of one image per frame."""

    def __init__(self, path: Path, fps: Fraction) -> None:
        self.path = path
        self.files = numbered_files(path, FRAME_SUFFIXES)
        if not self.files:
            raise UserError(f"{path}: has no frames ({', '.join(FRAME_SUFFIXES)}).")
        first = _image(self.files[0])
        self.height, self.width = first.shape[:2]
        self.fps = fps
        self.time_base = 1 / fps
        self.bits = 8 * first.dtype.itemsize
        self.sample_aspect_ratio = Fraction(1)
        self.color = ColorTags()
        self.start_s = Fraction(0)
        self.has_audio = False
        self.notes = ()

    def frames(self) -> Iterator[Frame]:
        """See `Video`."""
        for number, file in enumerate(self.files):
            rgb = partial(self._rgb, file)
            yield Frame(
                number, number / self.fps, 1 / self.fps, rgb, partial(_grey_of, rgb, self.path, number)
            )

    def _rgb(self, file: Path) -> NDArray[np.float32]:
        image = _image(file)
        if image.shape[:2] != (self.height, self.width):
            height, width = image.shape[:2]
            raise UserError(f"{file}: is {width}x{height}, the first frame is {self.width}x{self.height}.")
        return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)


def numbered_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files of a folder with one of some suffixes, by the numbers in their names: 2 before 10.

    Raises:
        UserError: If the folder cannot be read.
    """
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.name[0] != "."]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}.") from error

    def order(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]

    return sorted(files, key=order)


def read_image(path: Path, flags: int) -> NDArray[Any]:
    """Pixels of an image as OpenCV decodes them.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
    try:
        # None for unreadable bytes, which OpenCV's annotations leave out.
        image: NDArray[Any] | None = cv2.imdecode(content, flags) if content.size else None
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{path}: cannot be decoded as an image ({content.size} bytes).")
    return image


def _image(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """``[H, W, 3]``, RGB; grey becomes RGB, transparency is dropped, rotation in EXIF applied."""
    image = read_image(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)[..., ::-1]
    if image.dtype.name not in ("uint8", "uint16"):
        raise UserError(f"{path}: frames have 8 or 16 bits, this one is {image.dtype}.")
    return image


def open_input(path: Path) -> InputContainer:
    """A container to read, to be closed by whoever asked for it.

    Raises:
        UserError: If it cannot be read or is none.
    """
    if not path.exists():
        raise UserError(f"{path}: is not there.")
    try:
        return av.open(str(path.absolute()), "r", metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a video: {error.strerror}.") from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            stream.thread_type = "AUTO"
            return stream
    raise UserError(f"{path}: has no video stream.")


def _decoded(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[av.VideoFrame]:
    number = 0
    try:
        for frame in container.decode(stream):
            yield frame
            number += 1
    except av.error.FFmpegError as error:
        raise UserError(f"{path}: frame {number} cannot be decoded: {error.strerror}.") from error


def _color_tags(frame: av.VideoFrame, path: Path) -> ColorTags:
    if frame.format.is_rgb or frame.format.has_palette:
        return ColorTags()
    if frame.colorspace not in _LUMA and frame.colorspace not in (0, _UNSPECIFIED, 3):
        raise UserError(
            f"{path}: colour matrix {frame.colorspace} of ITU-T H.273 is not handled. Convert it."
        )
    name = frame.format.name
    is_full = frame.color_range == _FULL_RANGE or name.startswith("yuvj")
    # Grey formats are full range unless they say otherwise.
    is_full = is_full or (name.startswith(("gray", "ya", "mono")) and frame.color_range == 0)
    return ColorTags(frame.colorspace, frame.color_primaries, frame.color_trc, is_full)


def _yuv(frame: av.VideoFrame, color: ColorTags, turns: int) -> NDArray[np.uint16]:
    """YCbCr ``[H, W, 3]``, each value in the highest of 16 bits; luma as it was stored."""
    # Both ends are called the same, so that only chroma is resampled and no value is mapped.
    value_range = ColorRange.JPEG if color.full_range else ColorRange.MPEG
    same = {
        "src_colorspace": Colorspace.ITU709,
        "dst_colorspace": Colorspace.ITU709,
        "src_color_range": value_range,
        "dst_color_range": value_range,
    }
    converted = frame.reformat(format="yuv444p16le", interpolation=ACCURATE, **same)
    return np.rot90(np.asarray(converted.to_ndarray(), np.uint16), turns)


def _is_rgb(frame: av.VideoFrame) -> bool:
    return frame.format.is_rgb or frame.format.has_palette


def _rgb(frame: av.VideoFrame, color: ColorTags, turns: int) -> NDArray[np.float32]:
    if _is_rgb(frame):
        deep = max(component.bits for component in frame.format.components) > 8
        image = frame.reformat(format="gbrp16le" if deep else "rgb24").to_ndarray()
        return np.rot90(image, turns).astype(np.float32) / np.float32(65535 if deep else 255)
    red_weight, blue_weight = color.luma_weights(frame.width, frame.height)
    y, cb, cr = _unit_yuv(_yuv(frame, color, turns), color, frame.format.components[0].bits)
    rgb = np.empty((*y.shape, 3), np.float32)
    rgb[..., 0] = y + (2 - 2 * red_weight) * cr
    rgb[..., 2] = y + (2 - 2 * blue_weight) * cb
    rgb[..., 1] = (y - red_weight * rgb[..., 0] - blue_weight * rgb[..., 2]) / (1 - red_weight - blue_weight)
    return np.clip(rgb, 0, 1, out=rgb)


def _unit_yuv(yuv: NDArray[np.uint16], color: ColorTags, bits: int) -> list[NDArray[np.float32]]:
    """Luma in [0, 1] and two chromas in [-0.5, 0.5], each ``[H, W]``."""
    scale = yuv_scale(color, bits)
    planes = (yuv[..., i].astype(np.float32) for i in range(3))
    return [
        (plane - np.float32(zero)) / np.float32(span)
        for plane, (zero, span) in zip(planes, scale, strict=True)
    ]


def yuv_scale(color: ColorTags, bits: int) -> tuple[tuple[float, float], ...]:
    """Zero and span of luma and both chromas in 16 bits, of video with so many bits."""
    if color.full_range:
        span = float(((1 << bits) - 1) << (16 - bits))
        return (0.0, span), (32768.0, span), (32768.0, span)
    return (16 * 256.0, 219 * 256.0), (32768.0, 224 * 256.0), (32768.0, 224 * 256.0)


def _grey(frame: av.VideoFrame, color: ColorTags, turns: int, path: Path, number: int) -> NDArray[np.float32]:
    if _is_rgb(frame):
        return _grey_of(partial(_rgb, frame, color, turns), path, number)
    y, *chroma = _unit_yuv(_yuv(frame, color, turns), color, frame.format.components[0].bits)
    _require_grey(max(float(np.abs(plane).mean()) for plane in chroma), path, number)
    return np.clip(y, 0, 1)


def _grey_of(rgb: _Convert, path: Path, number: int) -> NDArray[np.float32]:
    image = rgb()
    _require_grey(float(np.ptp(image, axis=-1).mean()), path, number)
    return image.mean(axis=-1, dtype=np.float32)


def _require_grey(difference: float, path: Path, number: int) -> None:
    if difference > _GREY_TOLERANCE:
        raise UserError(
            f"{path}: frame {number} is coloured; it must be grey. Export it without a colour map."
        )
