"""What a run reads: shares of corpora, and corpora that grow while it reads them."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from focuspull.dataset.errors import UserError
from focuspull.dataset.index import rebuild_index
from focuspull.dataset.loader import Batch, Window
from focuspull.dataset.transforms import Transform
from focuspull.train.data import Source, TrainingData, open_sources, parse_source
from tests.dataset.conftest import make_clip, publish


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of two clips of two targets: 4 samples each."""
    corpus = tmp_path_factory.mktemp("shards") / "corpus"
    for shard in range(3):
        clips = [make_clip(f"clip-{2 * shard + n:06d}", num_frames=2) for n in range(2)]
        publish(corpus, f"train-{shard:06d}", clips)
    return corpus


def commit(shards: Path, corpus: Path, *numbers: int) -> None:
    """Have shards of a corpus come to be in another one."""
    corpus.mkdir(exist_ok=True)
    for number in numbers:
        for end in ("tar", "json"):
            shutil.copy(shards / f"train-{number:06d}.{end}", corpus)
    (corpus / "corpus.json").write_text(json.dumps({"spec_sha256": "0" * 64}))
    rebuild_index(corpus)


def open_data(*corpora: Path | str, **options: Any) -> TrainingData:
    given: dict[str, Any] = {
        "split": "train",
        "window": Window(num_frames=1),
        "batch_size": 1,
        "samples_per_step": 2,
        "seed": 0,
        "transform": Transform(flip=0.5),
        "perturbation": None,
        "num_workers": 0,
        "rank": 0,
        "world_size": 1,
        "on_error": "raise",
        "follow": False,
        "folder": Path("unused"),
    }
    return TrainingData([parse_source(str(corpus)) for corpus in corpora], **(given | options))


def take(data: TrainingData, count: int) -> list[tuple[Any, ...]]:
    return [identity(batch) for batch in itertools.islice(data, count)]


def identity(batch: Batch) -> tuple[Any, ...]:
    return (*batch.keys, *batch.targets.tolist(), *batch.frames.flatten().tolist(), int(batch.aif.long().sum()))


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("corpora/a", Source(address="corpora/a")),
        ("corpora/a=2.5", Source(address="corpora/a", weight=2.5)),
        ("s3://lab/a=b/c", Source(address="s3://lab/a=b/c")),
        ("s3://lab/a=b/c=3", Source(address="s3://lab/a=b/c", weight=3)),
    ],
)
def test_a_source_is_an_address_and_perhaps_a_weight(text: str, source: Source) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize("weight", ["", "much", "0", "-1", "inf", "nan"])
def test_a_weight_is_a_positive_number(weight: str) -> None:
    with pytest.raises(UserError, match=f"--data a={weight}: the weight must be a positive number"):
        parse_source(f"a={weight}")


def test_shares_follow_weights(shards: Path, tmp_path: Path) -> None:
    commit(shards, tmp_path / "a", 0)
    commit(shards, tmp_path / "b", 1)
    data = open_data(f"{tmp_path / 'a'}=3", f"{tmp_path / 'b'}=1")
    corpora = [int(batch.corpora) for batch in itertools.islice(data, 1024)]
    assert corpora.count(0) == 768


def test_all_sources_have_weights_or_none(shards: Path, tmp_path: Path) -> None:
    commit(shards, tmp_path / "a", 0)
    with pytest.raises(UserError, match=r"a: has no weight and others have"):
        open_data(f"{shards}=3", tmp_path / "a")


def test_a_split_that_is_not_there_is_refused_or_left_out(shards: Path, tmp_path: Path) -> None:
    commit(shards, tmp_path / "a", 0)
    sources = [parse_source(str(tmp_path / "a"))]
    with pytest.raises(UserError, match="has no clips of the split 'val'; it has train"):
        open_sources(sources, "val")
    assert open_sources(sources, "val", missing="skip") == []


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("before", [1, 3, 4, 5, 9])
def test_it_goes_on_with_the_same_samples(
    before: int, follow: bool, shards: Path, tmp_path: Path
) -> None:
    commit(shards, tmp_path / "c", 0, 1)
    options: dict[str, Any] = {"follow": follow, "folder": tmp_path / "lists"}
    expected = take(open_data(tmp_path / "c", **options), 20)
    data = open_data(tmp_path / "c", **options)
    assert take(data, before) == expected[:before]
    state = data.state_dict()
    other = open_data(tmp_path / "c", **options)
    other.load_state_dict(state)
    assert other.position == before
    assert take(other, 20 - before) == expected[before:]


def test_new_shards_come_with_the_next_epoch_and_not_before(shards: Path, tmp_path: Path) -> None:
    commit(shards, tmp_path / "c", 0)
    options: dict[str, Any] = {"follow": True, "folder": tmp_path / "lists"}
    data = open_data(tmp_path / "c", **options)
    batches = iter(data)
    first = [identity(next(batches)) for _ in range(2)]
    state = data.state_dict()
    commit(shards, tmp_path / "c", 1, 2)
    rest = [identity(next(batches)) for _ in range(2)]
    assert {key for key, *_ in first + rest} == {"clip-000000", "clip-000001"}
    second = [identity(next(batches)) for _ in range(12)]
    assert {key for key, *_ in second} == {f"clip-{n:06d}" for n in range(6)}
    assert len(set(second)) == 12
    # Killed in the first epoch: the list of it is kept, and so is that of the second.
    again = open_data(tmp_path / "c", **options)
    again.load_state_dict(state)
    assert take(again, 14) == rest + second


def test_epochs_of_a_growing_corpus_hold_whole_steps(shards: Path, tmp_path: Path) -> None:
    commit(shards, tmp_path / "c", 0)
    options: dict[str, Any] = {"follow": True, "folder": tmp_path / "lists", "samples_per_step": 3}
    data = open_data(tmp_path / "c", **options)
    take(data, 4)
    assert data.state_dict()["epoch"] == 1 and data.position == 4
    longer = open_data(tmp_path / "c", **options | {"samples_per_step": 6, "folder": tmp_path / "longer"})
    assert len(take(longer, 6)) == 6 and longer.state_dict()["epoch"] == 0


def test_ranks_share_out_the_samples(shards: Path, tmp_path: Path) -> None:
    commit(shards, tmp_path / "c", 0, 1)
    options: dict[str, Any] = {"follow": True, "folder": tmp_path / "lists"}
    alone = take(open_data(tmp_path / "c", **options), 12)
    shared = [take(open_data(tmp_path / "c", rank=rank, world_size=2, **options), 6) for rank in range(2)]
    assert [one for pair in zip(*shared, strict=True) for one in pair] == alone


def test_a_shard_that_has_changed_is_told(shards: Path, tmp_path: Path) -> None:
    commit(shards, tmp_path / "c", 0, 1)
    options: dict[str, Any] = {"follow": True, "folder": tmp_path / "lists"}
    open_data(tmp_path / "c", **options)
    for path in (tmp_path / "c").glob("train-000001.*"):
        path.unlink()
    rebuild_index(tmp_path / "c")
    with pytest.raises(UserError, match=r"train-000001.tar: is not what it was when epoch 0 began"):
        open_data(tmp_path / "c", **options)


def test_a_run_that_followed_goes_on_following(shards: Path, tmp_path: Path) -> None:
    commit(shards, tmp_path / "c", 0)
    data = open_data(tmp_path / "c", follow=True, folder=tmp_path / "lists")
    take(data, 6)
    with pytest.raises(UserError, match="--follow: the run was begun with it"):
        open_data(tmp_path / "c").load_state_dict(data.state_dict())


torch.set_num_threads(1)
