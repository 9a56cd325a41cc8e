"""Frames per second of the loader, of decoding alone, and of reading folders of PNG frames with Pillow.

Loader and folders give AIF, one bokeh stream, disparity and the mask of the object in focus of windows of the
same clips, with the same number of workers. *Decode only* has the bytes of the same members in memory and
decodes them, nothing else: with `focuspull.dataset.codec`, and with OpenCV. *Folders* is the layout of
``focuspull-dataset export --format a2b``, whose frames Pillow opens one by one: into the same uint8 tensors,
of the very bytes that the corpus holds and of PNG that Pillow wrote itself; and as published code does,
resized to 1024x576 and as float tensors in [0, 1].

All take turns; the best of several turns counts, in CPU time (of all threads, so that other programs do not
count) and in wall time. Workers are the loader's own threads, and for the others as many threads that take
sample after sample.

Run it from the root of the repository: ``python -m tests.benchmarks.loader``.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from focuspull.dataset import codec
from focuspull.dataset.clip import encode_clip, frame_member
from focuspull.dataset.loader import Loader, Window
from focuspull.dataset.markers import read_markers, read_members
from focuspull.dataset.reader import CorpusReader
from tests.dataset.conftest import make_meta, publish

T = 8
DECODERS: dict[str, Callable[[bytes], Any]] = {
    "aif": codec.decode_rgb,
    "bokeh0": codec.decode_rgb,
    "disparity": codec.decode_disparity,
    "instance": codec.decode_instance,
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="a corpus with one split (default: one made for this)")
    parser.add_argument("--clips", type=int, default=4, help="of the corpus that is made")
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        corpus = options.corpus or _made(Path(scratch) / "corpus", options.clips)
        reader = CorpusReader(corpus)
        row = reader.rows[0]
        members = {r.key: _members(corpus, r.key) for r in reader.rows}
        _export(reader, members, Path(scratch) / "frames")
        folder = Path(scratch) / "frames"
        num_samples = max(1, options.samples // len(reader.rows)) * len(reader.rows)
        plan = [
            (reader.rows[i % len(reader.rows)].key, _frames(row.num_frames, i)) for i in range(num_samples)
        ]
        jobs: dict[str, Callable[[tuple[str, range]], Any]] = {
            "decode only": partial(_decode, members, codec_of=DECODERS),
            "OpenCV only": partial(_decode, members, codec_of=dict.fromkeys(DECODERS, _opencv)),
            "Pillow, same PNG": partial(_pillow, folder / "ours", published=False),
            "Pillow, its PNG": partial(_pillow, folder / "pillow", published=False),
            "as published": partial(_pillow, folder / "pillow", published=True),
        }
        names = ["loader", *jobs]
        print(f"{len(reader.rows)} clips, windows of {T} frames, {num_samples} samples\n")
        print("| workers | | " + " | ".join([*names, *(f"loader / {name}" for name in jobs)]) + " |")
        print("| --- " * (2 + len(names) + len(jobs)) + "|")
        for workers in options.workers:
            loader = Loader(
                [reader],
                window=Window(num_frames=T),
                batch_size=1,
                seed=0,
                with_focus_mask=True,
                num_workers=workers,
                num_epochs=max(1, options.samples // len(reader.rows)),
                per="clip",
            )
            start = loader.state_dict()
            rates = {unit: dict.fromkeys(names, 0.0) for unit in ("frames / CPU s", "frames / s")}
            for _ in range(options.repeats):
                for name in names:
                    cpu, wall = time.process_time(), time.perf_counter()
                    if name == "loader":
                        for _ in loader:
                            pass
                        loader.load_state_dict(start)
                    elif workers:
                        with ThreadPoolExecutor(workers) as pool:
                            for _ in pool.map(jobs[name], plan):
                                pass
                    else:
                        for sample in plan:
                            jobs[name](sample)
                    spent = (time.process_time() - cpu, time.perf_counter() - wall)
                    for rate, seconds in zip(rates.values(), spent, strict=True):
                        rate[name] = max(rate[name], num_samples * T / seconds)
            for unit, rate in rates.items():
                cells = [f"{rate[name]:.1f}" for name in names]
                cells += [f"{rate['loader'] / rate[name]:.2f}" for name in jobs]
                print(f"| {workers} | {unit} | " + " | ".join(cells) + " |", flush=True)


def _frames(total: int, number: int) -> range:
    start = number * 7 % (total - T + 1)
    return range(start, start + T)


def _decode(
    members: dict[str, dict[str, bytes]],
    sample: tuple[str, range],
    *,
    codec_of: dict[str, Callable[[bytes], Any]],
) -> None:
    key, frames = sample
    total = sum(name.startswith("aif.") for name in members[key])
    for stream, decode in codec_of.items():
        for frame in frames:
            decode(members[key][frame_member(stream, frame, total)])


def _opencv(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def _pillow(folder: Path, sample: tuple[str, range], *, published: bool) -> list[torch.Tensor]:
    key, frames = sample
    videos = []
    for stream, mode in (("aif", "RGB"), ("bokeh", "RGB"), ("disp", "L"), ("mask", "L")):
        images = []
        for frame in frames:
            with Image.open(folder / key / stream / f"{frame}.png") as file:
                image = file.convert(mode)
            resized = image.resize((1024, 576)) if published else image
            array = np.array(resized, np.float32) / 255 if published else np.array(resized)
            images.append(torch.from_numpy(array).reshape(576, 1024, -1).permute(2, 0, 1))
        videos.append(torch.stack(images))
    return videos


def _members(corpus: Path, key: str) -> dict[str, bytes]:
    for marker in read_markers(corpus):
        if any(clip.key == key for clip in marker.clips):
            return read_members(corpus, marker, key)
    raise AssertionError


def _export(reader: CorpusReader, members: dict[str, dict[str, bytes]], out: Path) -> None:
    for row in reader.rows:
        for frame in range(row.num_frames):
            for stream, folder in (
                ("aif", "aif"),
                ("bokeh0", "bokeh"),
                ("disparity", "disp"),
                ("instance", "mask"),
            ):
                content = members[row.key][frame_member(stream, frame, row.num_frames)]
                if folder in ("disp", "mask"):
                    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
                    values = (values / 257).round() if folder == "disp" else 255 * (values == 1)
                    content = cv2.imencode(".png", values.astype(np.uint8))[1].tobytes()
                for kind in ("ours", "pillow"):
                    path = out / kind / row.key / folder / f"{frame}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if kind == "ours":
                        path.write_bytes(content)
                    else:
                        Image.open(io.BytesIO(content)).save(path)


def _made(corpus: Path, clips: int) -> Path:
    """12 frames of 1024x576 with structure of all sizes and a render's grain, which PNG has to keep."""
    made = []
    for i in range(clips):
        meta = make_meta(f"clip-{i:06d}", width=1024, height=576, num_frames=12, k_at_1024=(16.0,))
        rng = np.random.default_rng(i)
        still = sum(_noise(rng, cell) for cell in (256, 64, 16, 4)) / 4
        aif = np.stack([np.roll(still, 3 * frame, 1) for frame in range(12)])
        bokeh = np.stack([cv2.GaussianBlur(frame, (0, 0), 5) for frame in aif])
        grain = [np.float32(0.003) * rng.standard_normal(aif.shape, np.float32) for _ in range(2)]
        disparity = np.repeat(_noise(rng, 256)[None, ..., 0], 12, axis=0)
        disparity = (disparity - disparity.min()) / np.ptp(disparity)
        instance = (disparity > 0.5).astype(np.uint16)
        aif, bokeh = (np.maximum(x + g, 0) for x, g in zip((aif, bokeh), grain, strict=True))
        made.append(encode_clip(meta, aif=aif, bokeh=[bokeh], disparity=disparity, instance=instance))
    publish(corpus, "train-000000", made)
    return corpus


def _noise(rng: np.random.Generator, cell: int) -> np.ndarray:
    small = rng.random((576 // cell + 2, 1024 // cell + 2, 3), np.float32)
    return cv2.resize(small, (1024, 576), interpolation=cv2.INTER_CUBIC).clip(0, 1)


if __name__ == "__main__":
    main()
