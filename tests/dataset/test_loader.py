"""Batches: the right pixels, every sample once, and the same again after a stop."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from focuspull.dataset.clip import Clip, decode_clip
from focuspull.dataset.errors import UserError
from focuspull.dataset.loader import Batch, Loader, Window, unit
from focuspull.dataset.markers import read_marker, read_members
from focuspull.dataset.perturb import PRESETS
from focuspull.dataset.reader import CorpusReader
from focuspull.dataset.transforms import Transform


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """7 clips of 5 frames and 2 targets in 3 shards: 14 items, which no number of ranks here divides well."""
    from tests.dataset.conftest import make_clip, publish

    corpus = tmp_path_factory.mktemp("wide") / "corpus"
    for shard, numbers in enumerate(([0, 1, 2], [3], [4, 5, 6])):
        publish(corpus, f"train-{shard:06d}", [make_clip(f"clip-{n:06d}", num_frames=5) for n in numbers])
    return corpus


def load(corpus: Path, **options: Any) -> Loader:
    options = {"window": Window(num_frames=2), "batch_size": 2, "seed": 0} | options
    return Loader([CorpusReader(corpus)], **options)


def identity(batch: Batch) -> list[tuple[Any, ...]]:
    """Of each sample: clip, target, first frame, and a sum over all its pixels."""
    return [
        (batch.keys[i], int(batch.targets[i]), int(batch.frames[i, 0]), int(batch.bokeh[i].long().sum()))
        for i in range(len(batch.keys))
    ]


def samples(loader: Loader, num_batches: int | None = None) -> list[tuple[Any, ...]]:
    return [one for batch in itertools.islice(loader, num_batches) for one in identity(batch)]


def test_batches_hold_the_pixels_and_values_of_the_clips(corpus: Path):
    loader = load(corpus, with_instance=True, with_focus_mask=True, num_epochs=1, batch_size=3)
    assert loader.epoch_size == 6
    batches = list(loader)
    for batch in batches:
        assert batch.instance is not None and batch.focus_mask is not None
        for i, key in enumerate(batch.keys):
            name = "val-000000" if key == "clip-000002" else "train-000000"
            clip = decode_clip(read_members(corpus, read_marker(corpus, name), key))
            frames, p = batch.frames[i].tolist(), int(batch.targets[i])
            as_video = lambda planes: planes.permute(0, 2, 3, 1).numpy()  # noqa: E731
            np.testing.assert_array_equal(as_video(batch.aif[i]), clip.aif[frames])
            np.testing.assert_array_equal(as_video(batch.bokeh[i]), clip.bokeh[p][frames])
            np.testing.assert_array_equal(batch.disparity[i, :, 0].numpy(), clip.disparity[frames])
            np.testing.assert_array_equal(batch.instance[i, :, 0].numpy(), clip.instance[frames])
            np.testing.assert_allclose(batch.k[i], np.array(clip.meta.targets[p].k)[frames])
            focus = np.array(clip.meta.targets[p].focus_disparity)[frames]
            np.testing.assert_allclose(batch.focus_disparity[i], focus)
            np.testing.assert_allclose(
                batch.defocus[i, :, 0], clip.disparity[frames] - focus[:, None, None], atol=1e-6
            )
            for t, (frame, f) in enumerate(zip(frames, focus, strict=True)):
                # The disc is at disparity 1; its mask is it, and empty unless it is in focus.
                expected = (clip.instance[frame] == 1) & (f == 1)
                np.testing.assert_array_equal(batch.focus_mask[i, t, 0], expected)
    assert sum(len(batch.keys) for batch in batches) == 6
    batch = batches[0]
    assert batch.aif.dtype == torch.uint8 and batch.disparity.dtype == torch.float32
    assert unit(batch.aif).max() <= 1 and unit(batch.aif, torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_sample_comes_exactly_once_per_epoch(wide: Path, ranks: int, workers: int):
    found: Counter[tuple[str, int]] = Counter()
    for rank in range(ranks):
        loader = load(wide, rank=rank, world_size=ranks, num_workers=workers, num_epochs=1)
        found.update((key, target) for key, target, _, _ in samples(loader))
    assert found == {(f"clip-{n:06d}", p): 1 for n in range(7) for p in range(2)}


def test_neither_ranks_nor_workers_change_what_is_seen(wide: Path):
    alone = samples(load(wide, batch_size=6), 5)
    dealt: list[list[Any]] = [samples(load(wide, batch_size=2, rank=r, world_size=3), 5) for r in range(3)]
    together = [dealt[r][2 * step + i] for step in range(5) for i in range(2) for r in range(3)]
    assert together == alone == samples(load(wide, batch_size=6, num_workers=2), 5)


def test_training_resumes_at_the_exact_next_sample(wide: Path):
    """50 random points, other numbers of workers, batches and ranks after the stop."""
    whole = samples(load(wide, batch_size=1), 70)
    rng = np.random.default_rng(0)
    for _ in range(50):
        stop, batch_size = int(rng.integers(1, 11)), int(rng.integers(1, 4))
        before = load(wide, batch_size=batch_size)
        assert samples(before, stop) == whole[: stop * batch_size]
        after = load(wide, batch_size=int(rng.integers(1, 4)))
        after.load_state_dict(before.state_dict())
        rest = samples(after, 4)
        assert rest == whole[stop * batch_size :][: len(rest)]


def test_prefetched_batches_are_not_counted_as_seen(wide: Path):
    whole = samples(load(wide, batch_size=1), 20)
    before = load(wide, num_workers=2, prefetch_factor=4)
    iterator: Iterator[Batch] = iter(before)
    for _ in range(3):
        next(iterator)
    state = before.state_dict()
    assert state["position"] == 6
    after = load(wide, num_workers=1, batch_size=1)
    after.load_state_dict(state)
    assert samples(after, 8) == whole[6:14]


def test_two_ranks_resume_as_three(wide: Path):
    whole = samples(load(wide, batch_size=1), 24)
    before = [load(wide, rank=r, world_size=2) for r in range(2)]
    for loader in before:
        samples(loader, 3)
    assert before[0].state_dict() == before[1].state_dict()
    rest = []
    for rank in range(3):
        after = load(wide, rank=rank, world_size=3, batch_size=1)
        after.load_state_dict(before[0].state_dict())
        rest.append(samples(after, 4))
    assert [rest[i % 3][i // 3] for i in range(12)] == whole[12:24]


def test_state_of_other_data_is_refused(wide: Path, corpus: Path):
    state = load(wide).state_dict()
    for other in (load(corpus), load(wide, seed=1), load(wide, per="clip"), load(wide, shuffle=False)):
        with pytest.raises(UserError, match="the data differ from those of the checkpoint"):
            other.load_state_dict(state)


def test_one_target_per_clip_is_drawn_anew_each_epoch(wide: Path):
    loader = load(wide, per="clip", batch_size=7)
    epochs = [{key: target for key, target, _, _ in samples(loader, 1)} for _ in range(6)]
    assert all(len(epoch) == 7 for epoch in epochs)
    assert {target for epoch in epochs for target in epoch.values()} == {0, 1}
    assert any(a != b for a, b in itertools.pairwise(epochs))


def test_windows_have_their_stride_and_reach_all_frames(wide: Path):
    loader = load(wide, window=Window(num_frames=2, stride=3), num_epochs=3)
    frames = {tuple(f) for batch in loader for f in batch.frames.tolist()}
    assert frames == {(0, 3), (1, 4)}
    first = load(wide, window=Window(num_frames=2, start="first"), num_epochs=1)
    assert {tuple(f) for batch in first for f in batch.frames.tolist()} == {(0, 1)}
    everything = load(wide, window=Window(), num_epochs=1)
    assert {tuple(f) for batch in everything for f in batch.frames.tolist()} == {(0, 1, 2, 3, 4)}


def test_corpora_are_mixed_by_weight(wide: Path, corpus: Path):
    readers = [CorpusReader(wide), CorpusReader(corpus)]
    loader = Loader(readers, weights=[3, 1], window=Window(num_frames=1), batch_size=64, seed=0)
    batches = list(itertools.islice(loader, 16))
    share = torch.cat([batch.corpora for batch in batches]).float().mean()
    assert share == pytest.approx(0.25, abs=1e-3)


def test_transforms_keep_k_true_and_make_sizes_equal(wide: Path):
    plain = load(wide, shuffle=False)
    half = load(wide, shuffle=False, transform=Transform(size=(8, 12), flip=1.0))
    a, b = next(iter(plain)), next(iter(half))
    assert b.aif.shape[-2:] == b.disparity.shape[-2:] == (8, 12)
    torch.testing.assert_close(b.k, a.k / 2)
    torch.testing.assert_close(b.focus_disparity, a.focus_disparity)
    torch.testing.assert_close(b.disparity, a.disparity.flip(-1)[..., 1::2, 1::2])


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_perturbation_changes_disparity_alone_and_repeats(wide: Path, preset: str):
    clean = next(iter(load(wide, batch_size=14)))
    noisy, again = (next(iter(load(wide, batch_size=14, perturbation=PRESETS[preset]))) for _ in range(2))
    assert (noisy.disparity != clean.disparity).any()
    torch.testing.assert_close(noisy.disparity, again.disparity, rtol=0, atol=0)
    torch.testing.assert_close(noisy.bokeh, clean.bokeh, rtol=0, atol=0)
    torch.testing.assert_close(noisy.focus_disparity, clean.focus_disparity, rtol=0, atol=0)


def test_batches_go_to_a_device_whole(wide: Path):
    batch = next(iter(load(wide, with_instance=True)))
    moved = batch.to("meta")
    assert moved.instance is not None
    assert moved.aif.device.type == moved.instance.device.type == "meta"
    assert moved.focus_mask is None and moved.keys == batch.keys


def test_clips_shorter_than_the_window_are_named(wide: Path):
    with pytest.raises(UserError, match=r"train-000000\.tar, clip-000000: has 5 frames, the window needs 9"):
        load(wide, window=Window(num_frames=3, stride=4))


def test_clips_of_different_size_need_a_transform(
    tmp_path: Path, make_clip: Callable[..., Clip], publish: Callable[..., None]
):
    publish(tmp_path, "train-000000", [make_clip("clip-000000"), make_clip("clip-000001", width=32)])
    with pytest.raises(UserError, match=r"windows of 2 frames of \d\dx16, .* do not fit into one batch"):
        next(iter(load(tmp_path, batch_size=4)))
    batch = next(iter(load(tmp_path, batch_size=4, transform=Transform(size=(8, 8)))))
    assert batch.aif.shape == (4, 2, 3, 8, 8)


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_clip_ends_the_run_in_one_line_or_is_replaced(
    corpus: Path, workers: int, caplog: pytest.LogCaptureFixture
):
    entry = read_marker(corpus, "val-000000").clips[0].members[3]
    with (corpus / "val-000000.tar").open("r+b") as file:
        file.seek(entry.offset + entry.size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    options = {"window": Window(), "num_epochs": 1, "num_workers": workers}
    with pytest.raises(UserError) as caught:
        samples(load(corpus, **options))
    assert "val-000000.tar, clip-000002: aif.002.png: its bytes do not have the SHA-256" in str(caught.value)
    assert "\n" not in str(caught.value)
    loader = load(corpus, on_error="skip", **options)
    with caplog.at_level(logging.WARNING):
        found = samples(loader)
    assert len(found) == 6 and "clip-000002" not in {key for key, *_ in found}
    assert loader.num_skipped >= 2
    assert "skipped: " in caplog.text and "clip-000002" in caplog.text


def test_bad_options_are_refused(wide: Path):
    with pytest.raises(ValueError, match="0 <= rank < world_size"):
        load(wide, rank=2, world_size=2)
    with pytest.raises(ValueError, match="corpora with weights have no epochs"):
        load(wide, num_epochs=1, weights=[1.0])
