"""Sizes of the network: `svd`, `small`, `mini` and `tiny`, as configurations of its three parts.

* ``svd``: Stable Video Diffusion (img2vid-xt) with MPI attention, 1.7 billion parameters in the U-Net; starts
  from SVD's weights (`focuspull.model.weights`).
* ``small``: for training from scratch on one GPU; latents are 8 times smaller than images, as in SVD.
* ``mini``: learns on a CPU, in minutes; latents are 4 times smaller.
* ``tiny``: for tests on a CPU; latents are 2 times smaller.

Two things keep a small network from having parts without effect: at least 64 channels, since diffusers
normalises in 32 groups and a group of one channel forgets what is the same everywhere, the timestep for
instance; and two layers per block of the VAE, since with one its decoder skips its attention.

Numbers of parameters: ``python -m focuspull.model.params svd``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from focuspull.dataset.errors import UserError
from focuspull.model.unet import BokehUNet
from focuspull.model.vae import BokehVae


@dataclass(frozen=True)
class Preset:
    """Configurations of the parts.

    Attributes:
        unet: Keyword arguments of `BokehUNet`.
        vae: Keyword arguments of `BokehVae`.
        image_encoder: Keyword arguments of `transformers.CLIPVisionConfig`.
    """

    unet: dict[str, Any]
    vae: dict[str, Any]
    image_encoder: dict[str, Any]


@dataclass(frozen=True)
class Parts:
    """The three networks of a pipeline."""

    unet: BokehUNet
    vae: BokehVae
    image_encoder: CLIPVisionModelWithProjection


OFFICIAL: dict[str, Any] = {
    "k_encoding": "fourier",
    "k_inside_gate": False,
    "masks": "none",
    "two_norms": True,
    "signed_defocus": False,
}
"""What `BokehUNet` is to be made with to compute what the released code of Any-to-Bokeh computes."""

PRESETS: dict[str, Preset] = {
    "svd": Preset(
        unet={},
        vae={
            "block_out_channels": (128, 256, 512, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "layers_per_block": 2,
            "sample_size": 768,
        },
        # OpenCLIP's ViT-H/14, which is SVD's image encoder.
        image_encoder={
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "projection_dim": 1024,
            "image_size": 224,
            "patch_size": 14,
            "hidden_act": "gelu",
        },
    ),
    "small": Preset(
        unet={
            "block_out_channels": (64, 128, 256, 256),
            "num_attention_heads": (2, 4, 8, 8),
            "cross_attention_dim": 128,
            "addition_time_embed_dim": 64,
            "projection_class_embeddings_input_dim": 192,
        },
        vae={
            "block_out_channels": (64, 128, 128, 128),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "layers_per_block": 2,
            "sample_size": 256,
        },
        image_encoder={
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "projection_dim": 128,
            "image_size": 112,
            "patch_size": 14,
        },
    ),
    "mini": Preset(
        unet={
            "in_channels": 24,
            "out_channels": 12,
            "block_out_channels": (64, 128),
            "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            "num_attention_heads": (2, 4),
            "layers_per_block": 1,
            "cross_attention_dim": 16,
            "addition_time_embed_dim": 16,
            "projection_class_embeddings_input_dim": 48,
        },
        vae={
            "block_out_channels": (64, 64, 64),
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "layers_per_block": 2,
            # With 4, as in Stable Video Diffusion, pictures as small as those it is for lose too much.
            "latent_channels": 12,
            "sample_size": 64,
        },
        image_encoder={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "projection_dim": 16,
            "image_size": 28,
            "patch_size": 14,
        },
    ),
    "tiny": Preset(
        unet={
            "block_out_channels": (64, 64),
            "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            "num_attention_heads": (2, 2),
            "layers_per_block": 1,
            "cross_attention_dim": 16,
            "addition_time_embed_dim": 16,
            "projection_class_embeddings_input_dim": 48,
        },
        vae={
            "block_out_channels": (64, 64),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "layers_per_block": 2,
            "sample_size": 32,
        },
        image_encoder={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "projection_dim": 16,
            "image_size": 28,
            "patch_size": 14,
        },
    ),
}


def get_preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in PRESETS:
        raise UserError(f"preset: there is none called '{name}'. There are: {', '.join(PRESETS)}.")
    return PRESETS[name]


def build(name: str, *, seed: int = 0, **unet_options: Any) -> Parts:
    """Make the networks of a preset with freshly drawn weights, in float32.

    Under ``with torch.device("meta")`` they have shapes and no memory.

    Args:
        name: A key of `PRESETS`.
        seed: Of the weights. torch's global generator is left as it was.
        unet_options: Further arguments of `BokehUNet`, e.g. `OFFICIAL`.

    Raises:
        UserError: If there is no preset of that name.
    """
    preset = get_preset(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Parts(
            unet=BokehUNet(**{**preset.unet, **unet_options}),
            vae=BokehVae(**preset.vae),
            image_encoder=make_image_encoder(preset.image_encoder),
        )


def make_image_encoder(config: dict[str, Any]) -> CLIPVisionModelWithProjection:
    """A CLIP image encoder from keyword arguments of its configuration, in evaluation mode."""
    return cast(Any, CLIPVisionModelWithProjection(CLIPVisionConfig(**config))).eval()
