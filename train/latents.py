"""Latents on disk, for stages whose VAE is frozen: what a frame's are has to be computed only once.

They are named by what they are made from: the pixels of one image as it enters the encoder, and the weights
of the encoder. So the cache may be shared by runs, nothing in it can be stale, and whether it was full or
empty changes no bit of a training run: images are encoded one by one, never as part of a batch.

It pays where the same pixels come again, that is without random crops and flips: with ``position: center``
and ``flip: 0`` in the recipe's transform. A thousand images of 1024x576 take 150 MB.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from focuspull.dataset.files import write_atomic
from focuspull.model.vae import BokehVae


class LatentCache:
    """A folder of latents.

    Args:
        folder: Made if missing; processes and runs may share it.
        vae: The VAE, whose encoder must not change while the cache is used.
    """

    def __init__(self, folder: Path, vae: BokehVae) -> None:
        self.folder = folder
        self.hits = 0
        self.misses = 0
        digest = hashlib.sha256(repr(vae.config["scaling_factor"]).encode())
        for name, value in vae.state_dict().items():
            if name.startswith(("encoder.", "quant_conv.")):
                digest.update(name.encode() + _bytes(value))
        self._encoder = digest.digest()

    @torch.no_grad()
    def encode(self, vae: BokehVae, images: Tensor) -> Tensor:
        """Scaled latents of a video, as `BokehVae.encode_video` makes them of its images one by one.

        Args:
            vae: That of the constructor.
            images: ``[B, T, 3, H, W]`` in [-1, 1].

        Returns:
            ``[B, T, 4, h, w]`` float32 on the device of the images.

        Raises:
            UserError: If the folder cannot be written to.
        """
        flat = images.flatten(0, 1)
        stored = flat.cpu().float().contiguous()
        latents = [self._latent(vae, flat[i : i + 1], stored[i]) for i in range(len(flat))]
        return torch.stack(latents).to(images.device).unflatten(0, images.shape[:2])

    def _latent(self, vae: BokehVae, image: Tensor, stored: Tensor) -> Tensor:
        """The latents ``[4, h, w]`` of one image ``[1, 3, H, W]``, of which ``stored`` is a copy."""
        kind = image.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else image.dtype
        facts = repr((tuple(image.shape), kind, precision)).encode()
        name = hashlib.sha256(self._encoder + facts + _bytes(stored)).hexdigest()
        path = self.folder / name[:2] / f"{name}.npy"
        shape = (vae.config["latent_channels"], *(side // vae.downscale for side in image.shape[-2:]))
        try:
            found = np.load(path)
        except (OSError, ValueError, EOFError):
            found = None  # missing, or cut short when a machine lost power
        if found is not None and found.shape == shape:
            self.hits += 1
            return torch.from_numpy(found)
        self.misses += 1
        latent = vae.encode_video(image[None])[0][0, 0].float().cpu()
        write_atomic(path, lambda file: np.save(file, latent.numpy()))
        return latent


def _bytes(values: Tensor) -> bytes:
    return values.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
