"""3D ResNeXt-101 of Kinetics-400, the features of the second VFID of the official evaluation.

Hara et al., "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?", CVPR 2018: 32 groups,
bottlenecks of expansion 2, 3, 4, 23 and 3 blocks, projections where sizes change. Names of parameters are
those of the released file, whose weights could not be obtained to compare features with.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from focuspull.train.metrics.weights import load_strictly, read_state

BLOCKS = (3, 4, 23, 3)
GROUPS, EXPANSION = 32, 2
_CLASSIFIER = "fc."


class ResNeXt3d:
    """The network with its published weights.

    Args:
        weights: ``resnext-101.pth`` or ``resnext-101-kinetics.pth``.
        device: Where to compute.

    Raises:
        UserError: If the file is of another network.
    """

    def __init__(self, weights: Path, device: torch.device) -> None:
        self._network = ResNeXt(BLOCKS)
        state = {key: value for key, value in read_state(weights).items() if not key.startswith(_CLASSIFIER)}
        load_strictly(self._network, state, weights)
        self._network.to(device).eval()
        self._device = device

    @torch.inference_mode()
    def features(self, video: Tensor) -> Tensor:
        """Features ``[N, 2048]`` of videos ``[N, 3, T, H, W]``: the mean over time and space."""
        return self._network(video.to(self._device)).float().cpu()


class ResNeXt(nn.Module):
    """The network without its classifier.

    Args:
        blocks: Of each of the four stages.
    """

    def __init__(self, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, (1, 2, 2), 3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.maxpool = nn.MaxPool3d(3, 2, 1)
        inputs = 64
        self.stages = len(blocks)
        for stage, count in enumerate(blocks):
            width = 128 * 2**stage
            layers = [_Bottleneck(inputs, width, 1 if stage == 0 else 2)]
            inputs = width * EXPANSION
            layers += [_Bottleneck(inputs, width, 1) for _ in range(count - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))

    def forward(self, video: Tensor) -> Tensor:
        """Features ``[N, C]`` of videos ``[N, 3, T, H, W]``."""
        x = self.maxpool(self.bn1(self.conv1(video)).relu())
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x.mean((2, 3, 4))


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1, self.bn1 = nn.Conv3d(inputs, width, 1, bias=False), nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, 1, groups=GROUPS, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3, self.bn3 = nn.Conv3d(width, outputs, 1, bias=False), nn.BatchNorm3d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()
