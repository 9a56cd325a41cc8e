"""Videos through H.264, as the official protocol reads them."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
import torch

from focuspull.train.metrics.coded import coded, mp4

torch.set_num_threads(1)


def stripes(height: int, width: int) -> torch.Tensor:
    x = torch.arange(width).float()
    video = torch.stack([0.5 + 0.4 * torch.sin(0.4 * (x + 2 * t)) for t in range(3)])
    return video[:, None, None].expand(-1, 3, height, -1).contiguous()


@pytest.mark.parametrize("size", [(32, 48), (31, 45)])
def test_grey_detail_survives(size: tuple[int, int]) -> None:
    video = stripes(*size)
    result = coded(video)
    assert result.shape == video.shape
    assert 0 < float((result - video).abs().mean()) < 0.01


def test_coloured_detail_does_not() -> None:
    """Chroma has half the resolution: red and blue columns of one luma blend."""
    video = torch.zeros(2, 3, 32, 32)
    video[:, 0, :, ::2] = 0.8
    video[:, 2, :, 1::2] = 0.8
    assert float((coded(video) - video).abs().mean()) > 0.1


def test_the_same_video_is_always_coded_alike() -> None:
    assert torch.equal(coded(stripes(32, 48)), coded(stripes(32, 48)))


def test_an_mp4_has_all_frames() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, 16, 24, 3)).astype(np.uint8)
    with av.open(io.BytesIO(mp4(frames, crf=20, fps=12)), "r") as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate or 0)) == (24, 16, 12)
        assert sum(1 for _ in container.decode(video=0)) == 5
