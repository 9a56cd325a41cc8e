"""The corpus index, ``index.parquet``: one row per clip, for choosing clips without opening shards.

Everything in it except what a clip cost is derived from the shards, and can be rebuilt from them. Shards
leave their rows as small files of their own, and `fold_rows` takes them in, so that rendering many shards
does not write the index as many times. One process at a time may write the index of a corpus.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from focuspull.dataset.clip import ClipMeta, decode_meta
from focuspull.dataset.difficulty import DifficultyMeta
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.dataset.markers import (
    ClipEntry,
    ShardMarker,
    committed_names,
    read_marker,
    read_markers,
    read_members,
)
from focuspull.dataset.storage import Folder

INDEX_NAME = "index.parquet"
ROWS_SUFFIX = ".rows"
"""Of a file with the rows of one shard, a Parquet file like the index."""
MAX_INDEX_BYTES = 1 << 32

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("shard", pa.string()),  # file name
        ("offset", pa.int64()),  # byte range of the clip in the shard, tar headers included
        ("size", pa.int64()),
        ("scene_sha256", pa.string()),
        ("members_sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("num_frames", pa.int32()),
        ("fps", pa.float64()),
        ("num_targets", pa.int32()),
        ("k_at_1024_min", pa.list_(pa.float64())),  # one entry per target
        ("k_at_1024_max", pa.list_(pa.float64())),
        ("focus_disparity_min", pa.list_(pa.float64())),
        ("focus_disparity_max", pa.list_(pa.float64())),
        ("z_near_m", pa.float64()),
        ("z_far_m", pa.float64()),  # null for infinity
        ("family", pa.string()),  # labels of the scene; null if it has none
        ("stratum", pa.string()),
        *((name, pa.float64()) for name in DifficultyMeta.model_fields),  # null: not asked for
        ("backend", pa.string()),
        ("backend_version", pa.string()),
        ("variant", pa.string()),
        ("method", pa.string()),  # how targets were rendered: separate, rebinned or planes
        (
            "noise_floor_db_aif",
            pa.float64(),
        ),  # estimated PSNR against the converged video; null: not measured
        ("noise_floor_db", pa.list_(pa.float64())),  # of each target
        ("render_seconds", pa.float64()),  # wall clock; null if the row was rebuilt
        ("render_cpu_seconds", pa.float64()),
        ("peak_memory_bytes", pa.int64()),  # resident, of the process that rendered it
        ("attempts", pa.int32()),  # in the run that finished it, failed ones included
        ("bytes", pa.int64()),  # of the members' contents
    ]
)

RECORD_COLUMNS = ("render_seconds", "render_cpu_seconds", "peak_memory_bytes", "attempts")
"""The columns that come from a staged clip's record and cannot be rebuilt; an older index may lack some."""
LABEL_COLUMNS = ("family", "stratum")
"""What a clip is an example of; an older index lacks them."""
DIFFICULTY_COLUMNS = tuple(DifficultyMeta.model_fields)
"""How difficult a clip is, `focuspull.dataset.difficulty`; an older index lacks them."""


def index_row(shard: str, clip: ClipEntry, meta: ClipMeta, record: Mapping[str, Any]) -> dict[str, Any]:
    """The row of one clip.

    Args:
        shard: File name of its shard.
        clip: Its entry in the shard's marker.
        meta: Its metadata.
        record: Where the `RECORD_COLUMNS` come from; a missing one becomes null.
    """
    return {
        "key": clip.key,
        "split": clip.split,
        "shard": shard,
        "offset": clip.offset,
        "size": clip.size,
        "scene_sha256": clip.scene_sha256,
        "members_sha256": clip.members_sha256,
        "width": meta.width,
        "height": meta.height,
        "num_frames": meta.num_frames,
        "fps": meta.fps,
        "num_targets": len(meta.targets),
        "k_at_1024_min": [min(target.k_at_1024) for target in meta.targets],
        "k_at_1024_max": [max(target.k_at_1024) for target in meta.targets],
        "focus_disparity_min": [min(target.focus_disparity) for target in meta.targets],
        "focus_disparity_max": [max(target.focus_disparity) for target in meta.targets],
        "z_near_m": meta.disparity.z_near_m,
        "z_far_m": meta.disparity.z_far_m,
        **{column: meta.labels.get(column) for column in LABEL_COLUMNS},
        **{column: getattr(meta.difficulty, column, None) for column in DIFFICULTY_COLUMNS},
        "backend": meta.renderer.backend,
        "backend_version": meta.renderer.backend_version,
        "variant": meta.renderer.variant,
        "method": meta.sampling.method,
        "noise_floor_db_aif": meta.sampling.noise_floor_db[0],
        "noise_floor_db": list(meta.sampling.noise_floor_db[1:]),
        **{column: record.get(column) for column in RECORD_COLUMNS},
        "bytes": sum(member.size for member in clip.members),
    }


def write_index(corpus: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the index, rows sorted by key.

    Raises:
        UserError: If the operating system refuses.
    """
    write_atomic(corpus / INDEX_NAME, rows_bytes(sorted(rows, key=lambda row: row["key"])))


def rows_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as the bytes of a Parquet file."""
    return _table_bytes(pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA))


def _table_bytes(table: Any) -> bytes:
    file = pa.BufferOutputStream()
    pq.write_table(table, file, write_page_checksum=True)
    return file.getvalue().to_pybytes()


def read_index(corpus: Path) -> list[dict[str, Any]]:
    """All rows of the index, sorted by key.

    Raises:
        UserError: If there is no index, or it is not one of ours.
    """
    path = corpus / INDEX_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: is not there. If {corpus} is a corpus: {_rebuild(str(corpus))}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. {_rebuild(str(corpus))}") from error
    return read_index_bytes(content, str(path))


def read_index_bytes(content: bytes, path: str) -> list[dict[str, Any]]:
    """The rows of an index from its bytes; ``path`` is for the messages.

    Raises:
        UserError: If it is not one of ours, or damaged: pages carry checksums.
    """
    try:
        # All of it is text by now, unless the footer is damaged.
        return _table(content, path).to_pylist()
    except ValueError as error:
        raise UserError(f"{path}: cannot be read: {error}. {_rebuild_at(path)}") from error


def _table(content: bytes, path: str, names: Sequence[str] = tuple(SCHEMA.names)) -> Any:
    """An index from its bytes, with exactly these columns of `SCHEMA`; columns that it may lack are null.

    Args:
        content: Its bytes.
        path: For the messages.
        names: The columns; others are not decoded, but all are checked to be there.
    """
    remedy = _rebuild_at(path)
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        schema = file.schema_arrow
        there = set(schema.names)
        table = file.read([name for name in names if name in there])
    except (OSError, pa.ArrowException, ValueError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be read: {reason}. {remedy}") from error
    if missing := set(SCHEMA.names) - there - {*RECORD_COLUMNS, *LABEL_COLUMNS, *DIFFICULTY_COLUMNS}:
        raise UserError(f"{path}: has no column {sorted(missing)}. {remedy}")
    known = [field for field in SCHEMA if field.name in there]
    if wrong := [field.name for field in known if schema.field(field.name).type != field.type]:
        raise UserError(f"{path}: column '{wrong[0]}' has another type. {remedy}")
    asked = pa.schema([SCHEMA.field(name) for name in names])
    unknown = {field: pa.nulls(len(table), field.type) for field in asked if field.name not in there}
    columns = [unknown[field] if field in unknown else table[field.name] for field in asked]
    return pa.Table.from_arrays(columns, schema=asked)


def _rebuild_at(path: str) -> str:
    return _rebuild(path.removesuffix(f"/{INDEX_NAME}"))


def _rebuild(corpus: str) -> str:
    return f"Rebuild it with: focuspull-dataset index {corpus}"


def rebuild_index(corpus: Path) -> None:
    """Make the index anew from the committed shards; the render times become null.

    Raises:
        UserError: If there is no shard, a marker or shard cannot be read, or the operating system refuses.
    """
    if not committed_names(corpus):
        raise UserError(f"{corpus}: has no committed shard. Give the folder of a corpus.")
    write_index(corpus, (row for marker in read_markers(corpus) for row in shard_rows(corpus, marker)))


def shard_ends(corpus: Path | Folder) -> dict[str, int]:
    """Where the last clip of each shard ends, in bytes, by the shard's file name, as the index has it.

    Raises:
        UserError: If the index cannot be read.
    """
    folder = Folder.of(corpus)
    content = folder.read(INDEX_NAME, limit=MAX_INDEX_BYTES)
    table = _table(content, folder.path(INDEX_NAME), ("shard", "offset", "size"))
    ends = pa.table({"shard": table["shard"], "end": table["offset"].to_numpy() + table["size"].to_numpy()})
    found = ends.group_by("shard").aggregate([("end", "max")])
    return dict(zip(found["shard"].to_pylist(), found["end_max"].to_pylist(), strict=True))


def fold_rows(corpus: Path | Folder, stage: Path | Folder, committed: Collection[str] | None = None) -> None:
    """Take the rows that packed shards have left into the index, and remove their files.

    What the index has of shards without a commit marker is dropped; rows of committed shards that are
    nowhere (because the index was lost) are rebuilt.

    Args:
        corpus: Folder of the corpus.
        stage: Where the rows lie.
        committed: Names of the committed shards; None to look.

    Raises:
        UserError: If index, rows, marker or shard cannot be read, or the storage refuses.
    """
    corpus, stage = Folder.of(corpus), Folder.of(stage)
    wanted = {f"{name}.tar" for name in (committed_names(corpus) if committed is None else committed)}
    # Rows without a commit may be of a shard that is being packed just now.
    names = [f"{shard.removesuffix('.tar')}{ROWS_SUFFIX}" for shard in sorted(wanted)]
    there = stage.sizes()
    names = [name for name in names if name in there]
    tables = {
        f"{name.removesuffix(ROWS_SUFFIX)}.tar": _table(rows, stage.path(name))
        for name, rows in stage.read_all(names).items()
    }
    kept = SCHEMA.empty_table()
    if corpus.find(INDEX_NAME) is not None:
        kept = _table(corpus.read(INDEX_NAME, limit=MAX_INDEX_BYTES), corpus.path(INDEX_NAME))
        others = pc.SetLookupOptions(value_set=pa.array(sorted(wanted - tables.keys()), pa.string()))
        kept = kept.filter(pc.call_function("is_in", [kept["shard"]], others))
    lost = wanted - tables.keys() - set(kept["shard"].unique().to_pylist())
    for shard in sorted(lost):
        rows = shard_rows(corpus, read_marker(corpus, shard.removesuffix(".tar")))
        tables[shard] = pa.Table.from_pylist(rows, schema=SCHEMA)
    table = pa.concat_tables([kept, *(tables[shard] for shard in sorted(wanted & tables.keys()))])
    if len(table):
        corpus.write(INDEX_NAME, _table_bytes(table.sort_by("key").combine_chunks()))
    stage.remove(names)


def shard_rows(corpus: Path | Folder, marker: ShardMarker) -> list[dict[str, Any]]:
    """The rows of one committed shard, read back from its metadata members; render times are null.

    Raises:
        UserError: If the shard cannot be read or its metadata is invalid.
    """
    rows = []
    for clip in marker.clips:
        try:
            meta = decode_meta(read_members(corpus, marker, clip.key, ["json"])["json"])
        except ValueError as error:
            raise UserError(f"{Folder.of(corpus).path(marker.shard)}, {clip.key}: {error}") from error
        rows.append(index_row(marker.shard, clip, meta, record={}))
    return rows
