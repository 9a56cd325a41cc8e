"""Keyframes, masks, and a pixel that is followed through time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError
from focuspull.model.focus import (
    Keyframes,
    Mask,
    Point,
    PointTracker,
    Sight,
    focus_over_time,
    mask_sight,
    parse_focus,
    parse_strength,
)

HEIGHT, WIDTH = 120, 200


def texture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    noise = cv2.GaussianBlur(rng.random((height, width), dtype=np.float32), (0, 0), 1.5)
    return (noise - noise.min()) / np.ptp(noise)


def scene(
    path: NDArray[Any], size: int = 40, near: float = 0.8
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Luma and disparity of a textured square whose middle moves along a path over a textured ground."""
    rng = np.random.default_rng(0)
    ground, square = texture(rng, HEIGHT, WIDTH), texture(rng, size, size)
    for i, (x, y) in enumerate(path):
        shift = np.array([[1, 0, x - size / 2 + 0.5], [0, 1, y - size / 2 + 0.5]], np.float32)
        inside = cv2.warpAffine(np.ones_like(square), shift, (WIDTH, HEIGHT))
        luma = ground * (1 - inside) + cv2.warpAffine(square, shift, (WIDTH, HEIGHT)) * inside
        noisy = luma + 0.01 * np.random.default_rng(100 + i).standard_normal(luma.shape)
        yield noisy.clip(0, 1).astype(np.float32), (0.1 + (near - 0.1) * (inside > 0.5)).astype(np.float32)


def place(sight: Sight) -> NDArray[np.float64]:
    assert sight.x is not None and sight.y is not None
    return np.array([sight.x, sight.y])


def track(point: Point, frames) -> list[Sight]:
    luma, disparity = next(frames)
    tracker = PointTracker(point, luma, disparity)
    return [tracker.start(), *(tracker.follow(*frame) for frame in frames)]


def curve(num_frames: int) -> NDArray[Any]:
    t = np.linspace(0, 1, num_frames)
    return np.stack([50 + 100 * t, 60 + 25 * np.sin(6 * t)], -1)


def test_a_moving_pixel_is_followed_within_a_pixel_and_a_half():
    path = curve(50)
    sights = track(Point(55, 57), scene(path))
    found = np.array([place(sight) for sight in sights])
    assert np.linalg.norm(found - (path + [5, -3]), axis=1).max() < 1.5
    assert all(sight.disparity == pytest.approx(0.8) for sight in sights)


def test_large_frames_are_followed_in_their_own_pixels():
    frames = (tuple(cv2.resize(image, None, fx=5, fy=5) for image in frame) for frame in scene(curve(40)))
    sights = track(Point(252, 302), frames)
    assert np.linalg.norm(place(sights[-1]) - [752 - 2, 5 * curve(40)[-1][1] + 2]) < 8


def test_a_point_near_its_edge_follows_the_thing_and_not_the_ground():
    path = curve(40)
    sights = track(Point(50 - 17, 60 - 17), scene(path))
    found = np.array([place(sight) for sight in sights])
    assert np.linalg.norm(found - (path - 17), axis=1).max() < 3


def test_what_is_covered_is_lost_and_found_again():
    path = np.stack([np.linspace(60, 100, 40), np.full(40, 60.0)], -1)
    frames = list(scene(path))
    for i in range(15, 23):
        luma, disparity = frames[i]
        luma[:, 40:140], disparity[:, 40:140] = texture(np.random.default_rng(9), HEIGHT, 100), 1.0
    sights = track(Point(60, 60), iter(frames))
    lost = [i for i, sight in enumerate(sights) if sight.disparity is None]
    assert set(range(15, 23)) <= set(lost) and max(lost) <= 25
    assert np.linalg.norm(place(sights[-1]) - [100, 60]) < 1.5
    focus = focus_over_time(sights, 25)
    assert focus == pytest.approx(0.8, abs=1e-6)


def test_what_leaves_the_frame_is_lost_where_it_left():
    path = np.stack([np.linspace(150, 260, 40), np.full(40, 60.0)], -1)
    sights = track(Point(150, 60), scene(path))
    assert sights[-1].disparity is None and sights[-1].score == 0
    assert 180 < place(sights[-1])[0] <= WIDTH - 1


@pytest.mark.parametrize("corner", [(0, 0), (WIDTH - 1, HEIGHT - 1), (0.4, HEIGHT - 1.5)])
def test_corners_of_the_frame_can_be_in_focus(corner: tuple[float, float]):
    still = np.tile([[100.0, 60.0]], (5, 1))
    sights = track(Point(*corner), scene(still))
    assert all(np.linalg.norm(place(s) - corner) < 1 and s.disparity is not None for s in sights)


def test_a_plain_area_stays_in_focus_where_it_is():
    plain = np.full((HEIGHT, WIDTH), 0.5, np.float32)
    sights = track(Point(30, 30), iter([(plain, plain)] * 4))
    assert [(s.x, s.y, s.disparity) for s in sights] == [(30, 30, 0.5)] * 4


def test_frames_smaller_than_the_patch_work():
    tiny = np.random.default_rng(0).random((9, 12), dtype=np.float32)
    assert track(Point(4, 4), iter([(tiny, tiny)] * 3))[-1].disparity is not None


def test_a_followed_focus_is_bridged_and_smooth():
    sights = [Sight(0, 0, 1, 0.2)] * 10 + [Sight(0, 0, 0, None)] * 10 + [Sight(0, 0, 1, 0.8)] * 10
    focus = focus_over_time(sights, 25)
    assert focus[0] == pytest.approx(0.2) and focus[-1] == pytest.approx(0.8)
    assert 0 < np.diff(focus).max() < 0.07 and np.diff(focus).min() > -1e-9
    with pytest.raises(ValueError, match="lost in every frame"):
        focus_over_time([Sight(0, 0, 0, None)] * 3, 25)


def test_mask_takes_the_median_where_it_is_white():
    disparity = np.array([[0.1, 0.2, 0.3], [0.9, 0.9, 0.9]], np.float32)
    assert mask_sight(np.array([[1, 1, 1], [0, 0, 0.4]], np.float32), disparity).disparity == pytest.approx(
        0.2
    )
    assert mask_sight(np.zeros((2, 3), np.float32), disparity) == Sight(None, None, 0.0, None)


def test_keyframes_are_interpolated_between_and_kept_outside():
    keyframes = Keyframes((10, 20, 40), (0.8, 0.2, 0.4))
    assert [keyframes.at(frame) for frame in (0, 10, 15, 20, 30, 40, 99)] == pytest.approx(
        [0.8, 0.8, 0.5, 0.2, 0.3, 0.4, 0.4]
    )


def test_every_form_of_focus_is_read(tmp_path: Path):
    (tmp_path / "mask.mp4").write_bytes(b"")
    assert parse_focus("0.6") == Keyframes((0,), (0.6,))
    assert parse_focus("0:0.8, 40:0.2") == Keyframes((0, 40), (0.8, 0.2))
    assert parse_focus("640,360") == parse_focus("(640, 360)") == Point(640, 360)
    assert parse_focus(str(tmp_path / "mask.mp4")) == Mask(tmp_path / "mask.mp4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.5", r"disparity must be in \[0, 1\], got 1\.5\. A pixel is X,Y"),
        ("nan", r"disparity must be in \[0, 1\], got nan"),
        ("0:0.5,40:-1", r"got -1"),
        ("40:0.5,0:1", "frames must be from 0 and increase"),
        ("none.mp4", "no such file either"),
        ("3,4,5", "no such file either"),
        ("0:0.5:3", "no such file either"),
        ("", "no such file either|must be"),
    ],
)
def test_what_is_no_focus_is_one_line(text: str, message: str):
    with pytest.raises(UserError, match=message) as caught:
        parse_focus(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "0:3,5:-2"])
def test_strength_must_be_finite_and_not_negative(text: str):
    with pytest.raises(UserError, match=f"^--k {text}: must be finite and not negative"):
        parse_strength("--k", text)
    with pytest.raises(UserError, match="^--k wide: must be a number"):
        parse_strength("--k", "wide")
