"""Whether scores put systems in the order of what they know, where that order is certain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from focuspull.dataset.cards import CardsCorpus
from focuspull.dataset.cards_scene import CardsSpec, random_generator, random_scene
from focuspull.dataset.optics import k_at_1024
from focuspull.model.baselines.oracle import LayerStack, OracleLayers
from focuspull.train.benchmark import TestSet, load_truth
from focuspull.train.metrics.base import Prediction
from focuspull.train.metrics.registry import VIDEO_METRICS
from focuspull.train.robustness import run_robustness
from focuspull.train.systems import open_system, parse_systems
from tests.train.evaluating import options

torch.set_num_threads(1)

ORDER = ("identity", "gather", "scatter", "layers")
"""By what they know: nothing of blur, nothing of occlusion, who covers whom, what is hidden, roughly."""


SPEC = CardsSpec(
    num_held_out=5, num_targets=2, width=192, height=108, num_frames=1, k_at_1024=(16, 64), lens_samples=256
)


def true_layers(number: int) -> LayerStack:
    """All layers of a clip's only frame, with what is hidden of each."""
    layers = random_scene(random_generator(SPEC, "test", number, 0), SPEC, [], []).layers(0)
    lights, alphas, disparities = [], [], []
    for layer in layers:
        alpha = np.ones(layer.light.shape[:2], np.float32) if layer.alpha is None else layer.alpha
        y, x = np.mgrid[: alpha.shape[0], : alpha.shape[1]] - layer.margin_px
        lights.append(layer.light / np.maximum(alpha, 1e-4)[..., None])
        alphas.append(alpha)
        disparities.append(np.broadcast_to(layer.plane.disparity(x, y), alpha.shape).astype(np.float32))
    light, alpha, disparity = (
        torch.from_numpy(np.stack(arrays))[None, None] for arrays in (lights, alphas, disparities)
    )
    return LayerStack(
        light.permute(0, 1, 2, 5, 3, 4), alpha[:, :, :, None], disparity[:, :, :, None], layers[0].margin_px
    )


def test_the_more_a_system_knows_the_better_it_scores() -> None:
    """On cards, whose truth is lens rays through all layers, at K of 16 and more."""
    cards = CardsCorpus(SPEC, split="test")
    measure = VIDEO_METRICS["corrected/psnr"].open({}, torch.device("cpu"))
    systems = [open_system(system, torch.device("cpu")) for system in parse_systems(",".join(ORDER))]
    scores: dict[str, list[float]] = {name: [] for name in (*ORDER, "oracle")}
    for number, row in enumerate(cards.rows):
        oracle = OracleLayers(true_layers(number), num_points=32)
        for target in range(SPEC.num_targets):
            truth, _ = load_truth(cards, row, target)
            assert k_at_1024(float(truth.k.max()), SPEC.width) >= 16
            made = {system.spec.name: system(truth, truth.disparity) for system in systems}
            given = (truth.aif, truth.disparity, truth.k, truth.focus_disparity)
            made["oracle"] = oracle(*(tensor[None] for tensor in given))[0]
            for name, video in made.items():
                scores[name].append(measure(truth, Prediction(video)))
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    ranked = list(means.values())
    assert ranked == sorted(ranked), means
    assert means["gather"] > means["identity"] + 3, means
    assert means["oracle"] > means["layers"] + 6, means


@pytest.fixture
def address(tmp_path: Path) -> str:
    """A clip of the paper's protocol, small."""
    path = tmp_path / "cards.yaml"
    spec = {"num_clips": 1, "num_frames": 2, "width": 160, "height": 90, "ks": [16, 32], "seed": 11}
    path.write_text(yaml.safe_dump(spec | {"lens_samples": 128}))
    return f"cards200:{path}"


def test_the_more_disparity_is_corrupted_the_worse_the_scores(address: str, tmp_path: Path) -> None:
    chosen = options(Path(), tmp_path / "e", "scatter,layers", previews=False)
    test_set = TestSet(address=address, split="test")
    corruptions = ("gaussian", "flicker", "scale-shift")
    results, failures = run_robustness(
        chosen.model_copy(update={"test_set": test_set, "metrics": ("corrected/psnr",)}),
        corruptions,
        [1.0, 4.0],
        lambda line: None,
    )
    assert failures == []
    for system in ("scatter", "layers"):
        for corruption in corruptions:
            values = {
                point.level: point.value
                for point in results.robustness
                if (point.system, point.corruption, point.metric) == (system, corruption, "corrected/psnr")
            }
            assert values[0.0] > values[1.0] > values[4.0], (system, corruption, values)
