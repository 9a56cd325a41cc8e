"""Validation: the same held-out samples every time, measured whole and in bands of K and of blur.

    validation = Validation(corpora, num_frames=4, transform=recipe.transform, num_samples=32)
    report = validate(lambda batch: predict(parts, batch), validation)
    identity = validate(renderer_predict(get_renderer("identity")), validation)
    print(comparison_table({"identity": identity, "network": report}))

Samples are measured one by one, and each counts the same. Renderers without weights are measured in the same
way, through `renderer_predict`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from focuspull.dataset import optics
from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.color import to_uint8
from focuspull.dataset.corpus import Corpus
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.dataset.loader import Batch, Loader, Window, unit
from focuspull.dataset.perturb import Perturbation
from focuspull.dataset.transforms import Transform
from focuspull.model.renderer import BokehRenderer
from focuspull.train.metrics.image import (
    BANDS,
    blur_bands,
    decibels,
    fitted,
    gradient_error,
    k_band,
    pooled,
    squared_error,
    ssim_map,
    temporal_error,
)

Predict = Callable[[Batch], Tensor]
"""Bokeh ``[B, T, 3, H, W]`` sRGB in [0, 1] of a batch; on any device."""

MIN_SHARE = 0.01
"""Of its pixels that a video must have in a band to count there."""
ERROR_GAIN = 4
"""By which errors are shown brighter."""
TILE_WIDTH = 320
"""Of one picture of a grid, pixels."""
_MARGIN, _GAP = 16, 6
_BACKGROUND, _TEXT, _MUTED = (18, 18, 20), (232, 232, 234), (150, 150, 156)


class Score(FrozenModel):
    """Means over samples.

    Args:
        psnr: Decibels; of each sample over all its pixels, or those in a band.
        ssim: Structural similarity, likewise.
        gradient_error: Mean absolute difference of Sobel magnitudes; None for bands of blur, whose outlines
            are edges themselves.
        temporal_error: Mean absolute error of the changes from frame to frame, likewise.
        num_samples: How many there were.
    """

    psnr: float
    ssim: float
    gradient_error: float | None = None
    temporal_error: float | None = None
    num_samples: int


class Report(FrozenModel):
    """How close predictions come to the rendered bokeh.

    Args:
        overall: Of all samples.
        by_k: In bands of K at 1024 pixels, see `focuspull.train.metrics.image.k_band`.
        by_blur: In bands of blur, see `focuspull.train.metrics.image.blur_bands`; of the samples that have
            enough pixels there, and without bands of which none has.
    """

    overall: Score
    by_k: dict[str, Score]
    by_blur: dict[str, Score]

    def flat(self) -> dict[str, float]:
        """Values by name, for logs: ``psnr``, ``ssim/k 6-11``, ``psnr/foreground``, ..."""
        values: dict[str, float] = {}
        bands = {f"/k {name}": score for name, score in self.by_k.items()}
        bands |= {f"/{name}": score for name, score in self.by_blur.items()}
        for suffix, score in {"": self.overall, **bands}.items():
            for name in ("psnr", "ssim", "gradient_error", "temporal_error"):
                value = getattr(score, name)
                if value is not None:
                    values[f"{name}{suffix}"] = value
        return values


class Item(NamedTuple):
    """What a sample is of: number of the corpus, key of the clip, and the band that K is in."""

    corpus: int
    key: str
    band: str


class Validation:
    """A fixed set of samples, the first few of which are as varied as all; the same in all processes.

    Args:
        corpora: Where they are from.
        num_frames: T, from the middle of their clips.
        transform: That of training; crops are centred, and nothing is zoomed or mirrored.
        num_samples: At most this many, from bands of K and from clips as evenly as there are some.
        perturbation: Of their disparity, all of them, the same every time; None for none.
        seed: Of the choice and of the perturbation.

    Raises:
        UserError: If a clip is too short.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        *,
        num_frames: int,
        transform: Transform,
        num_samples: int,
        perturbation: Perturbation | None = None,
        seed: int = 0,
    ) -> None:
        still = transform.model_copy(update={"position": "center", "flip": 0.0, "zoom": (1.0, 1.0)})
        options: dict[str, Any] = {
            "window": Window(num_frames=num_frames, start="center"),
            "batch_size": 1,
            "seed": seed,
            "transform": still,
            "shuffle": False,
            "num_epochs": 1,
            # Every process sees all of it.
            "rank": 0,
            "world_size": 1,
        }
        self._clean = self._given = Loader(corpora, **options)
        if perturbation is not None:
            certain = perturbation.model_copy(update={"probability": 1.0})
            self._given = Loader(corpora, perturbation=certain, **options)
        # In the order of a loader that does not shuffle.
        items = [
            Item(number, row.key, _band(row.index, target))
            for number, corpus in enumerate(corpora)
            for row in corpus.rows
            for target in range(row.num_targets)
        ]
        assert len(items) == self._given.epoch_size
        self._positions = choose(items, num_samples, rng=np.random.default_rng(seed))

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, number: int) -> Batch:
        """One sample, as a batch of one."""
        return _batch_at(self._given, self._positions[number])

    def __iter__(self) -> Iterator[Batch]:
        return (self[number] for number in range(len(self)))

    def disparity(self, number: int) -> Tensor:
        """Disparity ``[1, T, 1, H, W]`` of a sample, not perturbed."""
        return _batch_at(self._clean, self._positions[number]).disparity


def _batch_at(loader: Loader, position: int) -> Batch:
    loader.load_state_dict({**loader.state_dict(), "position": position})
    return next(iter(loader))


def _band(row: Mapping[str, Any], target: int) -> str:
    """Band of K of a target in a row of the index; one for all if tars are read without an index."""
    if not row:
        return ""
    return k_band((row["k_at_1024_min"][target] + row["k_at_1024_max"][target]) / 2)


def choose(items: Sequence[Item], count: int, *, rng: np.random.Generator) -> list[int]:
    """Numbers of at most ``count`` items: from each band in turn one of the least chosen corpus and clip.

    Which one of equals, the ``rng`` decides.
    """
    corpora: Counter[int] = Counter()
    clips: Counter[tuple[int, str]] = Counter()
    # Of each band and corpus a heap of how often the clip was chosen, place in the random order, and number.
    bands: dict[str, dict[int, list[tuple[int, int, int]]]] = {}
    for order, number in enumerate(rng.permutation(len(items)).tolist()):
        item = items[number]
        bands.setdefault(item.band, {}).setdefault(item.corpus, []).append((0, order, number))
    turns = [bands[name] for name in sorted(bands)]
    chosen: list[int] = []
    while len(chosen) < min(count, len(items)):
        heaps = turns[len(chosen) % len(turns)]
        for heap in heaps.values():
            # Clips are only chosen more often, so an entry that says less comes too early and is put back.
            while heap[0][0] < (times := clips[items[heap[0][2]][:2]]):
                heapq.heapreplace(heap, (times, *heap[0][1:]))
        corpus = min(heaps, key=lambda name: (corpora[name], heaps[name][0]))
        _, _, number = heapq.heappop(heaps[corpus])
        if not heaps[corpus]:
            del heaps[corpus]
        turns = [heaps for heaps in turns if heaps]
        corpora[corpus] += 1
        clips[items[number][:2]] += 1
        chosen.append(number)
    return chosen


def renderer_predict(renderer: BokehRenderer) -> Predict:
    """A renderer as something that can be validated."""

    def run(batch: Batch) -> Tensor:
        return renderer(unit(batch.aif), batch.disparity, batch.k, batch.focus_disparity)

    return run


def validate(predict: Predict, validation: Validation) -> Report:
    """Predict and measure.

    Args:
        predict: What is measured. Its results are measured on the device that they are on.
        validation: On which samples. Bands of blur are those of the true disparity, perturbed or not.

    Raises:
        UserError: If a prediction has values that are not finite.
        ValueError: If a prediction has another shape than the video, or frames are smaller than 11x11.
    """
    whole: list[Score] = []
    by_k: dict[str, list[Score]] = {}
    by_blur: dict[str, list[Score]] = {}
    strengths: dict[str, float] = {}
    for number, batch in enumerate(validation):
        predicted = _predicted(predict, batch)
        truth = unit(batch.bokeh).to(predicted.device)
        error, similarity = squared_error(predicted, truth), ssim_map(predicted, truth)
        score = Score(
            psnr=float(decibels(pooled(error))),
            ssim=float(pooled(similarity)),
            gradient_error=float(gradient_error(predicted, truth)),
            temporal_error=float(temporal_error(predicted, truth)),
            num_samples=1,
        )
        whole.append(score)
        strength = float(optics.k_at_1024(float(batch.k.mean()), truth.shape[-1]))
        by_k.setdefault(k_band(strength), []).append(score)
        strengths[k_band(strength)] = strength
        disparity = validation.disparity(number)
        for name, mask in blur_bands(disparity, batch.focus_disparity, batch.k).items():
            if min(mask.double().mean(), fitted(mask, similarity).double().mean()) < MIN_SHARE:
                continue
            mask = mask.to(predicted.device)
            part = Score(
                psnr=float(decibels(pooled(error, mask))),
                ssim=float(pooled(similarity, mask)),
                num_samples=1,
            )
            by_blur.setdefault(name, []).append(part)
    return Report(
        overall=_mean(whole),
        by_k={name: _mean(by_k[name]) for name in sorted(by_k, key=lambda name: strengths[name])},
        by_blur={name: _mean(by_blur[name]) for name in BANDS if name in by_blur},
    )


def _predicted(predict: Predict, batch: Batch) -> Tensor:
    predicted = predict(batch).detach().float()
    if predicted.shape != batch.bokeh.shape:
        raise ValueError(
            f"prediction: must be {list(batch.bokeh.shape)} as the video, got {list(predicted.shape)}"
        )
    if bad := int((~predicted.isfinite()).sum()):
        raise UserError(
            f"{batch.keys[0]}, bokeh{int(batch.targets[0])}: {bad} values of the prediction are not finite. "
            "Go back to an earlier checkpoint, or compute in float32."
        )
    return predicted


def _mean(scores: Sequence[Score]) -> Score:
    def mean(name: str) -> float | None:
        values = [getattr(score, name) for score in scores if getattr(score, name) is not None]
        return float(np.mean(values)) if values else None

    return Score(
        psnr=float(np.mean([score.psnr for score in scores])),
        ssim=float(np.mean([score.ssim for score in scores])),
        gradient_error=mean("gradient_error"),
        temporal_error=mean("temporal_error"),
        num_samples=len(scores),
    )


def comparison_table(reports: Mapping[str, Report]) -> str:
    """Reports side by side, in Markdown; decibels but for SSIM and the errors of gradients and of changes.

    Args:
        reports: By the name of what was measured; with ``identity`` among them gains over it are shown.
    """
    bands = [name for name in BANDS if any(name in report.by_blur for report in reports.values())]
    identity = reports.get("identity")
    errors = ["gradient error", "temporal error"]
    header = ["", "PSNR", *(["over identity"] if identity else []), "SSIM", *errors, *bands]
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for name, report in reports.items():
        score = report.overall
        gain = [f"{score.psnr - identity.overall.psnr:+.1f} dB"] if identity else []
        by_blur = [f"{report.by_blur[band].psnr:.2f}" if band in report.by_blur else "-" for band in bands]
        errors = [f"{score.gradient_error:.4f}", f"{score.temporal_error:.4f}"]
        rows.append([name, f"{score.psnr:.2f}", *gain, f"{score.ssim:.4f}", *errors, *by_blur])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def grid(predict: Predict, validation: Validation, path: Path, *, max_rows: int = 6) -> None:
    """Write a picture: of each sample's middle frame the input, the prediction, the truth and the error.

    Args:
        predict: What is shown.
        validation: The first samples of this.
        path: Of the PNG, written atomically.
        max_rows: Samples at most.

    Raises:
        UserError: If it cannot be written, or a prediction has values that are not finite.
    """
    rows = [_row(validation[number], predict) for number in range(min(max_rows, len(validation)))]
    titles = ("all in focus", "predicted", "rendered", f"|predicted - rendered| x {ERROR_GAIN}")
    line = _MARGIN
    width = 2 * _MARGIN + len(titles) * (TILE_WIDTH + _GAP) - _GAP
    picture = Image.new("RGB", (width, 3 * line + sum(row.height + 2 * line for row in rows)), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for column, title in enumerate(titles):
        draw.text((_MARGIN + column * (TILE_WIDTH + _GAP), line), title, _TEXT, _font())
    top = 5 * line // 2
    for row in rows:
        for column, tile in enumerate(row.tiles):
            picture.paste(Image.fromarray(tile), (_MARGIN + column * (TILE_WIDTH + _GAP), top))
        draw.text((_MARGIN, top + row.height + line // 4), row.caption, _MUTED, _font())
        top += row.height + 2 * line
    write_atomic(path, lambda file: picture.save(file, "PNG"))


class _Row(NamedTuple):
    """A row of a grid: pictures ``[h, TILE_WIDTH, 3]`` and the line under them."""

    tiles: list[NDArray[np.uint8]]
    caption: str
    height: int


def _row(batch: Batch, predict: Predict) -> _Row:
    predicted = _predicted(predict, batch)
    middle = batch.aif.shape[1] // 2
    aif, truth, found = (
        _display(video[0, middle]) for video in (unit(batch.aif), unit(batch.bokeh), predicted)
    )
    error: NDArray[np.float32] = np.float32(ERROR_GAIN) * np.abs(found - truth)
    mse = float(pooled(squared_error(predicted, unit(batch.bokeh).to(predicted.device))))
    width = aif.shape[1]
    k = float(batch.k[0, middle])
    caption = (
        f"{batch.keys[0]} bokeh{int(batch.targets[0])}   frame {int(batch.frames[0, middle])}   "
        f"K {float(optics.k_at_1024(k, width)):.1f} at 1024 ({k:.1f} px)   "
        f"d_f {float(batch.focus_disparity[0, middle]):.2f}   "
    )
    tiles = [_tile(image) for image in (aif, found, truth, error)]
    return _Row(tiles, f"{caption}{_decibels_text(mse)} over {batch.aif.shape[1]} frames", tiles[0].shape[0])


def _decibels_text(mse: float) -> str:
    return "no error" if mse == 0 else f"{-10 * np.log10(mse):.1f} dB"


def _display(image: Tensor) -> NDArray[np.float32]:
    """``[3, H, W]`` to ``[H, W, 3]``."""
    return np.asarray(image.permute(1, 2, 0).cpu().numpy(), np.float32)


def _tile(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture `TILE_WIDTH` wide; small ones are enlarged so that their pixels can be seen."""
    height, width = image.shape[:2]
    size = TILE_WIDTH, max(1, round(height * TILE_WIDTH / width))
    method = cv2.INTER_AREA if width > TILE_WIDTH else cv2.INTER_NEAREST
    return to_uint8(cv2.resize(image, size, interpolation=method).clip(0, 1))


@cache
def _font() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(12)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font
