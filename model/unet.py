"""`BokehUNet`: Stable Video Diffusion's U-Net with MPI attention, and its single step.

The U-Net is diffusers' (`UNetSpatioTemporalConditionModel`), extended by subclass: its spatial transformers
are replaced by ones that take over their layers and add `focuspull.model.attention.MpiAttention`, so that
SVD's weights fit under their own names. With the gates closed the output equals SVD's bit for bit.

How the released Any-to-Bokeh feeds it (arXiv 2505.21593 and its code), kept here: no noise; the latents of
the all-in-focus frames where SVD has the noisy ones, those of the defocus where it has the conditioning
image; a constant timestep; and the output taken as the latents of the bokeh frames themselves.

Down block i and up block n - 1 - i work on the same grid, at depth i; the middle block at depth n - 1. A
block at depth i of n sees the regions up to ``i (N - 1) / (n - 1)``, rounded down: only what is in focus at
full resolution, everything at the bottom (in the paper n = N = 4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock

# Not used here, but a pipeline only loads classes from modules that have this name.
from diffusers.models.modeling_utils import ModelMixin as ModelMixin
from diffusers.models.transformers.transformer_temporal import (
    TransformerSpatioTemporalModel,
    TransformerTemporalModelOutput,
)
from diffusers.models.unets.unet_spatio_temporal_condition import (
    UNetSpatioTemporalConditionModel,
    UNetSpatioTemporalConditionOutput,
)
from torch import Tensor, nn
from torch.nn import functional

from focuspull.model.attention import (
    Conditions,
    KEncoding,
    Masks,
    MpiConfig,
    MpiTransformerBlock,
    encode_k,
)

TIMESTEP = 1.0
"""Constant timestep of the single step, as in the released code."""

TIME_IDS = (7.0, 127.0, 0.0)
"""Frames per second, motion bucket and noise level that SVD is told; the released code trains with these and
then says 6 frames per second in its pipeline. Here training and inference say the same."""

Group = Literal["mpi", "temporal", "blend", "spatial", "inert"]


class MpiTransformer(nn.Module):
    """SVD's transformer over space and time, whose spatial blocks have MPI attention.

    Takes over the layers of the transformer it is made from, under the same names.

    Args:
        stock: diffusers' transformer; not to be used any more.
        depth: Which of the grids it works on, 0 the finest.
        feature_width: Channels of the all-in-focus features.
        level: Regions up to this one are seen.
        config: What the MPI attention is made of.
    """

    def __init__(
        self,
        stock: TransformerSpatioTemporalModel,
        *,
        depth: int,
        feature_width: int,
        level: int,
        config: MpiConfig,
    ) -> None:
        super().__init__()
        self.depth = depth
        self.norm, self.proj_in, self.proj_out = stock.norm, stock.proj_in, stock.proj_out
        self.transformer_blocks = nn.ModuleList(
            MpiTransformerBlock(
                cast(BasicTransformerBlock, block), feature_width=feature_width, level=level, config=config
            )
            for block in stock.transformer_blocks
        )
        self.temporal_transformer_blocks = stock.temporal_transformer_blocks
        self.time_proj, self.time_pos_embed = stock.time_proj, stock.time_pos_embed
        self.time_mixer = stock.time_mixer
        self.gradient_checkpointing = False

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Conditions,
        image_only_indicator: Tensor,
        return_dict: bool = True,
    ) -> TransformerTemporalModelOutput | tuple[Tensor]:
        """Transform the features of a video; names and result are those of diffusers' transformer.

        Args:
            hidden_states: ``[B T, C, h, w]``.
            encoder_hidden_states: Of all frames.
            image_only_indicator: ``[B, T]``, zeros, which SVD's mixing takes to mean frames of a video.
            return_dict: Whether to wrap the result.

        Returns:
            ``[B T, C, h, w]``.
        """
        conditions = encoder_hidden_states
        batch, num_frames = image_only_indicator.shape
        height, width = hidden_states.shape[-2:]
        # All pixels of a clip attend to its first frame's embedding when they attend over time, as in SVD.
        first = conditions.image_embeddings.unflatten(0, (batch, num_frames))[:, 0]
        over_time = first.repeat_interleave(height * width, 0)

        x = self.proj_in(self.norm(hidden_states).flatten(2).transpose(1, 2))
        numbers = torch.arange(num_frames, device=x.device).repeat(batch)
        position = self.time_pos_embed(self.time_proj(numbers).to(x.dtype))[:, None]
        for spatial, temporal in zip(self.transformer_blocks, self.temporal_transformer_blocks, strict=True):
            x = self._run(
                spatial,
                x,
                conditions.image_embeddings,
                conditions.k_features,
                conditions.aif_tokens[self.depth] if conditions.aif_tokens else None,
                conditions.regions[self.depth] if conditions.regions else None,
            )
            mixed = self._run(
                cast(TemporalBasicTransformerBlock, temporal), x + position, num_frames, over_time
            )
            x = self.time_mixer(x_spatial=x, x_temporal=mixed, image_only_indicator=image_only_indicator)
        x = self.proj_out(x).transpose(1, 2).unflatten(-1, (height, width)).contiguous()
        x = x + hidden_states
        return TransformerTemporalModelOutput(sample=x) if return_dict else (x,)

    def _run(self, block: nn.Module, *inputs: Any) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            checkpoint = cast(Callable[..., Tensor], self._gradient_checkpointing_func)
            return checkpoint(block, *inputs)
        return block(*inputs)


class BokehUNet(UNetSpatioTemporalConditionModel):
    """SVD's U-Net that knows the plane in focus and the strength of the blur.

    The first 13 arguments and their defaults are those of `UNetSpatioTemporalConditionModel`: SVD.

    Args:
        sample_size: See diffusers.
        in_channels: Channels of both latents together.
        out_channels: Channels of a latent.
        down_block_types: See diffusers.
        up_block_types: See diffusers.
        block_out_channels: See diffusers.
        addition_time_embed_dim: See diffusers.
        projection_class_embeddings_input_dim: See diffusers.
        layers_per_block: See diffusers.
        cross_attention_dim: Length of an image embedding.
        transformer_layers_per_block: See diffusers.
        num_attention_heads: See diffusers.
        num_frames: See diffusers; the network takes any number.
        num_levels: Number of regions N.
        region_exponent: Exponent ``a`` of their thresholds, see `focuspull.dataset.mpi.thresholds`; kept here
            so that training and inference agree about it.
        k_encoding: See `MpiConfig`.
        k_inside_gate: See `MpiConfig`.
        masks: See `MpiConfig`.
        two_norms: See `MpiConfig`.
        signed_defocus: What the defocus latents are of, see `defocus_images`; kept here for the same reason.
        sampling_steps: 1, or how many steps noise is denoised in, see `focuspull.model.multistep`. Then the
            first layer has room for noisy latents too, after the others.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 8,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = (
            "CrossAttnDownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
            "DownBlockSpatioTemporal",
        ),
        up_block_types: tuple[str, ...] = (
            "UpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal",
        ),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        addition_time_embed_dim: int = 256,
        projection_class_embeddings_input_dim: int = 768,
        layers_per_block: int | tuple[int, ...] = 2,
        cross_attention_dim: int | tuple[int, ...] = 1024,
        transformer_layers_per_block: int | tuple[int, ...] = 1,
        num_attention_heads: int | tuple[int, ...] = (5, 10, 20, 20),
        num_frames: int = 25,
        num_levels: int = 4,
        region_exponent: float = 1.0,
        k_encoding: KEncoding = "smooth",
        k_inside_gate: bool = True,
        masks: Masks = "regions",
        two_norms: bool = False,
        signed_defocus: bool = True,
        sampling_steps: int = 1,
    ) -> None:
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            addition_time_embed_dim=addition_time_embed_dim,
            projection_class_embeddings_input_dim=projection_class_embeddings_input_dim,
            layers_per_block=cast(Any, layers_per_block),
            cross_attention_dim=cast(Any, cross_attention_dim),
            transformer_layers_per_block=cast(Any, transformer_layers_per_block),
            num_attention_heads=num_attention_heads,
            num_frames=num_frames,
        )
        if sampling_steps < 1:
            raise ValueError(f"sampling_steps: must be at least 1, got {sampling_steps}")
        if sampling_steps > 1:
            self.conv_in = nn.Conv2d(
                in_channels + out_channels, block_out_channels[0], kernel_size=3, padding=1
            )
        self.mpi_config = MpiConfig(
            num_levels=num_levels,
            k_encoding=k_encoding,
            k_inside_gate=k_inside_gate,
            masks=masks,
            two_norms=two_norms,
        )
        if masks == "regions":
            self.conv_in_mpi = nn.Conv2d(out_channels, block_out_channels[0], kernel_size=3, padding=1)
            self.start_mpi_from_conv_in()

        depths = len(block_out_channels)
        for i, block in enumerate(self.down_blocks):
            self._upgrade(block, i, depths)
        self._upgrade(self.mid_block, depths - 1, depths)
        for i, block in enumerate(self.up_blocks):
            self._upgrade(block, depths - 1 - i, depths)

    def _upgrade(self, block: nn.Module, depth: int, depths: int) -> None:
        attentions = getattr(block, "attentions", None)
        if attentions is None:
            return
        for i, stock in enumerate(attentions):
            attentions[i] = MpiTransformer(
                stock,
                depth=depth,
                feature_width=self.conv_in.out_channels,
                level=depth * (self.mpi_config.num_levels - 1) // max(depths - 1, 1),
                config=self.mpi_config,
            )

    @torch.no_grad()
    def start_mpi_from_conv_in(self) -> None:
        """Start the all-in-focus features as what SVD's first layer makes of its noisy latents."""
        channels = self.conv_in_mpi.in_channels
        self.conv_in_mpi.weight.copy_(self.conv_in.weight[:, :channels])
        assert self.conv_in_mpi.bias is not None and self.conv_in.bias is not None
        self.conv_in_mpi.bias.copy_(self.conv_in.bias)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        sample: Tensor,
        timestep: Tensor | float,
        image_embeddings: Tensor,
        added_time_ids: Tensor,
        *,
        regions: Tensor,
        k: Tensor,
        return_dict: bool = True,
    ) -> UNetSpatioTemporalConditionOutput | tuple[Tensor]:
        """Run the network once.

        Args:
            sample: ``[B, T, 8, h, w]``, latents of the all-in-focus frames and of their defocus; 4 more
                channels if there is more than one step.
            timestep: A number or ``[B]``.
            image_embeddings: ``[B, T, D]``, one per all-in-focus frame.
            added_time_ids: ``[B, 3]``: frames per second, motion bucket, noise.
            regions: ``[B, T, H, W]`` uint8, region ids on any grid, e.g. the images'; see
                `focuspull.dataset.mpi.region_ids`.
            k: ``[B, T]``, blur radius in pixels of the images the latents are of, per unit of disparity.
            return_dict: Whether to wrap the result.

        Returns:
            ``[B, T, 4, h, w]`` in `UNetSpatioTemporalConditionOutput` or a tuple.
        """
        conditions = self._conditions(sample, image_embeddings, regions, k)
        return super().forward(
            sample, timestep, cast(Any, conditions), added_time_ids, return_dict=return_dict
        )

    def _conditions(self, sample: Tensor, image_embeddings: Tensor, regions: Tensor, k: Tensor) -> Conditions:
        tokens: list[Tensor] = []
        region_tokens: list[Tensor] = []
        if self.mpi_config.masks == "regions":
            features = self.conv_in_mpi(sample[:, :, : self.conv_in_mpi.in_channels].flatten(0, 1))
            height, width = features.shape[-2:]
            for _ in self.down_blocks:
                tokens.append(
                    functional.adaptive_avg_pool2d(features, (height, width)).flatten(2).transpose(1, 2)
                )
                region_tokens.append(regions_on_grid(regions.flatten(0, 1), height, width).flatten(1))
                # As diffusers' downsampling does.
                height, width = (height + 1) // 2, (width + 1) // 2
        return Conditions(
            image_embeddings=image_embeddings.flatten(0, 1)[:, None].to(sample.dtype),
            k_features=encode_k(k.flatten(), self.mpi_config.k_encoding),
            aif_tokens=tuple(tokens),
            regions=tuple(region_tokens),
        )


def regions_on_grid(ids: Tensor, height: int, width: int) -> Tensor:
    """`focuspull.dataset.mpi.resize_regions` with indices made on the device of the ids.

    That one makes them with NumPy, which would be copied to a GPU four times per pass, waiting for each.

    Args:
        ids: ``[..., H, W]``.
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        ``[..., height, width]``, each the region of the nearest pixel.
    """
    rows = (2 * torch.arange(height, device=ids.device) + 1) * ids.shape[-2] // (2 * height)
    columns = (2 * torch.arange(width, device=ids.device) + 1) * ids.shape[-1] // (2 * width)
    return ids.index_select(-2, rows).index_select(-1, columns)


def predict_x0(
    unet: Callable[..., Any],
    *,
    aif_latents: Tensor,
    defocus_latents: Tensor,
    image_embeddings: Tensor,
    regions: Tensor,
    k: Tensor,
) -> Tensor:
    """The single step: latents of the bokeh frames, without noise and without a scheduler.

    Args:
        unet: A `BokehUNet`, compiled or wrapped for several GPUs if you like.
        aif_latents: ``[B, T, 4, h, w]``, scaled.
        defocus_latents: ``[B, T, 4, h, w]``, scaled, of `defocus_images`.
        image_embeddings: ``[B, T, D]``.
        regions: ``[B, T, H, W]`` uint8.
        k: ``[B, T]``, pixels of the images the latents are of.

    Returns:
        ``[B, T, 4, h, w]``, scaled. The same input gives the same output.
    """
    batch = aif_latents.shape[0]
    timestep = torch.full((batch,), TIMESTEP, device=aif_latents.device)
    time_ids = torch.tensor(TIME_IDS, device=aif_latents.device).expand(batch, -1)
    sample = torch.cat([aif_latents, defocus_latents], 2)
    return unet(sample, timestep, image_embeddings, time_ids, regions=regions, k=k, return_dict=False)[0]


def defocus_images(disparity: Tensor, focus_disparity: Tensor, *, signed: bool) -> Tensor:
    """Defocus V_D as images for the VAE, grey, in three channels.

    Args:
        disparity: ``[..., 1, H, W]`` in [0, 1].
        focus_disparity: ``[...]`` in [0, 1].
        signed: True: ``d - d_f``, positive in front of the plane in focus, so that the network can tell
            blur that covers the subject from blur behind it. False: ``2 |d - d_f| - 1`` (released code).

    Returns:
        ``[..., 3, H, W]`` in [-1, 1].
    """
    defocus = disparity - focus_disparity[..., None, None, None]
    if not signed:
        defocus = 2 * defocus.abs() - 1
    return defocus.clamp(-1, 1).expand(*disparity.shape[:-3], 3, *disparity.shape[-2:])


def parameter_group(name: str) -> Group:
    """Which part of the U-Net a parameter belongs to.

    * ``mpi``: MPI attention and the features it looks at; not in SVD.
    * ``temporal``: blocks over time. These are the parameters with "temporal" in their names, which the
      released code trains in its second stage.
    * ``blend``: how space and time are mixed (``time_mixer``) and the code of a frame's position
      (``time_pos_embed``); the released code leaves them out of its second stage.
    * ``spatial``: the rest of what can learn.
    * ``inert``: normalisation, queries and keys of the attention to the image's embedding. That is one token
      per frame, and attention to one token is that token: these have no effect and no gradient, in SVD
      neither. They are kept so that SVD's weights fit, and must not be given to an optimiser.

    Args:
        name: As in ``named_parameters()``.
    """
    parts = name.split(".")
    if "mpi" in parts or "conv_in_mpi" in parts:
        return "mpi"
    if any("transformer_blocks" in part for part in parts) and (
        "norm2" in parts or ("attn2" in parts and ("to_q" in parts or "to_k" in parts))
    ):
        return "inert"
    if "temporal" in name:
        return "temporal"
    if "time_mixer" in parts or "time_pos_embed" in parts:
        return "blend"
    return "spatial"


def parameters_by_group(unet: nn.Module) -> dict[Group, dict[str, nn.Parameter]]:
    """Every parameter of a `BokehUNet` by `parameter_group` and name.

    Args:
        unet: The network.

    Returns:
        All five groups, each from names to parameters.
    """
    groups: dict[Group, dict[str, nn.Parameter]] = {
        "mpi": {},
        "temporal": {},
        "blend": {},
        "spatial": {},
        "inert": {},
    }
    for name, parameter in unet.named_parameters():
        groups[parameter_group(name)][name] = parameter
    return groups
