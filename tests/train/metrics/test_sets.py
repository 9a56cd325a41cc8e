"""Fréchet video distances: what they must grow with, and every quirk of the official ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from focuspull.train.metrics import i3d, sets
from focuspull.train.metrics.frechet import frechet_distance, kernel_distance
from focuspull.train.metrics.sets import (
    FEATURE_NETS,
    official_fvd_input,
    official_vfid_input,
    repeated,
    windows,
)
from focuspull.train.metrics.weights import locate
from tests.train.metrics.examples import texture

torch.set_num_threads(1)

CPU = torch.device("cpu")
NETS = {net.name: net for net in FEATURE_NETS}


def moving(seed: int, num_frames: int = 16, height: int = 56, width: int = 80) -> Tensor:
    """A texture that pans, ``[T, 3, H, W]``."""
    wide = texture(seed, height, width + 2 * num_frames)
    return torch.stack([wide[..., 2 * t : 2 * t + width] for t in range(num_frames)])


def blurred(video: Tensor, size: int) -> Tensor:
    return torch.nn.functional.avg_pool2d(video, size, 1, size // 2)


def test_fvd_grows_with_blur_and_with_shuffled_frames() -> None:
    extract = NETS["fvd-i3d"].open(locate("i3d", {}), CPU)
    clips = [moving(seed) for seed in range(3)]
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))

    def features(change) -> np.ndarray:
        return np.concatenate([extract(change(clip)) for clip in clips])

    truth = features(lambda clip: clip)
    distances = [frechet_distance(truth, features(lambda clip, s=s: blurred(clip, s))) for s in (3, 7)]
    shuffled = features(lambda clip: clip[order])
    assert truth.shape == (3, 400)
    assert frechet_distance(truth, truth) == pytest.approx(0, abs=1e-6)
    assert 0 < distances[0] < distances[1]
    assert frechet_distance(truth, shuffled) > 0.1 * distances[0]
    assert kernel_distance(truth, shuffled) > kernel_distance(truth, truth)


def test_corrected_features_are_of_every_window() -> None:
    """25 frames have two windows of 10, and what changes in the second is seen there only."""
    extract = NETS["vfid-i3d"].open(locate("i3d", {}), CPU)
    clip = moving(0, num_frames=20)
    changed = clip.clone()
    changed[12:] = 1 - changed[12:]
    before, after = extract(clip), extract(changed)
    assert before.shape == (2, 1024)
    np.testing.assert_allclose(after[0], before[0], rtol=1e-4, atol=1e-4)
    assert np.abs(after[1] - before[1]).max() > 0.01


def test_windows_do_not_overlap_and_leave_the_rest() -> None:
    video = torch.arange(25)
    assert [part.tolist() for part in windows(video, 10)] == [list(range(10)), list(range(10, 20))]
    assert windows(video[:9], 10) == []


def test_official_vfid_sees_the_first_ten_frames_with_blue_first() -> None:
    clip = moving(0, num_frames=14)
    changed = clip.clone()
    changed[10:] = 0
    clip[:, 0] *= 0.2  # little red
    changed[:, 0] *= 0.2
    given = official_vfid_input(clip)
    assert given.shape == (3, 10, 224, 224)
    assert float(given[2].mean()) < float(given[0].mean()) - 0.3  # red is last
    # Coding looks ahead, so later frames move earlier ones by a level or so.
    assert float((official_vfid_input(changed) - given).abs().mean()) < 0.02
    rgb = i3d.as_input(clip)
    assert float(rgb[0].mean()) < float(rgb[2].mean()) - 0.3  # and first in the corrected one


def test_official_fvd_sees_the_middle_of_24_frames() -> None:
    clip = moving(0, num_frames=25, height=54, width=96)
    changed = clip.clone()
    changed[..., :20] = 0
    changed[..., -20:] = 0
    given = official_fvd_input(clip)
    assert given.shape == (3, 24, 224, 224)
    assert float(given.min()) >= 0 and float(given.max()) <= 1 + 1e-6
    # 96 to 54: the outer 21 columns on either side are cut off.
    assert float((official_fvd_input(changed) - given).abs().mean()) < 0.02
    assert float((i3d.as_input(changed) - i3d.as_input(clip)).abs().mean()) > 0.2


def test_official_sets_are_repeated() -> None:
    features = np.arange(12.0).reshape(4, 3)
    vfid, fvd = NETS["vfid-i3d-official"], NETS["fvd-videomae"]
    assert repeated(features, vfid.repeat_fake)[:, 0].tolist() == [0, 3, 6, 9, 0, 3, 6, 9, 0, 3]
    assert len(repeated(features, vfid.repeat_real)) == 10
    assert len(repeated(features, fvd.repeat_fake)) == 2048
    assert len(repeated(features, fvd.repeat_real)) == 4
    for name in ("fvd-i3d", "vfid-i3d"):
        assert len(repeated(features, NETS[name].repeat_fake)) == 4


def test_repetition_moves_the_distance() -> None:
    a, b = (np.random.default_rng(seed).normal(0, 1, (5, 8)) for seed in (0, 1))
    count = NETS["fvd-videomae"].repeat_fake
    assert frechet_distance(a, repeated(b, count)) != pytest.approx(frechet_distance(a, b), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [("vfid-resnext", (1, 3, 10, 224, 224), 2048), ("fvd-videomae", (1, 3, 24, 224, 224), 1408)],
)
def test_networks_by_path_get_the_official_input(
    name: str, shape: tuple[int, ...], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from focuspull.train.metrics import resnext, videomae

    seen: list[tuple[int, ...]] = []

    class Network:
        def __init__(self, weights: Path, device: torch.device) -> None:
            assert weights == Path("given.pth")

        def features(self, video: Tensor) -> Tensor:
            seen.append(tuple(video.shape))
            return torch.zeros(1, size)

    monkeypatch.setattr(resnext, "ResNeXt3d", Network)
    monkeypatch.setattr(videomae, "VideoMae", Network)
    assert NETS[name].open(Path("given.pth"), CPU)(moving(0, num_frames=25)).shape == (1, size)
    assert seen == [shape]
    assert sets.FEATURE_NETS
