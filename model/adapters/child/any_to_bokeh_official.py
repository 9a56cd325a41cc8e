"""Any-to-Bokeh with the code of its authors: through its file protocol, but not its videos.

Frames and disparity are written as 8-bit PNG, focus and K into the names of the disparity files, and read by
its own data set. Groups of 8 frames that overlap by 4 go through its pipeline two at a time, as its demo does
it. The demo then writes lossy video; here its images are the result.

Request: ``image [T, 576, 1024, 3]``, ``disparity [T, 576, 1024]``, 8 bit; ``names`` of the disparity files.
"""

from __future__ import annotations

import csv
import os
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

SIZE = (576, 1024)
GROUP, OVERLAP = 8, 4
GROUPS_PER_CALL = 2
"""Its decoder's seams are made for two and no other number."""


def load(checkout: str, weights: str, options: dict[str, Any]) -> Any:
    """See `loop.serve`."""
    torch = import_module("torch")
    reader = import_module("utils.dataset")
    device = options["device"] or "cuda"
    half = {"torch_dtype": torch.float16, "local_files_only": True}
    unet = import_module("models.unet").UNetSpatioTemporalConditionModel.from_pretrained(
        os.path.join(weights, "unet"), subfolder="unet", low_cpu_mem_usage=False, **half
    )
    vae = import_module("models.vae").AutoencoderKLTemporalDecoder.from_pretrained(
        os.path.join(weights, "vae"), **half
    )
    pipeline = import_module("pipelines.any2bokeh_pipe").StableVideoDiffusionPipeline.from_pretrained(
        options["base"], unet=unet, vae=vae, low_cpu_mem_usage=False, variant="fp16", **half
    )
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)

    def render(arrays: dict[str, Any], values: dict[str, Any]) -> Any:
        # Its encoder samples from the global generator.
        torch.manual_seed(options["seed"])
        with TemporaryDirectory(prefix="focuspull-clip-") as folder:
            table = _write(folder, arrays["image"], arrays["disparity"], values["names"])
            clips = reader.BokehCocMPIDatasetWholeVid(
                table, sample_size=SIZE, overlap_frames=OVERLAP, group_frames=GROUP
            )
            batch = reader.collate_fn_val_coc_mpi_whole_video([clips[0]])
        frames = _through(pipeline, batch, device)
        return np.stack([np.asarray(frame.convert("RGB"), dtype=np.float32) / 255 for frame in frames])

    return render


def _write(folder: str, images: Any, disparities: Any, names: list[str]) -> str:
    """Two folders of PNG and the table that names them; returns the table's path."""
    pictures = import_module("PIL.Image")
    for name in ("aif", "disp"):
        os.mkdir(os.path.join(folder, name))
    for i, name in enumerate(names):
        pictures.fromarray(images[i]).save(os.path.join(folder, "aif", f"{i}.png"))
        pictures.fromarray(disparities[i]).save(os.path.join(folder, "disp", name + ".png"))
    table = os.path.join(folder, "clips.csv")
    with open(table, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["aif_folder", "disp_folder", "k"])
        # K is in the file names, too.
        rows.writerow([os.path.join(folder, "aif"), os.path.join(folder, "disp"), "change"])
    return table


def _through(pipeline: Any, batch: Any, device: str) -> list[Any]:
    """All frames of a clip, its groups two by two."""
    torch = import_module("torch")
    num_groups = int(batch["coc"].shape[0])
    frames: list[Any] = []
    cache = None
    for first in range(0, num_groups, GROUPS_PER_CALL):
        some = slice(first, first + GROUPS_PER_CALL)
        weight = batch["weight"][some].to(device, torch.float16)
        images, cache = pipeline(
            batch["coc"][some].to(device),
            batch["pixel_values"][some].to(device),
            input_k=batch["k"][some].to(device, torch.float16),
            mpi_mask=batch["mpi_mask"][some].to(device, torch.float16),
            latent_cache=cache,
            is_last_batch=first + GROUPS_PER_CALL >= num_groups,
            overlap_frame=OVERLAP,
            weight=weight,
            height=SIZE[0],
            width=SIZE[1],
            num_frames=GROUP,
            decode_chunk_size=GROUP,
            motion_bucket_id=127,
            fps=7,
            noise_aug_strength=0.0,
            num_inference_steps=1,
            batch_size=int(weight.shape[0]),
        )
        frames.extend(images[0])
    return frames


if __name__ == "__main__":
    import_module("loop").serve(load)
