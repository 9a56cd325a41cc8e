"""The ``focuspull-refocus`` command: any video in, the same video with a shallow depth of field out.

Exit status: 0 done, 2 the user's mistake (one line on standard error), 130 and 143 stopped by Ctrl-C and
SIGTERM. Whatever the end, an output is whole or not there. Everything heavy is imported when it is needed,
so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from focuspull.dataset.commands import examples, positive
from focuspull.dataset.errors import UserError
from focuspull.model.renderer import RENDERERS

if TYPE_CHECKING:
    import torch

    from focuspull.model.depth import DisparityRange
    from focuspull.model.renderer import BokehRenderer

NumberT = TypeVar("NumberT", int, float)

PROGRAM = "focuspull-refocus"
DEFAULT_RENDERER = "layers"
"""The best one without weights, see "Renderers without weights" in the README."""
NETWORK = "any-to-bokeh"
QUIET_S = 30.0
"""Seconds between progress lines where standard error is no terminal."""
_BAR_CELLS = 24
_NTSC = Fraction(1000, 1001)
_TOLERANCE_HZ = 0.005


class _StoppedError(BaseException):
    """SIGTERM came."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        The exit status (module docstring).
    """
    arguments = _parser().parse_args(argv)
    status = _Status()
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        return _run(arguments, status)
    except UserError as error:
        status.close()
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, _StoppedError) as stop:
        status.close()
        print(f"{PROGRAM}: stopped; nothing was written", file=sys.stderr)
        return 128 + (signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    raise _StoppedError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Give a video a shallow depth of field: same size, frame rate and audio, other focus.",
        epilog=examples(
            PROGRAM,
            "clip.mp4 --out bokeh.mp4 --disparity depth.npz --focus 640,360 --k-at-1024 16",
            "clip.mp4 --out bokeh.mp4 --depth-model models/depth-small --focus '0:0.8, 40:0.2' --k 20",
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("video", metavar="VIDEO", type=Path, help="video file, or folder of numbered images")
    add("--out", metavar="FILE", type=Path, required=True, help="video to write: .mp4, .mov or .mkv")
    depth = parser.add_mutually_exclusive_group(required=True)
    depth.add_argument(
        "--disparity",
        metavar="PATH",
        type=Path,
        help="near is large: folder of PNG, TIFF, EXR, npy or npz files; one npy or npz [T, H, W]; video",
    )
    depth.add_argument(
        "--depth-model",
        metavar="MODEL",
        help="depth network of transformers (Depth Anything, DPT, ZoeDepth, ...): local folder or hub name",
    )
    add(
        "--disparity-range",
        metavar="LOW:HIGH",
        help="what becomes 0 (far) and 1 (near), alike in all frames (default: integers and floats within "
        "0:1 stay; other floats and networks: least and greatest of the clip)",
    )
    add(
        "--focus",
        metavar="FOCUS",
        required=True,
        help="disparity 0.6, keyframes '0:0.8, 40:0.2' (frame:disparity), pixel X,Y of the first frame, "
        "followed through time, or mask video or folder",
    )
    strength = parser.add_mutually_exclusive_group(required=True)
    strength.add_argument(
        "--k",
        metavar="K",
        help="blur radius in pixels of this video per unit of disparity, or keyframes '0:0, 40:24'",
    )
    strength.add_argument("--k-at-1024", metavar="K", help="the same at a width of 1024 pixels")
    add(
        "--renderer",
        metavar="NAME",
        help=f"{', '.join([*_weight_free(), NETWORK])} (default: {DEFAULT_RENDERER}, which needs no weights)",
    )
    add("--weights", metavar="DIR", type=Path, help=f"of the network; without --renderer it means {NETWORK}")
    add(
        "--frames",
        metavar="A:B",
        help="only frames A to B - 1, from 0; either may be left out (default: all)",
    )
    add("--fps", metavar="F", help="of a folder of images, such as 30000/1001 (default: 25)")
    add(
        "--quality",
        choices=("standard", "high", "lossless"),
        default="standard",
        help="standard: H.264, 8 bit; high: H.265, 10 bit, in .mov ProRes; lossless: FFV1 in .mkv "
        "(default: standard)",
    )
    add("--no-audio", action="store_true", help="leave the audio out")
    add(
        "--preview",
        metavar="FILE",
        type=Path,
        help="write a video too: all in focus, bokeh, disparity and focus",
    )
    add("--save-track", metavar="FILE", type=Path, help="write the focus of every frame too, as CSV")
    add("--device", metavar="D", help="cpu, cuda, cuda:1 (default: cuda if there is one, else cpu)")
    add("--threads", metavar="N", type=positive, help="CPU threads (default: one per core)")
    return parser


def _weight_free() -> list[str]:
    return [name for name, entry in RENDERERS.items() if not entry.needs]


def _run(arguments: argparse.Namespace, status: _Status) -> int:
    first, stop = _span("--frames", arguments.frames or ":", int)
    if (first or 0) < 0 or (stop is not None and stop <= (first or 0)):
        raise UserError(f"--frames {arguments.frames}: must be A:B with 0 <= A < B.")
    fps = _rate(arguments.fps) if arguments.fps is not None else None
    name = arguments.renderer or (NETWORK if arguments.weights is not None else DEFAULT_RENDERER)
    if arguments.weights is not None and name in RENDERERS and "weights" not in RENDERERS[name].needs:
        raise UserError(f"--weights {arguments.weights}: renderer '{name}' has none. Leave it out.")
    if arguments.weights is not None and not arguments.weights.is_dir():
        raise UserError(f"--weights {arguments.weights}: there is no such folder.")
    # OpenMP's threads spin while they wait, which made frames take eight times as long where something
    # else ran too, such as the encoder. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import torch
    except ModuleNotFoundError as error:
        raise UserError("PyTorch is missing. Install it: pip install 'focuspull[train]'") from error
    import cv2

    from focuspull.model.focus import parse_focus, parse_strength
    from focuspull.model.refocus import Job, refocus

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
        cv2.setNumThreads(arguments.threads)
    device = _device(arguments.device)
    is_k_at_1024 = arguments.k is None
    option, strength = ("--k-at-1024", arguments.k_at_1024) if is_k_at_1024 else ("--k", arguments.k)
    job = Job(
        video=arguments.video,
        out=arguments.out,
        focus=parse_focus(arguments.focus),
        k=parse_strength(option, strength),
        is_k_at_1024=is_k_at_1024,
        disparity=arguments.disparity,
        depth_model=arguments.depth_model,
        device=device,
        disparity_range=_disparity_range(arguments.disparity_range),
        first=first or 0,
        stop=stop,
        fps=fps,
        quality=arguments.quality,
        with_audio=not arguments.no_audio,
        preview=arguments.preview,
        track=arguments.save_track,
        threads=arguments.threads or 0,
    )
    if arguments.renderer is None and name == DEFAULT_RENDERER:
        status.note(
            f"renders with '{name}', the best without weights; "
            f"for the network: --renderer {NETWORK} --weights DIR"
        )
    try:
        refocus(
            job,
            lambda: _renderer(name, arguments.weights, device),
            progress=status.progress,
            note=status.note,
        )
    except torch.OutOfMemoryError as error:
        raise UserError(f"--device {device}: out of memory. Use a smaller video, or --device cpu.") from error
    status.close()
    for path in (job.out, job.preview, job.track):
        if path is not None:
            print(path)
    return 0


def _disparity_range(text: str | None) -> DisparityRange | None:
    if text is None:
        return None
    from focuspull.model.depth import DisparityRange

    low, high = _span("--disparity-range", text, float)
    if low is None or high is None or not -math.inf < low < high < math.inf:
        raise UserError(f"--disparity-range {text}: must be LOW:HIGH, two finite numbers that increase.")
    return DisparityRange(low, high)


def _renderer(name: str, weights: Path | None, device: torch.device) -> BokehRenderer:
    """A renderer on a device.

    Raises:
        UserError: If there is none of this name, or its weights are missing or unreadable.
    """
    from focuspull.model.renderer import get_renderer

    entry = RENDERERS.get(name)
    if entry is not None and "weights" in entry.needs and weights is None:
        raise UserError(f"--renderer {name}: needs weights. Say where they are: --weights DIR.")
    if entry is not None and set(entry.needs) - {"weights"}:
        raise UserError(f"--renderer {name}: needs more than a video and disparity. Choose another.")
    try:
        renderer = get_renderer(name, **({} if weights is None else {"weights": weights}))
    except (ValueError, OSError, UserError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if reason.startswith("renderer"):
            raise UserError(f"--{reason}") from error
        raise UserError(f"--weights {weights}: {reason.removeprefix(f'{weights}: ')}") from error
    move = getattr(renderer, "to", None)
    return move(device) if move is not None else renderer


def _device(text: str | None) -> torch.device:
    import torch

    if text is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--device {text}: cannot be used: {reason}") from error
    return device


def _span(option: str, text: str, kind: Callable[[str], NumberT]) -> tuple[NumberT | None, NumberT | None]:
    """Two numbers around a colon, either of which may be left out."""
    parts = text.split(":")
    try:
        low, high = (kind(part) if part.strip() else None for part in parts)
    except ValueError:
        raise UserError(f"{option} {text}: must be two numbers such as 10:40.") from None
    return low, high


def _rate(text: str) -> Fraction:
    """Frames per second as an exact number: 29.97 is 30000/1001."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"--fps {text}: must be a number such as 25, 29.97 or 30000/1001.") from None
    if not 0 < rate <= 1000:
        raise UserError(f"--fps {text}: must be above 0 and at most 1000.")
    ntsc = round(rate / _NTSC) * _NTSC
    return ntsc if rate.denominator != 1 and "/" not in text and abs(rate - ntsc) < _TOLERANCE_HZ else rate


class _Status:
    """A bar on standard error, written over and over; where that is no terminal, a line now and then."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._is_open = False
        self._doing = ""
        self._started = self._last_line = time.monotonic()

    def note(self, text: str) -> None:
        """Say something once."""
        self.close()
        print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)

    def progress(self, doing: str, done: int, total: int | None) -> None:
        """Show how far it is."""
        now = time.monotonic()
        if doing != self._doing:
            self.close()
            self._doing, self._started, self._last_line = doing, now, now
        text = progress_text(doing, done, total, now - self._started)
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"{text[:width]}\x1b[K\r", end="", file=sys.stderr, flush=True)
            self._is_open = True
        elif now - self._last_line >= QUIET_S:
            print(text, file=sys.stderr, flush=True)
            self._last_line = now

    def close(self) -> None:
        """Leave the bar standing."""
        if self._is_open:
            print(file=sys.stderr, flush=True)
        self._is_open = False


def progress_text(doing: str, done: int, total: int | None, elapsed_s: float) -> str:
    """The line, for example ``rendering [######......] 60/120 frames, 1.2 s/frame, 72 s left``."""
    frame_s = elapsed_s / done
    if total is None:
        return f"{doing} at frame {done}, {frame_s:.2g} s/frame"
    cells = _BAR_CELLS * done // total
    bar = "#" * cells + "." * (_BAR_CELLS - cells)
    left_s = frame_s * (total - done)
    left = f"{left_s:.0f} s" if left_s < 100 else f"{left_s / 60:.0f} min"
    return f"{doing} [{bar}] {done}/{total} frames, {frame_s:.2g} s/frame, {left} left"
