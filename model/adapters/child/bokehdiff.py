"""BokehDiff through the tiled pipeline of its checkout, behind the min-max of its loader.

Its script builds the same pipeline but takes images from a loader that spreads disparity over [0, 1], and
renders three focus distances that nobody asked for. Here the pipeline gets disparity and defocus directly.

Request: ``image [1, H, W, 3]`` in [-1, 1], sRGB-encoded, ``disparity [1, H, W]`` with 1 nearest, ``defocus
[1, H, W]``, in units of 10 px; sides are multiples of 8.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

PROMPT = "an excellent photo with a large aperture"
"""The only one of its training."""
TIMESTEP = 499
TILE = 64
"""Latent cells per side of a tile."""
GUIDED_BLOCK = "down_blocks.1.attentions.0"
"""Part of the U-Net whose attention sees defocus."""


def load(checkout: str, weights: str, options: dict[str, Any]) -> Any:
    """See `loop.serve`."""
    torch = import_module("torch")
    device = options["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, options["dtype"])
    pipeline = _pipeline(weights, options["base"]).to(dtype).to(device)
    pipeline.set_progress_bar_config(disable=True)

    def render(arrays: dict[str, Any], values: dict[str, Any]) -> Any:
        image = torch.from_numpy(arrays["image"]).permute(0, 3, 1, 2).contiguous()
        guide = torch.stack([torch.from_numpy(arrays["disparity"]), torch.from_numpy(arrays["defocus"])], 1)
        with torch.inference_mode():
            encoded = pipeline.vae.encode(image.to(device, dtype)).latent_dist.mode()
            bokeh = pipeline(
                PROMPT,
                height=image.shape[2],
                width=image.shape[3],
                generator=torch.Generator(device=device).manual_seed(options["seed"]),
                guidance_scale=1,
                return_dict=False,
                timesteps=[TIMESTEP],
                cross_attention_kwargs={"disp_coc": guide.to(device, dtype)},
                output_type="pt",
                latents=encoded * pipeline.vae.config.scaling_factor,
                TILE_SIZE=TILE,
            )[0]
        return bokeh.permute(0, 2, 3, 1).float().cpu().numpy()

    return render


def _pipeline(weights: str, base: str) -> Any:
    """The published pipeline: SDXL of ``base``, its LoRA, its decoder and its attention."""
    torch = import_module("torch")
    diffusers = import_module("diffusers")
    transformers = import_module("transformers")
    processors = import_module("custom_diffusers.attention_processor")
    guided = import_module("PISA_attn_processor")

    def part(kind: Any, folder: str) -> Any:
        return kind.from_pretrained(base, subfolder=folder, local_files_only=True)

    pipeline = import_module("custom_diffusers.pipeline_sdxl").TiledStableDiffusionXLPipeline(
        text_encoder=part(transformers.CLIPTextModel, "text_encoder").eval(),
        text_encoder_2=part(transformers.CLIPTextModelWithProjection, "text_encoder_2").eval(),
        tokenizer=part(transformers.CLIPTokenizer, "tokenizer"),
        tokenizer_2=part(transformers.CLIPTokenizer, "tokenizer_2"),
        unet=part(diffusers.UNet2DConditionModel, "unet").eval(),
        vae=part(diffusers.AutoencoderKL, "vae").eval(),
        scheduler=part(diffusers.DDPMScheduler, "scheduler"),
        add_watermarker=False,
    )
    pipeline.vae.enable_tiling()
    pipeline.vae.set_attn_processor(processors.AttnProcessor2_0())
    pipeline.unet.set_attn_processor(processors.AttnProcessor2_0())
    pipeline.load_lora_weights(weights, weight_name="pytorch_lora_weights.safetensors")
    decoder = torch.load(os.path.join(weights, "vae.ckpt"), map_location="cpu")
    pipeline.vae.load_state_dict(decoder, strict=False)
    processor = guided.AttnProcessorDistReciprocal(hard=1e7, supersampling_num=5, segment_num=7, train=False)
    for name, module in pipeline.unet.named_modules():
        if GUIDED_BLOCK in name.lower() and hasattr(module, "set_processor"):
            module.set_processor(processor)
    return pipeline


if __name__ == "__main__":
    import_module("loop").serve(load)
