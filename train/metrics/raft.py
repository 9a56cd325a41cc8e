"""RAFT-large, the optical flow of the official evaluation.

Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020: features of both
frames at an eighth of the size, the correlation of all pairs of pixels at four scales, looked up around the
current flow by a recurrent unit that improves it twelve times, and a learned convex combination for the full
size. Names of the parameters are those of torchvision's ``raft_large``, so that its published weights load;
torchvision itself is not needed.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from focuspull.train.metrics.weights import load_strictly, read_state

NUM_UPDATES = 12
NUM_LEVELS, RADIUS = 4, 4
STRIDE = 8
MIN_SIDE = 128
"""The coarsest of the four scales of correlation has two pixels then."""
_HIDDEN, _CONTEXT, _FEATURES = 128, 128, 256


class Raft:
    """The network with its published weights.

    Args:
        weights: torchvision's file.
        device: Where to compute.

    Raises:
        UserError: If the file is of another network.
    """

    def __init__(self, weights: Path, device: torch.device) -> None:
        self._network = RaftLarge()
        load_strictly(self._network, read_state(weights), weights)
        self._network.to(device).eval()
        self._device = device

    @torch.inference_mode()
    def flow(self, video: Tensor) -> Tensor:
        """Flow from every frame to the next.

        Args:
            video: ``[T, 3, H, W]`` sRGB in [0, 1]; sides are extended by their last pixels to multiples of
                8, and to `MIN_SIDE`.

        Returns:
            ``[T - 1, 2, H, W]`` on the CPU.
        """
        height, width = video.shape[-2:]
        target = [max(-(-side // STRIDE) * STRIDE, MIN_SIDE) for side in (height, width)]
        padded = F.pad(video, (0, target[1] - width, 0, target[0] - height), mode="replicate") * 2 - 1
        frames = padded.to(self._device)
        pairs = [self._network(a[None], b[None]) for a, b in zip(frames, frames[1:], strict=False)]
        return torch.cat(pairs)[..., :height, :width].float().cpu()


class RaftLarge(nn.Module):
    """The network: images ``[N, 3, H, W]`` in [-1, 1], sides multiples of 8, to flow ``[N, 2, H, W]``."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_encoder = _Encoder(nn.InstanceNorm2d)
        self.context_encoder = _Encoder(nn.BatchNorm2d)
        self.update_block = _Update()
        self.mask_predictor = _Mask()

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Flow from the first to the second image."""
        features = self.feature_encoder(torch.cat([before, after]))
        pyramid = correlation_pyramid(*features.chunk(2))
        hidden, context = self.context_encoder(before).split((_HIDDEN, _CONTEXT), 1)
        hidden, context = hidden.tanh(), context.relu()
        start = _coordinates(hidden)
        at = start.clone()
        for _ in range(NUM_UPDATES):
            hidden, change = self.update_block(hidden, context, look_up(pyramid, at), at - start)
            at = at + change
        return upsampled(at - start, self.mask_predictor(hidden))


def correlation_pyramid(a: Tensor, b: Tensor) -> list[Tensor]:
    """Correlation of all pairs of pixels of maps ``[N, C, h, w]``, at `NUM_LEVELS` scales of the second.

    Returns:
        ``[N h w, 1, h_l, w_l]`` for each scale.
    """
    number, channels, height, width = a.shape
    correlation = torch.einsum("ncp,ncq->npq", a.flatten(2), b.flatten(2)) / channels**0.5
    level = correlation.reshape(number * height * width, 1, height, width)
    pyramid = [level]
    for _ in range(NUM_LEVELS - 1):
        level = F.avg_pool2d(level, 2, 2)
        pyramid.append(level)
    return pyramid


def look_up(pyramid: list[Tensor], at: Tensor) -> Tensor:
    """Correlations in a square of `RADIUS` around places ``[N, 2, h, w]`` (x, y), at every scale; 0 outside.

    Returns:
        ``[N, L (2 R + 1)^2, h, w]``; of the square x is the slow index, as published weights expect.
    """
    number, _, height, width = at.shape
    steps = torch.arange(-RADIUS, RADIUS + 1, device=at.device, dtype=at.dtype)
    square = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)
    centres = at.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    found: list[Tensor] = []
    for scale, level in enumerate(pyramid):
        places = centres / 2**scale + square
        size = places.new_tensor([level.shape[-1] - 1, level.shape[-2] - 1])
        grid = places / size.clamp(min=1) * 2 - 1
        values = F.grid_sample(level, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
        found.append(values.reshape(number, height, width, -1))
    return torch.cat(found, -1).permute(0, 3, 1, 2)


def upsampled(flow: Tensor, mask: Tensor) -> Tensor:
    """Flow ``[N, 2, h, w]`` at eight times the size: convex sums of 3x3 by a mask ``[N, 576, h, w]``."""
    number, _, height, width = flow.shape
    weights = mask.reshape(number, 1, 9, STRIDE, STRIDE, height, width).softmax(2)
    neighbours = F.unfold(STRIDE * flow, 3, padding=1).reshape(number, 2, 9, 1, 1, height, width)
    fine = (weights * neighbours).sum(2).permute(0, 1, 4, 2, 5, 3)
    return fine.reshape(number, 2, STRIDE * height, STRIDE * width)


def _coordinates(like: Tensor) -> Tensor:
    height, width = like.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).to(like).expand(len(like), -1, -1, -1)


def _convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    norm: type[nn.Module] | None = None,
    *,
    relu: bool = True,
) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)]
    if norm is not None:
        layers.append(norm(outputs))
    if relu:
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.convnormrelu1 = _convolution(inputs, outputs, 3, stride, norm)
        self.convnormrelu2 = _convolution(outputs, outputs, 3, 1, norm)
        same = stride == 1
        self.downsample = (
            nn.Identity() if same else _convolution(inputs, outputs, 1, stride, norm, relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.downsample(x) + self.convnormrelu2(self.convnormrelu1(x))).relu()


class _Encoder(nn.Module):
    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.convnormrelu = _convolution(3, 64, 7, 2, norm)
        self.layer1 = nn.Sequential(_Residual(64, 64, 1, norm), _Residual(64, 64, 1, norm))
        self.layer2 = nn.Sequential(_Residual(64, 96, 2, norm), _Residual(96, 96, 1, norm))
        self.layer3 = nn.Sequential(_Residual(96, 128, 2, norm), _Residual(128, 128, 1, norm))
        self.conv = nn.Conv2d(128, _FEATURES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.layer3(self.layer2(self.layer1(self.convnormrelu(x)))))


class _Motion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convcorr1 = _convolution(NUM_LEVELS * (2 * RADIUS + 1) ** 2, 256, 1)
        self.convcorr2 = _convolution(256, 192, 3)
        self.convflow1 = _convolution(2, 128, 7)
        self.convflow2 = _convolution(128, 64, 3)
        self.conv = _convolution(192 + 64, 128 - 2, 3)

    def forward(self, flow: Tensor, correlation: Tensor) -> Tensor:
        correlation = self.convcorr2(self.convcorr1(correlation))
        both = torch.cat([correlation, self.convflow2(self.convflow1(flow))], 1)
        return torch.cat([self.conv(both), flow], 1)


class _Gru(nn.Module):
    def __init__(self, inputs: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.convz, self.convr, self.convq = (
            nn.Conv2d(_HIDDEN + inputs, _HIDDEN, kernel, padding=padding) for _ in range(3)
        )

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        both = torch.cat([hidden, x], 1)
        update, reset = self.convz(both).sigmoid(), self.convr(both).sigmoid()
        proposed = self.convq(torch.cat([reset * hidden, x], 1)).tanh()
        return (1 - update) * hidden + update * proposed


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convgru1 = _Gru(_CONTEXT + 128, (1, 5))
        self.convgru2 = _Gru(_CONTEXT + 128, (5, 1))

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        return self.convgru2(self.convgru1(hidden, x), x)


class _Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(_HIDDEN, 256, 3, padding=1), nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x).relu())


class _Update(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.motion_encoder = _Motion()
        self.recurrent_block = _Recurrent()
        self.flow_head = _Head()

    def forward(
        self, hidden: Tensor, context: Tensor, correlation: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor]:
        motion = self.motion_encoder(flow, correlation)
        hidden = self.recurrent_block(hidden, torch.cat([context, motion], 1))
        return hidden, self.flow_head(hidden)


class _Mask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convrelu = _convolution(_HIDDEN, 256, 3)
        self.conv = nn.Conv2d(256, 9 * STRIDE**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        # A quarter, to balance gradients when it was trained.
        return 0.25 * self.conv(self.convrelu(x))
