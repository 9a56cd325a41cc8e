"""The three stages of Any-to-Bokeh's training (arXiv 2505.21593) as data: what learns, from what, how long.

1. ``geometry``: where blur belongs. MPI attention and the blocks over time learn, towards the latents of the
   rendered bokeh, four frames at a time. The released code trains the whole U-Net.
2. ``temporal``: steadiness. The parameters over time learn, eight frames at a time, half of the samples with
   a disparity as depth networks make it. The released code leaves out how space and time are mixed.
3. ``detail``: what latents lose. The spatial layers of the VAE's decoder and its skips learn, three frames at
   a time, towards the pixels of the rendered bokeh and their gradients.

Before them, for networks that do not start from Stable Video Diffusion's weights: ``autoencoder``, in which
the whole VAE learns to encode and decode frames and defocus maps, the bokeh with the skips of the
all-in-focus frames. At its end the latents' scaling factor is set so that they have unit variance (Rombach et
al., "High-resolution image synthesis with latent diffusion models", CVPR 2022, section G).

Each starts from what the one before has learned. A `Stage` says all that distinguishes them, so there is one
loop for all. Parameters in the group ``inert`` have no effect (`focuspull.model.unet.parameter_group`) and
never learn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.loader import Batch, unit
from focuspull.dataset.mpi import region_ids
from focuspull.dataset.transforms import Side
from focuspull.model import unet as unet_module
from focuspull.model import vae as vae_module
from focuspull.model.multistep import predict_latents, velocity_pair
from focuspull.model.pipeline import embed_images
from focuspull.model.presets import Parts
from focuspull.model.unet import defocus_images, predict_x0
from focuspull.model.vae import BokehVae
from focuspull.train.latents import LatentCache
from focuspull.train.losses import LOSSES, LossName

StageName = Literal["autoencoder", "geometry", "temporal", "detail"]
"""In the order in which they come."""
Groups = tuple[unet_module.Group | vae_module.Group, ...]


class Term(FrozenModel):
    """One loss in a sum.

    Args:
        loss: A key of `focuspull.train.losses.LOSSES`.
        weight: What it is multiplied by.
    """

    loss: LossName
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class Stage(FrozenModel):
    """One stage.

    Args:
        name: Also that of its checkpoints.
        network: Which network learns.
        groups: Which of its parameters learn.
        num_frames: T, consecutive frames of a sample.
        crop: Height and width that its samples are cut out of the stored frames with, in place of what the
            recipe's transform makes of them; None for that.
        perturbed: Share of samples whose disparity is perturbed.
        losses: What is minimised; of latents for the U-Net, of pixels for the VAE.
        learning_rate: Of AdamW, after the warm-up.
        num_steps: Optimiser steps.
    """

    name: StageName
    network: Literal["unet", "vae"]
    groups: Groups = Field(min_length=1)
    num_frames: int = Field(gt=0)
    crop: tuple[Side, Side] | None = None
    perturbed: float = Field(default=0.0, ge=0, le=1)
    losses: tuple[Term, ...] = Field(min_length=1)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    num_steps: int = Field(gt=0)

    @model_validator(mode="after")
    def _fits_its_network(self) -> Self:
        if self.name == "autoencoder" and self.network != "vae":
            raise ValueError("network: the stage 'autoencoder' is one of the vae")
        known = set(get_args(_NETWORKS[self.network])) - {"inert"}
        if unknown := [group for group in self.groups if group not in known]:
            raise ValueError(
                f"groups: the {self.network} has none called '{unknown[0]}' that learns. "
                f"There are: {', '.join(sorted(known))}"
            )
        of_latents = self.network == "unet"
        for term in self.losses:
            if (term.loss == "latent_mse") != of_latents:
                raise ValueError(f"losses: '{term.loss}' is not for the {self.network}")
        return self


_NETWORKS = {"unet": unet_module.Group, "vae": vae_module.Group}

AUTOENCODER = Stage(
    name="autoencoder",
    network="vae",
    groups=("encoder", "decoder spatial", "decoder temporal", "skips"),
    num_frames=3,
    losses=(Term(loss="pixel_l1"), Term(loss="sobel_l1")),
    learning_rate=1e-4,
    num_steps=100_000,
)
GEOMETRY = Stage(
    name="geometry",
    network="unet",
    groups=("mpi", "temporal"),
    num_frames=4,
    losses=(Term(loss="latent_mse"),),
    learning_rate=1e-5,
    num_steps=50_000,
)
TEMPORAL = Stage(
    name="temporal",
    network="unet",
    groups=("temporal", "blend"),
    num_frames=8,
    perturbed=0.5,
    losses=(Term(loss="latent_mse"),),
    learning_rate=5e-6,
    num_steps=20_000,
)
DETAIL = Stage(
    name="detail",
    network="vae",
    groups=("decoder spatial", "skips"),
    num_frames=3,
    losses=(Term(loss="pixel_l1"), Term(loss="sobel_l1")),
    learning_rate=5e-6,
    num_steps=30_000,
)
STAGES: dict[StageName, Stage] = {stage.name: stage for stage in (AUTOENCODER, GEOMETRY, TEMPORAL, DETAIL)}
"""Rates, frames and steps of the last three are those of the released training scripts and of their results'
names."""


def choose_parameters(parts: Parts, stage: Stage) -> dict[str, nn.Parameter]:
    """Let the parameters of a stage learn, and no others.

    Args:
        parts: The networks; their ``requires_grad`` flags and modes are set.
        stage: The stage.

    Returns:
        What an optimiser is to be given, by its name in its network.
    """
    for network in (parts.unet, parts.vae, parts.image_encoder):
        network.requires_grad_(False)
        network.eval()
    if stage.network == "unet":
        groups = unet_module.parameters_by_group(parts.unet)
    else:
        groups = vae_module.parameters_by_group(parts.vae)
    chosen = {name: p for group in stage.groups for name, p in groups[group].items()}  # type: ignore[index]
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    getattr(parts, stage.network).train()
    return chosen


class Learner(nn.Module):
    """What one process trains: a batch to the losses of a stage. Whatever wraps modules can wrap it.

    Args:
        parts: The networks; only the one that learns becomes a part of the module.
        stage: The stage.
        cache: Where latents of networks that do not learn are kept, see `focuspull.train.latents`.
    """

    def __init__(self, parts: Parts, stage: Stage, cache: LatentCache | None = None) -> None:
        super().__init__()
        self.network: nn.Module = getattr(parts, stage.network)
        # In a tuple, or they would become parts of this module.
        self._rest = (parts, stage, cache)

    def forward(self, batch: Batch) -> dict[LossName, Tensor]:
        """See `stage_losses`."""
        return stage_losses(*self._rest[:2], batch, self._rest[2])


def stage_losses(
    parts: Parts, stage: Stage, batch: Batch, cache: LatentCache | None = None
) -> dict[LossName, Tensor]:
    """The losses of a batch, each by its name and not yet weighted; see `total_loss`.

    Args:
        parts: The networks, after `choose_parameters`.
        stage: The stage.
        batch: On the device of the networks. Height and width fit them.
        cache: For the latents of stages in which the VAE does not learn.

    Returns:
        Scalars, with gradients for what learns.
    """
    if stage.name == "autoencoder":
        target = vae_images(parts, batch)
        latents, skips = parts.vae.encode_video(target)
        # The first two thirds are what the encoder gets, the last is what the decoder will have to make, with
        # what it will then have of the all-in-focus frames, which are the first third.
        third = len(target) // 3
        sharp = tuple(skip[:third] for skip in skips)
        given, bokeh = latents.split([2 * third, third])
        predicted = torch.cat([parts.vae.decode_video(given, None), parts.vae.decode_video(bokeh, sharp)])
    elif stage.network == "unet":
        with torch.no_grad():
            inputs, _ = _inputs(parts, batch, cache)
            target = _encode(parts, _images(batch.bokeh), cache)
        if parts.unet.config["sampling_steps"] > 1:
            predicted, target = velocity_pair(parts.unet, target, inputs)
        else:
            predicted = predict_x0(parts.unet, **inputs)
    else:
        target = _images(batch.bokeh)
        with torch.no_grad():
            inputs, skips = _inputs(parts, batch)
            latents = predict_latents(parts.unet, inputs)
        predicted = parts.vae.decode_video(latents, skips)
    return {term.loss: LOSSES[term.loss](predicted, target) for term in stage.losses}


def total_loss(stage: Stage, losses: dict[LossName, Tensor]) -> Tensor:
    """The weighted sum of `stage_losses`."""
    terms = [term.weight * losses[term.loss] for term in stage.losses]
    return torch.stack(terms).sum()


@torch.no_grad()
def predict(parts: Parts, batch: Batch) -> Tensor:
    """The bokeh frames of a batch, its T frames as one window.

    Args:
        parts: The networks.
        batch: On their device. Height and width fit them.

    Returns:
        ``[B, T, 3, H, W]`` sRGB in [0, 1], float32.
    """
    inputs, skips = _inputs(parts, batch)
    images = parts.vae.decode_video(predict_latents(parts.unet, inputs), skips)
    return (images.float() / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def reconstruct(parts: Parts, batch: Batch) -> Tensor:
    """The rendered bokeh of a batch, encoded and decoded: what a perfect U-Net would lead to.

    Returns:
        ``[B, T, 3, H, W]`` sRGB in [0, 1], float32.
    """
    latents, _ = parts.vae.encode_video(_images(batch.bokeh))
    _, sharp = parts.vae.encode_video(_images(batch.aif))
    return (parts.vae.decode_video(latents, sharp).float() / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def set_scaling_factor(vae: BokehVae, images: Iterable[Tensor]) -> float:
    """Set a VAE's scaling factor so that its latents have unit variance, pooled over all components.

    Args:
        vae: The VAE.
        images: ``[B, T, 3, H, W]`` in [-1, 1] each, what it is to encode.

    Returns:
        The factor.
    """
    latents = torch.cat([vae.encode_video(video)[0].flatten() for video in images])
    factor = float(vae.config["scaling_factor"] / latents.double().std())
    vae.register_to_config(scaling_factor=factor)
    return factor


def vae_images(parts: Parts, batch: Batch) -> Tensor:
    """All that a VAE has to encode of a batch, ``[3 B, T, 3, H, W]``: all-in-focus, defocus and bokeh."""
    return torch.cat([_images(batch.aif), _defocus(parts, batch), _images(batch.bokeh)])


def _inputs(parts: Parts, batch: Batch, cache: LatentCache | None = None) -> tuple[dict[str, Tensor], Any]:
    """Keyword arguments of `predict_x0`, and the skips; None with a cache, which has none."""
    config = parts.unet.config
    aif = _images(batch.aif)
    if cache is None:
        aif_latents, skips = parts.vae.encode_video(aif)
    else:
        aif_latents, skips = _encode(parts, aif, cache), None
    regions = region_ids(
        batch.disparity[:, :, 0],
        batch.focus_disparity,
        num_levels=config["num_levels"],
        exponent=config["region_exponent"],
    )
    inputs = {
        "aif_latents": aif_latents,
        "defocus_latents": _encode(parts, _defocus(parts, batch), cache),
        "image_embeddings": embed_images(parts.image_encoder, unit(batch.aif)),
        "regions": regions,
        "k": batch.k,
    }
    return inputs, skips


def _encode(parts: Parts, images: Tensor, cache: LatentCache | None) -> Tensor:
    """Scaled latents ``[B, T, 4, h, w]`` of images ``[B, T, 3, H, W]``."""
    return parts.vae.encode_video(images)[0] if cache is None else cache.encode(parts.vae, images)


def _images(stored: Tensor) -> Tensor:
    """Stored images, as networks take them: in [-1, 1]."""
    return 2 * unit(stored) - 1


def _defocus(parts: Parts, batch: Batch) -> Tensor:
    signed = parts.unet.config["signed_defocus"]
    return defocus_images(batch.disparity, batch.focus_disparity, signed=signed)
