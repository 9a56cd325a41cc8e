"""The order in which a training run sees samples: a pure function of (seed, position), with no state to lose.

Positions count samples from the start of the run, over all ranks. Position to item is arithmetic on hashes,
so a run resumes from one integer, whatever the number of ranks and workers was and is. The hash is SplitMix64
(Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), written out here
because the order must outlive any library's generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024
"""Positions over which a mixture keeps its weights exactly, to one sample."""


@dataclass(frozen=True)
class Place:
    """What stands at a position: the corpus, how often it has been gone through before, and the item."""

    corpus: int
    epoch: int
    item: int


class Order:
    """Every item of a corpus once per epoch, in an order of its own each time; corpora mixed by weight.

    Items of an epoch come in groups of ``shards_mixed`` shards, so that a reader needs the markers of few
    shards at a time; the groups, and the items in each, are in random order.

    Args:
        shards: For each corpus the shard number of every item, ``[N]`` int; none is empty.
        weights: Share of each corpus in the samples, positive, any sum; None: all items of all corpora make
            one epoch, and `Place.epoch` is common.
        seed: Not negative.
        shards_mixed: Shards of a group; at least 1.
        shuffle: False: items in the order given; weights still hold.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        shards: Sequence[NDArray[np.int64]],
        *,
        seed: int,
        weights: Sequence[float] | None = None,
        shards_mixed: int = 64,
        shuffle: bool = True,
    ) -> None:
        if not shards or any(len(numbers) == 0 for numbers in shards):
            raise ValueError("order: every corpus needs at least one item")
        if seed < 0 or shards_mixed < 1:
            raise ValueError(f"order: needs seed >= 0, shards_mixed >= 1, got {seed}, {shards_mixed}")
        if weights is not None and (
            len(weights) != len(shards) or not all(0 < weight < np.inf for weight in weights)
        ):
            raise ValueError(f"order: needs a positive weight per corpus, {len(shards)}, got {list(weights)}")
        self._lengths = [len(numbers) for numbers in shards]
        self._starts = np.cumsum([0, *self._lengths])
        self._seed = seed
        self._shards_mixed = shards_mixed
        self._shuffle = shuffle
        if weights is None:
            offsets = np.cumsum([0, *(int(numbers.max()) + 1 for numbers in shards[:-1])])
            self._pools = [np.concatenate([n + offset for n, offset in zip(shards, offsets, strict=True)])]
            self._shares = None
        else:
            self._pools = list(shards)
            self._shares = np.cumsum(weights) / np.sum(weights)
            self._shares[-1] = 1.0
        self._permutation = lru_cache(maxsize=2 * len(self._pools))(self._permute)
        self._drawn = lru_cache(maxsize=4)(self._draw)

    @property
    def num_items(self) -> int:
        """Items of all corpora together: the samples of one epoch, if there are no weights."""
        return int(self._starts[-1])

    def at(self, position: int) -> Place:
        """What stands at a position, from 0 on without end."""
        pool, number = self._pool_at(position)
        epoch, index = divmod(number, len(self._pools[pool]))
        item = int(self._permutation(pool, epoch)[index])
        if self._shares is not None:
            return Place(pool, epoch, item)
        corpus = int(np.searchsorted(self._starts, item, "right")) - 1
        return Place(corpus, epoch, item - int(self._starts[corpus]))

    def _pool_at(self, position: int) -> tuple[int, int]:
        """The pool to draw from, and how many were drawn from it before."""
        if self._shares is None:
            return 0, position
        block, offset = divmod(position, BLOCK)
        pools, before = self._drawn(block)
        pool = int(pools[offset])
        return pool, int(before[pool] + np.count_nonzero(pools[:offset] == pool))

    def _draw(self, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pool of each position of a block, and the number drawn from each pool before it."""
        before, after = self._quota(block * BLOCK), self._quota((block + 1) * BLOCK)
        pools = np.repeat(np.arange(len(self._pools)), after - before)
        shuffled = np.argsort(hashes(self._seed, 2 * block, np.arange(BLOCK)), kind="stable")
        return pools[shuffled], before

    def _quota(self, position: int) -> NDArray[np.int64]:
        """How many of the first ``position`` samples each pool has; grows with position, sums up to it."""
        assert self._shares is not None
        return np.diff(np.floor(self._shares * position + 0.5).astype(np.int64), prepend=0)

    def _permute(self, pool: int, epoch: int) -> NDArray[np.int64]:
        shards = self._pools[pool]
        if not self._shuffle:
            return np.arange(len(shards))
        stream = 2 * (epoch * len(self._pools) + pool) + 1
        by_hash = np.argsort(hashes(self._seed, stream, np.arange(int(shards.max()) + 1)), kind="stable")
        group = np.empty(len(by_hash), np.int64)
        group[by_hash] = np.arange(len(by_hash)) // self._shards_mixed
        # Items and shards are hashed apart: item numbers go on where shard numbers end.
        within = hashes(self._seed, stream, len(group) + np.arange(len(shards)))
        return np.lexsort((within, group[shards]))


def hashes(seed: int, stream: int, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 random-looking bits per number; streams of one seed, and seeds, are independent."""
    with np.errstate(over="ignore"):
        start = _mixed(_mixed(np.uint64(seed)) + np.uint64(stream))
        return _mixed(start + numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _mixed(state: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """The output function of SplitMix64, after one step."""
    with np.errstate(over="ignore"):
        z = np.asarray(state, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
