"""What a training run reads: several corpora by weight, and corpora that are still being rendered.

    data = TrainingData([parse_source("corpora/a=3"), parse_source("s3://lab/b=1")], split="train", ...)

With ``follow`` the shards that are committed when an epoch begins are written down, in
``epoch-000003.json``, and the epoch is made of those and no others. So a run that was killed goes on with the
very same samples, however much has been rendered since; what is new comes in with the next epoch. Such an
epoch ends before its last optimiser step that would not be full; what is left over differs from epoch to
epoch, as the order does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch.distributed as dist
from pydantic import Field, ValidationError

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.dataset.loader import Batch, Loader, Window
from focuspull.dataset.perturb import Perturbation
from focuspull.dataset.reader import ClipRow, CorpusReader
from focuspull.dataset.transforms import Transform


class Source(FrozenModel):
    """A corpus to train on.

    Args:
        address: Its folder, local or one that fsspec knows.
        weight: Its share of the samples, any scale; None: as large as it is.
    """

    address: str = Field(min_length=1)
    weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Epoch(FrozenModel):
    """The shards of an epoch.

    Args:
        shards: For each source, from shard names to hashes of their clips.
    """

    shards: tuple[dict[str, str], ...]


def parse_source(text: str) -> Source:
    """A source from ``ADDRESS`` or ``ADDRESS=WEIGHT``.

    Raises:
        UserError: If the weight is no positive number.
    """
    address, equals, weight = text.rpartition("=")
    if not equals or "/" in weight:
        return Source(address=text)
    try:
        return Source(address=address, weight=float(weight))
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
    sources: Sequence[Source], split: str, *, missing: Literal["raise", "skip"] = "raise"
) -> list[CorpusReader]:
    """The clips of one split.

    Args:
        sources: What to open.
        split: Such as ``train``.
        missing: What a corpus without that split does.

    Raises:
        UserError: If one cannot be read, or has no clip of the split.
    """
    opened = []
    for source in sources:
        whole = CorpusReader(source.address)
        if any(row.split == split for row in whole.rows):
            opened.append(CorpusReader(source.address, split=split))
        elif missing == "raise":
            have = ", ".join(sorted({row.split for row in whole.rows}))
            raise UserError(f"{source.address}: has no clips of the split '{split}'; it has {have}.")
    return opened


class TrainingData:
    """Batches without end, of which any process of a run gets its share.

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
        folder: For the lists of shards.

    Raises:
        UserError: If a corpus cannot be read or has no clip for it.
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
        self._sources, self._split, self._seed = list(sources), split, seed
        self._weights = weights_of(sources)
        self._samples_per_step = samples_per_step
        self._folder = folder
        self._rank = rank
        self._options: dict[str, Any] = {
            "window": window,
            "batch_size": batch_size,
            "weights": self._weights,
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
        self._loader = self._open(0)

    @property
    def position(self) -> int:
        """Samples that all processes together have been given so far."""
        return self._before + self._loader.position

    @property
    def num_skipped(self) -> int:
        """Damaged clips met so far by this process."""
        return self._skipped + self._loader.num_skipped

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on after the last batch given out; equal in all processes."""
        return {"epoch": self._epoch, "before": self._before, "loader": self._loader.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another stood.

        Raises:
            UserError: If the data are not those it had.
        """
        if state["epoch"] and not self._follow:
            raise UserError("--follow: the run was begun with it. Give it again, or choose another --out.")
        self._epoch, self._before = int(state["epoch"]), int(state["before"])
        self._loader = self._open(self._epoch)
        self._loader.load_state_dict(state["loader"])

    def __iter__(self) -> Iterator[Batch]:
        while True:
            end = self._end() if self._follow else None
            batches = iter(self._loader)
            while end is None or self._loader.position < end:
                yield next(batches)
            self._before += self._loader.position
            self._skipped += self._loader.num_skipped
            self._epoch += 1
            self._loader = self._open(self._epoch)

    def _end(self) -> int:
        """Samples of an epoch: whole steps. One with less than a step is gone through again to fill one."""
        return max(self._loader.epoch_size // self._samples_per_step, 1) * self._samples_per_step

    def _open(self, epoch: int) -> Loader:
        if not self._follow:
            return Loader(open_sources(self._sources, self._split), seed=self._seed, **self._options)
        frozen = self._frozen(epoch)
        corpora = []
        for source, shards in zip(self._sources, frozen.shards, strict=True):
            corpus = CorpusReader(
                source.address, split=self._split, select=lambda row, names=shards: row["shard"] in names
            )
            found = shard_hashes(corpus.rows)
            if changed := sorted(name for name in shards if found.get(name) != shards[name]):
                raise UserError(
                    f"{corpus.folder.path(changed[0])}: is not what it was when epoch {epoch} began "
                    f"({self._path(epoch)}). Restore it, or choose another --out."
                )
            corpora.append(corpus)
        # A Loader would go through what it has in the same order every time.
        return Loader(corpora, seed=self._seed + epoch, **self._options)

    def _frozen(self, epoch: int) -> Epoch:
        path = self._path(epoch)
        if self._rank == 0 and not path.exists():
            shards = [shard_hashes(corpus.rows) for corpus in open_sources(self._sources, self._split)]
            write_atomic(path, json.dumps({"shards": shards}, indent=1).encode())
        if dist.is_initialized():
            dist.barrier()
        try:
            frozen = Epoch.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise UserError(f"{path}: cannot be read. Restore it, or choose another --out.") from error
        if len(frozen.shards) != len(self._sources):
            raise UserError(f"{path}: is of {len(frozen.shards)} sources, got {len(self._sources)}.")
        return frozen

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:06d}.json"


def shard_hashes(rows: Sequence[ClipRow]) -> dict[str, str]:
    """A hash of the clips of every shard, by its name."""
    digests: dict[str, Any] = {}
    for row in rows:
        digest = digests.setdefault(row.shard, hashlib.sha256())
        digest.update(f"{row.key} {row.members_sha256}\n".encode())
    return {name: digest.hexdigest() for name, digest in sorted(digests.items())}
