"""What an evaluation has found, as one document: what tables, report and other programs are made from.

An *item* is one target of one clip: a bokeh video with its K and focus. A *metric* is named by its protocol
and name together, ``official/psnr``, since numbers of two protocols are never to be mixed. A *cell* is the
value of one system in one metric over one group of items, with its confidence interval.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, ValidationError

from focuspull.dataset.clip import FrozenModel, first_problem
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic

Protocol = Literal["official", "corrected"]
"""``official``: the choices of Any-to-Bokeh's evaluation, quirks included, so that published rows can be
compared. ``corrected``: what the name of the metric promises."""
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

RESULTS_NAME = "results.json"
SCORES_NAME = "scores.jsonl"


class MetricInfo(FrozenModel):
    """What a column of numbers is.

    Args:
        protocol: Under whose rules.
        name: Such as ``psnr``.
        label: Heading of a column, such as ``PSNR``.
        unit: Such as ``dB``; empty for pure numbers.
        best: Whether high or low values are good.
        kind: Of one video, or of the whole set of videos (Fréchet distances), or of a system alone (time).
        column: The paper's column that it is the counterpart of, such as ``PSNR``; None: only we have it.
        digits: Behind the point.
        summary: One sentence.
    """

    protocol: Protocol
    name: str
    label: str
    unit: str = ""
    best: Literal["high", "low"]
    kind: Literal["video", "set", "system"] = "video"
    column: str | None = None
    digits: int = 3
    summary: str

    @property
    def id(self) -> str:
        """``protocol/name``."""
        return f"{self.protocol}/{self.name}"


class Item(FrozenModel):
    """One target of one clip.

    Args:
        clip: Key of the clip.
        target: Number of the target.
        split: Of the corpus.
        stratum: Part of the test set that the clip is of, such as ``thin-structure``; None: none is known.
        family: Of the scene; likewise.
        k_at_1024: Largest K of the video, at 1024 px.
        k_varies: Whether K is a ramp.
        focus_disparity: The mean of the video.
        focus_varies: Whether focus is pulled.
        noise_floor_db: PSNR of the truth to its converged self; None: not measured.
        num_frames: T.
        width: Pixels.
        height: Pixels.
    """

    clip: str
    target: int = Field(ge=0)
    split: str
    stratum: str | None = None
    family: str | None = None
    k_at_1024: float
    k_varies: bool = False
    focus_disparity: float
    focus_varies: bool = False
    noise_floor_db: float | None = None
    num_frames: int
    width: int
    height: int

    @property
    def name(self) -> str:
        """``clip/bokeh0``."""
        return f"{self.clip}/bokeh{self.target}"


class SystemInfo(FrozenModel):
    """What was measured.

    Args:
        name: Of the row.
        summary: One line.
        published: Name of the row of the paper's table that stands beside it; None: there is none.
        num_parameters: Of its networks; None: it has none, or they are not ours to count.
    """

    name: str
    summary: str
    published: str | None = None
    num_parameters: int | None = None


class Cell(FrozenModel):
    """A system in a metric over a group of items.

    Args:
        system: Its name.
        metric: ``protocol/name``.
        group: ``all``, ``stratum`` or ``k``.
        value_of_group: Such as ``thin-structure`` or ``16-23``; empty for ``all``.
        value: The mean over items; for sets their distance.
        low: Lower end of the 95 % confidence interval by bootstrap over clips; None: too few clips.
        high: Its upper end.
        num_items: How many items the value is of.
        num_clips: From how many clips they are.
    """

    system: str
    metric: str
    group: Literal["all", "stratum", "k"]
    value_of_group: str = ""
    value: float
    low: float | None = None
    high: float | None = None
    num_items: int
    num_clips: int


class Failure(FrozenModel):
    """A video that a system did not make."""

    system: str
    item: str
    reason: str


class MissingMetric(FrozenModel):
    """A metric that was not computed, and what would change that, in one line."""

    metric: str
    reason: str


class AboveFloor(FrozenModel):
    """A PSNR above the noise floor of its truth: more than the truth itself can tell."""

    system: str
    item: str
    psnr_db: float
    noise_floor_db: float


class Preview(FrozenModel):
    """Files to look at, relative to the folder of the evaluation.

    Args:
        system: Its name; ``truth`` and ``aif`` for those.
        item: Name of the item.
        image: WebP of the middle frame.
        error: WebP of the absolute error of that frame, amplified; None for the truth.
        video: MP4; None if none was kept.
    """

    system: str
    item: str
    image: str
    error: str | None = None
    video: str | None = None


class RobustnessPoint(FrozenModel):
    """A system in a metric, its disparity corrupted in one way to one degree; ``level`` 0 is the truth."""

    system: str
    metric: str
    corruption: str
    level: float
    value: float
    low: float | None = None
    high: float | None = None
    num_items: int


class Results(FrozenModel):
    """An evaluation.

    Args:
        title: Name of the test set.
        facts: What else to know: versions, device, protocol notes; label to text.
        metrics: Every metric, in the order of columns.
        systems: In the order of rows.
        items: All of them.
        scores: System, then metric, then one value per item; None where there is none. Only metrics of
            kind ``video``.
        cells: Means and distances, over all items and over groups of them.
        failures: Videos that systems did not make.
        missing: Metrics that were not computed.
        above_floor: Scores above the noise floor.
        previews: Files to look at.
        robustness: Scores under corrupted disparity; empty if that was not measured.
    """

    title: str
    facts: dict[str, str]
    metrics: tuple[MetricInfo, ...]
    systems: tuple[SystemInfo, ...]
    items: tuple[Item, ...]
    scores: dict[str, dict[str, tuple[float | None, ...]]]
    cells: tuple[Cell, ...]
    failures: tuple[Failure, ...] = ()
    missing: tuple[MissingMetric, ...] = ()
    above_floor: tuple[AboveFloor, ...] = ()
    previews: tuple[Preview, ...] = ()
    robustness: tuple[RobustnessPoint, ...] = ()

    def metric(self, metric_id: str) -> MetricInfo:
        """The metric ``protocol/name``; KeyError if there is none."""
        return {metric.id: metric for metric in self.metrics}[metric_id]

    def cell(self, system: str, metric_id: str, group: str = "all", value: str = "") -> Cell | None:
        """One cell; None if it is not there."""
        for cell in self.cells:
            if (cell.system, cell.metric, cell.group, cell.value_of_group) == (
                system,
                metric_id,
                group,
                value,
            ):
                return cell
        return None


def write_results(folder: Path, results: Results) -> Path:
    """Write ``results.json``.

    Raises:
        UserError: If the operating system refuses.
    """
    path = folder / RESULTS_NAME
    write_atomic(path, results.model_dump_json(indent=1).encode())
    return path


def read_results(folder: Path) -> Results:
    """What `write_results` has written.

    Raises:
        UserError: If there is none, or it cannot be read.
    """
    path = folder / RESULTS_NAME
    try:
        return Results.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: is not there. Evaluate first: focuspull-eval run --out {folder}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise UserError(f"{path}: is not the result of an evaluation: {first_problem(error)}.") from error
