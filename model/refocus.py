"""From a video and what to focus on to the refocused video: two passes, each with a few frames in memory.

The first pass decodes every frame, reads or predicts its disparity and follows the focus; only then the map
of the clip's disparity to [0, 1] and the smoothed focus are known, and everything that can be wrong with the
input has been found. The second pass decodes again, renders and encodes.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError
from focuspull.dataset.files import staged
from focuspull.dataset.optics import k_at_width
from focuspull.model.depth import (
    DepthNetwork,
    DisparityRange,
    DisparitySource,
    Predicted,
    RangeScan,
    open_disparity,
)
from focuspull.model.focus import (
    Focus,
    Keyframes,
    Mask,
    Point,
    PointTracker,
    Sight,
    focus_over_time,
    mask_sight,
)
from focuspull.model.renderer import BokehRenderer, FrameInput
from focuspull.model.side_by_side import draw_side_by_side, tile_size
from focuspull.model.video import ColorTags, Frame, Video, open_video
from focuspull.model.video_writer import VideoFormat, VideoWriter, validate_output

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, frames done, and frames in all if that is known."""


@dataclass(frozen=True)
class Job:
    """What to refocus and how.

    Args:
        video: File or folder of frames.
        out: Video to write.
        focus: What is in focus.
        k: Strength over time, see ``is_k_at_1024``.
        is_k_at_1024: Whether K is for a width of 1024 pixels, instead of for that of the video.
        disparity: File or folder; None for ``depth_model``.
        depth_model: Folder or name of a network; None for ``disparity``.
        disparity_range: What becomes 0 and 1; None for what `focuspull.model.depth` says.
        first: Number of the first frame that is rendered.
        stop: Number after that of the last; None for all.
        fps: Of a folder of frames.
        quality: One of `focuspull.model.video_writer.QUALITIES`.
        with_audio: Whether audio is copied.
        preview: Video to write side by side; None for none.
        track: Table of the focus to write, CSV; None for none.
        device: Where networks and renderers run.
        threads: Of the encoder; 0 for as many as it likes.
    """

    video: Path
    out: Path
    focus: Focus
    k: Keyframes
    is_k_at_1024: bool
    disparity: Path | None
    depth_model: str | None
    device: torch.device
    disparity_range: DisparityRange | None = None
    first: int = 0
    stop: int | None = None
    fps: Fraction | None = None
    quality: str = "standard"
    with_audio: bool = True
    preview: Path | None = None
    track: Path | None = None
    threads: int = 0


@dataclass(frozen=True)
class Report:
    """What was done.

    Args:
        num_frames: Rendered.
        num_lost: Frames in which the focus was not seen.
        range: What became 0 and 1.
    """

    num_frames: int
    num_lost: int
    range: DisparityRange


@dataclass(frozen=True)
class _Analysis:
    """What the first pass found; lists have one entry per frame that is rendered."""

    source: DisparitySource
    range: DisparityRange
    sights: list[Sight]
    focus: list[float]
    start_s: Fraction
    end_s: Fraction


@dataclass(frozen=True)
class _Shown:
    """What is kept of a frame while it is rendered."""

    frame: Frame
    index: int
    aif: NDArray[np.float32]
    disparity: NDArray[np.float32]
    k: float


def refocus(
    job: Job,
    make_renderer: Callable[[], BokehRenderer],
    *,
    progress: Progress,
    note: Callable[[str], None],
) -> Report:
    """Render one video; nothing is left behind unless all of it worked.

    Args:
        job: What to do.
        make_renderer: Called when the input is known to be good.
        progress: Told about every frame.
        note: Told what the user should know, one line each.

    Raises:
        UserError: If anything is wrong with the input or the output.
    """
    video = open_video(job.video, fps=job.fps)
    for line in video.notes:
        note(line)
    _validate(job, video)
    with ExitStack() as stack:
        # Opened before the long passes, so that what cannot be written is known at once. They are left in
        # reverse order: the video gets its name last.
        form = VideoFormat(
            video.width,
            video.height,
            video.fps,
            video.time_base,
            video.sample_aspect_ratio,
            video.color,
            job.quality,
        )
        audio_of = job.video if video.has_audio and job.with_audio else None
        writer = _writer(stack, job.out, form, audio_of, job.threads)
        preview = None
        if job.preview is not None:
            width, height = tile_size(video.width, video.height)
            form = replace(form, width=3 * width, height=height, color=ColorTags(), quality="standard")
            preview = _writer(stack, job.preview, form, None, job.threads)
        track = stack.enter_context(staged(job.track)) if job.track is not None else None
        if track is not None:
            track.touch()

        renderer = make_renderer()
        analysis = _analyse(job, video, progress)
        num_frames = len(analysis.focus)
        num_lost = sum(sight.disparity is None for sight in analysis.sights)
        if analysis.range != DisparityRange() and job.disparity_range is None:
            note(
                f"disparity of the clip from {analysis.range.low:g} to {analysis.range.high:g} becomes 0 to 1"
            )
        if num_lost:
            note(f"the focus was not seen in {num_lost} of {num_frames} frames; it is bridged there")
        if track is not None:
            track.write_text(_table(job, video, analysis), encoding="utf-8")

        is_part = job.first > 0 or job.stop is not None
        origin_s = analysis.start_s if is_part else video.start_s
        writer.copy_audio(origin_s, analysis.end_s if is_part else None)
        for shown, bokeh in _rendered(job, video, analysis, renderer):
            time_s = max(Fraction(0), shown.frame.time_s - origin_s)
            writer.write(bokeh, time_s, shown.frame.duration_s)
            if preview is not None:
                preview.write(_preview(shown, bokeh, analysis), time_s, shown.frame.duration_s)
            progress("rendering", shown.index + 1, num_frames)
    return Report(num_frames, num_lost, analysis.range)


def _writer(
    stack: ExitStack, path: Path, form: VideoFormat, audio_of: Path | None, threads: int
) -> VideoWriter:
    temporary = stack.enter_context(staged(path))
    return stack.enter_context(
        VideoWriter(temporary, path.suffix.lower(), form, audio_of=audio_of, threads=threads)
    )


def _validate(job: Job, video: Video) -> None:
    """Refuse what can be seen to be wrong before anything is decoded."""
    validate_output(job.out, job.quality)
    if job.preview is not None:
        validate_output(job.preview, "standard")
    if job.track is not None and not job.track.parent.is_dir():
        raise UserError(
            f"{job.track}: cannot be written: there is no folder {job.track.parent}. Make it first."
        )
    inputs = [path for path in (job.video, job.disparity) if path is not None]
    if isinstance(job.focus, Mask):
        inputs.append(job.focus.path)
    outputs = [path for path in (job.out, job.preview, job.track) if path is not None]
    for number, path in enumerate(outputs):
        for other in [*inputs, *outputs[:number]]:
            if path.absolute() == other.absolute() or (path.exists() and path.samefile(other)):
                raise UserError(f"{path}: is also used for something else. Write to another file.")
    if isinstance(job.focus, Point):
        x, y = job.focus.x, job.focus.y
        if not (0 <= x <= video.width - 1 and 0 <= y <= video.height - 1):
            raise UserError(
                f"--focus {x:g},{y:g}: is outside the frame of {video.width}x{video.height}, from 0,0 to "
                f"{video.width - 1},{video.height - 1}."
            )


def _analyse(job: Job, video: Video, progress: Progress) -> _Analysis:
    network = DepthNetwork(job.depth_model, job.device) if job.depth_model is not None else None
    if network is not None:
        source: DisparitySource = Predicted(network.name, (video.width, video.height))
        given: Iterator[NDArray[np.float32] | None] | None = None
    else:
        source = open_disparity(cast(Path, job.disparity))
        given = iter(source.frames())
    masks = open_video(job.focus.path) if isinstance(job.focus, Mask) else None
    mask_frames = iter(masks.frames()) if masks is not None else None
    scan = RangeScan(source)
    tracker: PointTracker | None = None
    sights: list[Sight] = []
    num_decoded = 0
    start_s = end_s = Fraction(0)
    for number, frame in enumerate(video.frames()):
        num_decoded = number + 1
        inside = job.first <= number and (job.stop is None or number < job.stop)
        if given is None and job.stop is not None and number >= job.stop:
            break
        disparity = None
        if given is not None:
            disparity = _matching(next(given, None), source.path, number, video, "disparity")
        elif inside:
            disparity = cast(Predicted, source).add(cast(DepthNetwork, network).predict(frame.rgb()))
        if disparity is not None:
            scan.add(disparity, number)
        mask = next(mask_frames, None) if mask_frames is not None else None
        if masks is not None:
            grey = mask.grey() if mask is not None else None
            mask_image = _matching(grey, masks.path, number, video, "mask")
            if inside:
                sights.append(mask_sight(mask_image, cast(Any, disparity)))
        if not inside:
            continue
        if number == job.first:
            start_s = frame.time_s
        end_s = frame.time_s + frame.duration_s
        if isinstance(job.focus, Point):
            luma = frame.rgb() @ np.array([0.2126, 0.7152, 0.0722], np.float32)
            if tracker is None:
                tracker = PointTracker(job.focus, luma, cast(Any, disparity))
                sights.append(tracker.start())
            else:
                sights.append(tracker.follow(luma, cast(Any, disparity)))
        elif masks is None:
            sights.append(Sight(None, None, 1.0, 0.0))
        progress("looking", number + 1, None)
    if given is not None and next(given, None) is not None:
        raise UserError(
            f"{source.path}: has more frames of disparity than {video.path}, which has {num_decoded}."
        )
    if mask_frames is not None and given is not None and next(mask_frames, None) is not None:
        raise UserError(
            f"{cast(Video, masks).path}: has more frames than {video.path}, which has {num_decoded}."
        )
    if job.first >= num_decoded or (job.stop is not None and job.stop > num_decoded):
        stop = "" if job.stop is None else job.stop
        raise UserError(
            f"--frames {job.first}:{stop}: {video.path} has {num_decoded} frames, 0:{num_decoded}."
        )
    span = job.disparity_range or scan.result()
    return _Analysis(source, span, sights, _focus(job, video, sights, span), start_s, end_s)


def _matching(
    image: NDArray[np.float32] | None, path: Path, number: int, video: Video, what: str
) -> NDArray[np.float32]:
    """An image of one frame, if there is one of the right size."""
    if image is None:
        total = sum(1 for _ in video.frames())
        raise UserError(
            f"{path}: has {number} frames of {what}, {video.path} has {total}. There must be one each."
        )
    if image.shape != (video.height, video.width):
        raise UserError(
            f"{path}: {what} is {image.shape[1]}x{image.shape[0]}, {video.path} is "
            f"{video.width}x{video.height}. Resize one of them."
        )
    return image


def _focus(job: Job, video: Video, sights: list[Sight], span: DisparityRange) -> list[float]:
    """Disparity in focus of every frame that is rendered, in [0, 1]."""
    if isinstance(job.focus, Keyframes):
        return [job.focus.at(job.first + i) for i in range(len(sights))]
    try:
        stored = focus_over_time(sights, float(video.fps))
    except ValueError:
        raise UserError(
            f"{cast(Mask, job.focus).path}: is more than half white nowhere in these frames."
        ) from None
    return [float(value) for value in span.unit(stored.astype(np.float32))]


def _rendered(
    job: Job, video: Video, analysis: _Analysis, renderer: BokehRenderer
) -> Iterator[tuple[_Shown, NDArray[np.float32]]]:
    """Every frame with its bokeh ``[H, W, 3]``."""
    pending: deque[_Shown] = deque()

    def inputs() -> Iterator[FrameInput]:
        for shown in _shown(job, video, analysis):
            pending.append(shown)
            numbers = shown.k, analysis.focus[shown.index]
            k, focus = (torch.tensor(number, dtype=torch.float32, device=job.device) for number in numbers)
            aif = torch.from_numpy(np.ascontiguousarray(shown.aif.transpose(2, 0, 1))).to(job.device)
            disparity = torch.from_numpy(np.ascontiguousarray(shown.disparity[None])).to(job.device)
            yield FrameInput(aif, disparity, k, focus)

    stream = getattr(renderer, "stream", None)
    # Without it a renderer treats frames one by one, as all of `focuspull.model.baselines` do.
    for image in stream(inputs()) if stream is not None else _one_by_one(renderer, inputs()):
        yield pending.popleft(), image.permute(1, 2, 0).float().clamp(0, 1).cpu().numpy()
    if pending:
        raise RuntimeError(f"the renderer left out {len(pending)} frames at the end")


def _one_by_one(renderer: BokehRenderer, inputs: Iterator[FrameInput]) -> Iterator[torch.Tensor]:
    for given in inputs:
        arguments = (given.aif, given.disparity, given.k, given.focus_disparity)
        yield renderer(*(argument[None, None] for argument in arguments))[0, 0]


def _shown(job: Job, video: Video, analysis: _Analysis) -> Iterator[_Shown]:
    """The frames that are rendered, with their disparity."""
    stored: Iterator[NDArray[np.float32]] = iter(analysis.source.frames())
    frames = iter(video.frames())
    if job.first:
        frames = islice(frames, job.first, None)
        if not isinstance(analysis.source, Predicted):
            stored = islice(stored, job.first, None)
    for index, (frame, disparity) in enumerate(zip_longest(frames, stored)):
        if index == len(analysis.focus):
            return
        if frame is None or disparity is None:
            raise UserError(f"{job.video}: has changed while it was being read.")
        k = job.k.at(frame.number)
        if job.is_k_at_1024:
            k = float(k_at_width(k, video.width))
        yield _Shown(frame, index, frame.rgb(), analysis.range.unit(disparity), k)


def _preview(shown: _Shown, bokeh: NDArray[np.float32], analysis: _Analysis) -> NDArray[np.float32]:
    sight, focus = analysis.sights[shown.index], analysis.focus[shown.index]
    return draw_side_by_side(
        shown.aif,
        bokeh,
        shown.disparity,
        k=shown.k,
        focus_disparity=focus,
        point=None if sight.x is None or sight.y is None else (sight.x, sight.y),
        is_lost=sight.disparity is None,
        caption=f"frame {shown.frame.number}  K {shown.k:.1f}  focus {focus:.3f}",
    )


def _table(job: Job, video: Video, analysis: _Analysis) -> str:
    """The focus of every frame as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["frame", "x", "y", "score", "focus_disparity", "k"])
    for index, (sight, focus) in enumerate(zip(analysis.sights, analysis.focus, strict=True)):
        number = job.first + index
        k = job.k.at(number)
        k = float(k_at_width(k, video.width)) if job.is_k_at_1024 else k
        place = ["" if c is None else f"{c:.2f}" for c in (sight.x, sight.y)]
        writer.writerow([number, *place, f"{sight.score:.3f}", f"{focus:.6f}", f"{k:.4f}"])
    return text.getvalue()
