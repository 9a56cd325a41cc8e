"""Small videos with and without sound."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
import torch
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from focuspull.model.video import open_video
from focuspull.model.video_writer import VideoFormat, VideoWriter

NTSC_FILM = Fraction(24000, 1001)
RATE_HZ = 48_000

torch.set_num_threads(1)


def pictures(num_frames: int, height: int = 48, width: int = 64) -> NDArray[np.float32]:
    """``[T, H, W, 3]``: a textured bright square that moves right over a smooth ground."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    images = np.empty((num_frames, height, width, 3), np.float32)
    for i in range(num_frames):
        images[i] = np.stack([0.2 + 0.3 * x / width, 0.3 + 0 * x, 0.2 + 0.3 * y / height], -1)
        images[i, 16:32, 10 + i : 26 + i] = 0.5 + 0.3 * np.indices((16, 16)).sum(0)[..., None] // 4 % 2
    return images


@pytest.fixture
def make_clip() -> Callable[..., Path]:
    """A function that writes a clip: path, pictures, fps, times, and the codec of the sound, or none."""

    def make(
        path: Path,
        images: NDArray[np.float32] | None = None,
        *,
        fps: Fraction = NTSC_FILM,
        times: Sequence[Fraction] | None = None,
        sound: str | None = None,
        quality: str = "standard",
        **options: Any,
    ) -> Path:
        images = pictures(12) if images is None else images
        sound_path = None
        if sound is not None:
            sound_path = path.with_name(f"sound-{path.stem}.mov")
            _write_sound(sound_path, sound, len(images) / fps)
        form = VideoFormat(
            images.shape[2],
            images.shape[1],
            fps,
            Fraction(1, fps.numerator * 960 // math.gcd(fps.numerator, 960)),
            quality=quality,
            **options,
        )
        with VideoWriter(path, path.suffix, form, audio_of=sound_path, threads=1) as writer:
            writer.copy_audio(Fraction(0), None)
            for i, image in enumerate(images):
                writer.write(image, i / fps if times is None else times[i], 1 / fps)
        return path

    return make


def _write_sound(path: Path, codec: str, duration_s: Fraction) -> None:
    samples = np.sin(np.arange(int(duration_s * RATE_HZ)) * 2 * np.pi * 440 / RATE_HZ).astype(np.float32)
    with av.open(str(path), "w", format="mov") as container:
        stream = cast(AudioStream, container.add_stream(codec, rate=RATE_HZ))
        resampler = av.AudioResampler(stream.format, "mono", RATE_HZ)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        for part in resampler.resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode())


@pytest.fixture
def images_of() -> Callable[[Path], NDArray[np.float32]]:
    """A function that reads all frames of a video, ``[T, H, W, 3]``."""
    return lambda path: np.stack([frame.rgb() for frame in open_video(path).frames()])


@pytest.fixture
def packets_of() -> Callable[[Path], list[tuple[Fraction, bytes]]]:
    """A function that reads the audio packets of a file: when they start, and their bytes."""

    def read(path: Path) -> list[tuple[Fraction, bytes]]:
        with av.open(str(path)) as container:
            return [
                (packet.dts * packet.time_base, bytes(packet))
                for packet in container.demux(audio=0)
                if packet.dts is not None
            ]

    return read
