"""Weights of others for our network: Stable Video Diffusion's, and the released Any-to-Bokeh's.

    python -m focuspull.model.weights svd SVD_FOLDER OUT
    python -m focuspull.model.weights official SVD_FOLDER --unet FOLDER --vae FOLDER OUT

SVD_FOLDER is a copy of ``stabilityai/stable-video-diffusion-img2vid-xt`` as diffusers lays it out: unet, vae
and image_encoder with their config.json. OUT is what ``get_renderer("any-to-bokeh", weights=OUT)`` and the
trainer load. With SVD's weights alone the network is a start for training, not a bokeh renderer.

Not all that is in a released checkpoint has an effect in the released network (`MpiConfig.official`): such
layers are named in the report and left out, and so is every key that fits nothing. With ``--masks regions``
those behind the masks are kept, for training with the masks that were meant.

Both sources have licences of their own: SVD's is Stability AI's, the released checkpoint's is CC BY-NC 4.0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from focuspull.dataset.errors import UserError
from focuspull.model.attention import Masks, MpiAttention
from focuspull.model.pipeline import BokehPipeline, own_memory
from focuspull.model.presets import OFFICIAL, Parts
from focuspull.model.unet import BokehUNet, parameter_group
from focuspull.model.vae import BokehVae

WEIGHTS_NAMES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")

_MPI_NAMES = {
    "linear": "adapter",
    "mpi_attn.to_q": "to_q",
    "mpi_attn.to_k": "to_k",
    "mpi_attn.to_v": "to_v",
    "mpi_attn.to_out.0": "to_out",
    "ff": "feed_forward",
    "k_encoder": "k_projection",
    "norm1": "norm_attention",
    "norm2": "norm_feed_forward",
    "norm_k": "norm_feed_forward_2",
    "alpha_attn": "gate_attention",
    "alpha_dense": "gate_feed_forward",
}
"""Names of layers in the released code's fuser, and ours."""


@dataclass(frozen=True)
class KeyReport:
    """What became of the keys of a checkpoint.

    Attributes:
        loaded: Keys whose tensors were taken.
        dead: Keys that have no effect in the network they come from, left out.
        unknown: Keys that fit nothing, left out.
        missing: Parameters of our network that nothing fits.
    """

    loaded: tuple[str, ...]
    dead: tuple[str, ...]
    unknown: tuple[str, ...]
    missing: tuple[str, ...]

    def lines(self) -> list[str]:
        """For people: how many were loaded, and the name of every other."""
        return [
            f"{len(self.loaded)} keys loaded, {len(self.dead)} without effect, {len(self.unknown)} unknown, "
            f"{len(self.missing)} missing",
            *(f"  without effect: {key}" for key in self.dead),
            *(f"  unknown: {key}" for key in self.unknown),
            *(f"  missing: {key}" for key in self.missing),
        ]


def load_svd(folder: str | Path, *, seed: int = 0, variant: str | None = None, **unet_options: Any) -> Parts:
    """Our networks with Stable Video Diffusion's weights, in the dtype of the files.

    What SVD does not have is new: MPI attention with closed gates, and skips of 1e-5.

    Args:
        folder: In diffusers' layout.
        seed: Of the weights of the MPI attention.
        variant: Which files, e.g. "fp16" for ``diffusion_pytorch_model.fp16.safetensors``.
        unet_options: Further arguments of `BokehUNet`.

    Raises:
        UserError: If a part is missing, does not load or has other parameters than SVD.
    """
    folder = Path(folder)
    # Nothing else holds SVD's own networks, so what `own_memory` copies is let go.
    parts = Parts(
        unet=extend_unet(cast(Any, _stock(folder, "unet", variant)), seed=seed, **unet_options).eval(),
        vae=extend_vae(cast(Any, _stock(folder, "vae", variant))).eval(),
        image_encoder=cast(CLIPVisionModelWithProjection, _stock(folder, "image_encoder", variant)),
    )
    for network in (parts.unet, parts.vae, parts.image_encoder):
        own_memory(network)
    return parts


def extend_unet(stock: UNetSpatioTemporalConditionModel, *, seed: int = 0, **unet_options: Any) -> BokehUNet:
    """A `BokehUNet` with the weights of SVD's U-Net; computes the same while its gates are closed.

    Args:
        stock: SVD's U-Net, which shares its memory with the result.
        seed: Of the weights of the MPI attention. torch's global generator is left as it was.
        unet_options: Arguments of `BokehUNet` that SVD's U-Net does not have.
    """
    with torch.device("meta"):
        unet = cast(BokehUNet, BokehUNet.from_config({**stock.config, **unet_options}))
    found = unet.load_state_dict(stock.state_dict(), strict=False, assign=True)
    assert not found.unexpected_keys and all(parameter_group(key) == "mpi" for key in found.missing_keys)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in unet.modules():
            if isinstance(module, MpiAttention):
                module.to_empty(device=stock.device).to(stock.dtype)
                module.reset_parameters()
    if unet.mpi_config.masks == "regions":
        unet.conv_in_mpi.to_empty(device=stock.device).to(stock.dtype)
        unet.start_mpi_from_conv_in()
    return unet


def extend_vae(stock: AutoencoderKLTemporalDecoder) -> BokehVae:
    """A `BokehVae` with the weights of SVD's VAE, which shares its memory with the result."""
    with torch.device("meta"):
        vae = cast(BokehVae, BokehVae.from_config(stock.config))
    found = vae.load_state_dict(stock.state_dict(), strict=False, assign=True)
    assert not found.unexpected_keys and all(key.startswith("skips.") for key in found.missing_keys)
    vae.skips.to_empty(device=stock.device).to(stock.dtype)
    vae.reset_skips()
    return vae


def load_official(
    svd: str | Path, *, unet: str | Path, vae: str | Path, masks: Masks = "none", variant: str | None = None
) -> tuple[Parts, dict[str, KeyReport]]:
    """The released Any-to-Bokeh: its U-Net and VAE, and SVD's image encoder.

    Args:
        svd: SVD's folder, for the sizes and the image encoder.
        unet: File or folder of the released U-Net.
        vae: File or folder of the released VAE.
        masks: ``none`` computes what the released code does. ``regions`` keeps what the masks were meant to
            let through; that part of the checkpoint had no gradient when it was trained.
        variant: Of SVD's files.

    Returns:
        The networks, and for "unet" and "vae" what became of the keys.

    Raises:
        UserError: If a file is missing or does not load, or if a parameter is missing or of another shape.
    """
    svd = Path(svd)
    options = {**OFFICIAL, "masks": masks}
    with torch.device("meta"):
        made_unet = cast(BokehUNet, BokehUNet.from_config({**_config(svd, "unet"), **options}))
        made_vae = cast(BokehVae, BokehVae.from_config(_config(svd, "vae")))
    reports: dict[str, KeyReport] = {}
    for name, network, path, rename in (
        ("unet", made_unet, unet, official_unet_key),
        ("vae", made_vae, vae, official_vae_key),
    ):
        tensors, reports[name] = map_keys(_read(Path(path)), network, rename)
        if reports[name].missing:
            missing = reports[name].missing
            raise UserError(f"{path}: has nothing for {len(missing)} parameters, the first is {missing[0]}")
        for key, parameter in network.state_dict().items():
            if tensors[key].shape != parameter.shape:
                raise UserError(
                    f"{path}: {key} has shape {list(tensors[key].shape)}, the network of {svd} needs "
                    f"{list(parameter.shape)}"
                )
        network.load_state_dict(tensors, assign=True)
    image_encoder = cast(CLIPVisionModelWithProjection, _stock(svd, "image_encoder", variant))
    for network in (made_unet, made_vae, image_encoder):
        own_memory(network)
    return Parts(made_unet.eval(), made_vae.eval(), image_encoder), reports


def map_keys(
    state: Mapping[str, Tensor], network: nn.Module, rename: Any
) -> tuple[dict[str, Tensor], KeyReport]:
    """Tensors of a released checkpoint under our names.

    Args:
        state: The checkpoint.
        network: Ours, of which only the names of the parameters matter; may be on the meta device.
        rename: Our name for a key, or None for one that has no effect: `official_unet_key`,
            `official_vae_key`.
    """
    wanted = set(network.state_dict())
    tensors: dict[str, Tensor] = {}
    loaded: list[str] = []
    dead: list[str] = []
    unknown: list[str] = []
    for key, tensor in state.items():
        name = rename(key, wanted)
        if name is None:
            dead.append(key)
        elif name in wanted:
            # The released gates have no axes.
            tensors[name] = tensor.reshape(1) if tensor.ndim == 0 else tensor
            loaded.append(key)
        else:
            unknown.append(key)
    missing = sorted(wanted - set(tensors))
    return tensors, KeyReport(tuple(loaded), tuple(dead), tuple(unknown), tuple(missing))


def official_unet_key(key: str, wanted: set[str]) -> str | None:
    """Our name for a key of the released U-Net; None if it has no effect; itself if it has no other name.

    Args:
        key: Of the checkpoint.
        wanted: Names of our network's parameters. Of a network without masks those that the released masks
            hide are not among them.
    """
    if key.startswith("conv_in_mpi."):
        return key if key in wanted else None
    before, fuser, rest = key.partition(".fuser.")
    if not fuser:
        return key
    # A second feed-forward layer that the released code never calls.
    if rest.startswith("ff_k."):
        return None
    for theirs, ours in _MPI_NAMES.items():
        if rest == theirs or rest.startswith(f"{theirs}."):
            name = f"{before}.mpi.{ours}{rest[len(theirs) :]}"
            return None if ours == "adapter" and name not in wanted else name
    return key


def official_vae_key(key: str, wanted: set[str]) -> str | None:
    """Our name for a key of the released VAE; itself if it has no other name."""
    number = key.removeprefix("decoder.skip_conv_").removesuffix(".weight")
    return f"skips.{int(number) - 1}.weight" if number.isdecimal() else key


def _config(folder: Path, part: str) -> dict[str, Any]:
    kind = {"unet": UNetSpatioTemporalConditionModel, "vae": AutoencoderKLTemporalDecoder}[part]
    try:
        return cast(dict[str, Any], kind.load_config(folder / part, local_files_only=True))
    except Exception as error:
        raise _unreadable(folder / part, error) from error


def _stock(folder: Path, part: str, variant: str | None) -> nn.Module:
    """A network of SVD's, as it is."""
    path = folder / part
    if not (path / "config.json").is_file():
        raise UserError(f"{path}: no config.json there; {folder} must be in diffusers' layout")
    try:
        if part == "image_encoder":
            return CLIPVisionModelWithProjection.from_pretrained(
                path, variant=variant, dtype="auto", local_files_only=True
            )
        kind = UNetSpatioTemporalConditionModel if part == "unet" else AutoencoderKLTemporalDecoder
        options: dict[str, Any] = {"variant": variant, "local_files_only": True, "low_cpu_mem_usage": False}
        if variant == "fp16":
            options["dtype"] = torch.float16
        return kind.from_pretrained(path, **options)
    except Exception as error:
        # Whatever the libraries raise about a file that is missing, cut short or of another network.
        raise _unreadable(path, error) from error


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, or of the one in a folder or its subfolder ``unet``."""
    candidates = [path] if path.is_file() else []
    for folder in (path, path / "unet"):
        candidates += [folder / name for name in WEIGHTS_NAMES if (folder / name).is_file()]
    if not candidates:
        raise UserError(f"{path}: has no {' or '.join(WEIGHTS_NAMES)}")
    try:
        if candidates[0].suffix == ".safetensors":
            return load_file(candidates[0])
        return torch.load(candidates[0], map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unreadable(candidates[0], error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    lines = str(error).strip().splitlines()
    return UserError(f"{path}: does not load: {lines[0] if lines else type(error).__name__}")


def main(argv: Sequence[str] | None = None) -> int:
    """Convert weights; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m focuspull.model.weights",
        description=(__doc__ or "").partition("\n")[0],
        epilog="See the module's docstring for examples.",
    )
    parser.add_argument("source", choices=["svd", "official"])
    parser.add_argument("svd", type=Path, metavar="SVD_FOLDER")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--unet", type=Path, help="file or folder of the released U-Net")
    parser.add_argument("--vae", type=Path, help="file or folder of the released VAE")
    parser.add_argument("--masks", choices=["none", "regions"], default="none", help="for official")
    parser.add_argument("--variant", help="of SVD's files, e.g. fp16")
    given = parser.parse_args(argv)
    try:
        if given.out.exists():
            raise UserError(f"{given.out}: exists already")
        if given.source == "svd":
            parts = load_svd(given.svd, variant=given.variant)
        elif given.unet is None or given.vae is None:
            raise UserError("official: needs --unet and --vae")
        else:
            parts, reports = load_official(
                given.svd, unet=given.unet, vae=given.vae, masks=given.masks, variant=given.variant
            )
            for name, report in reports.items():
                print(f"{name}: " + "\n".join(report.lines()))
        BokehPipeline.of(parts).save_pretrained(given.out)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{given.out}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
