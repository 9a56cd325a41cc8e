"""A few random kills; `python -m tests.chaos.kills` makes hundreds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kills import Chaos, compare


@pytest.mark.mitsuba
def test_random_kills_change_no_byte(tmp_path: Path):
    chaos = Chaos(tmp_path, num_clips=8, seed=3, pause_s=1.2)
    undisturbed = chaos.undisturbed()
    out = chaos.disturbed(8)
    compare(out, undisturbed)
    assert chaos.tally.kills.total() >= 3
    # Of so few kills the share says little: one attempt more that was lost is allowed.
    assert chaos.tally.wasted_s < 0.15 * chaos.tally.killed_s + 3
