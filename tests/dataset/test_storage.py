"""Corpora wherever they lie: local folders, https servers, object stores behind fsspec."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from focuspull.dataset import storage
from focuspull.dataset.errors import UserError
from focuspull.dataset.loader import Loader, Window
from focuspull.dataset.reader import CorpusReader
from focuspull.dataset.storage import Folder, merge_ranges


class Handler(SimpleHTTPRequestHandler):
    """Serves byte ranges, counts bytes, and fails as often as it is told to."""

    num_bytes = 0
    num_failures = 0
    ranges = True

    def do_GET(self) -> None:
        if Handler.num_failures:
            Handler.num_failures -= 1
            self.send_error(503)
            return
        asked = self.headers.get("Range")
        path = Path(self.translate_path(self.path))
        if asked is None or not Handler.ranges or not path.is_file():
            super().do_GET()
            return
        start, _, end = asked.removeprefix("bytes=").partition("-")
        content = path.read_bytes()[int(start) : int(end) + 1]
        Handler.num_bytes += len(content)
        self.send_response(206)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Range", f"bytes {start}-{end}/{path.stat().st_size}")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Handler.num_bytes = Handler.num_failures = 0
    Handler.ranges = True
    monkeypatch.setattr(storage, "FIRST_PAUSE_S", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=corpus)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def window(source: str | Path) -> Any:
    reader = CorpusReader(source, split="train")
    return reader.sample(reader.rows[1], target=1, frames=[1, 2])


def assert_equal(a: Any, b: Any) -> None:
    for name in ("aif", "bokeh", "disparity", "k", "focus_disparity"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_https_gives_the_same_windows_and_reads_only_them(corpus: Path, server: str):
    assert_equal(window(server), window(corpus))
    assert_equal(window(f"{server}/train-000000.tar"), window(corpus))
    reader = CorpusReader(server)
    row = reader.rows[0]
    reader.sample(row, target=0, frames=[0])  # fetches marker and metadata
    before = Handler.num_bytes
    reader.sample(row, target=1, frames=[2])
    sizes = {p.name: p.stat().st_size for p in corpus.iterdir() if p.is_file()}
    assert 0 < Handler.num_bytes - before < sizes["train-000000.tar"] / 2


def test_object_store_can_be_listed_and_globbed(corpus: Path):
    memory = fsspec.filesystem("memory")
    for path in corpus.iterdir():
        if path.is_file():
            memory.pipe(f"/bucket/tiny/{path.name}", path.read_bytes())
    assert_equal(window("memory://bucket/tiny"), window(corpus))
    assert_equal(window("memory://bucket/tiny/train-*.tar"), window(corpus))


def test_threads_share_a_connection(corpus: Path, server: str):
    options: dict[str, Any] = {"window": Window(num_frames=2), "batch_size": 2, "seed": 0, "num_epochs": 1}
    remote = [batch.keys for batch in Loader([CorpusReader(server)], num_workers=2, **options)]
    assert remote == [batch.keys for batch in Loader([CorpusReader(corpus)], **options)]


def test_a_server_that_stumbles_is_asked_again(corpus: Path, server: str):
    reader = CorpusReader(server)
    Handler.num_failures = storage.NUM_TRIES - 1
    assert_equal(reader.sample(reader.rows[0], target=0, frames=[0]), CorpusReader(corpus).sample(
        CorpusReader(corpus).rows[0], target=0, frames=[0]
    ))  # fmt: skip
    Handler.num_failures = 100
    with pytest.raises(UserError, match=r"train-000000\.tar: cannot be read: 503"):
        reader.sample(reader.rows[0], target=1, frames=[1])


def test_a_server_without_byte_ranges_is_an_error_not_wrong_data(server: str):
    Handler.ranges = False
    with pytest.raises(UserError, match="is truncated, or not served by byte ranges|cannot be read"):
        window(server)


def test_tars_named_one_by_one_are_read_without_index(corpus: Path):
    (corpus / "index.parquet").unlink()
    reader = CorpusReader([corpus / "train-000000.tar", corpus / "val-000000.tar"])
    assert [(row.key, row.split, row.num_frames, row.num_targets) for row in reader.rows] == [
        ("clip-000000", "train", 3, 2),
        ("clip-000001", "train", 3, 2),
        ("clip-000002", "val", 3, 2),
    ]
    only = CorpusReader(str(corpus / "*.tar"), select=lambda row: row["split"] == "val")
    assert [row.key for row in only.rows] == ["clip-000002"]


def test_rows_of_the_index_choose_clips(corpus: Path):
    reader = CorpusReader(
        corpus, select=lambda row: max(row["noise_floor_db"]) > 40 and row["key"] > "clip-000000"
    )
    assert [row.key for row in reader.rows] == ["clip-000001", "clip-000002"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/no/such/folder", "/no/such/folder: cannot be read: No such file or directory"),
        ("{corpus}/none-*.tar", "matches no file"),
        ("{corpus}/staging", r"index\.parquet: is not there\. Give the folder of a corpus"),
        ("xyz://bucket/corpus", r"xyz://bucket/corpus: .*Give a folder, s3://, gs:// or https://"),
        ("{corpus}/train-000009.tar", r"train-000009\.json: cannot be read"),
    ],
)
def test_addresses_that_lead_nowhere_are_one_line(corpus: Path, address: str, message: str):
    with pytest.raises(UserError, match=message) as caught:
        CorpusReader(address.format(corpus=corpus))
    assert "\n" not in str(caught.value)


def test_splits_that_are_not_there_are_named(corpus: Path):
    with pytest.raises(UserError, match="has no clip of the split 'test' to read; its splits are train, val"):
        CorpusReader(corpus, split="test")


def test_frames_that_are_not_there_are_refused(corpus: Path):
    reader = CorpusReader(corpus)
    with pytest.raises(ValueError, match="asked for target 2"):
        reader.sample(reader.rows[0], target=2, frames=[0])
    with pytest.raises(ValueError, match=r"frames \[3\]"):
        reader.sample(reader.rows[0], target=0, frames=[3])


def test_neighbouring_ranges_are_read_at_once():
    assert merge_ranges([(300, 400), (0, 10), (12, 20)], gap=5) == [(0, 20), (300, 400)]
    assert merge_ranges([(0, 10), (5, 7)], gap=0) == [(0, 10)]


def test_parts_of_a_local_file_come_in_the_order_asked_for(tmp_path: Path):
    (tmp_path / "f").write_bytes(bytes(range(100)))
    parts = Folder(tmp_path).read_ranges("f", [(50, 52), (0, 1), (51, 53)])
    assert [bytes(part) for part in parts] == [b"23", b"\x00", b"34"]


@pytest.fixture(params=["local", "memory"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Folder]:
    """A folder that does not exist yet, on a disk and in a store."""
    monkeypatch.setattr(storage, "FIRST_PAUSE_S", 0.01)
    if request.param == "local":
        yield Folder(tmp_path / "place")
    else:
        yield Folder(f"memory://{tmp_path.name}/place")
        fsspec.filesystem("memory").store.clear()


def test_what_is_written_is_listed_found_read_and_removed(place: Folder):
    assert (place.sizes(), place.find("a"), place.read_all(["a"])) == ({}, None, {})
    place.write("b", b"two")
    place.write("a", lambda file: file.write(b"one" * 5))
    place.below("deeper").write("c", b"")
    assert place.sizes() == {"a": 15, "b": 3}
    assert (place.find("a"), place.find("c"), place.below("deeper").find("c")) == (15, None, 0)
    assert place.read_all(["b", "missing", "a"]) == {"b": b"two", "a": b"one" * 5}
    assert place.read_all(["b"]) == {"b": b"two"}
    place.write("b", b"three")
    assert place.read("b", limit=9) == b"three"
    place.remove(["a", "missing"])
    assert place.sizes() == {"b": 5}
    assert place.create("claim", b"mine") is True
    assert place.create("claim", b"another's") is False
    assert place.read("claim", limit=9) == b"mine"


def test_what_fails_while_it_is_written_leaves_what_was_there(place: Folder):
    place.write("a", b"old")

    def fail(file: Any) -> None:
        file.write(b"half of the new")
        raise RuntimeError("the writer broke")

    with pytest.raises(RuntimeError, match="the writer broke"):
        place.write("a", fail)
    assert place.read_all(list(place.sizes())) == {"a": b"old"}


class Faults:
    """Makes puts into the store in memory fail, or lose a part of what they are given, a few times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, faults: list[str]) -> None:
        self.faults = faults
        store = type(fsspec.filesystem("memory"))
        put = store.pipe_file

        def faulty(filesystem: Any, path: str, value: bytes, **options: Any) -> Any:
            fault = self.faults.pop(0) if self.faults else ""
            if fault == "half":
                return put(filesystem, path, value[: len(value) // 2], **options)
            if fault == "lost answer":
                put(filesystem, path, value, **options)
            if fault:
                raise TimeoutError(fault)
            return put(filesystem, path, value, **options)

        monkeypatch.setattr(store, "pipe_file", faulty)


@pytest.mark.parametrize("fault", ["half", "no answer", "lost answer"])
def test_a_put_that_fails_is_tried_again(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    waited: list[float] = []
    place = Folder(f"memory://{tmp_path.name}", sleep=waited.append)
    faults = Faults(monkeypatch, [fault] * 3)
    place.write("a", b"content")
    assert place.read("a", limit=9) == b"content"
    assert waited == [0.5, 1.0, 2.0]
    faults.faults = [fault] * 4
    with pytest.raises(
        UserError, match=r"/a: cannot be written: (7 bytes were sent, 3 arrived|.* answer)\.$"
    ):
        place.write("a", b"content")
    fsspec.filesystem("memory").store.clear()


def test_a_claim_whose_answer_was_lost_is_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = Folder(f"memory://{tmp_path.name}", sleep=lambda _: None)
    Faults(monkeypatch, ["lost answer"])
    assert place.create("claim", b"mine") is True
    assert place.create("claim", b"another's") is False
    fsspec.filesystem("memory").store.clear()


def test_waiting_for_a_store_can_be_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    Faults(monkeypatch, ["no answer"] * 9)
    with pytest.raises(KeyboardInterrupt):
        Folder(f"memory://{tmp_path.name}", tries=10, sleep=stop).below("stage").write("a", b"")
