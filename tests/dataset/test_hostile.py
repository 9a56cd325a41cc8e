"""Shards that are damaged, foreign or malicious: one clear error or a counted skip, and never wrong data."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focuspull.dataset.clip import Clip, decode_clip
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import read_index
from focuspull.dataset.interop import as_webdataset
from focuspull.dataset.markers import read_marker, read_members
from focuspull.dataset.reader import CorpusReader, Sample
from tests.rendering import in_child

NUM_FLIPS = 1000


def whole(reader: CorpusReader) -> dict[tuple[str, int], Sample]:
    """Everything in a corpus."""
    return {
        (row.key, p): reader.sample(row, target=p, frames=range(row.num_frames), instance=True)
        for row in reader.rows
        for p in range(row.num_targets)
    }


def same(a: Sample, b: Sample) -> bool:
    arrays = ("aif", "bokeh", "disparity", "instance", "k", "focus_disparity")
    return a.frames == b.frames and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in arrays)


@pytest.fixture
def small(tmp_path: Path, make_clip: Callable[..., Clip], publish: Callable[..., None]) -> Path:
    publish(tmp_path, "train-000000", [make_clip("clip-000000", num_frames=2, width=8, height=6)])
    publish(tmp_path, "val-000000", [make_clip("clip-000001", num_frames=2, split="val", width=8, height=6)])
    return tmp_path


@pytest.mark.parametrize("name", ["train-000000.tar", "train-000000.json", "index.parquet"])
def test_a_thousand_flipped_bytes_never_give_wrong_data(small: Path, name: str):
    expected = whole(CorpusReader(small))
    path = small / name
    sound = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(NUM_FLIPS):
        at = int(rng.integers(len(sound)))
        path.write_bytes(sound[:at] + bytes([sound[at] ^ (1 << rng.integers(8))]) + sound[at + 1 :])
        try:
            found = whole(CorpusReader(small))
        except UserError as error:
            assert "\n" not in str(error) and str(small) in str(error)
            refused += 1
            continue
        assert found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in found)
    # The rest hits what carries nothing: padding, tar headers (ranges pass them by), statistics of columns.
    assert refused > NUM_FLIPS / 10


def test_flipped_bytes_through_webdataset_are_an_error_or_a_counted_skip(small: Path):
    """There is no hash here; PNG's own checksums guard the pixels, which must be right or missing."""
    path = small / "train-000000.tar"
    marker = read_marker(small, "train-000000")
    images = [m for m in marker.clips[0].members if m.name.endswith(".png")]
    (expected,) = as_webdataset(str(path))
    sound = path.read_bytes()
    rng = np.random.default_rng(1)
    skipped: list[str] = []
    for _ in range(300):
        member = images[rng.integers(len(images))]
        at = member.offset + int(rng.integers(member.size))
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :])
        before = len(skipped)
        found = list(as_webdataset(str(path), on_damage=skipped.append))
        assert len(found) + len(skipped) - before == 1
        for clip in found:
            np.testing.assert_array_equal(clip.aif, expected.aif)
            np.testing.assert_array_equal(clip.disparity, expected.disparity)
    assert len(skipped) > 290 and all(member.name.count(".") == 2 for member in images)


def truncate(corpus: Path, make_clip: Any) -> str:
    os.truncate(corpus / "train-000000.tar", 3000)
    return r"is truncated: \d+ bytes at"


def no_marker(corpus: Path, make_clip: Any) -> str:
    (corpus / "train-000000.json").unlink()
    (corpus / "val-000000.json").unlink()
    return "has no clip to read"


def ten_gigabytes(corpus: Path, make_clip: Any) -> str:
    edit(corpus, lambda m: m["clips"][0]["members"][2].update(size=10 * 1024**3))
    return "Input should be less than or equal to 268435456"


def outside(corpus: Path, make_clip: Any) -> str:
    edit(corpus, lambda m: m["clips"][0]["members"][2].update(name="../../etc/passwd"))
    return "must list the members of a clip in their order"


def pickled(corpus: Path, make_clip: Any) -> str:
    edit(corpus, lambda m: m["clips"][0]["members"][2].update(name="aif.001.pkl"))
    return "must list the members of a clip in their order"


def other_shard(corpus: Path, make_clip: Any) -> str:
    shutil.copy(corpus / "val-000000.json", corpus / "train-000000.json")
    return "is the marker of val-000000.tar"


def beyond_the_end(corpus: Path, make_clip: Any) -> str:
    edit(corpus, lambda m: m["clips"][0]["members"][2].update(offset=10**9))
    return r"is truncated: \d+ bytes at"


def shard_outside(corpus: Path, make_clip: Any) -> str:
    from focuspull.dataset.index import write_index

    write_index(corpus, [row | {"shard": "../../secret-000000.tar"} for row in read_index(corpus)])
    (corpus / "train-000000.json").unlink()
    (corpus / "val-000000.json").unlink()
    return "has no clip to read|is not the name of a shard"


def foreign(corpus: Path, make_clip: Any) -> str:
    (corpus / "index.parquet").write_bytes(b"PAR1" + bytes(range(100)) + b"PAR1")
    return "index.parquet: cannot be read"


def edit(corpus: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = corpus / "train-000000.json"
    marker = json.loads(path.read_bytes())
    change(marker)
    path.write_text(json.dumps(marker))


@pytest.mark.parametrize(
    "attack",
    [
        truncate,
        no_marker,
        ten_gigabytes,
        outside,
        pickled,
        other_shard,
        beyond_the_end,
        shard_outside,
        foreign,
    ],
    ids=lambda attack: attack.__name__,
)
def test_attacks_on_a_corpus_are_one_clear_error(
    small: Path, make_clip: Callable[..., Clip], attack: Callable[..., str]
):
    message = attack(small, make_clip)
    with pytest.raises(UserError, match=message) as caught:
        whole(CorpusReader(small))
    assert "\n" not in str(caught.value)


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def test_foreign_tars_are_skipped_and_run_nothing(small: Path, tmp_path: Path):
    witness = tmp_path / "witness"
    members = read_members(small, read_marker(small, "train-000000"), "clip-000000")

    def written(name: str, extra: dict[str, bytes | tarfile.TarInfo], leave_out: str = "") -> str:
        path = tmp_path / name
        with tarfile.open(path, "w") as tar:
            for member, content in (members | extra).items():
                if member == leave_out:
                    continue
                if isinstance(content, tarfile.TarInfo):
                    tar.addfile(content)
                else:
                    info = tarfile.TarInfo(f"clip-000000.{member}" if "/" not in member else member)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        return str(path)

    link = tarfile.TarInfo("clip-000000.aif.000.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    skipped: list[str] = []

    def read(path: str) -> int:
        skipped.clear()
        return len(list(as_webdataset(path, on_damage=skipped.append)))

    assert read(written("sound.tar", {})) == 1 and not skipped
    # An unknown member does no harm: it is not looked at.
    assert read(written("pickle.tar", {"evil.pkl": pickle.dumps(Bomb(witness))})) == 1 and not skipped
    assert read(written("link.tar", {"aif.000.png": link})) == 0
    assert "aif.000.png: missing from the clip" in skipped[0]
    assert read(written("up.tar", {"../../../evil.aif.000.png": b"x"})) == 1
    assert len(skipped) == 1 and "json: missing from the clip" in skipped[0]
    assert read(written("short.tar", {}, leave_out="disparity.001.png")) == 0
    assert "disparity.001.png: missing" in skipped[0]
    (tmp_path / "text.tar").write_text("This is not a tar. " * 1000)
    assert read(str(tmp_path / "text.tar")) == 0 and "cannot be read" in skipped[0]
    with pytest.raises(UserError, match=r"text\.tar: cannot be read"):
        list(as_webdataset(str(tmp_path / "text.tar")))
    assert not witness.exists() and not (tmp_path.parent / "evil.aif.000.png").exists()


def test_decompression_bomb_is_refused_before_it_grows(small: Path):
    members = read_members(small, read_marker(small, "train-000000"), "clip-000000")
    in_child(_decode_bomb, members)


def _decode_bomb(members: dict[str, bytes]) -> None:
    """In a process whose memory is capped well below what the bomb would take."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    def png(width: int, height: int) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")

    squeezer = zlib.compressobj(9)
    data = (
        b"".join(squeezer.compress(bytes(1 << 24)) for _ in range(128)) + squeezer.flush()
    )  # 2 GiB of zeros
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 29), used + (1 << 29)))
    for width, height in ((8, 6), (26754, 26754), (2**31 - 1, 2**31 - 1)):
        with pytest.raises(ValueError, match="aif.000.png: rgb: "):
            decode_clip(members | {"aif.000.png": png(width, height)})


def test_metadata_nested_without_end_is_refused(small: Path):
    members = read_members(small, read_marker(small, "train-000000"), "clip-000000")
    deep = members["json"].replace(b'"family":"disc"', b'"family":' + b"[" * 100_000 + b"]" * 100_000)
    assert deep != members["json"]
    with pytest.raises(ValueError, match="json: "):
        decode_clip(members | {"json": deep})
