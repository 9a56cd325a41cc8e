"""What a training run reads: several corpora by weight, and corpora that are still being rendered.

    data = TrainingData([parse_source("corpora/a=3"), parse_source("cards=1")], split="train", ...)

With ``follow`` the shards that are committed when an epoch begins are written down, in
``epoch-000003.json``, and the epoch is made of those and no others. So a run that was killed goes on with the
very same samples, however much has been rendered since; what is new comes in with the next epoch. Such an
epoch ends before its last optimiser step that would not be full; what is left over differs from epoch to
epoch, as the order does. One with less than a step is gone through again until it has one. With weights an
epoch has as many samples as its corpora have items, drawn by weight.

An epoch begins by reading the markers of all its shards, in every process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch.distributed as dist
from pydantic import ValidationError

from focuspull.dataset.cards import is_cards
from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.corpus import Corpus
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import create_atomic
from focuspull.dataset.loader import Batch, Loader, Window
from focuspull.dataset.order import hashes
from focuspull.dataset.perturb import Perturbation
from focuspull.dataset.storage import Folder
from focuspull.dataset.transforms import Transform
from focuspull.train.sources import (
    Source,
    full_address,
    open_sources,
    open_whole,
    parse_source,
    shard_hashes,
    weights_of,
)

__all__ = ["Epoch", "Source", "TrainingData", "full_address", "open_sources", "parse_source"]


class Epoch(FrozenModel):
    """The shards of an epoch.

    Args:
        shards: For each source, from names of shards to hashes of their clips.
    """

    shards: tuple[dict[str, str], ...]


class TrainingData:
    """Batches without end, of which any process of a run gets its share.

    Processes under torch.distributed construct, load and iterate it together.

    Args:
        sources: Corpora.
        split: Of which clips.
        window: Which frames make a sample.
        batch_size: Samples per batch and process.
        samples_per_step: Of an optimiser step, over all its batches and processes.
        seed: Of order, windows, transform and perturbation.
        transform: What is done to every window.
        perturbation: Of the disparity; None for none.
        num_workers: Threads that read and decode.
        rank: Of this process.
        world_size: Number of processes.
        on_error: What a damaged clip does, see `Loader`.
        follow: Whether shards committed meanwhile are taken into the next epoch.
        folder: For the lists of shards; used with ``follow`` only.

    Raises:
        UserError: If a corpus cannot be read or has no clip for it.
        ValueError: If a step is not made of whole batches of all processes.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        split: str,
        window: Window,
        batch_size: int,
        samples_per_step: int,
        seed: int,
        transform: Transform,
        perturbation: Perturbation | None,
        num_workers: int,
        rank: int,
        world_size: int,
        on_error: Literal["raise", "skip"],
        follow: bool,
        folder: Path,
    ) -> None:
        if samples_per_step < 1 or samples_per_step % (batch_size * world_size):
            raise ValueError(
                f"samples_per_step: must be a multiple of {batch_size} samples of {world_size} processes, "
                f"got {samples_per_step}"
            )
        self._sources, self._split, self._seed = list(sources), split, seed
        self._samples_per_step = samples_per_step
        self._folder = folder
        self._rank = rank
        self._options: dict[str, Any] = {
            "window": window,
            "batch_size": batch_size,
            "weights": weights_of(sources),
            "transform": transform,
            "perturbation": perturbation,
            "num_workers": num_workers,
            "rank": rank,
            "world_size": world_size,
            "on_error": on_error,
        }
        self._follow = follow
        self._epoch = 0
        self._before = 0
        self._skipped = 0
        # A run that goes on may be past the first epoch, whose shards then need not be there any more.
        self._loader = self._open(0) if not follow or self._begins() else None

    @property
    def position(self) -> int:
        """Samples that all processes together have been given so far."""
        return self._before + (self._loader.position if self._loader else 0)

    @property
    def num_skipped(self) -> int:
        """Damaged clips met so far by this process."""
        return self._skipped + (self._loader.num_skipped if self._loader else 0)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on after the last batch given out; equal in all processes."""
        loader = self._opened().state_dict()
        return {"follow": self._follow, "epoch": self._epoch, "before": self._before, "loader": loader}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another stood.

        Raises:
            UserError: If the data are not those it had.
        """
        if state["follow"] != self._follow:
            advice = "with it. Give it again" if state["follow"] else "without it. Leave it out"
            raise UserError(f"--follow: the run was begun {advice}, or choose another --out.")
        self._epoch, self._before = int(state["epoch"]), int(state["before"])
        if self._follow:
            self._loader = self._open(self._epoch, is_known=True)
        self._opened().load_state_dict(state["loader"])

    def __iter__(self) -> Iterator[Batch]:
        while True:
            loader = self._opened()
            end = self._end(loader) if self._follow else None
            batches = iter(loader)
            while end is None or loader.position < end:
                yield next(batches)
            self._before += loader.position
            self._skipped += loader.num_skipped
            self._epoch += 1
            self._loader = None

    def _end(self, loader: Loader) -> int:
        """Samples of an epoch: whole steps. One with less than a step is gone through again to fill one."""
        return max(loader.epoch_size // self._samples_per_step, 1) * self._samples_per_step

    def _opened(self) -> Loader:
        if self._loader is None:
            self._loader = self._open(self._epoch)
        return self._loader

    def _open(self, epoch: int, *, is_known: bool = False) -> Loader:
        seed = self._seed
        if self._follow:
            corpora = self._open_frozen(epoch, self._frozen(epoch, is_known=is_known))
            # A Loader would go through what it has in the same order every time.
            seed = int(hashes(seed, epoch, np.zeros(1, np.int64))[0] >> np.uint64(1))
        else:
            corpora = open_sources(self._sources, self._split)
        return Loader(corpora, seed=seed, **self._options)

    # --- Frozen epochs

    def _begins(self) -> bool:
        """Whether no epoch has been begun yet, as the first process sees it."""
        return bool(self._told(lambda: not self._path(0).exists()))

    def _frozen(self, epoch: int, *, is_known: bool) -> Epoch:
        """The shards of an epoch; listed now if it has not been begun before.

        Args:
            epoch: Its number.
            is_known: Whether it must have been.
        """
        path = self._path(epoch)

        def read() -> str:
            if not is_known and not path.exists():
                corpora = open_sources(self._sources, self._split, follow=True)
                shards = [shard_hashes(corpus.rows) for corpus in corpora]
                create_atomic(path, json.dumps({"shards": shards}, indent=1).encode())
            try:
                return path.read_text()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or error
                raise UserError(
                    f"{path}: cannot be read ({reason}), and epoch {epoch} was begun with the shards that it "
                    f"lists. Restore it, or choose another --out."
                ) from error

        content = self._told(read)
        try:
            frozen = Epoch.model_validate_json(content)
        except ValidationError as error:
            raise UserError(
                f"{path}: is not a list of shards. Restore it, or choose another --out."
            ) from error
        if len(frozen.shards) != len(self._sources):
            raise UserError(
                f"{path}: is of {len(frozen.shards)} sources, got {len(self._sources)}. Give the same --data."
            )
        return frozen

    def _told(self, find: Any) -> Any:
        """What a function returns in the first process, or the error that it raises there, in all of them."""
        if not dist.is_initialized():
            return find()
        told: list[Any] = [None, None]
        if self._rank == 0:
            try:
                told[0] = find()
            except UserError as error:
                told[1] = str(error)
        dist.broadcast_object_list(told, src=0)
        if told[1] is not None:
            raise UserError(told[1])
        return told[0]

    def _open_frozen(self, epoch: int, frozen: Epoch) -> list[Corpus]:
        corpora = []
        for source, shards in zip(self._sources, frozen.shards, strict=True):
            advice = (
                f"epoch {epoch} was begun with it ({self._path(epoch)}). Restore it, or choose another --out."
            )
            if not is_cards(source.address):
                folder = Folder(source.address)
                names = folder.names()
                files = (file for name in shards for file in (name, f"{name.removesuffix('.tar')}.json"))
                if gone := [file for file in files if names is not None and file not in names]:
                    raise UserError(f"{folder.path(gone[0])}: is gone, and {advice}")
            corpus = open_whole(source.address, self._split, list(shards))
            corpus.rows = [row for row in corpus.rows if row.split == self._split and row.shard in shards]
            found = shard_hashes(corpus.rows)
            if changed := sorted(name for name in shards if found.get(name) != shards[name]):
                raise UserError(f"{corpus.folder.path(changed[0])}: is not what it was, and {advice}")
            corpora.append(corpus)
        return corpora

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:06d}.json"
