"""VideoMAE v2, ViT-g fine-tuned on Something-Something v2: the features of the official FVD.

Wang et al., "VideoMAE V2", CVPR 2023; used for the content-debiased FVD (Ge et al., CVPR 2024). Tubelets of
two frames and 14x14 pixels, fixed sinusoidal places, pre-norm transformer, the mean over tokens, layer norm;
the classifier is left out. Videos of other than 16 frames have their places interpolated in time. Names of
parameters are those of the released file, whose weights could not be obtained to compare features with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from focuspull.train.metrics.weights import load_strictly, read_state

SIZE = 224
_HEAD = "head."


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network; the default is ViT-g.

    Args:
        width: Of a token.
        depth: Blocks.
        heads: Of attention.
        hidden: Of the two-layer networks.
        patch: Side of a tubelet in pixels.
        tubelet: Frames of a tubelet.
        trained_frames: That the places are of without interpolation.
        image: Side of a frame.
    """

    width: int = 1408
    depth: int = 40
    heads: int = 16
    hidden: int = 6144
    patch: int = 14
    tubelet: int = 2
    trained_frames: int = 16
    image: int = SIZE


class VideoMae:
    """The network with its published weights.

    Args:
        weights: ``vit_g_hybrid_pt_1200e_ssv2_ft.pth``.
        device: Where to compute.

    Raises:
        UserError: If the file is of another network.
    """

    def __init__(self, weights: Path, device: torch.device) -> None:
        # On no device first: ViT-g has a billion parameters.
        with torch.device("meta"):
            self._network = VideoTransformer(Architecture())
        self._network.to_empty(device="cpu")
        state = {key: value for key, value in read_state(weights).items() if not key.startswith(_HEAD)}
        load_strictly(self._network, state, weights)
        self._network.to(device).eval()
        self._device = device

    @torch.inference_mode()
    def features(self, video: Tensor) -> Tensor:
        """Features ``[N, 1408]`` of videos ``[N, 3, T, 224, 224]`` in [0, 1], T even."""
        return self._network(video.to(self._device)).float().cpu()


class VideoTransformer(nn.Module):
    """The network; takes videos ``[N, 3, T, S, S]`` in [0, 1], gives features ``[N, width]``."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.patch_embed = _Patches(architecture)
        self.blocks = nn.ModuleList(_Block(architecture) for _ in range(architecture.depth))
        self.fc_norm = nn.LayerNorm(architecture.width, eps=1e-6)

    def forward(self, video: Tensor) -> Tensor:
        """Features of videos.

        Raises:
            ValueError: If frames have another size, or there is an odd number of them.
        """
        a = self.architecture
        if video.shape[1] != 3 or video.shape[2] % a.tubelet or video.shape[3:] != (a.image, a.image):
            raise ValueError(
                f"video: must be [N, 3, T, {a.image}, {a.image}], T a multiple of {a.tubelet}, "
                f"got {list(video.shape)}"
            )
        x = self.patch_embed(video)
        x = x + places(a, video.shape[2]).to(x)
        for block in self.blocks:
            x = block(x)
        return self.fc_norm(x.mean(1))


def places(architecture: Architecture, num_frames: int) -> Tensor:
    """Sinusoids for every tubelet, ``[1, T/2 * patches, width]``, stretched in time from those trained."""
    a = architecture
    per_frame = (a.image // a.patch) ** 2
    trained = a.trained_frames // a.tubelet
    position = torch.arange(trained * per_frame, dtype=torch.float64)[:, None]
    pair = torch.arange(a.width) // 2
    angle = position / torch.tensor(10000.0, dtype=torch.float64) ** (2 * pair / a.width)
    table = torch.where(torch.arange(a.width) % 2 == 0, angle.sin(), angle.cos()).float()
    wanted = num_frames // a.tubelet
    if wanted == trained:
        return table[None]
    in_time = table.reshape(trained, per_frame * a.width).T[None]
    stretched = F.interpolate(in_time, wanted, mode="linear", align_corners=False)
    return stretched[0].T.reshape(1, wanted * per_frame, a.width)


class _Patches(nn.Module):
    def __init__(self, a: Architecture) -> None:
        super().__init__()
        size = (a.tubelet, a.patch, a.patch)
        self.proj = nn.Conv3d(3, a.width, size, size)

    def forward(self, video: Tensor) -> Tensor:
        return self.proj(video).flatten(2).transpose(1, 2)


class _Attention(nn.Module):
    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.heads = a.heads
        self.qkv = nn.Linear(a.width, 3 * a.width, bias=False)
        # Keys have none: it would cancel in the softmax.
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(a.width)) for _ in range(2))
        self.proj = nn.Linear(a.width, a.width)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        shape = (*x.shape[:2], 3, self.heads, -1)
        q, k, v = F.linear(x, self.qkv.weight, bias).reshape(shape).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.proj(attended.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(a.width, a.hidden), nn.Linear(a.hidden, a.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(a.width, eps=1e-6) for _ in range(2))
        self.attn, self.mlp = _Attention(a), _Mlp(a)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))
