"""A truth to measure against, made by an independent blur, and videos that are wrong in known ways."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from focuspull.model.baselines.oracle import LayerStack, OracleLayers
from focuspull.model.light import srgb_to_linear
from focuspull.train.metrics.base import Prediction, Truth
from focuspull.train.results import Item

WIDTH, HEIGHT = 128, 80


def texture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """``[3, H, W]`` sRGB with detail of several sizes."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, 3, height, width)
    for cell, share in ((16, 0.35), (5, 0.35), (2, 0.3)):
        noise = torch.rand(1, 3, height // cell + 3, width // cell + 3, generator=generator)
        image += share * torch.nn.functional.interpolate(noise, (height, width), mode="bilinear")
    return image[0].clamp(0, 1)


@cache
def make_truth(
    *,
    num_frames: int = 3,
    k: float = 12.0,
    focus: float = 0.9,
    noise_floor_db: float | None = None,
    clip: str = "clip-000000",
) -> Truth:
    """A textured square at disparity 0.9 that moves before a wall at 0.2, by lens rays and true layers."""
    wall, square = texture(0, HEIGHT + 40, WIDTH + 40), texture(1, HEIGHT + 40, WIDTH + 40)
    aif, light, alpha, disparity = [], [], [], []
    for frame in range(num_frames):
        mask = torch.zeros(1, HEIGHT + 40, WIDTH + 40)
        left = 60 + 2 * frame
        mask[:, 40:80, left : left + 44] = 1
        near = square.roll(2 * frame, 2)
        light.append(torch.stack([srgb_to_linear(near), srgb_to_linear(wall)]))
        alpha.append(torch.stack([mask, torch.ones_like(mask)]))
        disparity.append(torch.stack([torch.full_like(mask, 0.9), torch.full_like(mask, 0.2)]))
        aif.append((mask * near + (1 - mask) * wall)[:, 20:-20, 20:-20])
    stack = LayerStack(*(torch.stack(parts)[None] for parts in (light, alpha, disparity)), margin_px=20)
    sharp = torch.stack(aif)[None]
    seen = torch.where(torch.stack(alpha)[None, :, 0] > 0.5, 0.9, 0.2)[..., 20:-20, 20:-20]
    strength, focuses = (torch.full((1, num_frames), float(x)) for x in (k, focus))
    bokeh = OracleLayers(stack)(sharp, seen, strength, focuses)
    item = Item(
        clip=clip,
        target=0,
        split="test",
        k_at_1024=k * 1024 / WIDTH,
        focus_disparity=focus,
        noise_floor_db=noise_floor_db,
        num_frames=num_frames,
        width=WIDTH,
        height=HEIGHT,
    )
    eight_bit = (bokeh[0] * 255).round() / 255
    return Truth(item, sharp[0], eight_bit, seen[0], strength[0], focuses[0])


def perfect(truth: Truth) -> Prediction:
    """The truth itself."""
    return Prediction(truth.bokeh.clone())
