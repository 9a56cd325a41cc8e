"""MPI attention: how the blur strength and the regions around the plane in focus enter the U-Net.

Any-to-Bokeh (arXiv 2505.21593, the method's figure) puts one such block after the self-attention of every
spatial transformer block::

    Q <- Q + tanh(gamma) TS(Attn([Q + Phi_M(E(K)), Phi_A(V_A)], M))

``Q`` are the tokens of a frame, ``E(K)`` an encoding of its blur strength, ``V_A`` features of the
all-in-focus frame on the same grid, ``[.,.]`` concatenation of tokens, ``M`` a mask of keys (all of Q; of
V_A what lies in the regions this level sees) and ``TS`` the choice of the first tokens, those of Q. Only
they ask, so only their queries are computed. ``gamma`` is 0 in the beginning: the network starts as Stable
Video Diffusion. A gated feed-forward layer follows, as in the released code and in GLIGEN (arXiv
2301.07093).

The released code computes something else, and its weights fit only that. `MpiConfig.official` has it: the
mask came out as all zeros, so that V_A is never seen; K is added to Q itself, outside the gate; the
feed-forward layer is applied to two differently normalised copies.

Letters: B batch times frames, N tokens of the grid, C width of the block, E length of the encoding of K.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from torch import Tensor, nn
from torch.nn import functional

KEncoding = Literal["smooth", "fourier"]
Masks = Literal["regions", "none"]

NUM_FREQUENCIES = 16
K_FEATURES = 2 * NUM_FREQUENCIES
"""Length E of either encoding of K."""

K_REFERENCE = 64.0
"""Blur radius, pixels per unit of disparity, at which the smooth encoding's argument is 1."""


@dataclass(frozen=True)
class MpiConfig:
    """What an MPI attention block is made of.

    Attributes:
        num_levels: Number of regions N; see `focuspull.dataset.mpi`.
        k_encoding: ``smooth`` or the published ``fourier``; see `encode_k`.
        k_inside_gate: Whether K is added to what attends only, so that a gate of 0 closes it out.
        masks: ``regions``: features of the all-in-focus frame are keys where the level sees them. ``none``:
            they are no keys at all, and no layers for them exist.
        two_norms: Whether the feed-forward layer is also applied to a second, differently normalised copy.
    """

    num_levels: int = 4
    k_encoding: KEncoding = "smooth"
    k_inside_gate: bool = True
    masks: Masks = "regions"
    two_norms: bool = False

    def __post_init__(self) -> None:
        """Refuse values that have no meaning."""
        if self.num_levels < 1:
            raise ValueError(f"num_levels: must be positive, got {self.num_levels}")
        if self.k_encoding not in ("smooth", "fourier"):
            raise ValueError(f"k_encoding: must be 'smooth' or 'fourier', got {self.k_encoding!r}")
        if self.masks not in ("regions", "none"):
            raise ValueError(f"masks: must be 'regions' or 'none', got {self.masks!r}")

    @classmethod
    def official(cls) -> MpiConfig:
        """What the released code computes, for its weights."""
        return cls(k_encoding="fourier", k_inside_gate=False, masks="none", two_norms=True)


def encode_k(k: Tensor, encoding: KEncoding = "smooth") -> Tensor:
    """Encode blur strengths E(K), in float32 whatever the dtype of ``k``.

    ``smooth`` is a Fourier series with 16 frequencies ``pi/4 .. 4 pi`` of ``u = ln(1 + K) / ln(1 + 64)``.
    Neighbouring K look alike, fractions lie between, equal ratios of large K are equal steps, and the slowest
    pair turns by less than half a circle up to K = 64^4, so no two strengths in use are confused and those
    beyond the training range continue what is within it.

    ``fourier`` has frequencies ``100^(j / 15)`` of K itself, j = 0 .. 15, sine and cosine of each in turn
    (released code of Any-to-Bokeh, which is trained on the integers 1 to 32). K and K + 1 are as unlike as
    any two numbers; only for weights that were trained with it.

    Args:
        k: ``[...]``, blur radius in pixels of the network's input per unit of disparity, not negative.
        encoding: ``smooth`` or ``fourier``.

    Returns:
        ``[..., 32]`` float32 in [-1, 1].
    """
    k = k.float()[..., None]
    if encoding == "smooth":
        step = torch.arange(1, NUM_FREQUENCIES + 1, device=k.device, dtype=torch.float32)
        angles = torch.log1p(k) / math.log1p(K_REFERENCE) * (math.pi / 4 * step)
        return torch.cat([angles.sin(), angles.cos()], -1)
    exponent = torch.arange(NUM_FREQUENCIES, device=k.device, dtype=torch.float32) / (NUM_FREQUENCIES - 1)
    angles = k * 100.0**exponent
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


@dataclass(frozen=True)
class Conditions:
    """What the blocks need beside their input; travels through diffusers' layers in the place of the text.

    It is a value that belongs to one forward pass. No module keeps it, so passes do not disturb each other
    and gradient checkpointing recomputes with what was there the first time.

    Attributes:
        image_embeddings: ``[B, 1, D]``, one token per frame.
        k_features: ``[B, E]``, of `encode_k`.
        aif_tokens: For each depth of the U-Net ``[B, N, C0]``, features of the all-in-focus frames.
        regions: For each depth ``[B, N]`` uint8, region ids.
    """

    image_embeddings: Tensor
    k_features: Tensor
    aif_tokens: tuple[Tensor, ...]
    regions: tuple[Tensor, ...]

    @property
    def shape(self) -> torch.Size:
        """That of the embeddings, which diffusers' U-Net reads to repeat them for every frame."""
        return self.image_embeddings.shape

    def repeat_interleave(self, *_: Any, **__: Any) -> Conditions:
        """Itself: there is one embedding per frame already, where diffusers has one per clip."""
        return self


class MpiAttention(nn.Module):
    """Gated attention of a frame's tokens to themselves and to the all-in-focus frame's.

    Args:
        width: C, channels of the tokens.
        num_heads: Of the attention.
        feature_width: C0, channels of the all-in-focus features.
        level: Regions up to this one are keys.
        config: What the block is made of.
    """

    def __init__(
        self, width: int, *, num_heads: int, feature_width: int, level: int, config: MpiConfig
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.level = level
        self.config = config
        self.k_projection = nn.Linear(K_FEATURES, width)
        if config.masks == "regions":
            self.adapter = nn.Linear(feature_width, width)
        self.norm_attention = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        if config.two_norms:
            self.norm_feed_forward_2 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, activation_fn="geglu")
        # Of shape [1] because FSDP2 takes no parameters without axes.
        self.gate_attention = nn.Parameter(torch.zeros(1))
        self.gate_feed_forward = nn.Parameter(torch.zeros(1))

    def reset_parameters(self) -> None:
        """Draw the weights anew from torch's generator and close the gates."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
        nn.init.zeros_(self.gate_attention)
        nn.init.zeros_(self.gate_feed_forward)

    def forward(
        self, x_BNC: Tensor, k_features_BE: Tensor, aif_BNC: Tensor | None, regions_BN: Tensor | None
    ) -> Tensor:
        """Add what the gates let through.

        Args:
            x_BNC: Tokens.
            k_features_BE: Encoded blur strengths of the frames.
            aif_BNC: Features of the all-in-focus frames, N tokens of width C0; ignored with masks ``none``.
            regions_BN: Their region ids; ignored where the level sees all.

        Returns:
            ``[B, N, C]``.
        """
        k_BNC = self.k_projection(k_features_BE.to(x_BNC.dtype))[:, None]
        if not self.config.k_inside_gate:
            x_BNC = x_BNC + k_BNC
            asking_BNC = self.norm_attention(x_BNC)
        else:
            asking_BNC = self.norm_attention(x_BNC + k_BNC)

        keys_BMC, mask_BM = asking_BNC, None
        if self.config.masks == "regions":
            assert aif_BNC is not None and regions_BN is not None
            seen_BNC = self.norm_attention(self.adapter(aif_BNC.to(x_BNC.dtype)))
            keys_BMC = torch.cat([asking_BNC, seen_BNC], 1)
            # Without a mask, attention may use its fastest kernel.
            if self.level < self.config.num_levels - 1:
                mask_BM = torch.cat(
                    [torch.ones_like(regions_BN, dtype=torch.bool), regions_BN <= self.level], 1
                )
        attended_BNC = self._attend(asking_BNC, keys_BMC, mask_BM)
        x_BNC = x_BNC + self.gate_attention.tanh() * attended_BNC

        grown_BNC = self.feed_forward(self.norm_feed_forward(x_BNC))
        if self.config.two_norms:
            grown_BNC = grown_BNC + self.feed_forward(self.norm_feed_forward_2(x_BNC))
        return x_BNC + self.gate_feed_forward.tanh() * grown_BNC

    def _attend(self, asking_BNC: Tensor, keys_BMC: Tensor, mask_BM: Tensor | None) -> Tensor:
        heads = (self.num_heads, asking_BNC.shape[-1] // self.num_heads)
        attended = functional.scaled_dot_product_attention(
            self.to_q(asking_BNC).unflatten(-1, heads).transpose(1, 2),
            self.to_k(keys_BMC).unflatten(-1, heads).transpose(1, 2),
            self.to_v(keys_BMC).unflatten(-1, heads).transpose(1, 2),
            attn_mask=None if mask_BM is None else mask_BM[:, None, None, :],
        )
        return self.to_out(attended.transpose(1, 2).flatten(-2))


class MpiTransformerBlock(nn.Module):
    """A spatial transformer block of SVD's with MPI attention after its self-attention.

    Takes over the layers of the block it is made from, under the same names.

    Args:
        stock: diffusers' block; not to be used any more.
        feature_width: C0, channels of the all-in-focus features.
        level: Regions up to this one are seen.
        config: What the MPI attention is made of.
    """

    def __init__(
        self, stock: BasicTransformerBlock, *, feature_width: int, level: int, config: MpiConfig
    ) -> None:
        super().__init__()
        assert stock.norm_type == "layer_norm" and stock.pos_embed is None and stock.attn2 is not None
        self.norm1, self.attn1 = stock.norm1, stock.attn1
        self.norm2, self.attn2 = cast(nn.Module, stock.norm2), cast(nn.Module, stock.attn2)
        self.norm3, self.ff = cast(nn.Module, stock.norm3), stock.ff
        self.mpi = MpiAttention(
            stock.dim,
            num_heads=stock.num_attention_heads,
            feature_width=feature_width,
            level=level,
            config=config,
        )

    def forward(
        self,
        x_BNC: Tensor,
        image_embeddings: Tensor,
        k_features_BE: Tensor,
        aif_BNC: Tensor | None,
        regions_BN: Tensor | None,
    ) -> Tensor:
        """Self-attention, MPI attention, attention to the image's embedding, feed-forward; all residual."""
        x_BNC = x_BNC + self.attn1(self.norm1(x_BNC))
        x_BNC = self.mpi(x_BNC, k_features_BE, aif_BNC, regions_BN)
        x_BNC = x_BNC + self.attn2(self.norm2(x_BNC), encoder_hidden_states=image_embeddings)
        return x_BNC + self.ff(self.norm3(x_BNC))
