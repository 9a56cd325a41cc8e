"""LPIPS against torchmetrics' own heads and an independent forward."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from focuspull.dataset.errors import UserError
from focuspull.train.metrics.perceptual import MIN_SIDE, Lpips, Net
from focuspull.train.metrics.weights import locate, read_state
from tests.train.metrics.examples import texture

torch.set_num_threads(1)

CPU = torch.device("cpu")
NETS: tuple[Net, ...] = ("alex", "vgg", "squeeze")


class Fire(nn.Module):
    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def squeezenet() -> nn.Sequential:
    """The layers of torchvision's squeezenet1_1, with its numbering."""
    torch.manual_seed(0)
    pool = [nn.MaxPool2d(3, 2, ceil_mode=True) for _ in range(3)]
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool[0], Fire(64, 16, 64), Fire(128, 16, 64), pool[1],
        Fire(128, 32, 128), Fire(256, 32, 128), pool[2], Fire(256, 48, 192), Fire(384, 48, 192),
        Fire(384, 64, 256), Fire(512, 64, 256),
    )  # fmt: skip


def trunk(net: Net, ours: Lpips) -> tuple[nn.Sequential, list[int]]:
    """An independent trunk with the same weights, and after which of its layers features count."""
    if net == "squeeze":
        return squeezenet(), [1, 4, 7, 9, 10, 11, 12]
    layers: list[nn.Module] = []
    taps: list[int] = []
    plan = {
        "alex": [(11, 4, 2), "p3", (5, 1, 2), "p3", (3, 1, 1), (3, 1, 1), (3, 1, 1)],
        "vgg": [(3, 1, 1)] * 2 + ["p2"] + [(3, 1, 1)] * 2 + (["p2"] + [(3, 1, 1)] * 3) * 3,
    }[net]
    number = 0
    for place, step in enumerate(plan):
        if isinstance(step, str):
            layers.append(nn.MaxPool2d(int(step[1]), 2))
            continue
        weight, bias = ours._trunk[f"Conv_{number}"]
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], *step)
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers += [layer, nn.ReLU()]
        number += 1
        if net == "alex" or place + 1 == len(plan) or isinstance(plan[place + 1], str):
            taps.append(len(layers) - 1)
    return nn.Sequential(*layers), taps


def heads(net: Net) -> list[Tensor]:
    """torchmetrics ships the published heads of all three networks."""
    package = find_spec("torchmetrics")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0]) / "functional/image/lpips_models"
    state = read_state(folder / f"{net}.pth")
    return [state[f"lin{n}.model.1.weight"].flatten() for n in range(len(state))]


def opened(net: Net, folder: Path) -> Lpips:
    if net != "squeeze":
        return Lpips(net, locate(f"lpips-{net}", {}), CPU)
    path = folder / "squeezenet.pth"
    torch.save({f"features.{key}": value for key, value in squeezenet().state_dict().items()}, path)
    return Lpips(net, path, CPU)


def by_definition(net: Net, ours: Lpips, a: Tensor, b: Tensor) -> float:
    layers, taps = trunk(net, ours)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, y = ((image[None] * 2 - 1 - shift[:, None, None]) / scale[:, None, None] for image in (a, b))
    total, tapped = 0.0, iter(heads(net))
    with torch.inference_mode():
        for number, layer in enumerate(layers):
            x, y = layer(x), layer(y)
            if number in taps:
                x1, y1 = (z / (z.norm(dim=1, keepdim=True) + 1e-10) for z in (x, y))
                total += float(((x1 - y1) ** 2 * next(tapped)[:, None, None]).sum(1).mean())
    assert next(tapped, None) is None
    return total


@pytest.mark.parametrize("net", NETS)
def test_the_distance_is_the_published_sum(net: Net, tmp_path: Path) -> None:
    ours = opened(net, tmp_path)
    a, b = texture(0, 64, 96), texture(1, 64, 96)
    assert float(ours.distance(a[None], b[None])) == pytest.approx(by_definition(net, ours, a, b), rel=1e-4)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_packaged_heads_are_the_published_ones(net: Net) -> None:
    ours = Lpips(net, locate(f"lpips-{net}", {}), CPU)
    for mine, theirs in zip(ours._heads, heads(net), strict=True):
        assert torch.equal(mine, theirs)


def test_more_blur_is_farther_and_equal_is_zero(tmp_path: Path) -> None:
    ours = opened("alex", tmp_path)
    sharp = texture(0)[None]
    soft = [nn.functional.avg_pool2d(sharp, size, 1, size // 2) for size in (3, 5, 9)]
    distances = [float(ours.distance(sharp, image)) for image in (sharp, *soft)]
    assert distances[0] == 0
    assert distances == sorted(distances)


def test_images_are_measured_one_by_one(tmp_path: Path) -> None:
    ours = opened("alex", tmp_path)
    a, b = (torch.stack([texture(seed + n, 48, 48) for n in range(6)]) for seed in (0, 10))
    alone = torch.cat([ours.distance(x[None], y[None]) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(ours.distance(a, b), alone)


@pytest.mark.parametrize("net", NETS)
def test_small_images_are_refused_and_the_smallest_work(net: Net, tmp_path: Path) -> None:
    ours, side = opened(net, tmp_path), MIN_SIDE[net]
    a, b = texture(0, side, side)[None], texture(1, side, side)[None]
    assert float(ours.distance(a, b)) > 0
    with pytest.raises(ValueError, match=f"lpips-{net}: needs images of {side}x{side}"):
        ours.distance(a[..., 1:], b[..., 1:])


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no 'VGG16_0/Conv_0/kernel'"):
        Lpips("vgg", locate("lpips-alex", {}), CPU)
    path = tmp_path / "other.pth"
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(UserError, match="torchvision's file of squeezenet1_1"):
        Lpips("squeeze", path, CPU)
