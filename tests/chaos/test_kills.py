"""A few random kills; `python -m tests.chaos.kills` makes hundreds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kills import Chaos, compare


@pytest.mark.mitsuba
def test_random_kills_change_no_byte(tmp_path: Path):
    chaos = Chaos(tmp_path, num_clips=6, seed=3, pause_s=2.5)
    undisturbed = chaos.undisturbed()
    out = chaos.disturbed(8)
    compare(out, undisturbed)
    assert chaos.tally.kills.total() >= 3
    assert chaos.tally.wasted < 0.15
