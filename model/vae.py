"""`BokehVae`: Stable Video Diffusion's VAE whose decoder also gets what its encoder saw of the sharp frames.

Latents 8 times smaller than the image lose its detail, and where the picture is in focus the result has to be
the all-in-focus frame itself. So what enters each of the encoder's down blocks is added to what enters the
decoder's up block of that size, through a convolution of one pixel without bias that starts at 1e-5
(Any-to-Bokeh, arXiv 2505.21593, third training stage, and its released code). The features are returned by
`encode` and given to `decode`: no module keeps them, so encoding something else in between changes nothing.

The encoder works frame by frame. The decoder also mixes frames, so decoding in pieces leaves a seam between
them; decode in overlapping pieces (`focuspull.model.wois`), as the pipeline does.

Posteriors are not sampled: latents are their means, so the same input gives the same output.

bfloat16 and float32 work; in float16 SVD's encoder overflows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput

# Not used here, but a pipeline only loads classes from modules that have this name.
from diffusers.models.modeling_utils import ModelMixin as ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

SKIP_WEIGHT = 1e-5
"""What the skips' convolutions start with."""

Skips = tuple[Tensor, ...]
"""Features ``[N, C_i, H / 2^i, W / 2^i]`` that enter the encoder's down blocks, the finest first."""

Group = Literal["encoder", "decoder spatial", "decoder temporal", "skips", "inert"]


class BokehVae(AutoencoderKLTemporalDecoder):
    """SVD's VAE with skips from encoder to decoder; arguments are those of `AutoencoderKLTemporalDecoder`.

    Args:
        in_channels: See diffusers.
        out_channels: See diffusers.
        down_block_types: See diffusers.
        block_out_channels: See diffusers.
        layers_per_block: See diffusers.
        latent_channels: See diffusers.
        sample_size: See diffusers.
        scaling_factor: See diffusers.
        force_upcast: See diffusers; not used here, where float16 is not either.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",),
        block_out_channels: tuple[int, ...] = (64,),
        layers_per_block: int = 1,
        latent_channels: int = 4,
        sample_size: int = 32,
        scaling_factor: float = 0.18215,
        force_upcast: bool = True,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=cast(Any, down_block_types),
            block_out_channels=cast(Any, block_out_channels),
            layers_per_block=layers_per_block,
            latent_channels=latent_channels,
            sample_size=sample_size,
            scaling_factor=scaling_factor,
            force_upcast=force_upcast,
        )
        # What enters the down blocks, coarsest first, and what enters the up blocks.
        given = [block_out_channels[0], *block_out_channels[:-1]][::-1]
        wanted = [block_out_channels[-1], *block_out_channels[:0:-1]]
        self.skips = nn.ModuleList(
            nn.Conv2d(a, b, kernel_size=1, bias=False) for a, b in zip(given, wanted, strict=True)
        )
        self.reset_skips()

    def reset_skips(self) -> None:
        """Start the skips anew."""
        for conv in self.skips:
            nn.init.constant_(cast(nn.Conv2d, conv).weight, SKIP_WEIGHT)

    @property
    def downscale(self) -> int:
        """How many pixels a latent is wide."""
        return 2 ** (len(self.skips) - 1)

    @apply_forward_hook
    def encode(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor, return_dict: bool = True, *, return_skips: bool = False
    ) -> Any:
        """Encode images.

        Args:
            x: ``[N, 3, H, W]`` in [-1, 1], H and W multiples of `downscale`.
            return_dict: Whether to wrap the posterior as diffusers does.
            return_skips: Whether to return the skips too.

        Returns:
            What `AutoencoderKLTemporalDecoder.encode` does; with ``return_skips`` the posterior and `Skips`.
        """
        encoder = self.encoder
        skips: list[Tensor] = []
        h = encoder.conv_in(x)
        for block in encoder.down_blocks:
            skips.append(h)
            h = _run(encoder, block, h)
        h = _run(encoder, encoder.mid_block, h)
        h = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(h)))
        posterior = DiagonalGaussianDistribution(self.quant_conv(h))
        if return_skips:
            return posterior, tuple(skips)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, z: Tensor, num_frames: int, return_dict: bool = True, *, skips: Skips | None = None
    ) -> Any:
        """Decode the latents of whole clips.

        Args:
            z: ``[B T, 4, h, w]``, not scaled.
            num_frames: T.
            return_dict: Whether to wrap the result as diffusers does.
            skips: Of the frames' all-in-focus images, or None to decode as SVD does.

        Returns:
            ``[B T, 3, H, W]``, about [-1, 1].
        """
        decoder = self.decoder
        batch = z.shape[0] // num_frames
        # SVD's mixing takes zeros to mean "frames of a video".
        video = torch.zeros(batch, num_frames, dtype=z.dtype, device=z.device)
        h = _run(decoder, decoder.mid_block, decoder.conv_in(z), video)
        for i, block in enumerate(decoder.up_blocks):
            if skips is not None:
                h = h + self.skips[i](skips[-1 - i])
            h = _run(decoder, block, h, video)
        h = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(h)))
        h = decoder.time_conv_out(h.unflatten(0, (batch, num_frames)).transpose(1, 2))
        decoded = h.transpose(1, 2).flatten(0, 1)
        return DecoderOutput(sample=decoded) if return_dict else (decoded,)

    def encode_video(self, images: Tensor, *, chunk: int | None = None) -> tuple[Tensor, Skips]:
        """Scaled latents and skips of a video.

        Args:
            images: ``[B, T, 3, H, W]`` in [-1, 1], H and W multiples of `downscale`.
            chunk: Images encoded at once; None for all. The result does not depend on it, but for rounding.

        Returns:
            Means of the posteriors times the scaling factor, ``[B, T, 4, h, w]``, and skips
            ``[B, T, C_i, H_i, W_i]``.
        """
        batch, num_frames = images.shape[:2]
        encoded = [
            self.encode(part, return_skips=True)
            for part in images.flatten(0, 1).split(chunk or batch * num_frames)
        ]
        latents = torch.cat([posterior.mode() for posterior, _ in encoded]) * self.config["scaling_factor"]
        skips = [torch.cat(same) for same in zip(*(skips for _, skips in encoded), strict=True)]
        shape = (batch, num_frames)
        return latents.unflatten(0, shape), tuple(skip.unflatten(0, shape) for skip in skips)

    def decode_video(self, latents: Tensor, skips: Skips | None) -> Tensor:
        """Images of a video's scaled latents.

        Args:
            latents: ``[B, T, 4, h, w]``.
            skips: Of `encode_video`, of the all-in-focus frames; None to decode as SVD does.

        Returns:
            ``[B, T, 3, H, W]``, about [-1, 1].
        """
        batch, num_frames = latents.shape[:2]
        z = latents.flatten(0, 1) / self.config["scaling_factor"]
        flat = None if skips is None else tuple(skip.flatten(0, 1) for skip in skips)
        images = self.decode(z, num_frames, return_dict=False, skips=flat)[0]
        return images.unflatten(0, (batch, num_frames))


def _run(owner: nn.Module, block: nn.Module | None, *inputs: Tensor) -> Tensor:
    """A block's output, recomputed in the backward pass if its owner is told so."""
    assert block is not None
    if getattr(owner, "gradient_checkpointing", False) and torch.is_grad_enabled():
        checkpoint = cast(Callable[..., Tensor], owner._gradient_checkpointing_func)
        return checkpoint(block, *inputs)
    return block(*inputs)


def parameter_group(name: str) -> Group:
    """Which part of the VAE a parameter belongs to.

    The third training stage trains ``decoder spatial`` and ``skips``, as the released code does: in the
    decoder all but the names with "temporal" or "time". ``inert`` is what adds the same to all keys of an
    attention: it has no effect and no gradient, in SVD neither, and must not be given to an optimiser.

    Args:
        name: As in ``named_parameters()``.
    """
    if name.endswith("to_k.bias"):
        return "inert"
    if name.startswith("skips."):
        return "skips"
    if not name.startswith("decoder."):
        return "encoder"
    return "decoder temporal" if "temporal" in name or "time" in name else "decoder spatial"


def parameters_by_group(vae: nn.Module) -> dict[Group, dict[str, nn.Parameter]]:
    """Every parameter of a `BokehVae` by `parameter_group` and name."""
    groups: dict[Group, dict[str, nn.Parameter]] = {
        "encoder": {},
        "decoder spatial": {},
        "decoder temporal": {},
        "skips": {},
        "inert": {},
    }
    for name, parameter in vae.named_parameters():
        groups[parameter_group(name)][name] = parameter
    return groups


def stack_skips(frames: Sequence[Skips]) -> Skips:
    """Skips ``[N, T, C_i, H_i, W_i]`` of frames that each have ``[N, C_i, H_i, W_i]``."""
    return tuple(torch.stack(same, 1) for same in zip(*frames, strict=True))
