"""The network as a diffusion model of many steps: what one step is compared with.

A `BokehUNet` with ``sampling_steps`` > 1 gets noisy latents of the bokeh frames beside those of the
all-in-focus frames and of their defocus, and is trained and sampled as Stable Video Diffusion is: noise of
standard deviation sigma, preconditioning and weights of Karras et al. ("Elucidating the design space of
diffusion-based generative models", NeurIPS 2022, equations 7 and 8) with the velocity as target, and Euler
steps down Karras' schedule (their equation 5), which are diffusers'.

With one step, `predict_latents` is `focuspull.model.unet.predict_x0`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor

from focuspull.model.unet import TIME_IDS, BokehUNet, predict_x0

SIGMA_MIN, SIGMA_MAX = 0.002, 700.0
"""Ends of Stable Video Diffusion's schedule."""
LOG_SIGMA_MEAN, LOG_SIGMA_STD = 0.7, 1.6
"""Of ``ln sigma`` in training: Blattmann et al., "Stable Video Diffusion" (arXiv 2311.15127), appendix D."""


def predict_latents(unet: BokehUNet, inputs: Mapping[str, Tensor], *, noise_seed: int = 0) -> Tensor:
    """Latents of the bokeh frames, in as many steps as the network is made for.

    Args:
        unet: The network.
        inputs: Those of `predict_x0`.
        noise_seed: Of the noise that many steps begin with; the same input and seed give the same output.

    Returns:
        ``[B, T, 4, h, w]``, scaled.
    """
    if unet.config["sampling_steps"] == 1:
        return predict_x0(unet, **inputs)
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        timestep_spacing="leading",
        use_karras_sigmas=True,
        sigma_min=SIGMA_MIN,
        sigma_max=SIGMA_MAX,
    )
    like = inputs["aif_latents"]
    scheduler.set_timesteps(unet.config["sampling_steps"], device=like.device)
    rng = torch.Generator().manual_seed(noise_seed)
    noise = torch.randn(like.shape, generator=rng).to(like)
    noisy = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(noisy, timestep)
        velocity = predict_velocity(unet, scaled, timestep.expand(len(like)), **inputs)
        noisy = scheduler.step(velocity, timestep, noisy, return_dict=False)[0]
    return noisy.to(like.dtype)


def predict_velocity(
    unet: Any,
    scaled: Tensor,
    timestep: Tensor,
    *,
    aif_latents: Tensor,
    defocus_latents: Tensor,
    image_embeddings: Tensor,
    regions: Tensor,
    k: Tensor,
) -> Tensor:
    """One pass.

    Args:
        unet: A `BokehUNet` with more than one step.
        scaled: ``[B, T, 4, h, w]``, noisy latents divided by ``sqrt(sigma^2 + 1)``.
        timestep: ``[B]``, ``ln(sigma) / 4``.
        aif_latents: See `predict_x0`, and the others.
        defocus_latents: See there.
        image_embeddings: See there.
        regions: See there.
        k: See there.

    Returns:
        ``[B, T, 4, h, w]``: the velocity.
    """
    time_ids = torch.tensor(TIME_IDS, device=scaled.device).expand(len(scaled), -1)
    sample = torch.cat([aif_latents, defocus_latents, scaled.to(aif_latents.dtype)], 2)
    return unet(sample, timestep, image_embeddings, time_ids, regions=regions, k=k, return_dict=False)[0]


def velocity_pair(unet: Any, target: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the network says at a random level of noise, and what it should say.

    The squared error of the two is that of the latents with Karras' weight ``(sigma^2 + 1) / sigma^2``. Noise
    is drawn by torch's global generator.

    Args:
        unet: A `BokehUNet` with more than one step.
        target: ``[B, T, 4, h, w]``, latents of the bokeh frames.
        inputs: Those of `predict_x0`.

    Returns:
        Two times ``[B, T, 4, h, w]``.
    """
    draw = torch.randn(len(target), device=target.device)
    sigma = (LOG_SIGMA_MEAN + LOG_SIGMA_STD * draw).exp()
    level = sigma[:, None, None, None, None]
    noise = torch.randn_like(target)
    # sigma = tan(angle): the noisy latents are turned by an angle, and the velocity is at right angles.
    scale = (level**2 + 1).sqrt()
    scaled = (target + level * noise) / scale
    velocity = (noise - level * target) / scale
    return predict_velocity(unet, scaled, sigma.log() / 4, **inputs), velocity
