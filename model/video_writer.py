"""Display images to a video file with given times, and the audio of another file beside them.

| quality    | .mp4, .mkv                    | .mov                       |
|------------|-------------------------------|----------------------------|
| `standard` | H.264, 8 bit 4:2:0, CRF 16    | the same                   |
| `high`     | H.265, 10 bit 4:2:0, CRF 10   | ProRes 422 HQ, 10 bit      |
| `lossless` | FFV1, 16-bit RGB, .mkv only   | -                          |

4:2:0 needs even sizes: a video of odd width or height is 4:4:4 instead, never resized. Tags of matrix,
primaries, transfer, range and pixel shape are kept. Times are exact to the tick of the file format, which
in Matroska is a millisecond. Eight bits are dithered by libswscale, so that wide blur does not band.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError
from focuspull.model.video import ACCURATE, ColorTags, open_input, yuv_scale

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Names of FFmpeg's formats by suffix."""
QUALITIES = ("standard", "high", "lossless")


@dataclass(frozen=True)
class _Encoder:
    name: str
    even_format: str
    odd_format: str
    bits: int
    options: dict[str, str]


_H264 = _Encoder("libx264", "yuv420p", "yuv444p", 8, {"crf": "16", "preset": "medium"})
# Without B-frames, because libx265 makes up decoding times for videos that are shorter than its reordering.
_H265 = _Encoder(
    "libx265",
    "yuv420p10le",
    "yuv444p10le",
    10,
    {"crf": "10", "preset": "medium", "x265-params": "log-level=none:bframes=0"},
)
_H265_MIN_PX = 64
"""The libx265 in PyAV's wheels writes beyond its memory for frames of 48x32 pixels."""
_PRORES = _Encoder("prores_ks", "yuv422p10le", "yuv444p10le", 10, {"profile": "hq"})
_FFV1 = _Encoder("ffv1", "gbrp16le", "gbrp16le", 16, {"level": "3", "slices": "4", "slicecrc": "1"})


@dataclass(frozen=True)
class VideoFormat:
    """What a video that is written is like.

    Args:
        width: Pixels.
        height: Likewise.
        fps: Mean rate, for the rate control and for players; the times of frames are given one by one.
        time_base: Seconds per tick.
        sample_aspect_ratio: Width of a pixel over its height.
        color: Tags, and how the pixels are stored.
        quality: One of `QUALITIES`.
    """

    width: int
    height: int
    fps: Fraction
    time_base: Fraction
    sample_aspect_ratio: Fraction = Fraction(1)
    color: ColorTags = ColorTags()
    quality: str = "standard"


def validate_output(path: Path, quality: str) -> None:
    """Refuse a file that `VideoWriter` could not make.

    Raises:
        UserError: If the suffix is unknown or does not go with the quality, or the folder is not there.
    """
    if path.suffix.lower() not in CONTAINERS:
        raise UserError(
            f"{path}: must end in {', '.join(CONTAINERS)}, since that says which format to write."
        )
    if quality == "lossless" and path.suffix.lower() != ".mkv":
        raise UserError(f"{path}: lossless video is written as .mkv only. Choose that, or --quality high.")
    if path.is_dir():
        raise UserError(f"{path}: is a folder. Choose a path that is not a folder.")
    if not path.parent.is_dir():
        raise UserError(f"{path}: cannot be written: there is no folder {path.parent}. Make it first.")


class VideoWriter:
    """Encodes frame by frame; a context manager that finishes the file, unless it is left by an error.

    Args:
        file: Where to write.
        suffix: The format, a key of `CONTAINERS`.
        video: What to write.
        audio_of: File whose audio streams are copied, once `copy_audio` says what of them; None for silence.
        threads: Of the encoder; 0 for as many as it likes.

    Raises:
        UserError: If the audio does not go into this format, or the frames are too small for the codec.
        OSError: If the file cannot be written; also by all methods.
    """

    def __init__(
        self, file: Path, suffix: str, video: VideoFormat, *, audio_of: Path | None = None, threads: int = 0
    ) -> None:
        self._file = file
        self._video = video
        self._encoder = _encoder(suffix, video.quality)
        if self._encoder is _H265 and min(video.width, video.height) < _H265_MIN_PX:
            raise UserError(
                f"--quality high: {video.width}x{video.height} is too small for H.265, which needs "
                f"{_H265_MIN_PX} pixels both ways. Choose another quality, or .mov."
            )
        self._color = video.color
        if self._encoder is _PRORES:
            # Nothing in a .mov says that ProRes is full range, and untagged it is read as BT.709.
            matrix = video.color.known_matrix(video.width, video.height)
            self._color = ColorTags(matrix, video.color.primaries, video.color.transfer)
        self._durations: dict[int, int] = {}
        self._last_ticks: int | None = None
        with ExitStack() as stack:
            try:
                options = {"movflags": "+faststart"} if suffix in (".mp4", ".mov") else {}
                self._container = av.open(
                    str(file), "w", format=CONTAINERS[suffix], container_options=options
                )
                stack.callback(self._close_whatever)
                self._stream = self._add_video(threads)
                self._sound = _Sound(self._container, audio_of, stack) if audio_of is not None else None
                self._container.start_encoding()
            except av.error.FFmpegError as error:
                raise self._error(error) from error
            self._stack = stack.pop_all()

    def _add_video(self, threads: int) -> VideoStream:
        video, encoder = self._video, self._encoder
        stream = cast(
            VideoStream,
            self._container.add_stream(encoder.name, rate=video.fps, options=dict(encoder.options)),
        )
        codec = stream.codec_context
        codec.width, codec.height = video.width, video.height
        is_even = video.width % 2 == 0 and video.height % 2 == 0
        codec.pix_fmt = encoder.even_format if is_even else encoder.odd_format
        codec.time_base = video.time_base
        codec.sample_aspect_ratio = video.sample_aspect_ratio
        codec.thread_count = threads
        if not self._is_rgb:
            codec.colorspace = self._color.matrix
            codec.color_range = ColorRange.JPEG if self._color.full_range else ColorRange.MPEG
        codec.color_primaries = self._color.primaries
        codec.color_trc = self._color.transfer
        return stream

    @property
    def _codec(self) -> VideoCodecContext:
        return self._stream.codec_context

    @property
    def _is_rgb(self) -> bool:
        return self._encoder.even_format.startswith("gbr")

    def __enter__(self) -> VideoWriter:
        return self

    def copy_audio(self, start_s: Fraction, end_s: Fraction | None) -> None:
        """Say which audio packets go into the file, before its first frame.

        Args:
            start_s: What on the clock of their file is the start of the new one.
            end_s: Packets that start before ``start_s``, or at this time or later, are left out; None: all.
        """
        if self._sound is not None:
            self._sound.begin(start_s, end_s)

    def write(self, rgb: NDArray[np.float32], time_s: Fraction, duration_s: Fraction) -> None:
        """Encode one frame.

        Args:
            rgb: ``[H, W, 3]`` in [0, 1].
            time_s: Since the start of the file; later than the frame before.
            duration_s: How long it is shown, which matters for the last one.
        """
        ticks = round(time_s / self._video.time_base)
        if self._last_ticks is not None:
            ticks = max(ticks, self._last_ticks + 1)
        self._last_ticks = ticks
        self._durations[ticks] = max(1, round(duration_s / self._video.time_base))
        frame = self._frame(rgb)
        frame.pts, frame.time_base = ticks, self._video.time_base
        try:
            self._mux(self._stream.encode(frame))
            if self._sound is not None:
                self._sound.mux_until(time_s + duration_s)
        except av.error.FFmpegError as error:
            raise self._error(error) from error

    def _frame(self, rgb: NDArray[np.float32]) -> VideoFrame:
        if self._is_rgb:
            deep = np.rint(rgb * np.float32(65535)).astype(np.uint16)
            return VideoFrame.from_ndarray(np.ascontiguousarray(deep), format="gbrp16le")
        red_weight, blue_weight = self._color.luma_weights(self._video.width, self._video.height)
        red, green, blue = (rgb[..., channel] for channel in range(3))
        y = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
        chroma = (blue - y) / (2 - 2 * blue_weight), (red - y) / (2 - 2 * red_weight)
        yuv = np.empty(rgb.shape, np.uint16)
        scale = yuv_scale(self._color, self._encoder.bits)
        for channel, (plane, (zero, span)) in enumerate(zip((y, *chroma), scale, strict=True)):
            yuv[..., channel] = np.rint(plane * np.float32(span) + np.float32(zero)).clip(0, 65535)
        # As in reading: both ends are called the same, so that no value is mapped.
        frame = VideoFrame.from_ndarray(yuv, format="yuv444p16le").reformat(
            format=self._codec.pix_fmt,
            interpolation=ACCURATE,
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.MPEG,
            dst_color_range=ColorRange.MPEG,
        )
        # ProRes takes its tags from the frame and not from the stream.
        frame.colorspace, frame.color_range = self._codec.colorspace, self._codec.color_range
        frame.color_primaries, frame.color_trc = self._codec.color_primaries, self._codec.color_trc
        return frame

    def _mux(self, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            # Encoders with delay forget how long a frame lasts.
            if packet.pts in self._durations:
                packet.duration = self._durations.pop(packet.pts)
            self._container.mux(packet)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            if kind is not None:
                return
            try:
                self._mux(self._stream.encode())
                if self._sound is not None:
                    self._sound.mux_until(None)
                self._container.close()
            except av.error.FFmpegError as failure:
                raise self._error(failure) from failure

    def _close_whatever(self) -> None:
        """Close a file that nobody wants any more, or that is closed already."""
        with suppress(av.error.FFmpegError):
            self._container.close()

    def _error(self, error: av.error.FFmpegError) -> OSError:
        return OSError(error.errno or errno.EIO, error.strerror, str(self._file))


def _encoder(suffix: str, quality: str) -> _Encoder:
    if quality == "lossless":
        return _FFV1
    if quality == "high":
        return _PRORES if suffix == ".mov" else _H265
    return _H264


class _Sound:
    """Copies audio packets in step with the video, so that players need not seek."""

    def __init__(self, container: OutputContainer, path: Path, stack: ExitStack) -> None:
        self._container = container
        self._source = stack.enter_context(open_input(path))
        self._streams: dict[int, Stream] = {}
        self._packets: Iterator[Packet[Any]] = iter(())
        self._held: Packet[Any] | None = None
        for template in self._source.streams.audio:
            try:
                stream = container.add_stream_from_template(template)
            except ValueError as error:
                name = template.codec_context.name
                raise UserError(
                    f"{path}: its {name} audio does not go into {container.format.name}. "
                    "Choose .mkv for --out, or --no-audio."
                ) from error
            stream.metadata.update(template.metadata)
            self._streams[template.index] = stream

    def begin(self, start_s: Fraction, end_s: Fraction | None) -> None:
        """See `VideoWriter.copy_audio`."""
        self._packets = self._wanted(start_s, end_s)
        self._held = next(self._packets, None)

    def _wanted(self, start_s: Fraction, end_s: Fraction | None) -> Iterator[Packet[Any]]:
        """Packets of the span, on the clock of the new file."""
        for packet in self._source.demux(list(self._source.streams.audio)):
            if packet.dts is None:
                continue
            start = round(start_s / packet.time_base)
            if end_s is not None and not start <= packet.dts < end_s / packet.time_base:
                continue
            packet.dts -= start
            if packet.pts is not None:
                packet.pts -= start
            yield packet

    def mux_until(self, time_s: Fraction | None) -> None:
        """Copy what starts before a time, or all that is left."""
        while self._held is not None and (
            time_s is None or cast(int, self._held.dts) * self._held.time_base < time_s
        ):
            self._held.stream = self._streams[self._held.stream_index]
            self._container.mux(self._held)
            self._held = next(self._packets, None)
