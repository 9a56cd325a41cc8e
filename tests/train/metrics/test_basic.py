"""Metrics of one video: independent references, cases worked by hand, every quirk of the official."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from focuspull.train.metrics import basic
from focuspull.train.metrics.base import Prediction, Truth
from focuspull.train.metrics.basic import BASIC
from tests.train.metrics.examples import make_truth, perfect

torch.set_num_threads(1)

PLAIN = [metric for metric in BASIC if not metric.weights]
TRUTH = make_truth(num_frames=5)


def measure(metric_id: str, truth: Truth, video: Tensor) -> float:
    metric = next(metric for metric in BASIC if metric.info.id == metric_id)
    return metric.open({}, torch.device("cpu"))(truth, Prediction(video))


def noisy(truth: Truth, amount: float = 0.05, seed: int = 0) -> Tensor:
    noise = torch.randn(truth.bokeh.shape, generator=torch.Generator().manual_seed(seed))
    return (truth.bokeh + amount * noise).clamp(0, 1)


def uncoded(truth: Truth) -> Truth:
    """A truth whose coded video is the video itself, to tell H.264 from what comes after it."""
    truth = replace(truth)
    truth.__dict__["coded"] = truth.bokeh
    return truth


def uncoded_prediction(video: Tensor) -> Prediction:
    prediction = Prediction(video)
    prediction.__dict__["coded"] = video
    return prediction


@pytest.mark.parametrize("metric", PLAIN, ids=lambda metric: metric.info.id)
def test_the_truth_scores_perfectly(metric) -> None:
    value = metric.open({}, torch.device("cpu"))(TRUTH, perfect(TRUTH))
    best = {"psnr": math.inf, "ssim": 1.0}.get(metric.info.name, 0.0 if metric.info.best == "low" else 1.0)
    if metric.info.name.startswith("psnr"):
        best = math.inf if metric.info.protocol == "official" else 100.0
    if metric.info.id == "official/vepi":
        assert 0.8 < value < 1  # against the all-in-focus video, which even the truth is not
    else:
        assert value == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("metric", PLAIN, ids=lambda metric: metric.info.id)
def test_noise_scores_worse(metric) -> None:
    measured = metric.open({}, torch.device("cpu"))
    little, much = (measured(TRUTH, Prediction(noisy(TRUTH, amount))) for amount in (0.02, 0.1))
    assert little < much if metric.info.best == "low" else little > much


def test_psnr_is_that_of_scikit_image() -> None:
    video = noisy(TRUTH)
    pooled = peak_signal_noise_ratio(TRUTH.bokeh.double().numpy(), video.double().numpy(), data_range=1)
    assert measure("corrected/psnr", TRUTH, video) == pytest.approx(pooled, abs=1e-4)
    frames = [
        peak_signal_noise_ratio(a.double().numpy(), b.double().numpy(), data_range=1)
        for a, b in zip(TRUTH.bokeh, video, strict=True)
    ]
    assert measure("corrected/psnr-frames", TRUTH, video) == pytest.approx(np.mean(frames), abs=1e-4)


def test_ssim_is_that_of_scikit_image() -> None:
    video = noisy(TRUTH)
    values = []
    for a, b in zip(TRUTH.bokeh.double().numpy(), video.double().numpy(), strict=True):
        _, full = structural_similarity(  # pyright: ignore[reportAssignmentType]
            a,
            b,
            channel_axis=0,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            truncate=3.5,
            use_sample_covariance=False,
            full=True,
        )
        values.append(full[:, 5:-5, 5:-5].mean())
    assert measure("corrected/ssim", TRUTH, video) == pytest.approx(np.mean(values), abs=1e-4)


def test_official_psnr_is_pooled_and_knows_no_bound() -> None:
    """One bad frame of five costs less than in the mean of frames; equal videos are infinitely good."""
    video = TRUTH.bokeh.clone()
    video[0] = (video[0] + 0.3).clamp(0, 1)
    error = float((video - TRUTH.bokeh).double().square().mean())
    value = basic.official_psnr(uncoded(TRUTH), uncoded_prediction(video))
    assert value == pytest.approx(-10 * math.log10(error), abs=1e-4)
    assert measure("corrected/psnr-frames", TRUTH, video) > 80  # four frames of 100 dB
    assert basic.official_psnr(TRUTH, perfect(TRUTH)) == math.inf


def test_official_ssim_has_other_borders() -> None:
    """Noise at the rim of the frame, where the corrected one has no window's centre, counts more."""
    video = TRUTH.bokeh.clone()
    video[..., :3, :] = 1 - video[..., :3, :]
    official = basic.official_ssim(uncoded(TRUTH), uncoded_prediction(video))
    assert abs(official - measure("corrected/ssim", TRUTH, video)) > 0.002


def test_official_reads_coded_videos() -> None:
    """Coding takes noise away from both, and makes unlike videos of like ones; corrected sees the pixels."""
    video = TRUTH.bokeh.clone()
    video[..., ::2] = (video[..., ::2] + 2 / 255).clamp(0, 1)
    official = measure("official/psnr", TRUTH, video)
    assert official != pytest.approx(basic.official_psnr(uncoded(TRUTH), uncoded_prediction(video)), abs=0.05)
    error = float((video - TRUTH.bokeh).double().square().mean())
    assert measure("corrected/psnr", TRUTH, video) == pytest.approx(-10 * math.log10(error), abs=1e-4)


def test_rm_by_hand() -> None:
    """The truth stands still; a prediction that is 0.1 brighter in every other frame changes in each pair."""
    still = replace(TRUTH, bokeh=torch.full_like(TRUTH.bokeh, 0.5))
    video = still.bokeh.clone()
    video[1::2] += 0.1
    assert measure("corrected/rm", still, video) == pytest.approx(0.1, abs=1e-6)


def test_official_rm_sees_the_first_two_pairs_only() -> None:
    video = TRUTH.bokeh.clone()
    video[3] = 1 - video[3]
    assert basic.official_rm(uncoded(TRUTH), uncoded_prediction(video)) == 0
    assert measure("corrected/rm", TRUTH, video) > 0.01


def test_fd_is_of_the_difference_in_motion_at_1024() -> None:
    """What stands still in a video that moves by 3 px per frame is off by 3 px, 24 at 1024 px of width."""
    base = make_truth(k=0.0, num_frames=4).aif[0]
    moving = torch.stack([base.roll(3 * t, 2) for t in range(4)])
    truth = replace(make_truth(num_frames=4), bokeh=moving)
    still = base.expand(4, -1, -1, -1)
    # Half of the mean over x and y, since nothing moves in y.
    assert measure("corrected/fd-dis", truth, still) == pytest.approx(3 * 8 / 2, rel=0.15)
    assert measure("corrected/fd-dis", truth, moving) == 0


def test_single_frames_have_no_motion() -> None:
    single = make_truth(num_frames=1)
    for name in ("corrected/rm", "official/rm", "corrected/fd-dis"):
        assert math.isnan(measure(name, single, single.bokeh))


def test_official_vepi_rewards_doing_nothing() -> None:
    truth = make_truth()
    nothing = measure("official/vepi", uncoded(truth), truth.aif)
    assert nothing > 0.99
    assert nothing > measure("official/vepi", truth, truth.bokeh)


def test_corrected_vepi_does_not() -> None:
    truth = make_truth()
    assert measure("corrected/vepi", truth, truth.aif) < 0.9
    assert measure("corrected/vepi", truth, truth.bokeh) == pytest.approx(1)


def test_vepi_by_hand() -> None:
    """Pearson correlation of Sobel magnitudes, in the mask only."""
    a, b = np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 9.0]]), np.array([[0.0, 2.0, 0.0], [4.0, 5.0, 0.0]])
    mask = np.array([[True, True, False], [True, True, False]])
    x, y = np.array([0, 1, 2, 3]) - 1.5, np.array([0, 2, 4, 5]) - 2.75
    expected = (x * y).sum() / math.sqrt((x**2).sum() * (y**2).sum())
    assert basic._correlation(a, b, mask) == pytest.approx(expected)
    assert math.isnan(basic._correlation(a, np.zeros_like(b), mask))


def test_vepi_of_a_truth_without_focus_is_not_a_number() -> None:
    nowhere = make_truth(focus=0.55, k=40.0)
    assert math.isnan(measure("official/vepi", nowhere, nowhere.bokeh))
