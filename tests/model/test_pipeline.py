"""From video to video: any length, any size, and the same as doing it by hand."""

import math
import re
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from focuspull.dataset.errors import UserError
from focuspull.dataset.mpi import region_ids
from focuspull.model import pipeline as module
from focuspull.model.pipeline import (
    CLIP_MEAN,
    CLIP_STD,
    AnyToBokeh,
    BokehPipeline,
    Settings,
    embed_images,
    load_pipeline,
)
from focuspull.model.presets import OFFICIAL
from focuspull.model.renderer import FrameInput, get_renderer
from focuspull.model.unet import defocus_images, predict_x0
from focuspull.model.wois import cosine_weights
from tests.model.networks import tiny, video


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny network whose gates are open."""
    path = tmp_path_factory.mktemp("weights") / "tiny"
    BokehPipeline.of(tiny()).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pipe(folder: Path) -> BokehPipeline:
    return load_pipeline(folder)


def frames_of(given: dict[str, Tensor], clip: int = 0) -> Iterator[FrameInput]:
    for values in zip(
        *(given[name][clip] for name in ("aif", "disparity", "k", "focus_disparity")), strict=True
    ):
        yield FrameInput(*values)


# The result.


@pytest.mark.parametrize("fuse", ["latent", "pixel"])
@torch.no_grad()
def test_it_equals_the_formula_by_hand(pipe: BokehPipeline, fuse: Any) -> None:
    """12 frames of a size that needs no change: chunks 0..7 and 4..11, for the U-Net and for the decoder."""
    given = video(frames=12)
    aif, disparity, focus = given["aif"], given["disparity"], given["focus_disparity"]
    aif_latents, skips = pipe.vae.encode_video(2 * aif - 1)
    inputs = {
        "aif_latents": aif_latents,
        "defocus_latents": pipe.vae.encode_video(defocus_images(disparity, focus, signed=True))[0],
        "image_embeddings": embed_images(pipe.image_encoder, aif),
        "regions": region_ids(disparity[:, :, 0], focus),
        "k": given["k"],
    }

    def predict(part: slice) -> Tensor:
        return predict_x0(pipe.unet, **{name: value[:, part] for name, value in inputs.items()})

    def decode(latents: Tensor, part: slice) -> Tensor:
        return pipe.vae.decode_video(latents, tuple(skip[:, part] for skip in skips))

    def fused(first: Tensor, second: Tensor) -> Tensor:
        g = torch.tensor(cosine_weights(4))[:, None, None, None]
        overlap = g * first[:, 4:] + (1 - g) * second[:, :4]
        return torch.cat([first[:, :4], overlap, second[:, 4:]], 1)

    early, late = slice(0, 8), slice(4, 12)
    if fuse == "latent":
        latents = fused(predict(early), predict(late))
        images = fused(decode(latents[:, early], early), decode(latents[:, late], late))
    else:
        images = fused(decode(predict(early), early), decode(predict(late), late))
    expected = ((images + 1) / 2).clamp(0, 1)
    found = pipe(**given, settings=Settings(fuse=fuse)).frames
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)
    assert expected.std() > 0.05


@pytest.mark.parametrize("fuse", ["latent", "pixel"])
def test_every_length_from_1_to_40_works(pipe: BokehPipeline, fuse: Any) -> None:
    given = video(frames=40, height=4, width=4)
    lengths = range(1, 41) if fuse == "latent" else (1, 2, 7, 8, 9, 12, 13, 40)
    for frames in lengths:
        part = {name: value[:, :frames] for name, value in given.items()}
        found = pipe(**part, settings=Settings(fuse=fuse)).frames
        assert found.shape == part["aif"].shape
        assert found.isfinite().all()
        assert 0 <= float(found.min()) <= float(found.max()) <= 1


def test_two_runs_are_bit_identical_and_a_stream_is_a_call(folder: Path) -> None:
    render, given = AnyToBokeh(folder), video(batch=2, frames=11)
    torch.manual_seed(0)
    first = render(**given)
    torch.manual_seed(1)
    assert torch.equal(render(**given), first)
    for clip in range(2):
        assert torch.equal(torch.stack(list(render.stream(frames_of(given, clip)))), first[clip])
    assert list(render.stream([])) == []


def test_a_blur_that_grows_moves_the_picture(pipe: BokehPipeline) -> None:
    given = video(frames=2)
    before = pipe(**given).frames
    for name in ("k", "focus_disparity", "disparity"):
        moved = pipe(**{**given, name: 1.5 * given[name]}).frames
        assert not torch.equal(moved, before), name


def test_in_front_of_the_focus_differs_from_behind_it_unless_official(pipe: BokehPipeline) -> None:
    given = video(frames=1)
    given["focus_disparity"] = torch.full((1, 1), 0.5)
    given["disparity"] = torch.full_like(given["disparity"], 0.25)
    behind = given
    front: dict[str, Any] = {**given, "disparity": 1 - given["disparity"]}
    assert not torch.equal(pipe(**front).frames, pipe(**behind).frames)
    official = BokehPipeline.of(tiny(**OFFICIAL))
    assert torch.equal(official(**front).frames, official(**behind).frames)


# Seams and memory.


@torch.no_grad()
def test_the_decoder_leaves_no_seam_between_chunks(pipe: BokehPipeline) -> None:
    """A still scene: where one chunk of 8 follows another without overlap, the picture jumps; not with it."""
    latents, skips = pipe.vae.encode_video(2 * video(frames=1)["aif"] - 1)
    still = [(tuple(skip[:, 0] for skip in skips), latents[:, 0])] * 24
    apart = torch.cat([torch.cat(pipe._decode(still[i : i + 8])) for i in (0, 8, 16)])
    fused = torch.cat([image for _, image in module.overlapped(still, pipe._decode, 8)])
    seam = (apart[8] - apart[7]).abs().mean()
    inner = (apart[4] - apart[3]).abs().mean()
    assert seam > 3 * inner
    largest = (fused[5:20] - fused[4:19]).abs().mean((1, 2, 3)).max()
    assert largest < 0.5 * seam


class PeakBytes(TorchDispatchMode):
    """The most memory that tensors made inside hold at once, without views of the weights."""

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        weights = [parameter for network in networks for parameter in network.parameters()]
        self.held: dict[int, int] = {weight.untyped_storage()._cdata: 0 for weight in weights}
        self.now = 0
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key not in self.held:
                    self.held[key] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._freed, key)
        return result

    def _freed(self, key: int) -> None:
        self.now -= self.held.pop(key)


def drawn(frames: int) -> Iterator[FrameInput]:
    """Frames that are made when they are asked for."""
    for t in range(frames):
        rng = torch.Generator().manual_seed(t)
        yield FrameInput(
            torch.rand(3, 8, 8, generator=rng),
            torch.rand(1, 8, 8, generator=rng),
            torch.tensor(4.0),
            torch.tensor(0.5),
        )


def peak_bytes(run: Callable[[], None]) -> int:
    with PeakBytes() as peak:
        run()
    return peak.peak


def test_the_meter_sees_what_is_kept() -> None:
    def keep() -> None:
        kept = [torch.zeros(1000) for _ in range(10)]
        del kept

    def drop() -> None:
        for _ in range(10):
            torch.zeros(1000)

    assert peak_bytes(keep) == 40_000
    assert peak_bytes(drop) <= 8_000


@pytest.mark.parametrize("fuse", ["latent", "pixel"])
def test_memory_does_not_grow_with_the_length_of_the_video(pipe: BokehPipeline, fuse: Any) -> None:
    """Neither the most that is in use, nor what is kept from frame to frame, which is far less."""

    def measured(frames: int) -> tuple[int, int]:
        kept = 0
        with PeakBytes(pipe.unet, pipe.vae, pipe.image_encoder) as meter:
            for _ in pipe.stream(drawn(frames), Settings(fuse=fuse)):
                kept = max(kept, meter.now)
        return meter.peak, kept

    short, long = measured(40), measured(400)
    assert long[0] <= 1.1 * short[0]
    assert long[1] <= 1.1 * short[1]
    # At least one window is waiting.
    assert short[1] > 8 * 2000


# Sizes.


@pytest.mark.parametrize("size", [(12, 16), (13, 18), (1, 1), (3, 50), (17, 5)])
def test_any_size_comes_back_as_it_was(pipe: BokehPipeline, size: tuple[int, int]) -> None:
    given = video(frames=2, height=size[0], width=size[1])
    found = pipe(**given).frames
    assert found.shape == given["aif"].shape
    assert found.isfinite().all()


def test_a_frame_is_extended_by_its_reflection(pipe: BokehPipeline) -> None:
    """A picture that its reflection continues is the part of the larger one."""
    small = video(frames=2, height=10, width=14)
    assert pipe.multiple == 4
    large: dict[str, Any] = {
        name: torch.nn.functional.pad(value[0], (0, 2, 0, 2), mode="reflect")[None]
        if value.ndim == 5
        else value
        for name, value in small.items()
    }
    # The picture embedding is of the frame as it is given.
    embedding = torch.zeros(16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "embed_images", lambda *_: embedding)
        assert torch.equal(pipe(**small).frames, pipe(**large).frames[..., :10, :14])


def test_resizing_scales_k_and_comes_back(pipe: BokehPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Tensor]] = []

    def spy(unet: Any, given: dict[str, Tensor]) -> Tensor:
        seen.append(given)
        return predict_x0(unet, **given)

    monkeypatch.setattr(module, "predict_latents", spy)
    given = video(frames=2, height=9, width=16)
    found = pipe(**given, settings=Settings(width=32)).frames
    assert found.shape == given["aif"].shape
    torch.testing.assert_close(seen[0]["k"], 2 * given["k"])
    # 18 x 32 pixels, extended to multiples of 4.
    assert seen[0]["regions"].shape == (1, 2, 20, 32)
    assert seen[0]["aif_latents"].shape == (1, 2, 4, 10, 16)


def test_resizing_invents_no_depth(pipe: BokehPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def spy(disparity: Tensor, *args: Any, **options: Any) -> Tensor:
        seen.append(disparity)
        return defocus_images(disparity, *args, **options)

    monkeypatch.setattr(module, "defocus_images", spy)
    given = video(frames=1)
    given["disparity"] = (given["disparity"] > 0.5).float()
    pipe(**given, settings=Settings(width=21))
    assert set(seen[0].unique().tolist()) == {0.0, 1.0}


def test_one_tile_is_the_whole_frame(pipe: BokehPipeline) -> None:
    given = video(frames=3)
    assert torch.equal(pipe(**given, settings=Settings(tile=16)).frames, pipe(**given).frames)


@pytest.mark.parametrize("size", [(12, 16), (40, 33), (8, 100)])
def test_tiles_overlap_and_blend_back_into_the_frame(size: tuple[int, int]) -> None:
    layout = module._Layout.of(*size, multiple=4, settings=Settings(tile=12))
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    tiles = layout.split(layout.extend(image, "bilinear"))
    assert tiles.shape[1:] == (3, min(12, size[0]), 12)
    torch.testing.assert_close(layout.merge(2 * tiles - 1), image, rtol=0, atol=1e-6)
    columns = sorted({c for _, c in layout.corners})
    assert columns[0] == 0 and columns[-1] + 12 == layout.extended[1]
    assert all(b - a <= 9 for a, b in zip(columns, columns[1:], strict=False))


def test_tiles_cover_a_large_frame(pipe: BokehPipeline) -> None:
    given = video(frames=9, height=24, width=30)
    found = pipe(**given, settings=Settings(tile=16)).frames
    assert found.shape == given["aif"].shape
    # Tiles are the network's, so far from their edges they are those of a frame that is cut out.
    assert found.isfinite().all() and found.std() > 0.05


def test_less_memory_for_decoding_changes_the_picture_a_little(pipe: BokehPipeline) -> None:
    given = video(frames=9)
    found = pipe(**given, settings=Settings(decode_window=4)).frames
    expected = pipe(**given).frames
    assert 0 < float((found - expected).abs().mean()) < 0.1


# Types.


def test_dtype_of_the_video_is_kept_and_that_of_the_network_is_the_option_s(folder: Path) -> None:
    given = {name: value.double() for name, value in video(frames=2).items()}
    render = AnyToBokeh(folder, device="cpu", dtype=torch.bfloat16)
    assert render.pipeline.unet.dtype == render.pipeline.vae.dtype == torch.bfloat16
    assert render(**given).dtype == torch.float64
    half = {name: value.half() for name, value in given.items()}
    assert AnyToBokeh(folder, device="cpu")(**half).dtype == torch.float16


# Embeddings.


def test_images_are_normalised_for_clip(pipe: BokehPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    encoder = pipe.image_encoder
    embed = encoder.forward

    def spy(pixels: Tensor) -> Any:
        seen.append(pixels)
        return embed(pixels)

    monkeypatch.setattr(encoder, "forward", spy)
    image = torch.tensor([0.2, 0.5, 0.8])[:, None, None].expand(2, 4, 3, 9, 13)
    assert embed_images(encoder, image).shape == (2, 4, 16)
    expected = [(x - m) / s for x, m, s in zip((0.2, 0.5, 0.8), CLIP_MEAN, CLIP_STD, strict=True)]
    assert seen[0].shape == (8, 3, 28, 28)
    assert seen[0][0].mean((1, 2)).tolist() == pytest.approx(expected, abs=1e-5)
    assert embed_images(encoder, image[0, 0]).shape == (16,)


# Saving, loading and mistakes.


def test_saving_and_loading_is_exact(folder: Path, tmp_path: Path) -> None:
    made, given = BokehPipeline.of(tiny()), video(frames=3)
    loaded = load_pipeline(folder)
    for part in ("unet", "vae", "image_encoder"):
        before, after = getattr(made, part), getattr(loaded, part)
        assert type(after) is type(before)
        assert before.state_dict().keys() == after.state_dict().keys()
        for key, value in before.state_dict().items():
            assert torch.equal(after.state_dict()[key], value)
    assert torch.equal(loaded(**given).frames, made(**given).frames)

    official = BokehPipeline.of(tiny(**OFFICIAL))
    official.save_pretrained(tmp_path / "official")
    again = load_pipeline(tmp_path / "official")
    assert again.unet.mpi_config == official.unet.mpi_config
    assert torch.equal(again(**given).frames, official(**given).frames)


def test_the_folder_is_diffusers_layout_with_safetensors(folder: Path) -> None:
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == [
        "image_encoder/config.json",
        "image_encoder/model.safetensors",
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]


def test_the_renderer_has_a_name(folder: Path) -> None:
    given = video(frames=2)
    assert get_renderer("any-to-bokeh", weights=folder)(**given).shape == given["aif"].shape
    with pytest.raises(ValueError, match="^renderer 'any-to-bokeh': needs the option 'weights'"):
        get_renderer("any-to-bokeh")


def broken_unet(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def no_vae(folder: Path) -> None:
    shutil.rmtree(folder / "vae")


def of_svd(folder: Path) -> None:
    config = (folder / "model_index.json").read_text(encoding="utf-8")
    config = config.replace("focuspull.model.unet", "diffusers").replace(
        "BokehUNet", "UNetSpatioTemporalConditionModel"
    )
    (folder / "model_index.json").write_text(config, encoding="utf-8")


def not_json(folder: Path) -> None:
    (folder / "model_index.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "is not a folder of weights, it has no model_index.json"),
        (broken_unet, "does not load: "),
        (no_vae, "does not load: "),
        (not_json, "does not load: "),
        (of_svd, "its unet is of type UNetSpatioTemporalConditionModel, not BokehUNet"),
    ],
)
def test_missing_or_invalid_weights_are_one_line(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    copied = tmp_path / "weights"
    shutil.copytree(folder, copied)
    spoil(copied)
    with pytest.raises(UserError, match=f"^{re.escape(str(copied))}: {message}") as caught:
        AnyToBokeh(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 7}, "window: must be even and at least 2, got 7"),
        ({"decode_window": 1}, "decode_window: must be even and at least 2, got 1"),
        ({"fuse": "both"}, "fuse: must be one of 'latent', 'pixel', 'none', got 'both'"),
        ({"width": 0}, "width: must be positive, got 0"),
        ({"tile": -4}, "tile: must be positive, got -4"),
        (
            {"dtype": torch.float16},
            "dtype: in float16 the VAE overflows; use torch.bfloat16 or torch.float32",
        ),
    ],
)
def test_settings_without_meaning_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        AnyToBokeh(folder, **options)


def test_a_tile_has_to_fit_the_network(pipe: BokehPipeline) -> None:
    with pytest.raises(ValueError, match="^tile: must be a multiple of 4 for this network, got 10$"):
        pipe.stream([], Settings(tile=10))


def test_a_wrong_frame_is_named(pipe: BokehPipeline) -> None:
    frames = list(drawn(12))
    frames[9].disparity[0, 3, 3] = math.nan
    with pytest.raises(ValueError, match="^frame 9: disparity: 1 values are not finite"):
        list(pipe.stream(frames))
    frames = [*drawn(2), *frames_of(video(frames=1))]
    with pytest.raises(ValueError, match="^frame 2: aif: is 12x16, the first frame is 8x8$"):
        list(pipe.stream(frames))
    negative = video()
    negative["k"] -= 100
    with pytest.raises(ValueError, match="^k: must not be negative"):
        pipe(**negative)
