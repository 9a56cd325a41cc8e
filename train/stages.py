"""The three stages of Any-to-Bokeh's training (arXiv 2505.21593) as data: what learns, from what, how long.

1. ``geometry``: where blur belongs. MPI attention and the blocks over time learn, towards the latents of the
   rendered bokeh, four frames at a time. The released code trains the whole U-Net.
2. ``temporal``: steadiness. The parameters over time learn, eight frames at a time, half of the samples with
   a disparity as depth networks make it. The released code leaves out how space and time are mixed.
3. ``detail``: what latents lose. The spatial layers of the VAE's decoder and its skips learn, three frames at
   a time, towards the pixels of the rendered bokeh and their gradients.

Each starts from what the one before has learned. A `Stage` says all that distinguishes them, so there is one
loop for all. Parameters in the group ``inert`` have no effect (`focuspull.model.unet.parameter_group`) and
never learn.
"""

from __future__ import annotations

from typing import Literal, Self, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.loader import Batch, unit
from focuspull.dataset.mpi import region_ids
from focuspull.model import unet as unet_module
from focuspull.model import vae as vae_module
from focuspull.model.pipeline import embed_images
from focuspull.model.presets import Parts
from focuspull.model.unet import defocus_images, predict_x0
from focuspull.train.losses import LOSSES, LossName

StageName = Literal["geometry", "temporal", "detail"]
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
        after: Stage whose checkpoint it starts from; None: the weights that training starts from.
        network: Which network learns.
        groups: Which of its parameters learn.
        num_frames: T, consecutive frames of a sample.
        perturbed: Share of samples whose disparity is perturbed.
        losses: What is minimised; of latents for the U-Net, of pixels for the VAE.
        learning_rate: Of AdamW, after the warm-up.
        num_steps: Optimiser steps.
    """

    name: StageName
    after: StageName | None
    network: Literal["unet", "vae"]
    groups: Groups = Field(min_length=1)
    num_frames: int = Field(gt=0)
    perturbed: float = Field(default=0.0, ge=0, le=1)
    losses: tuple[Term, ...] = Field(min_length=1)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    num_steps: int = Field(gt=0)

    @model_validator(mode="after")
    def _fits_its_network(self) -> Self:
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

GEOMETRY = Stage(
    name="geometry",
    after=None,
    network="unet",
    groups=("mpi", "temporal"),
    num_frames=4,
    losses=(Term(loss="latent_mse"),),
    learning_rate=1e-5,
    num_steps=50_000,
)
TEMPORAL = Stage(
    name="temporal",
    after="geometry",
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
    after="temporal",
    network="vae",
    groups=("decoder spatial", "skips"),
    num_frames=3,
    losses=(Term(loss="pixel_l1"), Term(loss="sobel_l1")),
    learning_rate=5e-6,
    num_steps=30_000,
)
STAGES: dict[StageName, Stage] = {stage.name: stage for stage in (GEOMETRY, TEMPORAL, DETAIL)}
"""Rates, frames and steps are those of the released training scripts and of their results' names."""


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


def stage_losses(parts: Parts, stage: Stage, batch: Batch) -> dict[LossName, Tensor]:
    """The losses of a batch, each by its name and not yet weighted; see `total_loss`.

    Args:
        parts: The networks, after `choose_parameters`; the one that learns may be wrapped.
        stage: The stage.
        batch: On the device of the networks. Height and width fit them.

    Returns:
        Scalars, with gradients for what learns.
    """
    dtype = next(parts.unet.parameters()).dtype
    with torch.no_grad():
        aif = 2 * unit(batch.aif, dtype) - 1
        bokeh = 2 * unit(batch.bokeh, dtype) - 1
        config = parts.unet.config
        defocus = defocus_images(batch.disparity, batch.focus_disparity, signed=config["signed_defocus"])
        regions = region_ids(
            batch.disparity[:, :, 0],
            batch.focus_disparity,
            num_levels=config["num_levels"],
            exponent=config["region_exponent"],
        )
        aif_latents, skips = parts.vae.encode_video(aif)
        inputs = {
            "aif_latents": aif_latents,
            "defocus_latents": parts.vae.encode_video(defocus.to(dtype))[0],
            "image_embeddings": embed_images(parts.image_encoder, unit(batch.aif)).to(dtype),
            "regions": regions,
            "k": batch.k,
        }
    if stage.network == "unet":
        with torch.no_grad():
            target, _ = parts.vae.encode_video(bokeh)
        predicted = predict_x0(parts.unet, **inputs)
    else:
        target = bokeh
        with torch.no_grad():
            latents = predict_x0(parts.unet, **inputs)
        predicted = parts.vae.decode_video(latents, skips)
    return {term.loss: LOSSES[term.loss](predicted, target) for term in stage.losses}


def total_loss(stage: Stage, losses: dict[LossName, Tensor]) -> Tensor:
    """The weighted sum of `stage_losses`."""
    terms = [term.weight * losses[term.loss] for term in stage.losses]
    return torch.stack(terms).sum()
