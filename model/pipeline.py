"""`BokehPipeline` and `AnyToBokeh`: the network applied to videos of any length and size.

    from focuspull.model.renderer import get_renderer

    render = get_renderer("any-to-bokeh", weights="runs/stage3")
    bokeh = render(aif, disparity, k, focus_disparity)
    for frame in render.stream(frames): ...

The pipeline is a diffusers `DiffusionPipeline` of three networks (``unet``, ``vae``, ``image_encoder``) and
is saved and loaded as one: ``save_pretrained``, ``from_pretrained``, one folder per network, safetensors.

A frame is encoded by itself; the U-Net sees chunks of ``window`` frames that overlap by half, and the results
are fused (`focuspull.model.wois`), as latents or as pixels. The decoder, which mixes frames too, gets
overlapping chunks as well, so that it leaves no seams. There is no noise and nothing is drawn (networks of
many steps begin with the same noise every time): the same input gives the same output. Memory does not grow
with the length of the video.

Sizes: the aspect ratio stays. A frame is extended by reflection at the right and the bottom to what the
networks can halve, and cropped again. ``width`` has frames resized before and after, and K with them.
``tile`` has large frames cut into overlapping tiles that are decoded and then blended; the overlap, a quarter
of a tile, should be at least the largest radius of blur, since no light gets from one tile to another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionModelWithProjection

from focuspull.dataset.errors import UserError
from focuspull.dataset.mpi import region_ids
from focuspull.model.multistep import predict_latents
from focuspull.model.presets import Parts
from focuspull.model.renderer import FrameInput, validate_inputs
from focuspull.model.unet import BokehUNet, defocus_images
from focuspull.model.vae import BokehVae, Skips, stack_skips
from focuspull.model.wois import check_window, overlapped, side_by_side

Fuse = Literal["latent", "pixel", "none"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training images (Radford et al., 2021), sRGB in [0, 1]."""

TILE_OVERLAP = 0.25
"""Smallest overlap of neighbouring tiles, in tiles."""


@dataclass(frozen=True)
class Settings:
    """How a video is cut up.

    Attributes:
        window: Frames the U-Net sees at once, 2L; even.
        fuse: ``latent``: results are fused before they are decoded (released code). ``pixel``: each chunk is
            decoded and the images are fused (as the paper writes it), so that latents are never averaged;
            takes as long, unless ``decode_window`` is shorter than ``window``. ``none``: chunks do not
            overlap, to see what fusing is good for.
        decode_window: Frames that are decoded at once, even; None for ``window``. Less takes less memory.
        width: Width in pixels at which the networks work; None for the video's own.
        tile: Side in pixels of square tiles, at that width; None for whole frames.
    """

    window: int = 8
    fuse: Fuse = "latent"
    decode_window: int | None = None
    width: int | None = None
    tile: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that have no meaning."""
        check_window(self.window)
        if self.decode_window is not None:
            check_window(self.decode_window, "decode_window")
        if self.fuse not in get_args(Fuse):
            raise ValueError(
                f"fuse: must be one of {', '.join(map(repr, get_args(Fuse)))}, got {self.fuse!r}"
            )
        for name in ("width", "tile"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: must be positive, got {value}")


@dataclass
class BokehPipelineOutput(BaseOutput):
    """Result of `BokehPipeline`.

    Attributes:
        frames: ``[B, T, 3, H, W]`` sRGB in [0, 1].
    """

    frames: Tensor


@dataclass(frozen=True)
class _Prepared:
    """A frame that is ready for the U-Net, in N tiles.

    Attributes:
        tiles: ``[N, 3, h, w]`` in [-1, 1], all-in-focus.
        aif_latents: ``[N, 4, h', w']``.
        defocus_latents: Likewise.
        image_embedding: ``[D]``.
        regions: ``[N, h, w]`` uint8.
        k: ``[]``, pixels of the tiles.
        skips: Of the all-in-focus tiles, or None if they are to be made when they are needed.
    """

    tiles: Tensor
    aif_latents: Tensor
    defocus_latents: Tensor
    image_embedding: Tensor
    regions: Tensor
    k: Tensor
    skips: Skips | None


class BokehPipeline(DiffusionPipeline):
    """The three networks, and how a video passes through them.

    Args:
        unet: Predicts the latents of the bokeh frames.
        vae: Makes latents of images and images of latents.
        image_encoder: Makes the embeddings the U-Net attends to.
    """

    unet: BokehUNet
    vae: BokehVae
    image_encoder: CLIPVisionModelWithProjection

    def __init__(self, unet: BokehUNet, vae: BokehVae, image_encoder: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.register_modules(unet=unet, vae=vae, image_encoder=image_encoder)

    @classmethod
    def of(cls, parts: Parts) -> BokehPipeline:
        """The pipeline of the networks that `focuspull.model.presets.build` makes."""
        return cls(unet=parts.unet, vae=parts.vae, image_encoder=parts.image_encoder)

    @property
    def multiple(self) -> int:
        """What height and width of the networks' images are multiples of."""
        return self.vae.downscale * 2**self.unet.num_upsamplers

    def __call__(
        self,
        aif: Tensor,
        disparity: Tensor,
        k: Tensor,
        focus_disparity: Tensor,
        settings: Settings | None = None,
    ) -> BokehPipelineOutput:
        """Blur videos; arguments and result are those of `focuspull.model.renderer.BokehRenderer`.

        Args:
            aif: ``[B, T, 3, H, W]``.
            disparity: ``[B, T, 1, H, W]``.
            k: ``[B, T]``.
            focus_disparity: ``[B, T]``.
            settings: How a video is cut up.

        Raises:
            ValueError: As `focuspull.model.renderer.validate_inputs` does, or if tiles do not fit.
        """
        validate_inputs(aif, disparity, k, focus_disparity)
        clips = []
        for b in range(aif.shape[0]):
            per_frame = zip(aif[b], disparity[b], k[b], focus_disparity[b], strict=True)
            frames = (FrameInput(*values) for values in per_frame)
            clips.append(torch.stack(list(self.stream(frames, settings))))
        return BokehPipelineOutput(frames=torch.stack(clips))

    def stream(self, frames: Iterable[FrameInput], settings: Settings | None = None) -> Iterator[Tensor]:
        """Blur a video frame by frame; up to a few windows of frames are in memory at any time.

        Args:
            frames: In order, all of one size; may be a generator.
            settings: How the video is cut up.

        Yields:
            Bokeh frames ``[3, H, W]`` sRGB in [0, 1], in order; dtype and device of ``aif``.

        Raises:
            ValueError: If a frame is wrong, with its number, or tiles do not fit.
        """
        settings = settings or Settings()
        if settings.tile is not None and settings.tile % self.multiple:
            raise ValueError(
                f"tile: must be a multiple of {self.multiple} for this network, got {settings.tile}"
            )
        return self._stream(frames, settings)

    def _stream(self, frames: Iterable[FrameInput], settings: Settings) -> Iterator[Tensor]:
        layout: _Layout | None = None
        # What a frame is given back as; filled when it comes in and emptied when it leaves.
        kinds: list[tuple[torch.dtype, torch.device]] = []

        def prepared() -> Iterator[_Prepared]:
            nonlocal layout
            for number, frame in enumerate(frames):
                try:
                    validate_inputs(
                        frame.aif[None, None],
                        frame.disparity[None, None],
                        frame.k[None, None],
                        frame.focus_disparity[None, None],
                    )
                    if layout is None:
                        layout = _Layout.of(*frame.aif.shape[-2:], multiple=self.multiple, settings=settings)
                    layout.validate(frame)
                except ValueError as error:
                    raise ValueError(f"frame {number}: {error}") from error
                kinds.append((frame.aif.dtype, frame.aif.device))
                yield self._prepare(frame, layout, keep_skips=settings.fuse == "pixel")

        decode_window = settings.decode_window or settings.window
        if settings.fuse == "pixel":

            def refocus(chunk: list[_Prepared]) -> list[Tensor]:
                latents = self._predict(chunk)
                encoded = [(cast(Skips, frame.skips), z) for frame, z in zip(chunk, latents, strict=True)]
                return [images for _, images in overlapped(encoded, self._decode, decode_window)]

            images = (image for _, image in overlapped(prepared(), refocus, settings.window))
        else:
            cut = side_by_side if settings.fuse == "none" else overlapped
            predicted = cut(prepared(), self._predict, settings.window)
            # Encoding again costs less than keeping the features of all frames the U-Net waits for:
            # 0.2 GB each at 576x1024 in bfloat16.
            encoded = ((self._encode(frame.tiles)[1], latents) for frame, latents in predicted)
            images = (image for _, image in cut(encoded, self._decode, decode_window))

        for image in images:
            dtype, device = kinds.pop(0)
            yield cast(_Layout, layout).merge(image).to(device=device, dtype=dtype)

    @torch.no_grad()
    def _prepare(self, frame: FrameInput, layout: _Layout, *, keep_skips: bool) -> _Prepared:
        device = self.unet.device
        aif = layout.extend(frame.aif.to(device=device, dtype=torch.float32), "bilinear")
        # Depths are never averaged: between two surfaces there is none.
        disparity = layout.extend(frame.disparity.to(device=device, dtype=torch.float32), "nearest-exact")
        focus = frame.focus_disparity.to(device=device, dtype=torch.float32)
        tiles = layout.split(aif).to(self.vae.dtype) * 2 - 1
        disparities = layout.split(disparity)
        focuses = focus.expand(len(tiles))
        config = self.unet.config
        defocus = defocus_images(disparities, focuses, signed=config["signed_defocus"]).to(self.vae.dtype)
        aif_latents, skips = self._encode(tiles)
        return _Prepared(
            tiles=tiles,
            aif_latents=aif_latents,
            defocus_latents=self._encode(defocus)[0],
            image_embedding=embed_images(self.image_encoder, layout.visible(aif)),
            regions=region_ids(
                disparities[:, 0],
                focuses,
                num_levels=config["num_levels"],
                exponent=config["region_exponent"],
            ),
            k=frame.k.to(device=device, dtype=torch.float32) * layout.scale,
            skips=skips if keep_skips else None,
        )

    @torch.no_grad()
    def _encode(self, tiles: Tensor) -> tuple[Tensor, Skips]:
        """Latents ``[N, 4, h, w]`` and skips of images ``[N, 3, H, W]``, one by one."""
        latents, skips = self.vae.encode_video(tiles[:, None], chunk=1)
        return latents[:, 0], tuple(skip[:, 0] for skip in skips)

    @torch.no_grad()
    def _predict(self, chunk: list[_Prepared]) -> list[Tensor]:
        """Latents ``[N, 4, h, w]`` of every frame's bokeh."""
        dtype = self.unet.dtype
        tiles = [
            predict_latents(
                self.unet,
                {
                    "aif_latents": torch.stack([frame.aif_latents[n] for frame in chunk])[None].to(dtype),
                    "defocus_latents": torch.stack([frame.defocus_latents[n] for frame in chunk])[None].to(
                        dtype
                    ),
                    "image_embeddings": torch.stack([frame.image_embedding for frame in chunk])[None].to(
                        dtype
                    ),
                    "regions": torch.stack([frame.regions[n] for frame in chunk])[None],
                    "k": torch.stack([frame.k for frame in chunk])[None],
                },
            )[0]
            for n in range(len(chunk[0].tiles))
        ]
        return [torch.stack(same) for same in zip(*tiles, strict=True)]

    @torch.no_grad()
    def _decode(self, chunk: list[tuple[Skips, Tensor]]) -> list[Tensor]:
        """Images ``[N, 3, H, W]`` in about [-1, 1] of every frame's skips and latents."""
        dtype = self.vae.dtype
        tiles = [
            self.vae.decode_video(
                torch.stack([latents[n] for _, latents in chunk])[None].to(dtype),
                stack_skips([tuple(skip[n : n + 1] for skip in skips) for skips, _ in chunk]),
            )[0]
            for n in range(len(chunk[0][1]))
        ]
        return [torch.stack(same) for same in zip(*tiles, strict=True)]


class AnyToBokeh:
    """The network as a `focuspull.model.renderer.BokehRenderer`.

    Args:
        weights: Folder of a `BokehPipeline`, as ``save_pretrained`` leaves it.
        device: Where to compute; None for the GPU if there is one.
        dtype: ``torch.bfloat16`` or ``torch.float32``; None for the former on a GPU and the latter elsewhere.
        window: See `Settings`.
        fuse: See `Settings`.
        decode_window: See `Settings`.
        width: See `Settings`.
        tile: See `Settings`.

    Raises:
        UserError: If the folder holds no pipeline, or one that does not load.
        ValueError: If a setting has no meaning.
    """

    def __init__(
        self,
        weights: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        window: int = 8,
        fuse: Fuse = "latent",
        decode_window: int | None = None,
        width: int | None = None,
        tile: int | None = None,
    ) -> None:
        self.settings = Settings(window, fuse, decode_window, width, tile)
        if dtype == torch.float16:
            raise ValueError("dtype: in float16 the VAE overflows; use torch.bfloat16 or torch.float32")
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        self.pipeline = load_pipeline(weights, dtype=dtype).to(device)

    def to(self, device: str | torch.device) -> AnyToBokeh:
        """Compute on another device; returns itself."""
        self.pipeline = self.pipeline.to(device)
        return self

    def __call__(self, aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        """See `focuspull.model.renderer.BokehRenderer`."""
        return self.pipeline(aif, disparity, k, focus_disparity, self.settings).frames

    def stream(self, frames: Iterable[FrameInput]) -> Iterator[Tensor]:
        """See `BokehPipeline.stream`."""
        return self.pipeline.stream(frames, self.settings)


def load_pipeline(folder: str | Path, *, dtype: torch.dtype = torch.float32) -> BokehPipeline:
    """Load a pipeline from a folder, without the network.

    Args:
        folder: As ``BokehPipeline.save_pretrained`` leaves it.
        dtype: Of the weights.

    Raises:
        UserError: If there is no such folder or it does not load.
    """
    folder = Path(folder)
    if not (folder / "model_index.json").is_file():
        raise UserError(
            f"{folder}: is not a folder of weights, it has no model_index.json. "
            "BokehPipeline.save_pretrained or python -m focuspull.model.weights makes one."
        )
    try:
        pipeline = BokehPipeline.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            # Otherwise it asks for the package accelerate.
            low_cpu_mem_usage=False,
        )
    except Exception as error:
        # Whatever the libraries raise about a file that is missing, cut short or of another network.
        lines = str(error).strip().splitlines()
        raise UserError(f"{folder}: does not load: {lines[0] if lines else type(error).__name__}") from error
    # The file may have had other classes, those of Stable Video Diffusion for example.
    for name, kind in (
        ("unet", BokehUNet),
        ("vae", BokehVae),
        ("image_encoder", CLIPVisionModelWithProjection),
    ):
        found = getattr(pipeline, name)
        if not isinstance(found, kind):
            raise UserError(
                f"{folder}: its {name} is of type {type(found).__name__}, not {kind.__name__}. "
                "To convert Stable Video Diffusion: python -m focuspull.model.weights"
            )
        own_memory(found)
    return pipeline


@torch.no_grad()
def own_memory(module: nn.Module) -> None:
    """Give every parameter memory of its own, aligned as torch aligns it.

    Those from a safetensors file are views of the file where they happen to lie. There, kernels round
    differently, so a network would not compute quite the same once it is saved and loaded; and it would crash
    when the file is overwritten.
    """
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()


def embed_images(image_encoder: CLIPVisionModelWithProjection, images: Tensor) -> Tensor:
    """CLIP embeddings of images, normalised as CLIP was trained; the same in training and inference.

    Args:
        image_encoder: The encoder.
        images: ``[..., 3, H, W]`` sRGB in [0, 1]; squeezed to the encoder's square, as SVD does.

    Returns:
        ``[..., D]``.
    """
    side = cast(int, image_encoder.config.image_size)
    flat = images.flatten(0, -4) if images.ndim > 3 else images[None]
    small = functional.interpolate(flat.float(), (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(values, device=flat.device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    pixels = ((small - mean) / std).to(image_encoder.dtype)
    return cast(Callable[..., Any], image_encoder)(pixels).image_embeds.reshape(*images.shape[:-3], -1)


@dataclass(frozen=True)
class _Layout:
    """From a frame to tiles the networks take, and back.

    Attributes:
        given: Height and width of the frame.
        scaled: What it is resized to.
        extended: What that is extended to.
        tile: Height and width of a tile.
        corners: Row and column where each tile begins.
        scale: Pixels of the networks per pixel of the frame.
    """

    given: tuple[int, int]
    scaled: tuple[int, int]
    extended: tuple[int, int]
    tile: tuple[int, int]
    corners: tuple[tuple[int, int], ...]
    scale: float

    @classmethod
    def of(cls, height: int, width: int, *, multiple: int, settings: Settings) -> _Layout:
        scale = (settings.width or width) / width
        scaled = (max(1, round(height * scale)), settings.width or width)
        extended = (math.ceil(scaled[0] / multiple) * multiple, math.ceil(scaled[1] / multiple) * multiple)
        tile = extended
        if settings.tile is not None:
            tile = (min(settings.tile, extended[0]), min(settings.tile, extended[1]))
        rows, columns = (_starts(size, side) for size, side in zip(extended, tile, strict=True))
        corners = tuple((row, column) for row in rows for column in columns)
        return cls((height, width), scaled, extended, tile, corners, scale)

    def validate(self, frame: FrameInput) -> None:
        if tuple(frame.aif.shape[-2:]) != self.given:
            raise ValueError(
                f"aif: is {frame.aif.shape[-2]}x{frame.aif.shape[-1]}, the first frame is "
                f"{self.given[0]}x{self.given[1]}"
            )

    def extend(self, image: Tensor, mode: str) -> Tensor:
        """``[C, *given]`` to ``[C, *extended]``."""
        if self.scaled != self.given:
            image = _resize(image, self.scaled, mode)
        missing = [b - a for a, b in zip(self.scaled, self.extended, strict=True)]
        if any(missing):
            # Reflection needs as many pixels as it adds and one more.
            reflects = all(b < a for a, b in zip(self.scaled, missing, strict=True))
            padding = (0, missing[1], 0, missing[0])
            image = functional.pad(image[None], padding, mode="reflect" if reflects else "replicate")[0]
        return image

    def visible(self, image: Tensor) -> Tensor:
        """``[C, *extended]`` to ``[C, *scaled]``."""
        return image[..., : self.scaled[0], : self.scaled[1]]

    def split(self, image: Tensor) -> Tensor:
        """``[C, *extended]`` to ``[N, C, *tile]``."""
        return torch.stack([image[..., r : r + self.tile[0], c : c + self.tile[1]] for r, c in self.corners])

    @torch.no_grad()
    def merge(self, tiles: Tensor) -> Tensor:
        """``[N, 3, *tile]`` in [-1, 1] to ``[3, *given]`` in [0, 1]."""
        tiles = tiles.float()
        image = tiles[0]
        if len(tiles) > 1:
            ramps = [_ramp(side, image.device) for side in self.tile]
            weight = ramps[0][:, None] * ramps[1]
            image = torch.zeros(tiles.shape[1], *self.extended, device=tiles.device)
            total = torch.zeros(self.extended, device=tiles.device)
            for tile, (r, c) in zip(tiles, self.corners, strict=True):
                image[:, r : r + self.tile[0], c : c + self.tile[1]] += weight * tile
                total[r : r + self.tile[0], c : c + self.tile[1]] += weight
            image = image / total
        image = self.visible(image)
        if self.scaled != self.given:
            image = _resize(image, self.given, "bilinear")
        return ((image + 1) / 2).clamp(0, 1)


def _resize(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    return functional.interpolate(image[None], size, mode=mode, antialias=mode != "nearest-exact")[0]


def _starts(size: int, side: int) -> list[int]:
    """Where tiles begin: as few as overlap enough, evenly spread from one end to the other."""
    if side >= size:
        return [0]
    step = side - math.ceil(TILE_OVERLAP * side)
    gaps = math.ceil((size - side) / step)
    return [round(i * (size - side) / gaps) for i in range(gaps + 1)]


def _ramp(side: int, device: torch.device) -> Tensor:
    """Weight across a tile ``[side]``: up over the overlap, 1, and down again; nowhere 0."""
    to_edge = torch.arange(side, device=device, dtype=torch.float32) + 0.5
    to_edge = torch.minimum(to_edge, to_edge.flip(0))
    return (to_edge / math.ceil(TILE_OVERLAP * side)).clamp(max=1)
