"""The VAE: SVD's without skips, and skips that are values."""

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from torch import Tensor

from focuspull.model.presets import PRESETS, build
from focuspull.model.vae import SKIP_WEIGHT, BokehVae, parameter_group, parameters_by_group, stack_skips
from tests.model.networks import gradients, tiny


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def images(batch: int = 2, frames: int = 3, height: int = 8, width: int = 12, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(batch, frames, 3, height, width, generator=rng) - 1


def stock_like(vae: BokehVae) -> Any:
    stock = AutoencoderKLTemporalDecoder(**PRESETS["tiny"].vae)
    state = {key: value for key, value in vae.state_dict().items() if not key.startswith("skips.")}
    stock.load_state_dict(state, strict=True)
    return stock


@torch.no_grad()
def test_without_skips_it_is_svd_s_bit_for_bit() -> None:
    vae, x = tiny().vae, images().flatten(0, 1)
    stock = stock_like(vae)
    posterior = vae.encode(x).latent_dist
    assert torch.equal(posterior.mean, stock.encode(x).latent_dist.mean)
    assert torch.equal(posterior.logvar, stock.encode(x).latent_dist.logvar)
    assert torch.equal(vae.decode(posterior.mode(), 3).sample, stock.decode(posterior.mode(), 3).sample)
    assert torch.equal(vae(x, num_frames=3).sample, stock(x, num_frames=3).sample)


@torch.no_grad()
def test_skips_are_what_enters_the_down_blocks_added_to_what_enters_the_up_blocks() -> None:
    """Against hooks on SVD's own VAE."""
    vae, x = tiny().vae, images(batch=1)
    stock = stock_like(vae)
    entering: list[Tensor] = []
    for block in stock.encoder.down_blocks:
        block.register_forward_pre_hook(lambda _, given: entering.append(given[0]))
    z = stock.encode(x[0]).latent_dist.mode()
    for block, skip, conv in zip(stock.decoder.up_blocks, entering[::-1], vae.skips, strict=True):
        block.register_forward_pre_hook(
            lambda _, given, skip=skip, conv=conv: (given[0] + conv(skip), *given[1:])
        )
    expected = stock.decode(z, 3).sample

    latents, skips = vae.encode_video(x)
    assert [skip.shape[2:] for skip in skips] == [entry.shape[1:] for entry in entering]
    torch.testing.assert_close(vae.decode_video(latents, skips)[0], expected, rtol=1e-5, atol=1e-6)
    assert (expected - stock_like(vae).decode(z, 3).sample).abs().max() > 0.01


def test_skips_start_at_their_published_weight_and_have_no_bias() -> None:
    for conv in build("tiny").vae.skips:
        assert torch.equal(conv.weight, torch.full_like(conv.weight, SKIP_WEIGHT))  # pyright: ignore
        assert conv.bias is None


def test_widths_of_the_full_size_s_skips_are_those_of_the_reference() -> None:
    with torch.device("meta"):
        vae = build("svd").vae
    shapes = [tuple(conv.weight.shape[:2]) for conv in vae.skips]  # pyright: ignore
    assert shapes == [(512, 512), (512, 256), (512, 128), (256, 128)]
    assert vae.downscale == 8


@torch.no_grad()
def test_encoding_something_else_in_between_changes_nothing() -> None:
    vae = tiny().vae
    latents, skips = vae.encode_video(images())
    before = vae.decode_video(latents, skips)
    vae.encode_video(images(seed=1))
    assert torch.equal(vae.decode_video(latents, skips), before)


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix() -> None:
    vae = tiny().vae
    latents, skips = vae.encode_video(images())
    both = vae.decode_video(latents, skips)
    alone = vae.decode_video(latents[1:], tuple(skip[1:] for skip in skips))
    torch.testing.assert_close(both[1:], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 2, 4])
@torch.no_grad()
def test_encoding_in_pieces_is_encoding(chunk: int) -> None:
    vae = tiny().vae
    latents, skips = vae.encode_video(images())
    in_pieces = vae.encode_video(images(), chunk=chunk)
    torch.testing.assert_close(in_pieces[0], latents, rtol=1e-4, atol=1e-5)
    for a, b in zip(in_pieces[1], skips, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_latents_are_scaled_means_and_not_drawn() -> None:
    vae, x = tiny().vae, images()
    torch.manual_seed(0)
    first = vae.encode_video(x)[0]
    torch.manual_seed(1)
    assert torch.equal(vae.encode_video(x)[0], first)
    mean = vae.encode(x.flatten(0, 1)).latent_dist.mean.unflatten(0, x.shape[:2])
    torch.testing.assert_close(first, 0.18215 * mean)


def loss(vae: BokehVae) -> Tensor:
    latents, skips = vae.encode_video(images().to(vae.dtype))
    return vae.decode_video(latents, skips).square().mean()


def test_every_parameter_gets_a_gradient() -> None:
    # In float64, so that what is nothing but rounding is far from what is not.
    vae = tiny().vae.double()
    loss(vae).backward()
    for name, gradient in gradients(vae).items():
        assert gradient is not None, name
        largest = float(gradient.abs().max())
        assert largest < 1e-16 if parameter_group(name) == "inert" else largest > 1e-8, (name, largest)


def test_gradient_checkpointing_changes_no_gradient_and_keeps_the_skips() -> None:
    vae = tiny().vae
    loss(vae).backward()
    expected = gradients(vae)
    vae.enable_gradient_checkpointing()
    calls: list[Any] = []
    vae.decoder.up_blocks[0].register_forward_pre_hook(lambda *_: calls.append(0))
    loss(vae).backward()
    for name, gradient in gradients(vae).items():
        assert torch.equal(gradient, expected[name]), name  # pyright: ignore[reportArgumentType]
    assert len(calls) == 2


def test_groups_of_parameters() -> None:
    vae = build("tiny").vae
    groups = parameters_by_group(vae)
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in vae.named_parameters())
    assert all(groups.values())
    assert parameter_group("quant_conv.weight") == "encoder"
    assert parameter_group("decoder.time_conv_out.weight") == "decoder temporal"
    assert parameter_group("decoder.conv_out.weight") == "decoder spatial"


def test_skips_of_frames_are_those_of_the_video() -> None:
    _, skips = tiny().vae.encode_video(images())
    frames = [tuple(skip[:, t] for skip in skips) for t in range(3)]
    for stacked, skip in zip(stack_skips(frames), skips, strict=True):
        assert torch.equal(stacked, skip)
