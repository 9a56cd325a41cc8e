"""Validation: the same held-out samples every time, measured whole and in bands of K and of blur.

    validation = Validation(corpora, num_frames=4, transform=recipe.transform, num_samples=32)
    report = validate(lambda batch: predict(parts, batch), validation)
    print(comparison_table({"network": report}))

Renderers without weights are measured in the same way, through `renderer_predict`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.color import to_uint8
from focuspull.dataset.corpus import Corpus
from focuspull.dataset.excerpt import spread
from focuspull.dataset.files import write_atomic
from focuspull.dataset.loader import Batch, Loader, Window, unit
from focuspull.dataset.perturb import Perturbation
from focuspull.dataset.transforms import Transform
from focuspull.model.renderer import BokehRenderer
from focuspull.train.metrics.image import (
    blur_bands,
    gradient_error,
    k_band,
    mean_squared_error,
    psnr,
    ssim,
)

Predict = Callable[[Batch], Tensor]
"""Bokeh ``[B, T, 3, H, W]`` sRGB in [0, 1] of a batch."""

MIN_SHARE = 0.01
"""Of its pixels that a video must have in a band to count there."""
ERROR_GAIN = 4
"""By which errors are shown brighter."""
REFERENCE_WIDTH = 1024


class Score(FrozenModel):
    """Means over samples.

    Args:
        psnr: Decibels; of each sample over all its pixels, or those in a band.
        ssim: Structural similarity; None for bands of blur, which are no rectangles.
        gradient_error: Of values in [0, 1]; likewise.
        num_samples: How many there were.
    """

    psnr: float
    ssim: float | None = None
    gradient_error: float | None = None
    num_samples: int


class Report(FrozenModel):
    """How close predictions come to the rendered bokeh.

    Args:
        overall: Of all samples.
        by_k: In bands of K at 1024 pixels.
        by_blur: In bands of blur, see `focuspull.train.metrics.image.blur_bands`.
    """

    overall: Score
    by_k: dict[str, Score]
    by_blur: dict[str, Score]

    def flat(self) -> dict[str, float]:
        """Values by name, for logs."""
        values: dict[str, float] = {}
        bands = {f"/k {name}": score for name, score in self.by_k.items()}
        bands |= {f"/{name}": score for name, score in self.by_blur.items()}
        for suffix, score in {"": self.overall, **bands}.items():
            for name in ("psnr", "ssim", "gradient_error"):
                value = getattr(score, name)
                if value is not None:
                    values[f"{name}{suffix}"] = value
        return values


class Validation:
    """A fixed set of samples.

    Args:
        corpora: Where they are from.
        num_frames: T, from the middle of their clips.
        transform: That of training; crops are centred, and nothing is zoomed or mirrored.
        num_samples: At most this many, drawn once.
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
        certain = perturbation and perturbation.model_copy(update={"probability": 1.0})
        self._loader = Loader(
            corpora,
            window=Window(num_frames=num_frames, start="center"),
            batch_size=1,
            seed=seed,
            transform=still,
            perturbation=certain,
            shuffle=False,
            num_epochs=1,
            # Every process sees all of it.
            rank=0,
            world_size=1,
        )
        self._fingerprint = self._loader.state_dict()["fingerprint"]
        drawn = np.random.default_rng(seed).permutation(self._loader.epoch_size)[:num_samples]
        self._positions = sorted(drawn.tolist())

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[Batch]:
        """The samples one by one."""
        for position in self._positions:
            self._loader.load_state_dict({"position": position, "fingerprint": self._fingerprint})
            yield next(iter(self._loader))


def renderer_predict(renderer: BokehRenderer) -> Predict:
    """A renderer as something that can be validated."""

    def run(batch: Batch) -> Tensor:
        return renderer(unit(batch.aif), batch.disparity, batch.k, batch.focus_disparity)

    return run


def validate(predict: Predict, validation: Validation) -> Report:
    """Predict and measure.

    Args:
        predict: What is measured.
        validation: On which samples. Bands of blur are those of the disparity that it gets.
    """
    whole: list[dict[str, float]] = []
    bands: dict[str, list[float]] = {}
    for batch in validation:
        truth, predicted = unit(batch.bokeh), predict(batch)
        scale = REFERENCE_WIDTH / truth.shape[-1]
        whole.append(
            {
                "k": float(batch.k.mean()) * scale,
                "psnr": float(psnr(mean_squared_error(predicted, truth))[0]),
                "ssim": float(ssim(predicted, truth)[0]),
                "gradient_error": float(gradient_error(predicted, truth)[0]),
            }
        )
        for name, mask in blur_bands(batch.disparity, batch.focus_disparity, batch.k).items():
            if mask.float().mean() >= MIN_SHARE:
                value = psnr(mean_squared_error(predicted, truth, mask))
                bands.setdefault(name, []).append(float(value[0]))
    by_k: dict[str, list[dict[str, float]]] = {}
    for sample in sorted(whole, key=lambda sample: sample["k"]):
        by_k.setdefault(k_band(sample["k"]), []).append(sample)
    return Report(
        overall=_score(whole),
        by_k={name: _score(samples) for name, samples in by_k.items()},
        by_blur={
            name: Score(psnr=float(np.mean(values)), num_samples=len(values))
            for name, values in sorted(bands.items())
        },
    )


def _score(samples: Sequence[Mapping[str, float]]) -> Score:
    means = {
        name: float(np.mean([sample[name] for sample in samples]))
        for name in ("psnr", "ssim", "gradient_error")
    }
    return Score(**means, num_samples=len(samples))


def comparison_table(reports: Mapping[str, Report]) -> str:
    """Reports side by side, in Markdown; decibels but for SSIM and the gradient error.

    Args:
        reports: By the name of what was measured; with ``identity`` among them gains over it are shown.
    """
    bands = sorted({name for report in reports.values() for name in report.by_blur})
    identity = reports.get("identity")
    header = ["", "PSNR", *(["over identity"] if identity else []), "SSIM", "gradient error", *bands]
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for name, report in reports.items():
        score = report.overall
        gain = [f"{score.psnr - identity.overall.psnr:+.2f}"] if identity else []
        by_blur = [report.by_blur[band].psnr if band in report.by_blur else math.nan for band in bands]
        rows.append(
            [name, f"{score.psnr:.2f}", *gain, f"{score.ssim:.4f}", f"{score.gradient_error:.4f}"]
            + [f"{value:.2f}" for value in by_blur]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def grid(predict: Predict, validation: Validation, path: Path, *, max_rows: int = 6) -> None:
    """Write a picture: of each sample's middle frame the input, the prediction, the truth and the error.

    Args:
        predict: What is shown.
        validation: Samples spread over this.
        path: Of the PNG.
        max_rows: Samples at most.

    Raises:
        UserError: If it cannot be written.
    """
    chosen = set(spread(list(range(len(validation))), max_rows))
    rows = [_row(batch, predict(batch)) for number, batch in enumerate(validation) if number in chosen]
    picture = Image.fromarray(np.concatenate(rows))
    write_atomic(path, lambda file: picture.save(file, "PNG"))


def _row(batch: Batch, predicted: Tensor) -> NDArray[np.uint8]:
    middle = batch.aif.shape[1] // 2
    aif, truth = (_pixels(unit(video)[0, middle]) for video in (batch.aif, batch.bokeh))
    found = _pixels(predicted[0, middle].float())
    error = (ERROR_GAIN * np.abs(found.astype(int) - truth)).clip(0, 255).astype(np.uint8)
    # Small frames are shown larger, or their captions would not fit.
    zoom = max(1, round(300 / aif.shape[1]))
    strip = np.concatenate([aif, found, truth, error], 1).repeat(zoom, 0).repeat(zoom, 1)
    k = float(batch.k[0, middle]) * REFERENCE_WIDTH / aif.shape[1]
    text = f"{batch.keys[0]} bokeh{int(batch.targets[0])}  K {k:.1f}  "
    text += f"d_f {float(batch.focus_disparity[0, middle]):.2f}"
    caption = Image.new("RGB", (strip.shape[1], 16))
    draw = ImageDraw.Draw(caption)
    columns = (text, "predicted", "rendered", f"error x{ERROR_GAIN}")
    for number, words in enumerate(columns):
        draw.text((4 + number * strip.shape[1] // 4, 2), words, fill=(255, 255, 255))
    return np.concatenate([np.asarray(caption), strip])


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    pixels: Any = image.permute(1, 2, 0).cpu().numpy()
    return to_uint8(pixels)
