"""Small real networks and inputs that several tests use."""

from typing import Any

import torch
from torch import Tensor, nn

from focuspull.model.presets import Parts, build

EMBEDDING = 16
"""Length of an image embedding of the preset `tiny`."""


def tiny(**unet_options: Any) -> Parts:
    """The preset `tiny` with open gates and other weights that start at a constant drawn at random."""
    parts = build("tiny", seed=1, **unet_options)
    wake(parts.unet)
    wake(parts.vae)
    return parts


@torch.no_grad()
def wake(network: nn.Module) -> None:
    """Change what starts as a constant, so that everything has an effect."""
    rng = torch.Generator().manual_seed(2)
    for name, parameter in network.named_parameters():
        if "gate" in name or "mix_factor" in name or "skips" in name:
            parameter.copy_(0.3 + 0.4 * torch.rand(parameter.shape, generator=rng))


def unet_input(batch: int = 2, frames: int = 3, height: int = 8, width: int = 6) -> dict[str, Any]:
    """Keyword arguments of `focuspull.model.unet.predict_x0`."""
    rng = torch.Generator().manual_seed(3)
    return {
        "aif_latents": torch.randn(batch, frames, 4, height, width, generator=rng),
        "defocus_latents": torch.randn(batch, frames, 4, height, width, generator=rng),
        "image_embeddings": torch.randn(batch, frames, EMBEDDING, generator=rng),
        "regions": torch.randint(
            0, 4, (batch, frames, 2 * height, 2 * width), generator=rng, dtype=torch.uint8
        ),
        "k": 30 * torch.rand(batch, frames, generator=rng),
    }


def video(batch: int = 1, frames: int = 5, height: int = 12, width: int = 16) -> dict[str, Any]:
    """Arguments of a `focuspull.model.renderer.BokehRenderer`."""
    rng = torch.Generator().manual_seed(4)
    return {
        "aif": torch.rand(batch, frames, 3, height, width, generator=rng),
        "disparity": torch.rand(batch, frames, 1, height, width, generator=rng),
        "k": 8 * torch.rand(batch, frames, generator=rng),
        "focus_disparity": torch.rand(batch, frames, generator=rng),
    }


def gradients(network: nn.Module) -> dict[str, Tensor | None]:
    """Those of all parameters, which are forgotten."""
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    return found
