"""I3D with DeepMind's weights: an independent forward, two layouts of one network, and what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from focuspull.dataset.errors import UserError
from focuspull.train.metrics import i3d
from focuspull.train.metrics.weights import locate, read_arrays

torch.set_num_threads(1)

CPU = torch.device("cpu")


class Unit(nn.Module):
    """Convolution, normalisation and activation, as the published PyTorch ports name them."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, *, bare: bool = False
    ):
        super().__init__()
        self.conv3d = nn.Conv3d(channels_in, channels_out, kernel, stride, bias=bare)
        if not bare:
            self.bn = nn.BatchNorm3d(channels_out, eps=1e-3)
        self.bare, self.kernel, self.stride = bare, kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size in reversed(x.shape[2:]):
            out = -(-size // self.stride)
            total = max((out - 1) * self.stride + self.kernel - size, 0)
            pads += [total // 2, total - total // 2]
        x = self.conv3d(nn.functional.pad(x, pads))
        return x if self.bare else self.bn(x).relu()


SIZES = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}


class Mixed(nn.Module):
    def __init__(self, source: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3b: int) -> None:
        super().__init__()
        self.b0, self.b1a, self.b1b = Unit(source, b0, 1), Unit(source, b1a, 1), Unit(b1a, b1b, 3)
        self.b2a, self.b2b, self.b3b = Unit(source, b2a, 1), Unit(b2a, b2b, 3), Unit(source, b3b, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.max_pool3d(x, 3, 1, padding=1)
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


class Port(nn.Module):
    """The network as a module, for the layout of its keys and as a second implementation."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7, self.Conv3d_2b_1x1 = Unit(3, 64, 7, 2), Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        for name, sizes in SIZES.items():
            self.add_module(f"Mixed_{name}", Mixed(*sizes))
        self.logits = Unit(1024, 400, 1, bare=True)

    def forward(self, x: Tensor) -> Tensor:
        def pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
            pads = []
            for size, k, s in zip(reversed(x.shape[2:]), kernel[::-1], stride[::-1], strict=True):
                total = max((-(-size // s) - 1) * s + k - size, 0)
                pads += [total // 2, total - total // 2]
            return nn.functional.max_pool3d(nn.functional.pad(x, pads, value=-1e30), kernel, stride)

        x = pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in SIZES:
            if name == "4b":
                x = pool(x, (3, 3, 3), (2, 2, 2))
            if name == "5b":
                x = pool(x, (2, 2, 2), (2, 2, 2))
            x = getattr(self, f"Mixed_{name}")(x)
        return self.logits(nn.functional.avg_pool3d(x, (2, 7, 7), 1)).mean((2, 3, 4))


def video(num_frames: int, seed: int = 0) -> Tensor:
    noise = torch.rand(1, 3, num_frames, 28, 28, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(noise, (num_frames, 224, 224), mode="trilinear") * 2 - 1


def deepmind() -> Port:
    """The published arrays in the other implementation."""
    arrays = {name: torch.from_numpy(array) for name, array in read_arrays(locate("i3d", {})).items()}
    port = Port().eval()
    branches = {"b0": "Branch_0/Conv3d_0a_1x1", "b1a": "Branch_1/Conv3d_0a_1x1"}
    branches |= {"b1b": "Branch_1/Conv3d_0b_3x3", "b2a": "Branch_2/Conv3d_0a_1x1"}
    branches |= {"b2b": "Branch_2/Conv3d_0b_3x3", "b3b": "Branch_3/Conv3d_0b_1x1"}
    with torch.no_grad():
        for name, unit in port.named_modules():
            if not isinstance(unit, Unit):
                continue
            parent, _, branch = name.rpartition(".")
            place = "Logits/Conv3d_0c_1x1" if name == "logits" else name
            if branch in branches:
                place = f"{parent}/{branches[branch]}"
            unit.conv3d.weight.copy_(arrays[f"params/{place}/Conv_0/kernel"].permute(4, 3, 0, 1, 2))
            if unit.bare:
                assert unit.conv3d.bias is not None
                unit.conv3d.bias.copy_(arrays[f"params/{place}/Conv_0/bias"])
            else:
                unit.bn.bias.copy_(arrays[f"params/{place}/BatchNorm_0/bias"])
                assert unit.bn.running_mean is not None and unit.bn.running_var is not None
                unit.bn.running_mean.copy_(arrays[f"batch_stats/{place}/BatchNorm_0/mean"].flatten())
                unit.bn.running_var.copy_(arrays[f"batch_stats/{place}/BatchNorm_0/var"].flatten())
    return port


def test_the_published_network_is_computed_exactly_and_read_in_both_layouts(tmp_path: Path) -> None:
    port, clip = deepmind(), video(9)
    assert sum(p.numel() for p in port.parameters()) == 12_697_264
    with torch.inference_mode():
        expected = port(clip)
    ours = i3d.I3d(locate("i3d", {}), CPU).logits(clip)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)
    path = tmp_path / "i3d.pt"
    torch.save(port.state_dict(), path)
    torch.testing.assert_close(i3d.I3d(path, CPU).logits(clip), ours, rtol=1e-4, atol=1e-4)


def test_scores_are_a_linear_map_of_the_pooled_features() -> None:
    network, clip = i3d.I3d(locate("i3d", {}), CPU), video(9, 1)
    pooled = network.pooled(clip)
    weight, bias = network._layers["logits"]
    torch.testing.assert_close(
        pooled @ weight.flatten(1).T + bias, network.logits(clip), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("shape", [(1, 3, 8, 224, 224), (1, 3, 16, 112, 224), (3, 16, 224, 224)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \[N, 3, T, 224, 224\] with T >= 9, got"):
        i3d.I3d(locate("i3d", {}), CPU).pooled(torch.zeros(shape))


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"conv1.weight": torch.ones(1)}, path)
    with pytest.raises(UserError, match="other.pt: has no 'Conv3d_1a_7x7.conv3d.weight'"):
        i3d.I3d(path, CPU)


def test_input_is_stretched_to_the_size_of_the_network() -> None:
    given = i3d.as_input(torch.full((5, 3, 20, 60), 0.75))
    assert given.shape == (3, 5, 224, 224)
    torch.testing.assert_close(given, torch.full_like(given, 0.5))
