"""Corpora to train on, by address: in shards, still being rendered, or made on the fly.

    corpora = open_sources([parse_source("corpora/a=3"), parse_source("cards=1")], "train")

While a corpus is rendered its index lags behind, so with ``follow`` its shards are found by their commit
markers. Of an https server, which cannot be listed, only what is in the index is found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from focuspull.dataset.cards import is_cards, open_cards
from focuspull.dataset.cards_published import is_published_cards
from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.corpus import Corpus
from focuspull.dataset.errors import UserError
from focuspull.dataset.markers import committed_names
from focuspull.dataset.reader import ClipRow, CorpusReader
from focuspull.dataset.storage import Folder


class Source(FrozenModel):
    """A corpus to train on.

    Args:
        address: Its folder, local or one that fsspec knows; or ``cards`` or ``cards:PATH.yaml`` for clips
            that are made on the fly, see `focuspull.dataset.cards`.
        weight: Its share of the samples, any scale; None: as large as it is.
    """

    address: str = Field(min_length=1)
    weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)


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


def full_address(address: str) -> str:
    """The address of a source, with its full name if it is on a disk."""
    if "://" in address:
        return address
    if is_cards(address) or is_published_cards(address):
        kind, colon, path = address.partition(":")
        return f"{kind}:{Path(path).resolve()}" if colon else kind
    return str(Path(address).resolve())


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
        corpus = open_whole(source.address, split, _committed(source.address) if follow else None)
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


def shard_hashes(rows: Sequence[ClipRow]) -> dict[str, str]:
    """A hash of the clips of every shard, by its name, the same from an index and from markers."""
    digests: dict[str, Any] = {}
    for row in rows:
        digest = digests.setdefault(row.shard, hashlib.sha256())
        digest.update(f"{row.key} {row.members_sha256}\n".encode())
    return {name: digest.hexdigest() for name, digest in sorted(digests.items())}


def open_whole(address: str, split: str, shards: list[str] | None) -> Corpus:
    """A corpus with the clips of all splits, of cards with those of one.

    Args:
        address: Of a `Source`.
        split: Of which cards.
        shards: File names of those to read, by their markers; None: what is in the index.

    Raises:
        UserError: If it cannot be read, or is no corpus.
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
