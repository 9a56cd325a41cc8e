"""Optical flow of known motion, and moving frames along it."""

from __future__ import annotations

import pytest
import torch

from focuspull.train.metrics.flow import dis_flow, flow_difference, warped
from tests.train.metrics.examples import texture

torch.set_num_threads(1)

INSIDE = (..., slice(16, -16), slice(16, -16))


def panned(x: int, y: int, num_frames: int = 3) -> torch.Tensor:
    """What is seen through a window of 64x96 over a texture; its content moves by (x, y) per frame."""
    wide = texture(3, 120, 160)
    starts = [(28 - y * t, 32 - x * t) for t in range(num_frames)]
    return torch.stack([wide[:, top : top + 64, left : left + 96] for top, left in starts])


@pytest.mark.parametrize("motion", [(0, 0), (3, 0), (-2, 4)])
def test_known_motion_is_found(motion: tuple[int, int]) -> None:
    flow = dis_flow(panned(*motion))
    assert flow.shape == (2, 2, 64, 96)
    found = flow[INSIDE].mean((0, 2, 3))
    torch.testing.assert_close(found, torch.tensor(motion).float(), atol=0.1, rtol=0)


def test_a_frame_moved_back_along_its_flow_is_the_one_before() -> None:
    video = panned(3, -2)
    flow = torch.tensor([3.0, -2.0]).reshape(1, 2, 1, 1).expand(2, 2, 64, 96)
    torch.testing.assert_close(warped(video[1:], flow)[INSIDE], video[:-1][INSIDE], atol=1e-4, rtol=0)


def test_half_a_pixel_is_bilinear() -> None:
    row = torch.tensor([0.0, 1.0, 3.0, 2.0]).expand(1, 1, 3, 4)
    flow = torch.tensor([0.5, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 4)
    torch.testing.assert_close(warped(row, flow)[0, 0, 0], torch.tensor([0.5, 2.0, 2.5, 2.0]))


def test_the_difference_is_the_mean_over_x_and_y() -> None:
    a, b = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    b[:, 0] = 3
    b[:, 1, 0, 0] = 4
    assert flow_difference(a, b) == pytest.approx((4 * 3 + 4) / 8)


def test_the_same_video_has_the_same_flow() -> None:
    assert torch.equal(dis_flow(panned(2, 1)), dis_flow(panned(2, 1)))


def test_small_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="flow: needs frames of 16x16 at least, got 20x15"):
        dis_flow(torch.zeros(2, 3, 15, 20))
