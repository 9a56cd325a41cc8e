"""Systems on a test set: every system's video of every item, its scores and features, each computed once.

An item (one target of one clip) is one task: its truth is decoded, and measured by the networks, once for all
systems. What is found is written as it is found, so that the same command goes on after any interruption, and
a system that is added later costs only itself::

    OUT/evaluation.json               what the numbers depend on: data, metrics, weights; others are refused
    OUT/items/<clip>.bokeh0/truth.npz          features of the truth
    OUT/items/<clip>.bokeh0/<system>.json      scores, or why there are none
    OUT/items/<clip>.bokeh0/<system>.npz       features
    OUT/items/<clip>.bokeh0/<system>.webp ...  pictures and videos for the report

A system that fails on an item is counted and named; the others go on.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from focuspull.dataset.cards_published import is_published_cards, open_published_cards
from focuspull.dataset.clip import FrozenModel, first_problem
from focuspull.dataset.corpus import Corpus
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.dataset.optics import k_at_1024
from focuspull.dataset.perturb import Perturbation, perturb_disparity
from focuspull.dataset.reader import ClipRow
from focuspull.model.depth import DepthNetwork
from focuspull.train.metrics.base import Measure, Prediction, Truth
from focuspull.train.metrics.coded import mp4
from focuspull.train.metrics.image import IDENTICAL_DB
from focuspull.train.metrics.registry import SET_METRICS, VIDEO_METRICS
from focuspull.train.metrics.sets import Extract
from focuspull.train.results import Item, SystemInfo
from focuspull.train.sources import open_whole
from focuspull.train.systems import Predictor, SystemSpec, fingerprint, open_system

EVALUATION_NAME = "evaluation.json"
ITEMS = "items"
TRUTH, AIF = "truth", "aif"
PREVIEW_WIDTH = 480
ERROR_GAIN = 4
"""How much brighter errors are shown."""
_WEBP_QUALITY = 85
_VIDEO_CRF = 26
FORMAT = 1
"""Goes up when the same inputs give other scores."""


class TestSet(FrozenModel):
    """A test set.

    Args:
        address: Folder of a corpus, or ``cards...``; see `focuspull.train.sources`.
        split: Of it.
        max_clips: The first so many; None: all.
        cards: Fields of the spec of ``cards200`` and their values.
    """

    __test__ = False  # not one of pytest's

    address: str
    split: str
    max_clips: int | None = None
    cards: tuple[tuple[str, bool | str], ...] = ()


class Corruption(FrozenModel):
    """What happens to disparity before a system sees it.

    Args:
        name: Of the corruption; empty for none.
        level: Its degree.
        perturbation: What is done; None for a depth network's estimate.
        depth_model: Folder or name of that network.
    """

    name: str = ""
    level: float = 0.0
    perturbation: Perturbation | None = None
    depth_model: str | None = None


class Task(FrozenModel):
    """One item with all systems; what a worker gets.

    Args:
        test_set: Where the item is from.
        clip: Its key.
        target: Its target.
        systems: Which are to be measured.
        metrics: Ids of metrics of videos.
        sets: Ids of set metrics.
        weights: Files by name.
        device: Where networks compute.
        out: Folder of the evaluation.
        corruption: Of the disparity.
        previews: Whether pictures and videos are kept.
    """

    test_set: TestSet
    clip: str
    target: int
    systems: tuple[SystemSpec, ...]
    metrics: tuple[str, ...]
    sets: tuple[str, ...]
    weights: dict[str, Path]
    device: str
    out: Path
    corruption: Corruption = Corruption()
    previews: bool = True

    @property
    def folder(self) -> Path:
        """Where its results are."""
        return self.out / ITEMS / f"{self.clip}.bokeh{self.target}"


class Outcome(FrozenModel):
    """What is kept of one system on one item.

    Args:
        fingerprint: Of the system, see `focuspull.train.systems.fingerprint`.
        info: What the system says of itself; None if it failed before it could.
        scores: By metric; None where there is nothing to measure.
        failed: Why there are no scores; None if there are.
    """

    fingerprint: str
    info: SystemInfo | None = None
    scores: dict[str, float | None] = {}
    failed: str | None = None


class Cost(FrozenModel):
    """CPU seconds of a task: of systems, of metrics and their networks, and of everything.

    Args:
        systems: Making videos, opening what makes them included.
        metrics: Measuring, opening networks included.
        total: All that the process did for the task.
    """

    systems: float = 0.0
    metrics: float = 0.0
    total: float = 0.0


def open_test_set(test_set: TestSet) -> Corpus:
    """The clips of a test set.

    Raises:
        UserError: If it cannot be read, or has no clip of the split.
    """
    if is_published_cards(test_set.address):
        corpus: Corpus = open_published_cards(test_set.address, overrides=dict(test_set.cards))
    elif test_set.cards:
        raise UserError(
            f"{test_set.address}: --official-jitter, --mattes and --backgrounds are for cards200."
        )
    else:
        corpus = open_whole(test_set.address, test_set.split, None)
    have = sorted({row.split for row in corpus.rows})
    rows = [row for row in corpus.rows if row.split == test_set.split]
    if not rows:
        raise UserError(
            f"{test_set.address}: has no clips of the split '{test_set.split}'; it has {', '.join(have)}."
        )
    corpus.rows = rows[: test_set.max_clips]
    return corpus


def identity(test_set: TestSet, rows: Sequence[ClipRow], choice: Mapping[str, str]) -> dict[str, str]:
    """What numbers depend on; two evaluations of one folder must agree in it."""
    clips = " ".join(f"{row.key} {row.members_sha256}" for row in rows)
    return {"format": str(FORMAT), "split": test_set.split, "clips": _short_hash(clips), **choice}


def claim(out: Path, facts: Mapping[str, str]) -> None:
    """Begin an evaluation in a folder, or go on with the one that is there.

    Raises:
        UserError: If what is there was made of other data, metrics or weights.
    """
    path = out / EVALUATION_NAME
    if path.exists():
        try:
            there = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read: {error}. Give another --out.") from error
        if not isinstance(there, dict):
            raise UserError(f"{path}: is not of an evaluation. Give another --out.")
        differing = sorted(name for name in {*there, *facts} if there.get(name) != facts.get(name))
        if differing:
            raise UserError(
                f"{path}: was made with other {', '.join(differing)}. Give another --out or the same options."
            )
        return
    write_atomic(path, json.dumps(dict(facts), indent=1).encode())


def item_of(row: ClipRow, truth_shape: Sequence[int], target: int, k: Tensor, focus: Tensor) -> Item:
    """What is known of an item, from the index and its own arrays."""
    height, width = truth_shape[-2:]
    floors = row.index.get("noise_floor_db") or []
    return Item(
        clip=row.key,
        target=target,
        split=row.split,
        stratum=row.index.get("stratum"),
        family=row.index.get("family"),
        k_at_1024=round(float(k_at_1024(float(k.max()), width)), 3),
        k_varies=float(k.max() - k.min()) > 1e-3 * float(k.max()),
        focus_disparity=round(float(focus.mean()), 4),
        # A subject that moves changes d_f a little; a pull changes it by much.
        focus_varies=float(focus.max() - focus.min()) > 0.1,
        noise_floor_db=floors[target] if target < len(floors) else None,
        num_frames=len(k),
        width=width,
        height=height,
    )


def load_truth(corpus: Corpus, row: ClipRow, target: int) -> tuple[Truth, NDArray[np.uint16] | None]:
    """Decode an item; with its instance ids.

    Raises:
        UserError: If the clip is damaged.
    """
    sample = corpus.sample(row, target=target, frames=range(row.num_frames), instance=True)
    aif, bokeh = (_unit(video) for video in (sample.aif, sample.bokeh))
    k, focus = torch.from_numpy(sample.k.copy()), torch.from_numpy(sample.focus_disparity.copy())
    item = item_of(row, aif.shape, target, k, focus)
    disparity = torch.from_numpy(np.ascontiguousarray(sample.disparity))[:, None]
    return Truth(item, aif, bokeh, disparity, k, focus), sample.instance


def _unit(video: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(video.transpose(0, 3, 1, 2))).float() / 255


# --- One task -----------------------------------------------------------------------------------------


class _Clock:
    """CPU seconds of this process by what they went to."""

    def __init__(self) -> None:
        self.spent = {"systems": 0.0, "metrics": 0.0}
        self._start = time.process_time()

    @contextmanager
    def on(self, what: str) -> Generator[None]:
        start = time.process_time()
        try:
            yield
        finally:
            self.spent[what] += time.process_time() - start

    def cost(self) -> Cost:
        return Cost(**self.spent, total=time.process_time() - self._start)


def evaluate(task: Task) -> Cost:
    """Run a task: what is missing of it is computed and written.

    Raises:
        UserError: If the truth cannot be read. What systems do wrong is written as their outcome.
    """
    clock = _Clock()
    todo = [system for system in task.systems if not is_done(task, system)]
    if not todo:
        return clock.cost()
    corpus = _corpus(task.test_set)  # pyright: ignore[reportArgumentType]: frozen, so it has a hash
    row = next(row for row in corpus.rows if row.key == task.clip)
    truth, instance = load_truth(corpus, row, task.target)
    write_atomic(task.folder / "facts.json", truth.item.model_dump_json().encode())
    with clock.on("metrics"):
        measures = {name: _measure(name, task.device, _frozen(task.weights)) for name in task.metrics}
        extracts = {name: _extract(name, task.device, _frozen(task.weights)) for name in task.sets}
        features = task.folder / f"{TRUTH}.npz"
        if extracts and not features.exists():
            _write_features(features, extracts, truth.bokeh)
    if task.previews:
        _write_pictures(task.folder, TRUTH, truth.bokeh, None)
        _write_pictures(task.folder, AIF, truth.aif, None)
    disparity = _corrupted(truth, instance, task)
    for system in todo:
        mark = fingerprint(system, task.clip, task.target)
        try:
            with clock.on("systems"):
                predictor = _predictor(system, task.device, str(task.out))  # pyright: ignore[reportArgumentType]
                made = predictor(truth, disparity)
        except UserError as error:
            _write_outcome(task, system, Outcome(fingerprint=mark, failed=str(error)))
            continue
        prediction = Prediction(made)
        with clock.on("metrics"):
            found = {name: measure(truth, prediction) for name, measure in measures.items()}
            if extracts:
                _write_features(task.folder / f"{system.name}.npz", extracts, made)
        if task.previews:
            _write_pictures(task.folder, system.name, made, truth.bokeh)
        # torchmetrics gives equal videos an infinite PSNR, of which no mean could be taken.
        scores = {
            name: None if math.isnan(value) else min(value, IDENTICAL_DB) for name, value in found.items()
        }
        _write_outcome(task, system, Outcome(fingerprint=mark, info=predictor.info, scores=scores))
    return clock.cost()


def is_done(task: Task, system: SystemSpec) -> bool:
    """Whether a system's scores are there and still hold; failures are tried again."""
    outcome = read_outcome(task.folder, system.name)
    return (
        outcome is not None
        and outcome.failed is None
        and outcome.fingerprint == fingerprint(system, task.clip, task.target)
        and (not task.sets or (task.folder / f"{system.name}.npz").exists())
    )


def read_outcome(folder: Path, system: str) -> Outcome | None:
    """What was kept of a system on an item; None if there is nothing yet.

    Raises:
        UserError: If it cannot be read.
    """
    path = folder / f"{system}.json"
    try:
        return Outcome.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise UserError(
            f"{path}: is damaged: {first_problem(error)}. Remove it and evaluate again."
        ) from error


def read_features(path: Path, name: str) -> NDArray[np.float64]:
    """Features ``[n, d]`` that a task has written.

    Raises:
        UserError: If they cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[name].astype(np.float64)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path}: cannot be read: {error}. Remove it and evaluate again.") from error


def _write_features(path: Path, extracts: Mapping[str, Extract], video: Tensor) -> None:
    file = io.BytesIO()
    np.savez(file, **{name: extract(video) for name, extract in extracts.items()})
    write_atomic(path, file.getvalue())


def _write_outcome(task: Task, system: SystemSpec, outcome: Outcome) -> None:
    write_atomic(task.folder / f"{system.name}.json", outcome.model_dump_json().encode())


def _corrupted(truth: Truth, instance: NDArray[np.uint16] | None, task: Task) -> Tensor:
    """The disparity that systems are given, ``[T, 1, H, W]``."""
    corruption = task.corruption
    if corruption.depth_model is not None:
        return estimated_disparity(truth, depth_network(corruption.depth_model, task.device))
    if corruption.perturbation is None:
        return truth.disparity
    key = f"{task.clip} {task.target} {corruption.name}"
    # The same draws at every level, so that a higher level is more of the same.
    rng = np.random.default_rng(int(_short_hash(key), 16))
    perturbed = perturb_disparity(
        truth.disparity[:, 0].numpy(),
        focus_mask=_focus_mask(truth, instance),
        focus_disparity=truth.focus_disparity.numpy(),
        perturbation=corruption.perturbation,
        rng=rng,
    )
    return torch.from_numpy(perturbed)[:, None]


def _focus_mask(truth: Truth, instance: NDArray[np.uint16] | None) -> NDArray[np.bool_]:
    """Visible pixels of what is in focus: the instance whose disparity is nearest to d_f."""
    disparity = truth.disparity[:, 0].numpy()
    focus = truth.focus_disparity.numpy()[:, None, None]
    near = np.abs(disparity - focus) < 0.02
    if instance is None or not near.any() or not (ids := instance[near & (instance > 0)]).size:
        return near
    return instance == np.bincount(ids).argmax()


def estimated_disparity(truth: Truth, network: DepthNetwork) -> Tensor:
    """A depth network's disparity of a clip, ``[T, 1, H, W]`` in [0, 1].

    Networks leave scale and shift open; one of each for the whole clip is fitted to the truth by least
    squares, never one per frame, so that flicker stays in.
    """
    height, width = truth.aif.shape[-2:]
    frames = [network.predict(frame.permute(1, 2, 0).numpy()) for frame in truth.aif]
    found = np.stack([cv2.resize(frame, (width, height)) for frame in frames]).astype(np.float64)
    columns = np.stack([found.ravel(), np.ones(found.size)], 1)
    target = truth.disparity.numpy().ravel().astype(np.float64)
    (scale, shift), *_ = np.linalg.lstsq(columns, target, rcond=None)
    return torch.from_numpy((found * scale + shift).clip(0, 1).astype(np.float32))[:, None]


# What a process opens once, for all tasks that it gets.


@lru_cache(maxsize=4)
def _corpus(test_set: TestSet) -> Corpus:
    return open_test_set(test_set)


@lru_cache(maxsize=32)
def _predictor(system: SystemSpec, device: str, out: str) -> Predictor:
    return open_system(system, torch.device(device), Path(out) / "logs")


@lru_cache(maxsize=64)
def _measure(name: str, device: str, weights: tuple[tuple[str, Path], ...]) -> Measure:
    return VIDEO_METRICS[name].open(dict(weights), torch.device(device))


@lru_cache(maxsize=8)
def _extract(name: str, device: str, weights: tuple[tuple[str, Path], ...]) -> Extract:
    net = SET_METRICS[name]
    return net.open(dict(weights)[net.weights], torch.device(device))


@lru_cache(maxsize=1)
def depth_network(model: str, device: str) -> DepthNetwork:
    """A depth network, opened once in a process."""
    return DepthNetwork(model, torch.device(device))


def _frozen(weights: Mapping[str, Path]) -> tuple[tuple[str, Path], ...]:
    return tuple(sorted(weights.items()))


# --- Pictures -----------------------------------------------------------------------------------------


def _write_pictures(folder: Path, name: str, video: Tensor, truth: Tensor | None) -> None:
    """Middle frame, its error and the whole video, small."""
    if (folder / f"{name}.mp4").exists() and truth is None:
        return
    small = _shrunk(video)
    middle = len(small) // 2
    write_atomic(folder / f"{name}.webp", _webp(small[middle]))
    if truth is not None:
        error = (video[middle] - truth[middle]).abs().mean(0, keepdim=True) * ERROR_GAIN
        grey = (error.clamp(0, 1) * 255).round().to(torch.uint8)[0].numpy()
        colour = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[..., ::-1]
        write_atomic(folder / f"{name}.error.webp", _webp(_fit(colour)))
    write_atomic(folder / f"{name}.mp4", mp4(small, crf=_VIDEO_CRF, fps=24))


def _shrunk(video: Tensor) -> NDArray[np.uint8]:
    """``[T, h, w, 3]`` uint8, at most `PREVIEW_WIDTH` wide, sides even."""
    frames = (video * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return np.stack([_fit(frame) for frame in frames])


def _fit(frame: NDArray[Any]) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    scale = min(PREVIEW_WIDTH / width, 1)
    size = (max(round(width * scale / 2) * 2, 2), max(round(height * scale / 2) * 2, 2))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _webp(frame: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "WEBP", quality=_WEBP_QUALITY, method=4)
    return file.getvalue()


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
