"""What does the network cost: seconds per frame and peak memory, with and without ``torch.compile``?

Of one window of frames, with weights drawn at random: the U-Net's single step alone, the VAE's two encodings
and its decoding with skips, the image encoder, and the whole way of a video of some windows, in which every
frame passes U-Net and decoder twice. A run before the measured ones is not counted (compiling takes minutes).
Memory is the most that PyTorch's CUDA allocator had in use; on a CPU it is the process's largest size so far.

Run it from the root of the repository:

    python -m tests.benchmarks.network                          # full size, 8x576x1024, bfloat16, needs CUDA
    python -m tests.benchmarks.network --preset tiny --device cpu --height 32 --width 48 --dtype float32
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from focuspull.dataset.errors import UserError
from focuspull.model.attention import MpiAttention
from focuspull.model.pipeline import BokehPipeline, Settings, embed_images
from focuspull.model.presets import Parts, build, make_image_encoder
from focuspull.model.renderer import FrameInput
from focuspull.model.unet import predict_x0

GATE = 0.5
"""Of the MPI attention, so that nothing could be left out."""


@dataclass(frozen=True)
class Cost:
    """Of one call.

    Attributes:
        seconds: Median of the repeats.
        spread: Largest less smallest.
        peak_gib: Most memory in use.
    """

    seconds: float
    spread: float
    peak_gib: float

    def line(self, name: str, frames: int) -> str:
        """For the table."""
        return (
            f"{name:34} {self.seconds:10.4f} s {self.seconds / frames:10.5f} s/frame "
            f"(spread {self.spread:.4f} s) {self.peak_gib:8.2f} GiB"
        )


def measure(call: Callable[[], object], device: torch.device, repeats: int) -> Cost:
    """Run once for nothing and then some times."""
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    took = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - started)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Cost(statistics.median(took), max(took) - min(took), peak)


@torch.no_grad()
def make_parts(preset: str, device: torch.device, dtype: torch.dtype, seed: int) -> Parts:
    """Networks whose weights are drawn on the device, so that the full size takes seconds and not minutes."""
    with torch.device("meta"):
        parts = build(preset)
    # CLIP has buffers that are computed, which would be lost from the meta device.
    config = parts.image_encoder.config.to_dict()
    rng = torch.Generator(device).manual_seed(seed)
    unet = cast(Any, parts.unet.to_empty(device=device)).to(dtype=dtype)
    vae = cast(Any, parts.vae.to_empty(device=device)).to(dtype=dtype)
    for network in (unet, vae):
        for name, parameter in network.named_parameters():
            if parameter.ndim < 2:
                # Norms' scales are 1 and everything else is 0.
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
            else:
                parameter.normal_(std=parameter[0].numel() ** -0.5, generator=rng)
    for module in unet.modules():
        if isinstance(module, MpiAttention):
            module.gate_attention.fill_(GATE)
            module.gate_feed_forward.fill_(GATE)
    encoder = cast(Any, make_image_encoder(config)).to(device=device, dtype=dtype)
    return Parts(unet.eval(), vae.eval(), encoder)


def video(frames: int, height: int, width: int, device: torch.device) -> Iterator[FrameInput]:
    """Noise in front of a ramp of depth."""
    rng = torch.Generator(device).manual_seed(0)
    disparity = torch.linspace(0, 1, width, device=device).expand(1, height, width)
    k, focus = torch.tensor(16.0 * width / 1024, device=device), torch.tensor(0.5, device=device)
    for _ in range(frames):
        yield FrameInput(torch.rand(3, height, width, generator=rng, device=device), disparity, k, focus)


@torch.no_grad()
def run(given: argparse.Namespace) -> None:
    """Measure and print."""
    device, dtype = torch.device(given.device), getattr(torch, given.dtype)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("network: there is no CUDA here; measure on the CPU with --preset tiny --device cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    parts = make_parts(given.preset, device, dtype, given.seed)
    pipeline = BokehPipeline.of(parts)
    multiple, down = pipeline.multiple, parts.vae.downscale
    if given.height % multiple or given.width % multiple:
        raise UserError(f"size: must be multiples of {multiple}, got {given.height}x{given.width}")
    weights = sum(p.numel() * p.element_size() for n in vars(parts).values() for p in n.parameters())
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, 1 thread"
    print(
        f"{given.preset}, {given.frames}x{given.height}x{given.width}, {given.dtype}, {where}, "
        f"PyTorch {torch.__version__}; weights "
        f"{weights / 2**30:.2f} GiB"
    )

    rng = torch.Generator(device).manual_seed(given.seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, device=device, dtype=dtype)

    frames, height, width = given.frames, given.height, given.width
    images = noise(1, frames, 3, height, width).clamp(-1, 1)
    inputs = {
        "aif_latents": noise(1, frames, 4, height // down, width // down),
        "defocus_latents": noise(1, frames, 4, height // down, width // down),
        "image_embeddings": noise(1, frames, parts.unet.config["cross_attention_dim"]),
        "regions": (torch.arange(width, device=device) * 4 // width)
        .to(torch.uint8)
        .expand(1, frames, height, -1),
        "k": torch.full((1, frames), 16.0, device=device),
    }
    encoded = [parts.vae.encode_video(images, chunk=1)]

    def step() -> Tensor:
        return predict_x0(parts.unet, **inputs)

    rows: list[tuple[str, Callable[[], object], int]] = [
        ("U-Net, single step", step, frames),
        ("VAE, encode one by one, with skips", lambda: parts.vae.encode_video(images, chunk=1), frames),
        ("VAE, decode with skips", lambda: parts.vae.decode_video(*encoded[0]), frames),
        ("image encoder", lambda: embed_images(parts.image_encoder, images / 2 + 0.5), frames),
    ]
    for name, call, count in rows:
        print(measure(call, device, given.repeats).line(name, count), flush=True)
    # Gigabytes that the whole way must not be charged with.
    encoded.clear()

    total = 3 * frames
    settings = Settings(window=frames, fuse=given.fuse, decode_window=given.decode_window)

    def whole() -> None:
        for _ in pipeline.stream(video(total, height, width, device), settings):
            pass

    print(measure(whole, device, 1).line(f"whole, {total} frames, fuse {given.fuse}", total), flush=True)
    if not given.no_compile:
        parts.unet.compile(fullgraph=True, backend=given.backend)
        print(measure(step, device, given.repeats).line("U-Net, single step, compiled", frames), flush=True)
        print(measure(whole, device, 1).line(f"whole, {total} frames, compiled", total), flush=True)
    print("paper, 8x576x1024: 0.094 s/frame and 13.6 GB, on a GPU that it does not name")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.network",
        description=(__doc__ or "").partition("\n")[0],
    )
    parser.add_argument("--preset", default="svd")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--frames", type=int, default=8, help="of a window, even")
    parser.add_argument("--height", type=int, default=576)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--fuse", default="latent", choices=["latent", "pixel"])
    parser.add_argument("--decode-window", type=int, help="frames decoded at once, even")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-compile", action="store_true", help="without the compiled runs")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    try:
        run(parser.parse_args())
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
