"""Frames per second of the loader, of decoding alone, and of reading folders of PNG frames with Pillow.

Loader and folders give the same: AIF, one bokeh stream, disparity and the mask of the object in focus of the
same clips, images as float32 in [0, 1], in the same number of worker processes. *Decode only* has the bytes
of the same members in memory and decodes them with `focuspull.dataset.codec`, nothing else. *Folders* is the
layout of ``focuspull-dataset export --format a2b`` read as published code does: Pillow opens the frames of a
window one by one, resizes to 1024x576 and makes float tensors. The three take turns; the best of several
turns counts.

Run it from the root of the repository: ``python -m tests.benchmarks.loader``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from focuspull.dataset import codec
from focuspull.dataset.clip import encode_clip, frame_member
from focuspull.dataset.loader import Loader, Window, unit
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
        print(
            f"{len(reader.rows)} clips, windows of {T} frames, {options.samples} samples; frames/s (ratio)\n"
        )
        print("| workers | decode only | loader | loader / decode only | Pillow, folders | loader / Pillow |")
        print("| --- | --- | --- | --- | --- | --- |")
        for workers in options.workers:
            loader = Loader(
                [reader],
                window=Window(num_frames=T),
                batch_size=1,
                seed=0,
                with_focus_mask=True,
                num_workers=workers,
            )
            plan = [_frames(row.num_frames, i) for i in range(options.samples)]
            keys = [reader.rows[i % len(reader.rows)].key for i in range(options.samples)]
            ways: dict[str, Callable[[], Iterator[Any]]] = {
                "decode": lambda w=workers, k=keys, p=plan: _torch(_Decode(members, k, p), w),
                "loader": lambda it=loader: _floats(it),
                "pillow": lambda w=workers, k=keys, p=plan: _torch(
                    _Pillow(Path(scratch) / "frames", k, p), w
                ),
            }
            best: dict[str, float] = {}
            for _ in range(options.repeats):
                for name, way in ways.items():
                    rate = _rate(way(), options.samples)
                    best[name] = max(rate, best.get(name, 0.0))
            print(
                f"| {workers} | {best['decode']:.1f} | {best['loader']:.1f} | "
                f"{best['loader'] / best['decode']:.2f} | {best['pillow']:.1f} | "
                f"{best['loader'] / best['pillow']:.1f} |",
                flush=True,
            )


def _rate(batches: Iterator[Any], samples: int) -> float:
    next(batches)  # starts the workers
    begin = time.perf_counter()
    for _ in range(samples - 1):
        next(batches)
    return (samples - 1) * T / (time.perf_counter() - begin)


def _frames(total: int, number: int) -> range:
    start = number * 7 % (total - T + 1)
    return range(start, start + T)


def _floats(loader: Loader) -> Iterator[Any]:
    for batch in loader:
        yield unit(batch.aif), unit(batch.bokeh), batch.disparity, batch.focus_mask


def _torch(dataset: Dataset[Any], workers: int) -> Iterator[Any]:
    return iter(
        DataLoader(dataset, batch_size=1, num_workers=workers, worker_init_fn=lambda _: cv2.setNumThreads(0))
    )


class _Decode(Dataset[Any]):
    def __init__(self, members: dict[str, dict[str, bytes]], keys: list[str], plan: list[range]) -> None:
        self.members, self.keys, self.plan = members, keys, plan

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: int) -> int:
        members = self.members[self.keys[i]]
        total = sum(name.startswith("aif.") for name in members)
        size = 0
        for stream, decode in DECODERS.items():
            for frame in self.plan[i]:
                size += decode(members[frame_member(stream, frame, total)]).size
        return size


class _Pillow(Dataset[Any]):
    def __init__(self, folder: Path, keys: list[str], plan: list[range]) -> None:
        self.folder, self.keys, self.plan = folder, keys, plan

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: int) -> list[torch.Tensor]:
        videos = []
        for stream, mode in (("aif", "RGB"), ("bokeh", "RGB"), ("disp", "L"), ("mask", "L")):
            images = []
            for frame in self.plan[i]:
                with Image.open(self.folder / self.keys[i] / stream / f"{frame}.png") as image:
                    array = np.array(image.convert(mode).resize((1024, 576)), np.float32)
                images.append(torch.from_numpy(array / 255).reshape(576, 1024, -1).permute(2, 0, 1))
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
                path = out / row.key / folder / f"{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


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
