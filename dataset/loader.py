"""Training batches from corpora: the only file of `focuspull.dataset` that knows torch.

    corpora = [CorpusReader("corpora/tabletop", split="train"), CorpusReader("s3://lab/night", split="train")]
    loader = Loader(corpora, window=Window(num_frames=8), batch_size=2, seed=0, num_workers=8)
    for batch in loader:
        ...
        state = loader.state_dict()   # two entries; load_state_dict continues after this batch

What a sample is depends on seed and position alone (`focuspull.dataset.order`), so neither the number of
workers nor that of ranks changes what is seen. The samples of one step are dealt out to the ranks in turn;
an epoch ends where it ends, in mid-batch if need be, and the next one goes on there, so nothing is dropped
and nothing comes twice. Arrays become ``[B, T, C, H, W]`` here and nowhere else.

Workers are threads: inflating, hashing and array arithmetic, nearly all there is to do, run without the
interpreter's lock, and batches need not be copied from process to process.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.corpus import Corpus
from focuspull.dataset.errors import UserError
from focuspull.dataset.focus import focus_mask
from focuspull.dataset.order import Order, hashes
from focuspull.dataset.perturb import Perturbation, perturb_disparity
from focuspull.dataset.reader import ClipRow, Sample
from focuspull.dataset.transforms import Transform, place

_log = logging.getLogger(__name__)

NUM_SUBSTITUTES = 16
"""Samples tried in place of a damaged one before the run ends after all."""


class Window(FrozenModel):
    """Which frames of a clip make a sample.

    Args:
        num_frames: T; None for all of the clip.
        stride: Of the clip's frames, every how many-th is taken.
        start: Where the window lies.
    """

    num_frames: int | None = Field(default=None, gt=0)
    stride: int = Field(default=1, gt=0)
    start: Literal["random", "first", "center"] = "random"

    def frames(self, total: int, draw: float) -> range:
        """Frame numbers in a clip of ``total`` frames; ``draw`` in [0, 1) decides where it is random."""
        span = total if self.num_frames is None else 1 + (self.num_frames - 1) * self.stride
        slack = total - span
        first = {"random": int(draw * (slack + 1)), "first": 0, "center": slack // 2}[self.start]
        return range(first, first + span, self.stride)


@dataclass(frozen=True)
class Batch:
    """Samples side by side; B may be smaller in the last batch of a run of whole epochs.

    Args:
        keys: Names of the clips, B of them.
        corpora: Which corpus each is from, ``[B]`` int64.
        targets: Number of the target in its clip, ``[B]`` int64.
        frames: Frame numbers, ``[B, T]`` int64.
        aif: ``[B, T, 3, H, W]`` uint8 sRGB; see `unit`.
        bokeh: Likewise.
        disparity: ``[B, T, 1, H, W]`` float32, 1 is nearest; in [0, 1] unless perturbed as published.
        k: ``[B, T]`` float32, blur radius in pixels of this width per unit of disparity.
        focus_disparity: ``[B, T]`` float32.
        focus_mask: ``[B, T, 1, H, W]`` bool, the object in focus; None if not asked for.
        instance: ``[B, T, 1, H, W]`` int32, 0 is none; None if not asked for.
        skipped: One line for each damaged clip that was replaced by another sample.
    """

    keys: tuple[str, ...]
    corpora: Tensor
    targets: Tensor
    frames: Tensor
    aif: Tensor
    bokeh: Tensor
    disparity: Tensor
    k: Tensor
    focus_disparity: Tensor
    focus_mask: Tensor | None
    instance: Tensor | None
    skipped: tuple[str, ...]

    @property
    def defocus(self) -> Tensor:
        """Signed defocus ``d - d_f``, ``[B, T, 1, H, W]``, positive in front of the focus."""
        return self.disparity - self.focus_disparity[:, :, None, None, None]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The batch on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, from where it can be copied to a GPU in the background."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Any) -> Batch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(x) for name, x in tensors.items() if isinstance(x, Tensor)})


def unit(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Stored uint8 images as floating point in [0, 1], still sRGB; on the images' device."""
    return images.to(dtype) / 255


class Loader:
    """Batches of windows, in an order that can be resumed from one integer.

    Args:
        corpora: Where the clips are from.
        window: Which frames make a sample.
        batch_size: Samples per batch and rank.
        seed: Of order, windows, transforms and perturbation.
        weights: Share of each corpus in the samples; None: every item of all corpora once per epoch.
        per: What comes once per epoch: every ``target`` of every clip, or every ``clip`` with one of its
            targets drawn at random.
        transform: Crops, resizes, flips; clips of different sizes need one that makes them equal.
        perturbation: Of the disparity (training stage 2); None for none.
        with_focus_mask: Whether batches hold it.
        with_instance: Whether batches hold instance ids.
        num_workers: Threads that read and decode; 0: the caller's, when it asks for a batch.
        rank: Of this process among those that share the work; None: as torch.distributed has it, else 0.
        world_size: How many those are; None likewise, else 1.
        num_epochs: Epochs until the iteration ends; None: never. Not with ``weights``, which have no epochs.
        shuffle: Whether the order is random.
        shards_mixed: Shards among whose items is shuffled at a time, `Order`.
        on_error: What a damaged clip does: ``raise`` ends the run with one line; ``skip`` puts another sample
            of the same corpora in its place and says so in `Batch.skipped` and in the log.
        pin_memory: Whether batches come in page-locked memory.
        prefetch_factor: Batches that each worker prepares ahead.

    Raises:
        UserError: If a clip is shorter than the window.
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        *,
        window: Window,
        batch_size: int,
        seed: int,
        weights: Sequence[float] | None = None,
        per: Literal["target", "clip"] = "target",
        transform: Transform | None = None,
        perturbation: Perturbation | None = None,
        with_focus_mask: bool = False,
        with_instance: bool = False,
        num_workers: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        num_epochs: int | None = None,
        shuffle: bool = True,
        shards_mixed: int = 64,
        on_error: Literal["raise", "skip"] = "raise",
        pin_memory: bool = False,
        prefetch_factor: int = 2,
    ) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self._rank = rank if rank is not None else torch.distributed.get_rank() if distributed else 0
        self._world = world_size or (torch.distributed.get_world_size() if distributed else 1)
        if batch_size < 1 or not 0 <= self._rank < self._world:
            raise ValueError(
                f"loader: needs batch_size >= 1 and 0 <= rank < world_size, got {batch_size}, {self._rank}, "
                f"{self._world}"
            )
        if num_epochs is not None and (weights is not None or num_epochs < 1):
            raise ValueError("loader: num_epochs must be at least 1, and corpora with weights have no epochs")
        if transform is None:
            transform = Transform()
        self._samples = _Samples(
            corpora, window, seed, weights, per, transform, perturbation, with_focus_mask, with_instance,
            shuffle, shards_mixed, on_error == "skip",
        )  # fmt: skip
        self._batch_size = batch_size
        self._stop = None if num_epochs is None else num_epochs * self.epoch_size
        self._num_workers = num_workers
        self._pin_memory = pin_memory
        self._prefetch_factor = prefetch_factor
        self._position = 0
        self.num_skipped = 0
        """Damaged clips met so far by this rank."""

    @property
    def epoch_size(self) -> int:
        """Samples of one epoch over all ranks; with weights, the number of different items."""
        return self._samples.order.num_items

    @property
    def position(self) -> int:
        """Samples that all ranks together have been given so far."""
        return self._position

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on after the last batch given out; equal on all ranks."""
        return {"position": self._position, "fingerprint": self._samples.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another loader stood; the number of ranks, workers and the batch size may differ.

        Raises:
            UserError: If the other one had other clips, or another seed or order.
        """
        if state["fingerprint"] != self._samples.fingerprint:
            raise UserError(
                "the data differ from those of the checkpoint (clips, splits, seed, weights or order). "
                "Give the same corpora and options, or start anew."
            )
        self._position = int(state["position"])

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._prepared():
            if isinstance(batch, _Failure):
                raise UserError(batch.message)
            self._position += self._batch_size * self._world
            if self._stop is not None:
                self._position = min(self._position, self._stop)
            self.num_skipped += len(batch.skipped)
            for line in batch.skipped:
                _log.warning("skipped: %s", line)
            yield batch

    def _prepared(self) -> Iterator[Batch | _Failure]:
        """Batches in their order, some of them made ahead of time."""
        positions = self._positions(self._position)
        if not self._num_workers:
            yield from map(self._make, positions)
            return
        pool = ThreadPoolExecutor(self._num_workers, thread_name_prefix="focuspull-loader")
        ahead: deque[Future[Batch | _Failure]] = deque()
        try:
            for batch in positions:
                ahead.append(pool.submit(self._make, batch))
                if len(ahead) > self._num_workers * self._prefetch_factor:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _make(self, positions: Sequence[int]) -> Batch | _Failure:
        batch = _collate([self._samples.at(position) for position in positions])
        return batch.pin_memory() if self._pin_memory and isinstance(batch, Batch) else batch

    def _positions(self, start: int) -> Iterator[list[int]]:
        """Positions of this rank's batches, from the batch that holds ``start``."""
        while self._stop is None or start < self._stop:
            end = start + self._batch_size * self._world
            mine = range(start, end if self._stop is None else min(end, self._stop))[
                self._rank :: self._world
            ]
            if mine:
                yield list(mine)
            start = end


@dataclass(frozen=True)
class _Failure:
    """Travels in place of a sample or batch that cannot be made."""

    message: str


@dataclass(frozen=True)
class _Loaded:
    sample: Sample
    corpus: int
    focus_mask: NDArray[np.bool_] | None
    skipped: tuple[str, ...]


class _Samples:
    """Position to sample."""

    def __init__(
        self,
        corpora: Sequence[Corpus],
        window: Window,
        seed: int,
        weights: Sequence[float] | None,
        per: Literal["target", "clip"],
        transform: Transform,
        perturbation: Perturbation | None,
        with_focus_mask: bool,
        with_instance: bool,
        shuffle: bool,
        shards_mixed: int,
        skip: bool,
    ) -> None:
        self._corpora = list(corpora)
        self._window = window
        self._seed = seed
        self._per_target = per == "target"
        self._transform = transform
        self._perturbation = perturbation
        self._with_focus_mask = with_focus_mask
        self._with_instance = with_instance
        self._skip = skip
        # Of each item the number of its row and, where every target is an item, that of the target.
        self._items: list[NDArray[np.int64]] = []
        shards = []
        digest = hashlib.sha256(repr((seed, weights, per, shuffle, shards_mixed, window)).encode())
        for corpus in self._corpora:
            needed = 1 if window.num_frames is None else 1 + (window.num_frames - 1) * window.stride
            for row in corpus.rows:
                if row.num_frames < needed:
                    raise UserError(
                        f"{corpus.folder.path(row.shard)}, {row.key}: has {row.num_frames} frames, the "
                        f"window needs {needed}. Choose a shorter one, or leave such clips out with select."
                    )
                digest.update(f"{row.key} {row.members_sha256}\n".encode())
            counts = [row.num_targets if self._per_target else 1 for row in corpus.rows]
            self._items.append(np.array([(i, p) for i, n in enumerate(counts) for p in range(n)]))
            _, numbers = np.unique([row.shard for row in corpus.rows], return_inverse=True)
            shards.append(np.repeat(numbers, counts))
        self.order = Order(shards, seed=seed, weights=weights, shards_mixed=shards_mixed, shuffle=shuffle)
        self.fingerprint = digest.hexdigest()

    def at(self, position: int) -> _Loaded | _Failure:
        problems: list[str] = []
        for attempt in range(1 + NUM_SUBSTITUTES):
            at = position if attempt == 0 else self._substitute(position, attempt)
            try:
                return self._load(at, tuple(problems))
            except UserError as error:
                if not self._skip:
                    return _Failure(str(error))
                problems.append(str(error))
        return _Failure(f"{problems[-1]} ({len(problems)} samples in a row are damaged.)")

    def _substitute(self, position: int, attempt: int) -> int:
        """A position in the same epoch, as random as the one it stands for."""
        size = self.order.num_items
        drawn = int(hashes(self._seed, position, np.array([attempt]))[0] % np.uint64(size))
        return position - position % size + drawn

    def _load(self, position: int, skipped: tuple[str, ...]) -> _Loaded:
        where = self.order.at(position)
        corpus = self._corpora[where.corpus]
        number, target = self._items[where.corpus][where.item].tolist()
        row: ClipRow = corpus.rows[number]
        rng = np.random.default_rng((self._seed, position))
        at, which = rng.random(2)
        if not self._per_target:
            target = int(which * row.num_targets)
        frames = self._window.frames(row.num_frames, at)
        needs_mask = self._with_focus_mask or self._perturbation is not None
        sample = corpus.sample(row, target=target, frames=frames, instance=self._with_instance or needs_mask)
        height, width = sample.disparity.shape[1:]
        try:
            placed = place(self._transform, height, width, rng=rng)
        except ValueError as error:
            raise UserError(f"{corpus.folder.path(row.shard)}, {row.key}: {error}.") from error
        instance = sample.instance
        if self._transform != Transform():
            instance = None if instance is None else np.stack([placed.values(x) for x in instance])
            sample = replace(
                sample,
                aif=np.stack([placed.color(image) for image in sample.aif]),
                bokeh=np.stack([placed.color(image) for image in sample.bokeh]),
                disparity=np.stack([placed.values(image) for image in sample.disparity]),
                k=sample.k * np.float32(placed.k_scale),
            )
        mask = None
        if needs_mask:
            assert instance is not None
            mask = focus_mask(sample.disparity, instance, sample.focus_disparity)
        if self._perturbation is not None:
            assert mask is not None
            disparity = perturb_disparity(
                sample.disparity,
                focus_mask=mask,
                focus_disparity=sample.focus_disparity,
                perturbation=self._perturbation,
                rng=rng,
            )
            sample = replace(sample, disparity=disparity)
        return _Loaded(
            replace(sample, instance=instance if self._with_instance else None),
            where.corpus,
            mask if self._with_focus_mask else None,
            skipped,
        )


def _collate(loaded: Sequence[_Loaded | _Failure]) -> Batch | _Failure:
    for one in loaded:
        if isinstance(one, _Failure):
            return one
    ok = [one for one in loaded if isinstance(one, _Loaded)]
    samples = [one.sample for one in ok]
    first = samples[0]
    for sample in samples:
        if sample.aif.shape != first.aif.shape:
            (t, h, w), (t2, h2, w2) = first.aif.shape[:3], sample.aif.shape[:3]
            return _Failure(
                f"{first.key} has windows of {t} frames of {w}x{h}, {sample.key} of {t2} of {w2}x{h2}: they "
                f"do not fit into one batch. Give a transform with a size and a window with num_frames."
            )
    masks = [one.focus_mask for one in ok if one.focus_mask is not None]
    instances = [sample.instance for sample in samples if sample.instance is not None]
    return Batch(
        keys=tuple(sample.key for sample in samples),
        corpora=torch.tensor([one.corpus for one in ok]),
        targets=torch.tensor([sample.target for sample in samples]),
        frames=torch.tensor([sample.frames for sample in samples]),
        aif=_planes([sample.aif for sample in samples]),
        bokeh=_planes([sample.bokeh for sample in samples]),
        disparity=_side_by_side([sample.disparity for sample in samples])[:, :, None],
        k=_side_by_side([sample.k for sample in samples]),
        focus_disparity=_side_by_side([sample.focus_disparity for sample in samples]),
        focus_mask=_side_by_side(masks)[:, :, None] if masks else None,
        instance=_side_by_side([x.astype(np.int32) for x in instances])[:, :, None] if instances else None,
        skipped=tuple(line for one in ok for line in one.skipped),
    )


def _planes(videos: Sequence[NDArray[np.uint8]]) -> Tensor:
    """``[T, H, W, 3]`` each, to ``[B, T, 3, H, W]``."""
    return _side_by_side([np.moveaxis(video, 3, 1) for video in videos])


def _side_by_side(arrays: Sequence[NDArray[Any]]) -> Tensor:
    """``[B, ...]``; one alone is not copied if it need not be."""
    joined = np.ascontiguousarray(arrays[0])[None] if len(arrays) == 1 else np.stack(arrays)
    return torch.from_numpy(joined)
