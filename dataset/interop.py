"""The stock way in: a webdataset pipeline over our shards.

It streams whole clips in file order, without markers or index, so it reads shards from anywhere; what is
decoded is checked member by member (`focuspull.dataset.clip.decode_clip`), and nothing is unpickled. It has
webdataset's own rules for ranks and workers; for exact epochs and resuming there is
`focuspull.dataset.loader`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import fsspec

from focuspull.dataset.clip import DecodedClip, decode_clip
from focuspull.dataset.errors import UserError


def as_webdataset(
    shards: str | Sequence[str],
    *,
    frames: Sequence[int] | None = None,
    shuffle_buffer: int = 0,
    seed: int = 0,
    on_damage: Callable[[str], None] | None = None,
) -> Any:
    """A ``webdataset.DataPipeline`` of `focuspull.dataset.clip.DecodedClip`.

    Args:
        shards: Tars, as addresses that fsspec opens; braces mean several, ``train-{000000..000009}.tar``.
        frames: Frame numbers to decode; None for all. The rest is read, but not decoded.
        shuffle_buffer: Clips held to shuffle among; 0: file order.
        seed: Of the shuffling.
        on_damage: Called with one line for each shard or clip that is left out because it cannot be read;
            None: the first one raises UserError.

    Raises:
        UserError: If webdataset is not installed. While iterating: if a shard or clip cannot be read.
    """
    try:
        from webdataset import filters, pipeline, shardlists
    except ImportError as error:
        raise UserError("webdataset is not installed. Install it with: pip install webdataset") from error
    report = on_damage or _raise
    stages: list[Any] = [
        shardlists.SimpleShardList(shards if isinstance(shards, str) else list(shards)),
        shardlists.split_by_node,
        shardlists.split_by_worker,
        partial(_grouped, report=report),
    ]
    if shuffle_buffer:
        stages.append(filters.shuffle(shuffle_buffer, seed=seed))
    return pipeline.DataPipeline(*stages, partial(_decoded, frames=frames, report=report))


def _raise(line: str) -> None:
    raise UserError(line)


def _grouped(
    sources: Iterable[Mapping[str, Any]], *, report: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Samples of each shard; a shard that breaks off gives those before the break."""
    from webdataset import tariterators

    for source in sources:
        url = source["url"]
        try:
            with fsspec.open(url, "rb") as stream:
                files = tariterators.tar_file_expander([{"url": url, "stream": stream}])
                yield from tariterators.group_by_keys(files)
        except UserError:
            raise
        except Exception as error:
            # tarfile, fsspec and the clients of object stores each have exceptions of their own.
            reason = (str(error) or type(error).__name__).splitlines()[0]
            report(f"{url}: cannot be read: {reason}. Copy it again.")


def _decoded(
    samples: Iterable[Mapping[str, Any]], *, frames: Sequence[int] | None, report: Callable[[str], None]
) -> Iterator[DecodedClip]:
    for sample in samples:
        members = {name: content for name, content in sample.items() if not name.startswith("__")}
        try:
            clip = decode_clip(members, frames=frames)
        except ValueError as error:
            report(f"{sample['__url__']}, {sample['__key__']}: {error}.")
            continue
        yield clip
