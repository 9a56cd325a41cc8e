"""What a training run reads: several corpora by weight, and corpora that are still being rendered.

    data = TrainingData([parse_source("corpora/a=3"), parse_source("cards=1")], split="train", ...)

With ``follow`` the shards that are committed when an epoch begins are written down, in
``epoch-000003.json``, and the epoch is made of those and no others. So a run that was killed goes on with the
very same samples, however much has been rendered since; what is new comes in with the next epoch. Such an
epoch ends before its last optimiser step that would not be full; what is left over differs from epoch to
epoch, as the order does. One with less than a step is gone through again until it has one. With weights an
epoch has as many samples as its corpora have items, drawn by weight.

While a corpus is rendered its index lags behind, so its shards are found by their commit markers, which are
all read when an epoch begins. Of an https server, which cannot be listed, only what is in the index is found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch.distributed as dist
from pydantic import Field, ValidationError

from focuspull.dataset.cards import is_cards, open_cards
from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.corpus import Corpus
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import create_atomic
from focuspull.dataset.loader import Batch, Loader, Window
from focuspull.dataset.markers import committed_names
from focuspull.dataset.order import hashes
from focuspull.dataset.perturb import Perturbation
from focuspull.dataset.reader import ClipRow, CorpusReader
from focuspull.dataset.storage import Folder
from focuspull.dataset.transforms import Transform


class Source(FrozenModel):
    """A corpus to train on.

    Args:
        address: Its folder, local or one that fsspec knows; or ``cards`` or ``cards:PATH.yaml`` for clips that
            are made on the fly, see `focuspull.dataset.cards`.
        weight: Its share of the samples, any scale; None: as large as it is.
    """

    address: str = Field(min_length=1)
    weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Epoch(FrozenModel):
    """The shards of an epoch.

    Args:
        shards: For each source, from names of shards to hashes of their clips.
    """

    shards: tuple[dict[str, str], ...]


def parse_source(text: str) -> Source:
    """A source from ``ADDRESS`` or ``ADDRESS=WEIGHT``.

    Raises:
        UserError: If there is no address, or the weight is no positive number.
    """
    address, equals, weight = text.rpartition("=")
    if not equals or "/" in weight:
        address, weight = text, None
    if not address:
        raise UserError(f"--data '{text}': has no address. Write ADDRESS or ADDRESS=WEIGHT.")
    try:
        return Source(address=address, weight=None if weight is None else float(weight))
    except (ValueError, ValidationError):
        raise UserError(
            f"--data {text}: the weight must be a positive number, got '{weight}'. Write ADDRESS=WEIGHT."
        ) from None


def weights_of(sources: Sequence[Source]) -> list[float] | None:
    """Weights of all sources; None if none has one.

    Raises:
        UserError: If only some have.
    """
    given = [source.weight for source in sources]
    if all(weight is None for weight in given):
        return None
    if None in given:
        bare = sources[given.index(None)].address
        raise UserError(f"--data {bare}: has no weight and others have. Give all of them one, or none.")
    return [weight for weight in given if weight is not None]


def open_sources(
    sources: Sequence[Source],
    split: str,
    *,
    missing: Literal["raise", "skip"] = "raise",
    follow: bool = False,
) -> list[Corpus]:
    """The clips of one split.

    Args:
        sources: What to open.
        split: Such as ``train``.
        missing: What a corpus without that split does.
        follow: Whether corpora may still be rendered: what is committed is read, whatever the index says.

    Raises:
        UserError: If one cannot be read, is no corpus, or has no clip of the split; if a clip has no target.
    """
    opened: list[Corpus] = []
    for source in sources:
        corpus = _open(source.address, split, _committed(source.address) if follow else None)
        # Of cards there is every split; the members of other clips are checked by the reader, all but this.
        if bare := [row for row in corpus.rows if row.num_targets < 1]:
            raise UserError(
                f"{corpus.folder.path(bare[0].shard)}, {bare[0].key}: has no bokeh target to learn from. "
                f"Render it with targets."
            )
        have = sorted({row.split for row in corpus.rows})
        corpus.rows = [row for row in corpus.rows if row.split == split]
        if corpus.rows:
            opened.append(corpus)
        elif missing == "raise":
            raise UserError(
                f"{source.address}: has no clips of the split '{split}'; it has {', '.join(have)}."
            )
    return opened


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
        # A Loader asks no more of its corpora than they have.
        return Loader(cast(list[CorpusReader], corpora), seed=seed, **self._options)

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
            corpus = _open(source.address, self._split, list(shards))
            corpus.rows = [row for row in corpus.rows if row.split == self._split and row.shard in shards]
            found = shard_hashes(corpus.rows)
            if changed := sorted(name for name in shards if found.get(name) != shards[name]):
                raise UserError(f"{corpus.folder.path(changed[0])}: is not what it was, and {advice}")
            corpora.append(corpus)
        return corpora

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:06d}.json"


def shard_hashes(rows: Sequence[ClipRow]) -> dict[str, str]:
    """A hash of the clips of every shard, by its name, the same from an index and from markers."""
    digests: dict[str, Any] = {}
    for row in rows:
        digest = digests.setdefault(row.shard, hashlib.sha256())
        digest.update(f"{row.key} {row.members_sha256}\n".encode())
    return {name: digest.hexdigest() for name, digest in sorted(digests.items())}


def _open(address: str, split: str, shards: list[str] | None) -> Corpus:
    """A corpus with the clips of all splits, of cards with those of one.

    Args:
        address: Of a `Source`.
        split: Of which cards.
        shards: Those to read, by their markers; None: what is in the index.
    """
    if is_cards(address):
        return open_cards(address, split=split)
    return CorpusReader(address if shards is None else [f"{address.rstrip('/')}/{name}" for name in shards])


def _committed(address: str) -> list[str] | None:
    """File names of the shards that are committed by now; None where they cannot be listed.

    Raises:
        UserError: If there is none yet, or the folder cannot be read.
    """
    if is_cards(address):
        return None
    if address.endswith(".tar") or any(sign in address for sign in "*?["):
        raise UserError(f"{address}: is not a folder, which --follow needs. Give the one that it lies in.")
    names = Folder(address).names()
    if names is None:
        return None
    if not (committed := committed_names(names)):
        raise UserError(
            f"{address}: has no committed shard yet. Start when focuspull-render has completed one, or give "
            f"the folder of a corpus."
        )
    return [f"{name}.tar" for name in committed]
