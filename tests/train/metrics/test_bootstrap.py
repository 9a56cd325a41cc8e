"""Intervals by bootstrap over clips."""

from __future__ import annotations

import numpy as np
import pytest

from focuspull.train.metrics.bootstrap import MIN_CLIPS, interval, mean_interval


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        span = mean_interval([[value] for value in draws.normal(3, 1, 25)], rng())
        assert span is not None
        hits += span[0] <= 3 <= span[1]
    assert 0.87 <= hits / 200 <= 0.99


def test_targets_of_one_clip_go_together() -> None:
    """Ten equal values of a clip say no more than one."""
    values = np.random.default_rng(1).normal(0, 1, 20)
    single = mean_interval([[value] for value in values], rng())
    repeated = mean_interval([[value] * 10 for value in values], rng())
    assert repeated == pytest.approx(single)


def test_few_clips_have_no_interval() -> None:
    assert mean_interval([[1.0]] * (MIN_CLIPS - 1) + [[]], rng()) is None
    assert mean_interval([[1.0]] * MIN_CLIPS, rng()) == (1.0, 1.0)
    assert interval(MIN_CLIPS - 1, len, rng()) is None


def test_any_statistic_has_an_interval() -> None:
    values = np.random.default_rng(2).normal(0, 1, 30)
    span = interval(30, lambda clips: float(np.mean(values[list(clips)])), rng(), num_draws=1000)
    means = mean_interval([[value] for value in values], rng())
    assert span is not None and means is not None
    assert span == pytest.approx(means, abs=0.08)
