"""Features, distributions and the plot that compare renders with real clips; see ``tests/benchmarks``."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.benchmarks import features, plots, variety
from tests.benchmarks.features import FEATURES, SIZE

WIDTH, HEIGHT = SIZE


def textured(shift_px: float = 0.0) -> NDArray[np.uint8]:
    """A smooth pattern without period, moved to the right."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    x = x - shift_px
    waves = np.sin(x / 5) + np.sin(x / 3.1 + y / 4.3) + np.sin(y / 6.1 - x / 9.7)
    return np.repeat((127 + 40 * waves)[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


def test_speed_is_the_shift_over_the_time() -> None:
    moved = features.measure(textured(), textured(2.0), gap_s=0.1)
    # 2 px of 160 in a tenth of a second
    assert moved["motion"] == pytest.approx(12.5, rel=0.1)
    assert features.measure(textured(), textured(), gap_s=0.1)["motion"] < 0.1


def test_brightness_contrast_and_edges() -> None:
    halves = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    halves[:, WIDTH // 2 :] = 255
    found = features.measure(halves, halves, 0.1)
    assert found["brightness"] == pytest.approx(0.5)
    assert found["contrast"] == pytest.approx(0.5)
    assert found["edge density"] == pytest.approx(1 / WIDTH, rel=0.1)
    assert found["colourfulness"] == 0


def test_colourfulness_by_hand() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = (200, 100, 0)
    image[1] = (0, 100, 200)
    # Red - green is +-100; (red + green) / 2 - blue is 150 and -150: spreads 100 and 150, offsets 0.
    assert features.colourfulness(image) == pytest.approx(np.hypot(100, 150))
    image[1] = image[0]
    assert features.colourfulness(image) == pytest.approx(0.3 * np.hypot(100, 150))


def test_depth_has_a_middle_and_a_spread() -> None:
    found = features.measure_depth(np.linspace(0, 1, 101))
    assert found == {"median disparity": pytest.approx(0.5), "spread of disparity": pytest.approx(0.9)}


def test_cuts_are_not_motion() -> None:
    other = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    assert features.is_cut(textured(), other)
    assert not features.is_cut(textured(), textured(3.0))


def test_distances_of_distributions() -> None:
    a = np.linspace(0, 1, 200)
    assert features.overlap(a, a, 0, 1) == pytest.approx(1)
    assert features.overlap(a, a + 0.5, 0, 2) == pytest.approx(0.5, abs=0.06)
    assert features.overlap(a, a + 5, 0, 10) == 0
    assert features.wasserstein(a, a + 0.25) == pytest.approx(0.25)
    assert features.wasserstein(np.zeros(3), np.array([0.0, 1.0])) == pytest.approx(0.5)
    assert features.covered(np.array([-1.0, 0.2, 0.5, 3.0]), a) == 0.5


@pytest.mark.parametrize(("width", "height", "bars"), [(320, 240, 30), (176, 144, 0), (640, 272, 0)])
def test_clips_are_read_without_bars_and_never_enlarged(
    tmp_path: Path, width: int, height: int, bars: int
) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 24.0, (width, height))
    for i in range(9):
        frame = np.zeros((height, width, 3), np.uint8)
        shown = cv2.resize(textured(i), (width, height - 2 * bars))
        frame[bars : height - bars] = shown
        writer.write(frame)
    writer.release()
    rows = features.read_pairs(path, 4)
    assert len(rows) == 4
    whole = features.measure(textured(), textured(1.0), 1 / 24)
    crop = min(1.0, (height - 2 * bars) * WIDTH / HEIGHT / width)
    for row in rows:
        assert row["brightness"] == pytest.approx(whole["brightness"], abs=0.05)
        # What is cropped to the shape of the others fills it, so that it moves by more of its width.
        assert row["motion"] == pytest.approx(whole["motion"] / crop, rel=0.25)


def test_files_that_are_no_clips_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"broken\.mp4: OpenCV reads 0 frames"):
        features.read_pairs(tmp_path / "broken.mp4", 4)


def drawn(rng: np.random.Generator, with_depth: bool) -> list[dict[str, float]]:
    shown = FEATURES if with_depth else FEATURES[:6]
    return [{f.name: float(rng.uniform(f.low, f.high)) for f in shown} for _ in range(50)]


def test_table_and_plot_do_without_the_depth_of_real_clips() -> None:
    rng = np.random.default_rng(0)
    real, by_family = drawn(rng, False), {"night": drawn(rng, True), "street": drawn(rng, True), "none": []}
    lines = variety.table(real, [row for rows in by_family.values() for row in rows]).splitlines()
    assert len(lines) == 2 + len(FEATURES)
    assert lines[2].count("/") >= 8 and lines[2].rstrip(" |").endswith("%")
    assert lines[-1].endswith("| - | - | - |")
    page = plots.distributions("title", FEATURES, real, by_family)
    grey = (np.asarray(page) == plots.REAL_FILL).all(axis=-1)
    # Real clips are drawn in six panels: all of the first row, half of the second.
    half = page.height // 2
    assert grey[half:, : page.width // 2].any() and not grey[half:, page.width // 2 :].any()


def test_histograms_keep_what_is_beyond_the_range() -> None:
    shares = plots.histogram(np.array([-5.0, 0.1, 0.6, 7.0]), np.array([0.0, 0.5, 1.0]))
    assert shares.tolist() == [0.5, 0.5]
