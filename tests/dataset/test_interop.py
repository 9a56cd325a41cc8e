"""Shards read by software that knows nothing of focuspull."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from webdataset.compat import WebDataset

from focuspull.dataset.clip import Clip, decode_clip, member_names
from focuspull.dataset.codec import decode_disparity


@pytest.fixture
def expected(make_clip: Callable[..., Clip]) -> list[Any]:
    """The decoded clips of the first shard."""
    return [decode_clip(dict(make_clip(f"clip-{index:06d}").members)) for index in range(2)]


def _read_with_webdataset(shard: Path, *decoders: Any) -> list[dict[str, Any]]:
    pipeline: Any = WebDataset(str(shard), shardshuffle=False).decode(*decoders)
    return list(pipeline)


def test_webdataset_reads_keys_members_and_pixels(corpus: Path, expected: list[Any]):
    samples = _read_with_webdataset(corpus / "train-000000.tar", "rgb8")
    assert [sample["__key__"] for sample in samples] == ["clip-000000", "clip-000001"]
    for sample, clip in zip(samples, expected, strict=True):
        assert [name for name in sample if not name.startswith("__")] == member_names(2, 3)
        assert sample["json"]["scene_sha256"] == clip.meta.scene_sha256
        for frame in range(3):
            np.testing.assert_array_equal(sample[f"aif.{frame:03d}.png"], clip.aif[frame])
            np.testing.assert_array_equal(sample[f"bokeh1.{frame:03d}.png"], clip.bokeh[1][frame])


def test_webdataset_keeps_disparity_16_bit_with_our_decoder(corpus: Path, expected: list[Any]):
    def decode(name: str, content: bytes) -> np.ndarray | None:
        return decode_disparity(content) if ".disparity." in f".{name}" else None

    samples = _read_with_webdataset(corpus / "train-000000.tar", decode, "rgb8")
    for sample, clip in zip(samples, expected, strict=True):
        np.testing.assert_array_equal(sample["disparity.002.png"], clip.disparity[2])


def test_hugging_face_datasets_streams_the_shards(
    corpus: Path, expected: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    files = {"train": str(corpus / "train-*.tar"), "val": str(corpus / "val-*.tar")}
    splits = datasets.load_dataset(
        "webdataset", data_files=files, streaming=True, cache_dir=str(tmp_path / "cache")
    )
    samples = list(splits["train"])
    assert [sample["__key__"] for sample in samples] == ["clip-000000", "clip-000001"]
    assert [sample["json"]["split"] for sample in splits["val"]] == ["val"]
    for sample, clip in zip(samples, expected, strict=True):
        assert sample["json"]["fps"] == 24.0
        np.testing.assert_array_equal(np.asarray(sample["aif.001.png"]), clip.aif[1])
        stored = np.asarray(sample["disparity.001.png"], np.float64)
        np.testing.assert_allclose(stored / 65535, clip.disparity[1], atol=1e-7)
        np.testing.assert_array_equal(np.asarray(sample["instance.001.png"]), clip.instance[1])


def test_gnu_tar_lists_members_in_order(corpus: Path):
    listed = subprocess.run(
        ["tar", "-tf", corpus / "val-000000.tar"], capture_output=True, text=True, check=True
    )
    assert listed.stdout.split() == [f"clip-000002.{name}" for name in member_names(2, 3)]
