"""Times and memory of a call, by one rule."""

from __future__ import annotations

import time

import numpy as np
import torch

from focuspull.train.metrics.timing import timed

CPU = torch.device("cpu")


def test_the_first_call_does_not_count() -> None:
    calls: list[float] = []

    def run() -> None:
        time.sleep(0.3 if not calls else 0.02)
        calls.append(0)

    timing = timed(run, num_frames=2, device=CPU)
    assert len(calls) == 4
    assert 0.01 <= timing.seconds_per_frame < 0.1


def test_one_slow_call_does_not_count() -> None:
    pauses = iter([0.0, 0.02, 0.4, 0.02])
    timing = timed(lambda: time.sleep(next(pauses)), num_frames=1, device=CPU)
    assert timing.seconds_per_frame < 0.2


def test_memory_is_the_peak_of_the_call_and_not_of_what_was_before() -> None:
    mebibyte = 2**20
    before = np.ones(200 * mebibyte, np.uint8)
    del before

    def run() -> int:
        return int(np.ones(64 * mebibyte, np.uint8)[::4096].sum())

    timing = timed(run, num_frames=1, device=CPU)
    assert timing.peak_memory_bytes is not None
    assert 48 * mebibyte < timing.peak_memory_bytes < 128 * mebibyte


def test_memory_that_was_used_and_freed_before_counts_again() -> None:
    """Else the second of two equal systems would look free."""
    size = 64 * 2**20

    def run() -> None:
        # Many small blocks: the allocator keeps these when they are freed.
        blocks = [bytearray(2**16) for _ in range(size // 2**16)]
        blocks[0][0] = 1

    found = [timed(run, num_frames=1, device=torch.device("cpu"), repeats=1) for _ in range(2)]
    for timing in found:
        assert timing.peak_memory_bytes is not None
        assert 0.8 * size < timing.peak_memory_bytes < 1.5 * size
