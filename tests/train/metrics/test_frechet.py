"""Distances between sets against closed forms and independent formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from focuspull.train.metrics.frechet import frechet_distance, kernel_distance


def samples(seed: int, count: int, size: int, *, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (count, size))


@pytest.mark.parametrize(("count_a", "count_b", "size"), [(50, 40, 6), (5, 7, 30), (2, 2, 3)])
def test_frechet_distance_is_that_of_the_sample_covariances(count_a: int, count_b: int, size: int) -> None:
    a, b = samples(0, count_a, size), samples(1, count_b, size, scale=2, shift=0.5)
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    root = sqrtm(covariances[0] @ covariances[1])
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * np.real(root))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_frechet_distance_of_gaussians_has_its_closed_form() -> None:
    size, shift, scale = 4, 0.7, 3.0
    a, b = samples(0, 20000, size), samples(1, 20000, size, scale=scale, shift=shift)
    expected = size * shift**2 + size * (scale - 1) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=0.02)


def test_a_shift_alone_costs_its_square() -> None:
    a = samples(0, 30, 5)
    assert frechet_distance(a, a + [3, 0, 0, 4, 0]) == pytest.approx(25)


def test_equal_sets_have_no_frechet_distance() -> None:
    a = samples(0, 12, 40)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_the_double_sum() -> None:
    a, b = samples(0, 5, 3), samples(1, 4, 3, shift=1)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 3 + 1) ** 3)

    aa = np.mean([kernel(a[i], a[j]) for i in range(5) for j in range(5) if i != j])
    bb = np.mean([kernel(b[i], b[j]) for i in range(4) for j in range(4) if i != j])
    ab = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(aa + bb - 2 * ab)


def test_kernel_distance_is_unbiased() -> None:
    """Of sets of any size from one distribution it is 0 on average, where Fréchet's is far above."""
    found = [kernel_distance(samples(2 * n, 8, 6), samples(2 * n + 1, 8, 6)) for n in range(400)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    biased = [frechet_distance(samples(2 * n, 8, 6), samples(2 * n + 1, 8, 6)) for n in range(20)]
    assert min(biased) > 1


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((1, 3), (4, 3), "a: needs two samples"),
        ((4, 3), (1, 3), "b: needs two samples"),
        ((4, 3), (4, 2), "different sizes, 3 and 2"),
    ],
)
def test_sets_that_have_no_distance_are_refused(distance, a, b, message) -> None:
    with pytest.raises(ValueError, match=message):
        distance(np.zeros(a), np.zeros(b))
