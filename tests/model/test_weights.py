"""Weights of others: SVD's folder, and a checkpoint with the released Any-to-Bokeh's names."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from safetensors.torch import save_file
from torch import Tensor

from focuspull.dataset.errors import UserError
from focuspull.model import weights
from focuspull.model.pipeline import BokehPipeline, load_pipeline
from focuspull.model.presets import OFFICIAL, PRESETS, Parts, build
from focuspull.model.unet import TIME_IDS, TIMESTEP, parameter_group, predict_x0
from focuspull.model.vae import SKIP_WEIGHT
from focuspull.model.weights import load_official, load_svd
from tests.model.networks import tiny, unet_input, video


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def svd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as Stable Video Diffusion's, of a tiny size."""
    folder = tmp_path_factory.mktemp("svd")
    preset = PRESETS["tiny"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNetSpatioTemporalConditionModel(**preset.unet)
        unet.save_pretrained(folder / "unet")
        AutoencoderKLTemporalDecoder(**preset.vae).save_pretrained(folder / "vae")
    build("tiny").image_encoder.save_pretrained(folder / "image_encoder")
    unet.half().save_pretrained(folder / "unet", variant="fp16")
    return folder


# Theirs: ours, read off the released code. Every entry but the gates ends in .weight or .bias.
THEIR_NAMES = {
    "adapter": "linear",
    "to_q": "mpi_attn.to_q",
    "to_k": "mpi_attn.to_k",
    "to_v": "mpi_attn.to_v",
    "to_out": "mpi_attn.to_out.0",
    "feed_forward.net.0.proj": "ff.net.0.proj",
    "feed_forward.net.2": "ff.net.2",
    "k_projection": "k_encoder",
    "norm_attention": "norm1",
    "norm_feed_forward": "norm2",
    "norm_feed_forward_2": "norm_k",
}


def released_unet(unet: Any) -> dict[str, Tensor]:
    """Our network's weights as the released checkpoint names and shapes them, with what is dead there."""
    released: dict[str, Tensor] = {}
    for key, tensor in unet.state_dict().items():
        before, mpi, rest = key.partition(".mpi.")
        if not mpi:
            released[key] = tensor.clone()
        elif rest.startswith("gate_"):
            name = {"gate_attention": "alpha_attn", "gate_feed_forward": "alpha_dense"}[rest]
            released[f"{before}.fuser.{name}"] = tensor[0].clone()
        else:
            layer, _, kind = rest.rpartition(".")
            released[f"{before}.fuser.{THEIR_NAMES[layer]}.{kind}"] = tensor.clone()
            if layer.startswith("feed_forward"):
                released[f"{before}.fuser.{THEIR_NAMES[layer].replace('ff.', 'ff_k.')}.{kind}"] = tensor + 1
            if layer == "to_q":
                for kind, shape in (("weight", (64, 64)), ("bias", (64,))):
                    released.setdefault(f"{before}.fuser.linear.{kind}", torch.ones(shape))
    released.setdefault("conv_in_mpi.weight", torch.ones(64, 4, 3, 3))
    released.setdefault("conv_in_mpi.bias", torch.ones(64))
    return released


def released_vae(vae: Any) -> dict[str, Tensor]:
    released: dict[str, Tensor] = {}
    for key, tensor in vae.state_dict().items():
        number = key.removeprefix("skips.").removesuffix(".weight")
        released[f"decoder.skip_conv_{int(number) + 1}.weight" if number.isdecimal() else key] = (
            tensor.clone()
        )
    return released


def release(folder: Path, parts: Parts, **extra: Tensor) -> dict[str, Any]:
    """The folders of the released weights: the U-Net's is one deeper."""
    (folder / "unet" / "unet").mkdir(parents=True)
    (folder / "vae").mkdir()
    save_file(
        {**released_unet(parts.unet), **extra},
        folder / "unet" / "unet" / "diffusion_pytorch_model.safetensors",
    )
    torch.save(released_vae(parts.vae), folder / "vae" / "diffusion_pytorch_model.bin")
    return {"unet": folder / "unet", "vae": folder / "vae"}


@torch.no_grad()
def test_svd_s_weights_compute_what_svd_does(svd: Path) -> None:
    parts = load_svd(svd)
    stock = UNetSpatioTemporalConditionModel.from_pretrained(svd / "unet", low_cpu_mem_usage=False)
    given = unet_input(batch=1)
    given["image_embeddings"] = given["image_embeddings"][:, :1].expand(1, 3, -1)
    sample = torch.cat([given["aif_latents"], given["defocus_latents"]], 2)
    expected: Any = stock(sample, TIMESTEP, given["image_embeddings"][:, :1], torch.tensor([TIME_IDS]))
    torch.testing.assert_close(predict_x0(parts.unet, **given), expected.sample, rtol=1e-4, atol=1e-5)
    state = parts.unet.state_dict()
    assert all(torch.equal(state[key], value) for key, value in stock.state_dict().items())
    for name, parameter in parts.unet.named_parameters():
        assert not parameter.is_meta and parameter.requires_grad
        if "gate" in name:
            assert float(parameter.abs().max()) == 0
    assert torch.equal(parts.unet.conv_in_mpi.weight, parts.unet.conv_in.weight[:, :4])
    assert all(bool((p == SKIP_WEIGHT).all()) for p in parts.vae.skips.parameters())


def test_new_weights_depend_on_the_seed_only(svd: Path) -> None:
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    first, again, other = (load_svd(svd, seed=seed).unet.state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    name = "mid_block.attentions.0.transformer_blocks.0.mpi.to_q.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_options_of_the_network_can_be_chosen(svd: Path) -> None:
    assert load_svd(svd, num_levels=6).unet.mpi_config.num_levels == 6
    assert not any("adapter" in name for name in load_svd(svd, masks="none").unet.state_dict())


def test_half_precision_files_stay_as_they_are(svd: Path) -> None:
    stock = weights._stock(svd, "unet", "fp16")
    unet = weights.extend_unet(stock)  # pyright: ignore[reportArgumentType]
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.float16}


@torch.no_grad()
def test_the_released_network_is_loaded_and_what_is_dead_is_named(svd: Path, tmp_path: Path) -> None:
    original = tiny(**OFFICIAL)
    paths = release(tmp_path, original, **{"surprise.weight": torch.ones(1)})
    parts, reports = load_official(svd, **paths)
    given = unet_input()
    assert torch.equal(predict_x0(parts.unet, **given), predict_x0(original.unet, **given))
    for name, value in original.vae.state_dict().items():
        assert torch.equal(parts.vae.state_dict()[name], value)

    blocks = sum(name.endswith("mpi.to_q.weight") for name in original.unet.state_dict())
    report = reports["unet"]
    assert report.unknown == ("surprise.weight",)
    assert report.missing == ()
    # Of each block the second feed-forward layer (4) and the adapter (2), and the layer that feeds adapters.
    assert len(report.dead) == 6 * blocks + 2
    assert all("ff_k" in key or "linear" in key or "conv_in_mpi" in key for key in report.dead)
    assert len(report.loaded) == len(original.unet.state_dict())
    assert report.lines()[0].startswith(f"{len(report.loaded)} keys loaded, {6 * blocks + 2} without effect")
    assert "  unknown: surprise.weight" in report.lines()
    assert reports["vae"].dead == reports["vae"].unknown == reports["vae"].missing == ()
    assert all(gate.shape == (1,) for name, gate in parts.unet.named_parameters() if "gate" in name)


def test_what_the_masks_hid_can_be_kept(svd: Path, tmp_path: Path) -> None:
    paths = release(tmp_path, tiny(**OFFICIAL))
    parts, reports = load_official(svd, **paths, masks="regions")
    assert parts.unet.mpi_config.masks == "regions"
    assert torch.equal(parts.unet.conv_in_mpi.bias, torch.ones(64))  # pyright: ignore[reportArgumentType]
    assert all("ff_k" in key for key in reports["unet"].dead)


def test_every_name_of_a_network_of_ours_maps_back() -> None:
    for masks in ("none", "regions"):
        unet = tiny(**{**OFFICIAL, "masks": masks}).unet
        tensors, report = weights.map_keys(released_unet(unet), unet, weights.official_unet_key)
        assert report.unknown == report.missing == ()
        for name, value in unet.state_dict().items():
            assert torch.equal(tensors[name], value), name
        assert any(parameter_group(name) == "mpi" for name in tensors)


# Mistakes and the command.


def test_a_checkpoint_that_lacks_something_is_refused(svd: Path, tmp_path: Path) -> None:
    original = tiny(**OFFICIAL)
    paths = release(tmp_path, original)
    file = paths["unet"] / "unet" / "diffusion_pytorch_model.safetensors"
    state = released_unet(original.unet)
    del state["conv_in.weight"]
    save_file(state, file)
    with pytest.raises(UserError, match=r"has nothing for 1 parameters, the first is conv_in\.weight$"):
        load_official(svd, **paths)
    save_file({**state, "conv_in.weight": torch.ones(64, 9, 3, 3)}, file)
    with pytest.raises(
        UserError, match=r"conv_in\.weight has shape \[64, 9, 3, 3\], .* needs \[64, 8, 3, 3\]"
    ):
        load_official(svd, **paths)
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match=f"^{re.escape(str(file))}: does not load: [^\n]*$"):
        load_official(svd, **paths)


def test_folders_that_are_something_else_are_refused(svd: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unet: no config\.json there; .* must be in diffusers' layout$"):
        load_svd(tmp_path)
    with pytest.raises(UserError, match=r"has no diffusion_pytorch_model\.safetensors or "):
        load_official(svd, unet=tmp_path, vae=tmp_path)
    with pytest.raises(UserError, match=r"does not load: "):
        load_official(tmp_path, unet=tmp_path, vae=tmp_path)
    with pytest.raises(UserError, match=r"does not load: [^\n]*$"):
        load_svd(svd, variant="fp8")


def test_the_command_writes_a_folder_that_loads(
    svd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert weights.main(["svd", str(svd), str(out)]) == 0
    given = video(frames=2)
    expected = BokehPipeline.of(load_svd(svd))(**given).frames
    assert torch.equal(load_pipeline(out)(**given).frames, expected)
    assert weights.main(["svd", str(svd), str(out)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"{out}: exists already"

    paths = release(tmp_path / "released", tiny(**OFFICIAL))
    target = str(tmp_path / "official")
    assert weights.main(["official", str(svd), target]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "official: needs --unet and --vae"
    given_paths = ["--unet", str(paths["unet"]), "--vae", str(paths["vae"])]
    assert weights.main(["official", str(svd), target, *given_paths]) == 0
    printed = capsys.readouterr().out
    assert "unet: " in printed and "without effect: conv_in_mpi.weight" in printed
    assert load_pipeline(target).unet.config["signed_defocus"] is False
