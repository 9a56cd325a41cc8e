"""How long a system takes and how much memory, by one rule for all of them.

One video at a time, nothing else running: first a call that does not count (kernels are compiled, memory is
claimed), then several that do, each with the device synchronised before and after. What is quoted is the
median, per frame. Reading, writing and measuring are left out; estimating disparity is added apart.
"""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Timing:
    """What running a system once over a video takes.

    Args:
        seconds_per_frame: Median over the repetitions, wall clock.
        peak_memory_bytes: Above what was in use before: of the GPU, or resident on a CPU; None: not known.
    """

    seconds_per_frame: float
    peak_memory_bytes: int | None


def timed(
    run: Callable[[], object], *, num_frames: int, device: torch.device, warmup: int = 1, repeats: int = 3
) -> Timing:
    """Time something.

    Args:
        run: Makes one video.
        num_frames: Of it.
        device: Where it computes.
        warmup: Calls before those that count.
        repeats: Calls that count.
    """
    for _ in range(warmup):
        run()
    base = _start_memory(device)
    seconds: list[float] = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    peak = _peak_memory(device)
    extra = None if peak is None or base is None else max(peak - base, 0)
    return Timing(statistics.median(seconds) / num_frames, extra)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _start_memory(device: torch.device) -> int | None:
    """Bytes in use; the peak counts from here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    _give_back_memory()
    try:
        _CLEAR.write_text("5")  # Linux: resets the peak of the resident set
    except OSError:
        return None
    return _status("VmRSS")


def _give_back_memory() -> None:
    """Return what earlier calls have freed to the system: reused, it would not count as claimed."""
    gc.collect()
    # glibc has it; elsewhere freed memory may be counted as still in use.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM")


def _status(name: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None
