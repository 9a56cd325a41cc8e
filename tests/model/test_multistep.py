"""Many steps: what is learned is what is sampled."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from focuspull.model.multistep import predict_latents, velocity_pair
from focuspull.model.pipeline import BokehPipeline, load_pipeline
from focuspull.model.unet import predict_x0
from tests.model.networks import gradients, tiny, unet_input, video

torch.set_num_threads(1)


def knowing(target: Tensor, num_steps: int = 8) -> Any:
    """A network that knows what the noisy latents are of."""

    def unet(sample: Tensor, timestep: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        sigma = (4 * timestep).exp()[:, None, None, None, None]
        scale = (sigma**2 + 1).sqrt()
        noise = (sample[:, :, 8:] * scale - target) / sigma
        return ((noise - sigma * target) / scale,)

    class Network(SimpleNamespace):
        __call__ = staticmethod(unet)

    return Network(config={"sampling_steps": num_steps})


def test_one_who_knows_is_sampled_and_has_no_loss() -> None:
    given = unet_input()
    target = torch.randn(given["aif_latents"].shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(predict_latents(knowing(target), given), target, rtol=1e-3, atol=1e-3)
    found, wanted = velocity_pair(knowing(target), target, given)
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=2e-3)
    # The velocity has the variance of the latents, whatever the noise.
    assert 0.5 < wanted.std() < 1.5


def test_the_noise_reaches_the_network_and_is_the_same_every_time() -> None:
    unet, given = tiny(sampling_steps=3).unet, unet_input()
    assert unet.conv_in.in_channels == 12
    with torch.no_grad():
        found = predict_latents(unet, given)
        assert torch.equal(predict_latents(unet, given), found)
        assert not torch.equal(predict_latents(unet, given, noise_seed=1), found)
    torch.nn.functional.mse_loss(*velocity_pair(unet, torch.zeros_like(found), given)).backward()
    gradient = gradients(unet)["conv_in.weight"]
    assert gradient is not None and bool((gradient.abs().flatten(2).sum((0, 2)) > 0).all())


def test_one_step_is_the_single_step() -> None:
    unet, given = tiny().unet, unet_input()
    with torch.no_grad():
        assert torch.equal(predict_latents(unet, given), predict_x0(unet, **given))


def test_a_pipeline_of_many_steps_comes_back_and_runs(tmp_path: Any) -> None:
    pipeline = BokehPipeline.of(tiny(sampling_steps=2))
    pipeline.save_pretrained(tmp_path)
    again = load_pipeline(tmp_path)
    assert again.unet.config["sampling_steps"] == 2
    frames = pipeline(**video()).frames
    assert torch.equal(again(**video()).frames, frames)
    assert frames.isfinite().all()


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="sampling_steps: must be at least 1, got 0"):
        tiny(sampling_steps=0)
