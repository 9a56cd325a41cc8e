"""Where focus is: keys, subjects and pulls on a small ground truth, and what the focus puller draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml

from focuspull.dataset.errors import UserError
from focuspull.render import spec
from focuspull.render.corpus import SPECS, CorpusSpec, load_corpus
from focuspull.render.focus import focus_track
from focuspull.render.puller import Puller, random_k_curve, random_pull
from focuspull.render.randomize import randomize

IDS = {"a": 1, "b": 2}


def target(*focus: dict, **fields: Any) -> spec.TargetSpec:
    return spec.TargetSpec.model_validate({"k_at_1024": (8,) * 5, "focus": focus, **fields})


def clip() -> tuple[np.ndarray, np.ndarray]:
    """Five frames: object 1 comes nearer and is hidden in frame 2; the rest is object 2 at 0.2."""
    disparity = np.full((5, 4, 4), 0.2, np.float32)
    instance = np.full((5, 4, 4), 2, np.uint16)
    for t in (0, 1, 3, 4):
        disparity[t, :2, :2] = 0.5 + 0.1 * t
        instance[t, :2, :2] = 1
    return disparity, instance


def test_focus_on_a_disparity_holds():
    np.testing.assert_allclose(focus_track(target({"frame": 0, "disparity": 0.3}), *clip(), {}, 24.0), 0.3)


def test_focus_follows_a_subject_through_frames_where_it_is_hidden():
    track = focus_track(target({"frame": 0, "subject": "a"}), *clip(), {"a": 1, "b": 2}, 24.0)
    np.testing.assert_allclose(track, (0.5, 0.6, 0.7, 0.8, 0.9), atol=1e-6)


def test_focus_pull_blends_smoothly_between_keys():
    keys = ({"frame": 1, "subject": "b"}, {"frame": 3, "disparity": 1.0})
    track = focus_track(target(*keys), *clip(), {"a": 1, "b": 2}, 24.0)
    np.testing.assert_allclose(track, (0.2, 0.2, 0.6, 1.0, 1.0), atol=1e-6)


def test_focus_on_what_is_never_visible_is_refused():
    with pytest.raises(UserError, match="focus on .*c.*never visible"):
        focus_track(target({"frame": 0, "subject": "c"}), *clip(), {"c": 3}, 24.0)


def test_a_moment_is_held():
    track = focus_track(target({"frame": 0, "subject": "a", "at_frame": 3}), *clip(), IDS, 24.0)
    np.testing.assert_allclose(track, 0.8, atol=1e-6)


def test_between_two_things_is_part_of_the_way_in_disparity():
    key = {"frame": 0, "subject": "a", "toward": "b", "part": 0.25}
    track = focus_track(target(key), *clip(), IDS, 24.0)
    np.testing.assert_allclose(track, 0.75 * np.linspace(0.5, 0.9, 5) + 0.25 * 0.2, atol=1e-6)


def test_a_puller_lags_behind_and_comes_to_rest():
    """A critically damped follower of a step: 1 - (1 + t / lag) exp(-t / lag), up to the frames' spacing."""
    num_frames, lag_s, fps = 200, 0.5, 100.0
    keys = ({"frame": 0, "disparity": 0.2}, {"frame": 1, "disparity": 0.8})
    asked = spec.TargetSpec.model_validate({"k_at_1024": (8,) * num_frames, "focus": keys, "lag_s": lag_s})
    still = np.zeros((num_frames, 1, 1)), np.zeros((num_frames, 1, 1), np.uint16)
    track = focus_track(asked, *still, {}, fps)
    t = np.maximum(np.arange(num_frames) - 0.5, 0) / fps / lag_s
    np.testing.assert_allclose(track, 0.2 + 0.6 * (1 - (1 + t) * np.exp(-t)), atol=6e-3)
    assert track.max() <= 0.8


def test_breathing_is_smooth_small_and_around_the_focus():
    num_frames, breathing = 600, {"amplitude": 0.01, "frequency_hz": 0.7, "seed": 5}
    asked = spec.TargetSpec.model_validate(
        {
            "k_at_1024": (8,) * num_frames,
            "focus": [{"frame": 0, "disparity": 0.5}],
            "breathing": breathing,
        }
    )
    still = np.zeros((num_frames, 1, 1)), np.zeros((num_frames, 1, 1), np.uint16)
    track = focus_track(asked, *still, {}, 24.0)
    assert 0.006 < np.abs(track - 0.5).max() <= 0.01
    assert abs(track.mean() - 0.5) < 1e-3
    fastest = 0.01 * 2 * np.pi * 0.7 * np.mean([0.618, 1, 1.618]) / 24
    assert np.abs(np.diff(track)).max() <= fastest


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"disparity": 0.5, "at_frame": 1}, "are for a subject"),
        ({"disparity": 0.5, "toward": "a"}, "are for a subject"),
        ({"subject": "a", "part": 0.2}, "of the way 'toward'"),
    ],
)
def test_keys_that_mean_nothing_are_refused(key: dict, message: str):
    with pytest.raises(ValueError, match=message):
        spec.FocusKey.model_validate({"frame": 0, **key})


# --- What is drawn ------------------------------------------------------------------------------------

FILM = spec.FilmSpec(num_frames=25, fps=24.0)
PLACES = ("subject", "foreground", "background")


def world() -> spec.World:
    return randomize(load_corpus("demo").spec, 0).world


def draws(mode: str, count: int = 60) -> list:
    puller, scene = Puller(modes={mode: 1}), world()  # type: ignore[dict-item]
    return [random_pull(np.random.default_rng(seed), puller, PLACES, scene, FILM) for seed in range(count)]


def test_every_mode_is_what_it_is_called():
    assert all(len(p.focus) == 1 and p.focus[0].at_frame is not None for p in draws("hold"))
    assert all(len(p.focus) == 1 and p.focus[0].at_frame is None for p in draws("follow"))
    for pull in draws("pull"):
        first, second = pull.focus
        assert first.subjects != second.subjects
        assert 0.3 * 24 - 1 <= second.frame - first.frame <= 24
    for pull in draws("rack"):
        a, b, c, d = pull.focus
        assert a.subjects == d.subjects != b.subjects == c.subjects
        assert a.frame < b.frame < c.frame < d.frame <= 24
    for pull in draws("sweep"):
        assert [key.frame for key in pull.focus] == [0, 24]
        ends = [key.disparity for key in pull.focus]
        assert abs(ends[1] - ends[0]) >= 0.25 - 1e-3
    assert all(key.toward is not None for pull in draws("between") for key in pull.focus)


def test_random_focus_leaves_no_hole_in_disparity():
    found = sorted(pull.focus[0].disparity for pull in draws("random", 2000))
    assert np.diff([0.0, *found, 1.0]).max() < 0.02


def test_every_length_of_clip_can_be_pulled():
    scene = world()
    for num_frames in (1, 2, 3, 5):
        film = spec.FilmSpec(num_frames=num_frames)
        for seed in range(40):
            pull = random_pull(np.random.default_rng(seed), Puller(), PLACES, scene, film)
            frames = [key.frame for key in pull.focus]
            assert frames == sorted(set(frames)) and frames[-1] < num_frames


def test_curves_of_k_stay_in_their_range_and_move_smoothly():
    film, low, high = spec.FilmSpec(num_frames=48, fps=24.0), 4.0, 64.0
    for curve in ("constant", "ramp", "steps"):
        moved = 0
        for seed in range(60):
            k = random_k_curve(np.random.default_rng(seed), {curve: 1}, (low, high), film)  # type: ignore[dict-item]
            assert k.min() >= low and k.max() <= high
            moved += np.ptp(k) > 1e-9
            assert np.abs(np.diff(np.log(k))).max() < 2 * np.log(high / low) / (0.25 * 24)
            if curve == "steps":
                assert (np.abs(np.diff(k)) < 1e-12).mean() > 0.3
        assert moved == (0 if curve == "constant" else 60)


def pulled(**target: Any) -> CorpusSpec:
    content = yaml.safe_load((SPECS / "tiny.yaml").read_text())
    content["targets"] = [{"k_at_1024": [4, 64], "focus": list(PLACES), **target}]
    return CorpusSpec.model_validate(content)


def test_a_corpus_asks_for_a_puller_and_for_curves_of_k():
    corpus = pulled(puller={}, k_curves={"ramp": 1, "steps": 1})
    scenes = [randomize(corpus, 0), randomize(corpus, 0), randomize(corpus, 1)]
    assert scenes[0] == scenes[1] != scenes[2]
    assert np.ptp(scenes[0].targets[0].k_at_1024) > 0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"k_at_1024": 8, "k_curves": {"ramp": 1}}, r"as \[low, high\]"),
        ({"k_curves": {"ramp": 0}}, "at least one a weight"),
        ({"puller": {"modes": {"pull": 0}}}, "at least one a weight"),
        ({"puller": {"pull_s": [2, 1]}}, "needs low <= high"),
        ({"puller": {"modes": {"pan": 1}}}, "modes"),
    ],
)
def test_pullers_that_cannot_be_are_refused(target: dict, message: str):
    with pytest.raises(ValueError, match=message):
        pulled(**target)
