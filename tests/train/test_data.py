"""What a run reads: shares of corpora, and corpora that grow while it reads them; the same after a stop."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from focuspull.dataset.errors import UserError
from focuspull.dataset.index import INDEX_NAME, read_index, rebuild_index, write_index
from focuspull.dataset.loader import Batch, Window
from focuspull.dataset.perturb import PRESETS
from focuspull.dataset.transforms import Transform
from focuspull.train.data import Source, TrainingData, full_address, open_sources, parse_source
from tests.dataset.conftest import make_clip, publish

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of two clips of two targets: 4 samples each."""
    corpus = tmp_path_factory.mktemp("shards") / "corpus"
    for shard in range(3):
        clips = [make_clip(f"clip-{2 * shard + n:06d}", num_frames=2) for n in range(2)]
        publish(corpus, f"train-{shard:06d}", clips)
    return corpus


def commit(shards: Path, corpus: Path, *numbers: int, indexed: bool = True) -> None:
    """Have shards of a corpus come to be in another one."""
    corpus.mkdir(exist_ok=True)
    for number in numbers:
        for end in ("tar", "json"):
            shutil.copy(shards / f"train-{number:06d}.{end}", corpus)
    (corpus / "corpus.json").write_text(json.dumps({"spec_sha256": "0" * 64}))
    if indexed:
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
    return (
        *batch.keys,
        *batch.targets.tolist(),
        *batch.frames.flatten().tolist(),
        int(batch.aif.long().sum()),
    )


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("corpora/a", Source(address="corpora/a")),
        ("corpora/a=2.5", Source(address="corpora/a", weight=2.5)),
        ("s3://lab/a=b/c", Source(address="s3://lab/a=b/c")),
        ("s3://lab/a=b/c=3", Source(address="s3://lab/a=b/c", weight=3)),
        ("https://lab.org/a=1", Source(address="https://lab.org/a", weight=1)),
        ("cards", Source(address="cards")),
        ("cards:mine.yaml=0.5", Source(address="cards:mine.yaml", weight=0.5)),
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
def test_it_goes_on_with_the_same_samples(before: int, follow: bool, shards: Path, tmp_path: Path) -> None:
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


def test_a_shard_that_is_gone_or_has_changed_is_told(shards: Path, tmp_path: Path) -> None:
    commit(shards, tmp_path / "c", 0, 1)
    options: dict[str, Any] = {"follow": True, "folder": tmp_path / "lists"}
    state = open_data(tmp_path / "c", **options).state_dict()
    marker = tmp_path / "c" / "train-000001.json"
    content = json.loads(marker.read_text())
    content["clips"] = content["clips"][:1]
    marker.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=r"train-000001\.tar: is not what it was, and epoch 0 was begun with it"
    ):
        open_data(tmp_path / "c", **options).load_state_dict(state)
    marker.unlink()
    with pytest.raises(
        UserError, match=r"train-000001\.json: is gone, and epoch 0 was begun with it .*Restore"
    ):
        take(open_data(tmp_path / "c", **options), 1)
    commit(shards, tmp_path / "c", 1)
    open_data(tmp_path / "c", **options).load_state_dict(state)


def test_lists_of_shards_have_to_be_there(shards: Path, tmp_path: Path) -> None:
    commit(shards, tmp_path / "c", 0)
    options: dict[str, Any] = {"follow": True, "folder": tmp_path / "lists"}
    data = open_data(tmp_path / "c", **options)
    take(data, 6)
    state = data.state_dict()
    assert state["epoch"] == 1
    with pytest.raises(UserError, match=r"epoch-000001\.json: is of 1 sources, got 2"):
        open_data(tmp_path / "c", shards, **options).load_state_dict(state)
    (tmp_path / "lists" / "epoch-000001.json").write_text("{}")
    with pytest.raises(UserError, match=r"epoch-000001\.json: is not a list of shards"):
        open_data(tmp_path / "c", **options).load_state_dict(state)
    (tmp_path / "lists" / "epoch-000001.json").unlink()
    with pytest.raises(UserError, match=r"epoch-000001\.json: cannot be read \(No such file or directory\)"):
        open_data(tmp_path / "c", **options).load_state_dict(state)


def test_a_run_past_an_epoch_does_without_its_shards(shards: Path, tmp_path: Path) -> None:
    commit(shards, tmp_path / "c", 0, 1)
    options: dict[str, Any] = {"follow": True, "folder": tmp_path / "lists"}
    data = open_data(tmp_path / "c", **options)
    batches = iter(data)
    list(itertools.islice(batches, 8))
    for path in (tmp_path / "c").glob("train-000001.*"):
        path.unlink()
    found = [identity(next(batches)) for _ in range(3)]
    state = data.state_dict()
    assert {key for key, *_ in found} <= {"clip-000000", "clip-000001"}
    other = open_data(tmp_path / "c", **options)
    other.load_state_dict(state)
    assert take(other, 4) == [identity(next(batches)) for _ in range(4)]


def test_shards_are_found_while_the_index_lags_behind(shards: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "c"
    commit(shards, corpus, 0, indexed=False)
    options: dict[str, Any] = {"follow": True, "folder": tmp_path / "lists", "batch_size": 2}
    (corpus / "train-000007.tar").write_bytes(b"not committed yet")
    batches = iter(open_data(corpus, **options))
    first = [next(batches) for _ in range(2)]
    rebuild_index(corpus)
    commit(shards, corpus, 1, indexed=False)
    second = [next(batches) for _ in range(4)]
    assert {key for batch in first for key in batch.keys} == {"clip-000000", "clip-000001"}
    assert {key for batch in second for key in batch.keys} == {f"clip-{n:06d}" for n in range(4)}
    with pytest.raises(UserError, match="lacks the clips of train-000001"):
        open_data(corpus)
    assert len(open_sources([parse_source(str(corpus))], "train", follow=True)[0].rows) == 4


@pytest.mark.parametrize("weights", [("", ""), ("=1", "=2")])
def test_batches_are_the_same_bit_for_bit_after_a_stop(
    weights: tuple[str, str], shards: Path, tmp_path: Path
) -> None:
    """Beside cards, with perturbed disparity and threads, while more is committed."""
    (tmp_path / "few.yaml").write_text("{num_clips: 5, width: 24, height: 16, num_frames: 2, num_targets: 1}")
    sources = (f"{tmp_path / 'c'}{weights[0]}", f"cards:{tmp_path / 'few.yaml'}{weights[1]}")
    options: dict[str, Any] = {
        "follow": True,
        "perturbation": PRESETS["corrected"],
        "folder": tmp_path / "lists",
        "num_workers": 2,
    }
    commit(shards, tmp_path / "c", 0)
    whole = list(itertools.islice(open_data(*sources, **options), 24))
    assert {key.partition("-")[0] for batch in whole for key in batch.keys} == {"clip", "cards"}
    commit(shards, tmp_path / "c", 1, 2)
    for stop in (1, 7, 8, 9, 17):
        before = open_data(*sources, **options)
        list(itertools.islice(before, stop))
        after = open_data(*sources, **options | {"num_workers": 0})
        after.load_state_dict(before.state_dict())
        # The third epoch, from 16 on, was listed before the commit.
        for a, b in zip(itertools.islice(after, 24 - stop), whole[stop:], strict=True):
            assert a.keys == b.keys
            for name in ("aif", "bokeh", "disparity", "k", "focus_disparity", "frames", "targets"):
                assert torch.equal(getattr(a, name), getattr(b, name))


def test_what_cannot_be_trained_on_is_refused(shards: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"follow": True, "folder": tmp_path / "lists"}
    (tmp_path / "begun").mkdir()
    with pytest.raises(UserError, match="begun: has no committed shard yet"):
        open_data(tmp_path / "begun", **options)
    with pytest.raises(UserError, match=r"index\.parquet: is not there\. Give the folder of a corpus"):
        open_data(tmp_path / "begun")
    with pytest.raises(UserError, match="nowhere: cannot be read"):
        open_data(tmp_path / "nowhere", **options)
    with pytest.raises(UserError, match=r"train-\*\.tar: is not a folder, which --follow needs"):
        open_data(shards / "train-*.tar", **options)
    with pytest.raises(UserError, match="--data '=3': has no address"):
        parse_source("=3")
    commit(shards, tmp_path / "c", 0)
    write_index(tmp_path / "c", [row | {"num_targets": 0} for row in read_index(tmp_path / "c")])
    with pytest.raises(UserError, match=r"train-000000\.tar, clip-000000: has no bokeh target to learn from"):
        open_data(tmp_path / "c")
    assert (tmp_path / "c" / INDEX_NAME).exists() and not (tmp_path / "lists").exists()
    with pytest.raises(ValueError, match="samples_per_step: must be a multiple of 2 samples of 3 processes"):
        open_data(shards, batch_size=2, world_size=3, samples_per_step=8)


def work(rank: int, corpus: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    options: dict[str, Any] = {"follow": True, "rank": rank, "world_size": 2}
    found: list[Any] = [take(open_data(corpus, folder=folder / "lists", **options), 6)]
    try:
        open_data(folder, folder=folder / "others", **options)
    except UserError as error:
        found.append(str(error))
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_processes_agree_on_an_epoch_and_on_its_errors(shards: Path, tmp_path: Path) -> None:
    alone = take(open_data(shards, follow=True, folder=tmp_path / "alone"), 12)
    mp.spawn(work, (shards, tmp_path), 2)  # type: ignore[attr-defined]
    (first, error), (second, same_error) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert [one for pair in zip(first, second, strict=True) for one in pair] == alone
    assert error == same_error and "has no committed shard yet" in error


def test_a_run_that_followed_goes_on_following(shards: Path, tmp_path: Path) -> None:
    commit(shards, tmp_path / "c", 0)
    data = open_data(tmp_path / "c", follow=True, folder=tmp_path / "lists")
    take(data, 6)
    with pytest.raises(UserError, match=r"--follow: the run was begun with it\. Give it again"):
        open_data(tmp_path / "c").load_state_dict(data.state_dict())
    with pytest.raises(UserError, match=r"--follow: the run was begun without it\. Leave it out"):
        data.load_state_dict(open_data(tmp_path / "c").state_dict())


def test_full_addresses_are_the_same_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert full_address("a/b") == str(tmp_path / "a/b")
    assert full_address("cards:c.yaml") == f"cards:{tmp_path / 'c.yaml'}"
    assert [full_address(a) for a in ("cards", "s3://lab/a")] == ["cards", "s3://lab/a"]
