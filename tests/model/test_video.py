"""Videos in and out: frames, times, colours, sound."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError
from focuspull.model.video import ColorTags, open_video
from focuspull.model.video_writer import VideoFormat, VideoWriter, validate_output

Clip = Callable[..., Path]
Images = Callable[[Path], NDArray[np.float32]]
Packets = Callable[[Path], list[tuple[Fraction, bytes]]]


def flat(color: tuple[float, float, float], num_frames: int = 2, height: int = 64, width: int = 80):
    return np.broadcast_to(np.array(color, np.float32), (num_frames, height, width, 3)).copy()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_number_times_and_rate_of_frames_come_back_exactly(
    tmp_path: Path, make_clip: Clip, suffix: str, fps: Fraction
):
    times = [i / fps for i in range(12)]
    path = make_clip(tmp_path / f"a{suffix}", fps=fps)
    video = open_video(path)
    frames = list(video.frames())
    assert video.fps == fps and [frame.number for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == times


def test_irregular_times_are_kept(tmp_path: Path, make_clip: Clip):
    times = [Fraction(n, 24000) for n in (0, 1000, 2000, 9000, 9500, 20000)]
    path = make_clip(tmp_path / "a.mp4", np.zeros((6, 16, 16, 3), np.float32), times=times)
    assert [frame.time_s for frame in open_video(path).frames()] == times


@pytest.mark.parametrize("quality", ["standard", "high"])
@pytest.mark.parametrize("matrix", [1, 6, 9, 2])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_come_back_in_every_matrix_and_range(
    tmp_path: Path, make_clip: Clip, images_of: Images, quality: str, matrix: int, full_range: bool
):
    color = ColorTags(matrix, matrix, matrix if matrix != 9 else 1, full_range)
    path = make_clip(tmp_path / "a.mkv", flat((0.8, 0.3, 0.1)), color=color, quality=quality)
    assert open_video(path).color == color
    assert np.abs(images_of(path) - np.array([0.8, 0.3, 0.1], np.float32)).max() < 0.012


def test_writing_what_was_read_neither_darkens_nor_tints(tmp_path: Path, make_clip: Clip, images_of: Images):
    rng = np.random.default_rng(0)
    images = cv2.GaussianBlur(rng.random((64, 96, 3), dtype=np.float32), (0, 0), 4)[None]
    images = (images - images.min()) / np.ptp(images) * 0.8 + 0.1
    first = images_of(make_clip(tmp_path / "a.mp4", images.astype(np.float32)))
    second = images_of(make_clip(tmp_path / "b.mp4", first))
    assert np.abs((second - first).mean((0, 1, 2))).max() < 0.2 / 255


def test_lossless_is_lossless_to_16_bits(tmp_path: Path, make_clip: Clip, images_of: Images):
    images = np.random.default_rng(0).random((3, 17, 23, 3), dtype=np.float32)
    read = images_of(make_clip(tmp_path / "a.mkv", images, quality="lossless"))
    assert np.abs(read - images).max() <= 0.51 / 65535


@pytest.mark.parametrize("quality", ["standard", "high"])
def test_odd_sizes_stay(tmp_path: Path, make_clip: Clip, images_of: Images, quality: str):
    path = make_clip(tmp_path / "a.mp4", flat((0.2, 0.6, 0.4), height=65, width=79), quality=quality)
    assert images_of(path).shape == (2, 65, 79, 3)


def test_prores_is_written_to_mov(tmp_path: Path, make_clip: Clip, images_of: Images):
    color = ColorTags(2, 2, 2, full_range=True)
    path = make_clip(tmp_path / "a.mov", flat((0.8, 0.3, 0.1)), quality="high", color=color)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "prores"
    assert np.abs(images_of(path) - np.array([0.8, 0.3, 0.1], np.float32)).max() < 0.01


def test_shape_of_pixels_is_kept(tmp_path: Path, make_clip: Clip):
    path = make_clip(tmp_path / "a.mp4", sample_aspect_ratio=Fraction(128, 117))
    assert open_video(path).sample_aspect_ratio == Fraction(128, 117)


def test_rotation_in_the_metadata_is_applied(tmp_path: Path, make_clip: Clip, images_of: Images):
    images = flat((0.1, 0.1, 0.1))
    images[:, :32, :40] = 0.9
    upright = make_clip(tmp_path / "a.mp4", images, sample_aspect_ratio=Fraction(2, 1))
    turned = tmp_path / "b.mp4"
    with av.open(str(upright)) as source, av.open(str(turned), "w") as sink:
        stream = sink.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    video = open_video(turned)
    assert (video.width, video.height) == (64, 80) and video.sample_aspect_ratio == Fraction(1, 2)
    # A quarter turn counterclockwise takes the bright corner from top left to bottom left.
    image = images_of(turned)[0].mean(-1)
    assert [round(float(image[y, x]), 1) for y, x in ((70, 8), (8, 8), (70, 56))] == [0.9, 0.1, 0.1]


def test_folder_of_frames_goes_by_the_numbers_in_names(tmp_path: Path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in (0, 2, 10):
        level = np.full((8, 10, 3), number * 1000, np.uint16)
        cv2.imwrite(str(folder / f"f{number}.png"), level)
    (folder / "notes.txt").write_text("not a frame")
    video = open_video(folder, fps=Fraction(30000, 1001))
    assert [round(float(frame.rgb().max()) * 65.535) for frame in video.frames()] == [0, 2, 10]
    assert [frame.time_s for frame in video.frames()] == [Fraction(n * 1001, 30000) for n in range(3)]
    assert video.bits == 16


def test_channels_of_images_are_red_green_blue(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "0.png"), np.full((4, 4, 3), (10, 20, 250), np.uint8))
    (frame,) = open_video(tmp_path).frames()
    assert frame.rgb()[0, 0] == pytest.approx(np.array([250, 20, 10], np.float32) / 255)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("sound", ["aac", "pcm_s16le"])
def test_sound_is_copied_bit_by_bit(
    tmp_path: Path, make_clip: Clip, packets_of: Packets, sound: str, suffix: str
):
    path = make_clip(tmp_path / f"a{suffix}", sound=sound)
    original, copied = packets_of(tmp_path / "sound-a.mov"), packets_of(path)
    assert len(original) >= 4
    assert b"".join(content for _, content in copied) == b"".join(content for _, content in original)
    # Matroska starts at 0, so it moves sound that starts earlier, and the video with it.
    (first, *_) = open_video(path).frames()
    assert float(copied[0][0] - first.time_s) == pytest.approx(float(original[0][0]), abs=2e-3)


def test_sound_that_the_format_cannot_hold_is_one_line(tmp_path: Path, make_clip: Clip):
    source = make_clip(tmp_path / "a.mov", sound="pcm_mulaw")
    form = VideoFormat(64, 48, Fraction(25), Fraction(1, 25))
    with pytest.raises(UserError, match=r"a\.mov: its pcm_mulaw audio does not go into mp4") as caught:
        VideoWriter(tmp_path / "b.mp4", ".mp4", form, audio_of=source)
    assert "\n" not in str(caught.value)


def test_frames_too_small_for_h265_are_refused(tmp_path: Path):
    form = VideoFormat(80, 48, Fraction(25), Fraction(1, 25), quality="high")
    with pytest.raises(UserError, match="--quality high: 80x48 is too small for H.265"):
        VideoWriter(tmp_path / "b.mp4", ".mp4", form)


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_what_is_no_video_is_one_line(tmp_path: Path, content: bytes):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.mp4: cannot be read as a video: "):
        open_video(path)


def test_video_that_is_cut_off_is_one_line(tmp_path: Path, make_clip: Clip):
    path = make_clip(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(UserError, match=r"a\.mp4: (cannot|has a video stream but no frame|frame 0 cannot)"):
        open_video(path)


def test_sound_alone_is_no_video(tmp_path: Path, make_clip: Clip):
    make_clip(tmp_path / "a.mov", sound="aac")
    with pytest.raises(UserError, match=r"sound-a\.mov: has no video stream"):
        open_video(tmp_path / "sound-a.mov")


def test_bad_folders_of_frames_are_one_line(tmp_path: Path):
    with pytest.raises(UserError, match="has no frames"):
        open_video(tmp_path)
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((4, 4, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(UserError, match=r"1\.png: is 5x4, the first frame is 4x4"):
        [frame.rgb() for frame in open_video(tmp_path).frames()]
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"1\.png: cannot be decoded as an image \(0 bytes\)"):
        [frame.rgb() for frame in open_video(tmp_path).frames()]


def test_outputs_that_cannot_be_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"a\.avi: must end in \.mp4, \.mov, \.mkv"):
        validate_output(tmp_path / "a.avi", "standard")
    with pytest.raises(UserError, match=r"lossless video is written as \.mkv only"):
        validate_output(tmp_path / "a.mp4", "lossless")
    with pytest.raises(UserError, match="there is no folder"):
        validate_output(tmp_path / "none" / "a.mp4", "standard")
