"""RAFT: its parameters, its correlation and upsampling against loops, and files of other networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from focuspull.dataset.errors import UserError
from focuspull.train.metrics.raft import (
    RADIUS,
    STRIDE,
    Raft,
    RaftLarge,
    correlation_pyramid,
    look_up,
    upsampled,
)

torch.set_num_threads(1)

CPU = torch.device("cpu")


def network() -> RaftLarge:
    torch.manual_seed(0)
    return RaftLarge().eval()


def test_it_has_the_parameters_that_are_published() -> None:
    """torchvision's documentation: 5257536 parameters; a few of its names."""
    state = network().state_dict()
    assert sum(p.numel() for p in network().parameters()) == 5_257_536
    shapes = {
        "feature_encoder.convnormrelu.0.weight": (64, 3, 7, 7),
        "context_encoder.layer2.0.downsample.1.running_mean": (96,),
        "context_encoder.layer3.1.convnormrelu2.0.bias": (128,),
        "update_block.motion_encoder.convcorr1.0.weight": (256, 324, 1, 1),
        "update_block.recurrent_block.convgru2.convq.weight": (128, 384, 5, 1),
        "update_block.flow_head.conv2.weight": (2, 256, 3, 3),
        "mask_predictor.conv.weight": (576, 256, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


def test_correlations_are_looked_up_as_a_loop_does() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(1, 6, 16, 18, generator=generator) for _ in range(2))
    found = look_up(correlation_pyramid(a, b), torch.stack(
        torch.meshgrid(torch.arange(18.0), torch.arange(16.0), indexing="xy")
    )[None] + torch.tensor([1.0, -2.0]).reshape(1, 2, 1, 1))  # fmt: skip
    side = 2 * RADIUS + 1
    assert found.shape == (1, 4 * side**2, 16, 18)
    correlation = torch.einsum("cij,ckl->ijkl", a[0], b[0]) / 6**0.5
    for y, x, dx, dy in ((5, 7, 0, 0), (8, 3, 2, -3), (0, 0, -4, 4), (12, 17, 1, 1)):
        channel = (dx + RADIUS) * side + dy + RADIUS  # x is the slow index
        at_x, at_y = x + 1 + dx, y - 2 + dy
        inside = 0 <= at_x < 18 and 0 <= at_y < 16
        expected = float(correlation[y, x, at_y, at_x]) if inside else 0.0
        assert float(found[0, channel, y, x]) == pytest.approx(expected, abs=1e-4)
    # The second scale: means of 2x2, at half the place.
    coarse = correlation.reshape(16, 18, 8, 2, 9, 2).mean((3, 5))
    y, x = 6, 9  # looked up at (10, 4), which is (5, 2) there
    channel = side**2 + RADIUS * side + RADIUS
    assert float(found[0, channel, y, x]) == pytest.approx(float(coarse[y, x, 2, 5]), abs=1e-4)


def test_upsampling_is_a_convex_combination_of_neighbours() -> None:
    generator = torch.Generator().manual_seed(2)
    flow = torch.randn(1, 2, 3, 4, generator=generator)
    mask = torch.randn(1, 9 * STRIDE**2, 3, 4, generator=generator)
    fine = upsampled(flow, mask)
    assert fine.shape == (1, 2, 24, 32)
    y, x, fy, fx = 1, 2, 5, 3
    weights = mask[0].reshape(9, STRIDE, STRIDE, 3, 4)[:, fy, fx, y, x].softmax(0)
    neighbours = STRIDE * flow[0, :, y - 1 : y + 2, x - 1 : x + 2].reshape(2, 9)
    torch.testing.assert_close(fine[0, :, y * STRIDE + fy, x * STRIDE + fx], (weights * neighbours).sum(1))


def test_videos_of_any_size_go_through_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "raft.pth"
    torch.save(network().state_dict(), path)
    video = torch.rand(2, 3, 37, 50, generator=torch.Generator().manual_seed(3))
    flow = Raft(path, CPU).flow(video)
    assert flow.shape == (1, 2, 37, 50)
    assert bool(flow.isfinite().all())
    padded = torch.nn.functional.pad(video, (0, 78, 0, 91), mode="replicate") * 2 - 1
    with torch.inference_mode():
        whole = network()(padded[:1], padded[1:])
    torch.testing.assert_close(flow, whole[..., :37, :50])


def test_other_files_are_refused(tmp_path: Path) -> None:
    state = network().state_dict()
    path = tmp_path / "raft.pth"
    torch.save({name: value for name, value in state.items() if "mask" not in name}, path)
    with pytest.raises(UserError, match="raft.pth: has no 'mask_predictor.convrelu.0.weight'"):
        Raft(path, CPU)
