"""Stands in for diffusers."""

import types

import torch


class Part(torch.nn.Module):
    config = types.SimpleNamespace(scaling_factor=0.13)

    @classmethod
    def from_pretrained(cls, base, subfolder, local_files_only):
        assert local_files_only, "would download"
        part = cls()
        part.origin = (base, subfolder)
        return part

    def set_attn_processor(self, processor):
        self.everywhere = processor


class Attention(torch.nn.Module):
    def set_processor(self, processor):
        self.processor = processor


class UNet2DConditionModel(Part):
    def __init__(self):
        super().__init__()
        block = torch.nn.ModuleDict({"attentions": torch.nn.ModuleList([Attention(), Attention()])})
        self.down_blocks = torch.nn.ModuleList([torch.nn.Identity(), block])


class AutoencoderKL(Part):
    """Its latents are the image itself."""

    def __init__(self):
        super().__init__()
        self.trained = torch.nn.Parameter(torch.zeros(1))

    def enable_tiling(self):
        self.tiled = True

    def encode(self, image):
        assert -1 <= image.min() <= image.max() <= 1
        return types.SimpleNamespace(latent_dist=types.SimpleNamespace(mode=lambda: image))


class DDPMScheduler(Part):
    pass
