"""Stands in for BokehDiff's pipeline: blurs display values by the defocus it is given, without networks."""

import os
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[2]))
from scattering import scatter, soft_disc


class TiledStableDiffusionXLPipeline:
    def __init__(self, *, unet, vae, add_watermarker, **parts):
        assert sorted(parts) == ["scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"]
        self.unet, self.vae = unet, vae

    def to(self, *_):
        return self

    def set_progress_bar_config(self, disable):
        pass

    def load_lora_weights(self, folder, weight_name):
        assert os.path.exists(os.path.join(folder, weight_name))

    def __call__(self, prompt, *, height, width, timesteps, cross_attention_kwargs, latents, **_):
        first, second = self.unet.down_blocks[1]["attentions"]
        assert hasattr(first, "processor"), "nobody sees the defocus"
        assert not hasattr(second, "processor")
        assert float(self.vae.trained) == 1, "its decoder was not loaded"
        assert self.vae.tiled
        assert timesteps == [499]
        assert height % 8 == 0
        assert width % 8 == 0
        guide = cross_attention_kwargs["disp_coc"]
        assert tuple(guide.shape) == (1, 2, height, width)
        assert 0 <= guide[:, 0].min() <= guide[:, 0].max() <= 1
        image = (
            (latents / self.vae.config.scaling_factor / 2 + 0.5)[0]
            .permute(1, 2, 0)
            .numpy()
            .astype(np.float64)
        )
        radius = 10 * guide[0, 1].numpy().astype(np.float64)
        sums = scatter(np.dstack([image, np.ones_like(radius)]), radius, soft_disc)
        bokeh = (sums[..., :3] / sums[..., 3:]).astype(np.float32)
        return (torch.from_numpy(bokeh).permute(2, 0, 1)[None],)
