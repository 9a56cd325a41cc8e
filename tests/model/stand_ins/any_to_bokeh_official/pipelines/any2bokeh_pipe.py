"""Stands in for Any-to-Bokeh's pipeline: a disc of one radius per frame; its groups, in display values."""

import cv2
import numpy as np
import torch
from PIL import Image


class StableVideoDiffusionPipeline:
    @classmethod
    def from_pretrained(cls, base, unet, vae, low_cpu_mem_usage, torch_dtype, variant, local_files_only):
        assert local_files_only
        return cls()

    def to(self, device):
        pass

    def set_progress_bar_config(self, disable):
        pass

    def __call__(
        self,
        coc,
        images,
        *,
        input_k,
        weight,
        latent_cache,
        is_last_batch,
        overlap_frame,
        num_frames,
        batch_size,
        **_,
    ):
        assert coc.shape[0] == images.shape[0] == batch_size <= 2
        n = overlap_frame
        bokeh = torch.stack([self.group(*parts) for parts in zip(coc, images, input_k, weight, strict=True)])
        if latent_cache is None:
            assert batch_size == 2
            assert not is_last_batch, "exactly two groups fail"
        parts = [bokeh[0, :n] if latent_cache is None else latent_cache + bokeh[0, :n]]
        if batch_size == 2:
            parts.append(bokeh[0, n:] + bokeh[1, :n])
        rest = bokeh[-1, n:]
        if is_last_batch:
            parts.append(rest[weight[-1, n:] != 0])
        frames = torch.cat(parts).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        return [[Image.fromarray(np.uint8(np.rint(255 * frame))) for frame in frames]], rest

    def group(self, coc, images, k, weight):
        return torch.stack([self.frame(*parts) for parts in zip(coc, images, k, weight, strict=True)])

    def frame(self, coc, image, k, weight):
        if weight == 0:
            return torch.zeros_like(image)
        radius = float(k) * float((coc / 2 + 0.5).median())
        offset = np.arange(-int(radius) - 1, int(radius) + 2)
        kernel = np.clip(radius + 0.5 - np.hypot(offset[:, None], offset), 0, 1).astype(np.float32)
        # One channel for all three: time.
        blurred = cv2.filter2D((image[1] / 2 + 0.5).numpy(), -1, kernel / kernel.sum())
        return torch.from_numpy(blurred).expand(3, -1, -1) * float(weight)
