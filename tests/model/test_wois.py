"""Overlapping chunks: against the formula written out frame by frame, for every short length."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from focuspull.model.wois import cosine_weights, overlapped, side_by_side


def run(num_frames: int, window: int) -> tuple[list[Tensor], list[list[int]]]:
    """Frames are numbers; a chunk's result for a frame depends on the chunk's number and the frame."""
    chunks: list[list[int]] = []

    def process(frames: list[int]) -> list[Tensor]:
        chunks.append(list(frames))
        return [answer(len(chunks) - 1, frame) for frame in frames]

    found = list(overlapped(iter(range(num_frames)), process, window))
    assert [frame for frame, _ in found] == list(range(num_frames))
    return [result for _, result in found], chunks


def answer(chunk: int, frame: int) -> Tensor:
    return torch.tensor([math.sin(3.0 * chunk + 0.7 * frame), 10.0 * chunk], dtype=torch.float64)


def direct(num_frames: int, window: int) -> list[Tensor]:
    """The formula: chunk i holds frames iL .. iL + 2L - 1, as far as there are any."""
    overlap = window // 2
    num_chunks = 1 if num_frames <= window else math.ceil((num_frames - overlap) / overlap)
    results = []
    for frame in range(num_frames):
        holding = [i for i in range(num_chunks) if 0 <= frame - i * overlap < window or num_frames <= window]
        if len(holding) == 1:
            results.append(answer(holding[0], frame))
        else:
            first, second = holding
            j = frame - second * overlap
            g = 0.5 * (1 + math.cos(math.pi * j / overlap))
            results.append(g * answer(first, frame) + (1 - g) * answer(second, frame))
    return results


@pytest.mark.parametrize("window", [2, 4, 8])
@pytest.mark.parametrize("num_frames", range(1, 41))
def test_every_length_equals_the_direct_formula(num_frames: int, window: int) -> None:
    found, _ = run(num_frames, window)
    for frame, (a, b) in enumerate(zip(found, direct(num_frames, window), strict=True)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=f"frame {frame}")


def test_weights_of_the_published_overlap() -> None:
    assert [round(g, 3) for g in cosine_weights(4)] == [1.0, 0.854, 0.5, 0.146]


@pytest.mark.parametrize("num_frames", range(8, 41))
def test_all_chunks_are_full_and_hold_only_frames_of_the_video(num_frames: int) -> None:
    _, chunks = run(num_frames, 8)
    for chunk in chunks:
        assert chunk == list(range(chunk[0], chunk[0] + 8))
    assert chunks[0][0] == 0
    assert chunks[-1][-1] == num_frames - 1


def test_a_constant_video_stays_exactly_constant() -> None:
    value = torch.full((3, 5), 0.1)
    for num_frames in (1, 7, 8, 9, 13, 30):
        for _, found in overlapped(range(num_frames), lambda frames: [value] * len(frames), 8):
            assert torch.equal(found, value)


def test_no_video_gives_nothing() -> None:
    assert list(overlapped([], lambda frames: [], 8)) == []


def test_frames_leave_as_soon_as_they_can() -> None:
    """No more than 3L frames have been read and not handed out, however long the video."""
    read = 0

    def frames() -> Iterator[int]:
        nonlocal read
        for i in range(100):
            read += 1
            yield i

    for given, (frame, _) in enumerate(overlapped(frames(), lambda chunk: [torch.zeros(1)] * len(chunk), 8)):
        assert frame == given
        assert read - given <= 8


@pytest.mark.parametrize("window", [0, 1, 7, -2])
def test_a_wrong_window_is_refused_before_a_frame_is_read(window: int) -> None:
    with pytest.raises(ValueError, match=f"^window: must be even and at least 2, got {window}$"):
        overlapped([], lambda frames: [], window)


@pytest.mark.parametrize("num_frames", [0, 1, 3, 4, 5, 8, 11])
def test_side_by_side_every_frame_is_of_one_chunk(num_frames: int) -> None:
    chunks: list[list[int]] = []

    def process(chunk: list[int]) -> list[Tensor]:
        chunks.append(chunk)
        return [answer(len(chunks), frame) for frame in chunk]

    found = list(side_by_side(iter(range(num_frames)), process, 4))
    assert [frame for frame, _ in found] == list(range(num_frames))
    for frame, result in found:
        assert torch.equal(result, answer(frame // 4 + 1, frame))
    # The last chunk is as long as the others, if there are so many frames.
    assert all(len(chunk) == min(4, num_frames) for chunk in chunks)
    assert all(chunk == list(range(chunk[0], chunk[0] + len(chunk))) for chunk in chunks)
