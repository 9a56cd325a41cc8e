"""The paper's own test protocol: its ranges, its jitter, and what is made of the user's mattes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from focuspull.dataset.cards_published import (
    NUM_OBJECTS,
    SPECS,
    PublishedCards,
    PublishedCardsSpec,
    is_published_cards,
    open_published_cards,
)
from focuspull.dataset.errors import UserError

SMALL = {"width": 128, "height": 72, "seed": 3}


def corpus(**fields: object) -> PublishedCards:
    return PublishedCards(PublishedCardsSpec.model_validate(SMALL | fields))


def matte(path: Path, *, size: tuple[int, int] = (40, 30), top: int = 5, colour: int = 200) -> None:
    image = np.zeros((*size, 4), np.uint8)
    image[top : top + 20, 5:25] = (colour, 60, 30, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def test_the_shipped_spec_is_the_published_protocol() -> None:
    spec = open_published_cards("cards200", overrides={}).spec
    assert (spec.num_clips, spec.num_frames, spec.width, spec.height) == (200, 25, 1024, 576)
    assert spec.ks == (4, 8, 16, 32)
    assert [path.name for path in SPECS.glob("*.yaml")] == ["cards200.yaml"]


@pytest.mark.parametrize("jitter", [False, True])
def test_disparities_are_in_the_published_ranges(jitter: bool) -> None:
    """d = 1/z: 0.80-1.00, 0.387-0.480, 0.255-0.293 and 0.200-0.211, the background 0.005-0.010."""
    cards = corpus(official_jitter=jitter)
    ranges = [(0.8, 1.0), (0.387, 0.481), (0.255, 0.293), (0.2, 0.2106)]
    for number in range(12):
        clip = cards.clip(number)
        ordered = sorted(clip.objects, key=lambda thing: -thing.disparity[0])
        for (low, high), thing in zip(ranges, ordered, strict=True):
            assert low - 1e-3 <= thing.disparity.min() <= thing.disparity.max() <= high + 1e-3
        assert 0.005 <= clip.background_disparity.min() <= clip.background_disparity.max() <= 0.01
        assert set(clip.k_at_1024) <= {4, 8, 16, 32}


def test_published_depth_flickers_and_ours_holds() -> None:
    """Published: rank 0 varies with a standard deviation of 0.067 from frame to frame."""
    clips = [corpus(official_jitter=True).clip(number) for number in range(40)]
    nearest = [max(clip.objects, key=lambda thing: thing.disparity[0]).disparity for clip in clips]
    assert np.mean([values.std() for values in nearest]) == pytest.approx(0.067, abs=0.012)
    assert all(len(set(clip.background_disparity)) == 25 for clip in clips)
    for number in range(5):
        still = corpus().clip(number)
        assert all(np.ptp(thing.disparity) == 0 for thing in still.objects)
        assert np.ptp(still.background_disparity) == 0


def test_published_places_jump_and_ours_glide() -> None:
    wide = {"width": 1024, "height": 576}
    jumps = np.diff(corpus(official_jitter=True, **wide).clip(0).objects[0].centres, axis=0)
    np.testing.assert_allclose(jumps, jumps.round(), atol=1e-9)
    assert 20 < np.abs(jumps).max() <= 40
    glides = [np.diff(thing.centres, axis=0) for n in range(10) for thing in corpus(**wide).clip(n).objects]
    assert max(np.abs(steps).max() for steps in glides) < 25
    assert max(np.abs(np.diff(steps, axis=0)).max() for steps in glides) < 3
    extent = np.mean([np.abs(steps.sum(0)) for steps in glides])
    assert extent == pytest.approx(115 * np.sqrt(2 / np.pi), rel=0.3)  # mean of a half-normal


def test_a_target_is_focused_on_its_object_which_stays_sharp() -> None:
    cards = corpus(ks=[32])
    checked = 0
    for target in range(NUM_OBJECTS):
        sample = cards.sample(cards.rows[1], target=target, frames=[0, 20], instance=True)
        thing = cards.clip(1).objects[target]
        assert sample.focus_disparity.tolist() == pytest.approx(thing.disparity[[0, 20]].tolist())
        assert sample.k.tolist() == pytest.approx([32 * 128 / 1024] * 2)
        assert sample.instance is not None
        for t in range(2):
            # Nothing nearer close by, whose blur would spill over it.
            reach = np.ones((11, 11), np.uint8)
            nearer = cv2.dilate(
                (sample.disparity[t] > sample.focus_disparity[t] + 1e-3).astype(np.uint8), reach
            )
            inside = cv2.erode((sample.instance[t] == target + 1).astype(np.uint8), np.ones((3, 3), np.uint8))
            inside = (inside > 0) & (nearer == 0)
            if inside.sum() > 20:
                checked += 1
                error = np.abs(sample.bokeh[t].astype(int) - sample.aif[t])[inside]
                assert error.mean() < 3
    assert checked >= 3


def test_what_is_out_of_focus_is_blurred_by_k_times_the_difference(tmp_path: Path) -> None:
    """The bright edge of a picture behind everything: its width is that of a disc of radius K (d_f - d)."""
    edge = np.full((90, 160, 3), 20, np.uint8)
    edge[:, 80:] = 235
    cv2.imwrite(str(tmp_path / "edge.png"), edge)
    (tmp_path / "mattes").mkdir()
    cv2.imwrite(str(tmp_path / "mattes" / "bar.png"), np.full((4, 400, 4), 255, np.uint8))
    cards = corpus(ks=[64], backgrounds=tmp_path, cutouts=tmp_path / "mattes", lens_samples=2000)
    clip = cards.clip(0)
    target = int(np.argmax([thing.disparity[0] for thing in clip.objects]))
    sample = cards.sample(cards.rows[0], target=target, frames=[0], instance=True)
    expected = float(sample.k[0] * (sample.focus_disparity[0] - clip.background_disparity[0]))
    assert expected > 5
    assert sample.instance is not None
    free = [y for y in range(72) if not sample.instance[0][max(0, y - 8) : y + 9].any()]
    assert len(free) > 10
    row = sample.bokeh[0, free].mean((0, 2))
    light = ((row / 255 + 0.055) / 1.055) ** 2.4
    light = (light - light[0]) / (light[-1] - light[0])
    slope = np.gradient(light)
    x = np.arange(len(slope))
    centre = (x * slope).sum() / slope.sum()
    spread = np.sqrt(((x - centre) ** 2 * slope).sum() / slope.sum())
    assert 2 * spread == pytest.approx(expected, rel=0.1)  # of a disc, along one axis: r / 2


def test_a_clip_is_the_same_in_any_order_and_process() -> None:
    cards = corpus()
    later = cards.sample(cards.rows[2], target=1, frames=[7], instance=True)
    cards.sample(cards.rows[0], target=0, frames=[0])
    again = cards.sample(cards.rows[2], target=1, frames=[0, 7], instance=True)
    np.testing.assert_array_equal(again.bokeh[1], later.bokeh[0])
    script = (
        "import hashlib\nfrom focuspull.dataset.cards_published import *\n"
        f"c = PublishedCards(PublishedCardsSpec.model_validate({SMALL}))\n"
        "s = c.sample(c.rows[2], target=1, frames=[7], instance=True)\n"
        "print(hashlib.sha256(s.bokeh.tobytes() + s.aif.tobytes() + s.disparity.tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    content = later.bokeh.tobytes() + later.aif.tobytes() + later.disparity.tobytes()
    assert done.stdout.strip() == hashlib.sha256(content).hexdigest()


def test_the_users_mattes_are_used_moving_ones_too(tmp_path: Path) -> None:
    for frame in range(4):
        matte(tmp_path / "walker" / f"{frame:03d}.png", top=frame * 4)
    moving = corpus(cutouts=tmp_path, num_frames=6)
    thing = moving.clip(0).objects[0]
    # The box of the whole clip, so that what moves in it moves in the frame; the last one holds.
    assert len(thing.images) == 4
    tops = [int(np.flatnonzero(image[..., 3].max(1))[0]) for image in thing.images]
    assert tops == sorted(tops) and tops[-1] > tops[0] + 5
    published = corpus(cutouts=tmp_path, num_frames=6, official_jitter=True).clip(0).objects[0]
    tops = [int(np.flatnonzero(image[..., 3].max(1))[0]) for image in published.images]
    assert max(tops) - min(tops) <= 1  # each frame cropped to itself
    assert len(moving.rows) == 200
    assert moving.rows[0].members_sha256 != corpus(num_frames=6).rows[0].members_sha256


def test_addresses_and_overrides(tmp_path: Path) -> None:
    assert is_published_cards("cards200") and is_published_cards("cards200:a.yaml")
    assert not is_published_cards("cards") and not is_published_cards("./cards200")
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 4\nnum_clips: 3\n")
    mine = open_published_cards(f"cards200:{path}", overrides={"official_jitter": True, "width": 64})
    assert (len(mine.rows), mine.spec.official_jitter, mine.spec.width) == (3, True, 64)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cutouts": "empty"}, "cards200: cutouts: .*empty has no PNG files and no folders of them"),
        ({"backgrounds": "empty"}, "cards200: backgrounds: .*empty has no PNG files"),
        ({"cutouts": "mixed"}, "b.png: has another size than a.png"),
        ({"cutouts": "clear"}, "a.png: is all transparent"),
        ({"cutouts": "text"}, "a.png: is not an 8-bit RGBA PNG"),
    ],
)
def test_pictures_that_cannot_be_used_are_named(tmp_path: Path, fields: dict, message: str) -> None:
    (tmp_path / "empty").mkdir()
    matte(tmp_path / "mixed" / "m" / "a.png")
    matte(tmp_path / "mixed" / "m" / "b.png", size=(50, 30))
    (tmp_path / "clear").mkdir()
    cv2.imwrite(str(tmp_path / "clear" / "a.png"), np.zeros((8, 8, 4), np.uint8))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("no picture")
    (field, folder), *_ = fields.items()
    with pytest.raises(UserError, match=message):
        corpus(**{field: tmp_path / folder}).clip(0)


def test_specs_that_are_wrong_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cards200:: names no spec"):
        open_published_cards("cards200:", overrides={})
    with pytest.raises(UserError, match="unknown field 'num_clip'. Did you mean 'num_clips'"):
        open_published_cards("cards200", overrides={"num_clip": 3})
    with pytest.raises(ValueError, match="has targets 0 to 3"):
        corpus().sample(corpus().rows[0], target=4, frames=[0])
