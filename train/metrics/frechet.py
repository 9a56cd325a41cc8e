"""Distances between two sets of features: Fréchet, as in FID and FVD, and kernel, as in KID and KVD.

Fréchet distance: ``|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))`` of means and unbiased covariances, the
squared 2-Wasserstein distance of Gaussians (Dowson and Landau, 1982; Heusel et al., NeurIPS 2017). It falls
with the number of samples, which has to be quoted with it.

Kernel distance: the unbiased estimate of the squared maximum mean discrepancy with the kernel
``(x y / d + 1)^3`` (Binkowski et al., ICLR 2018); its mean does not depend on the number of samples, and it
may be negative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def frechet_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Fréchet distance of two sets.

    With centred samples A, B the trace of the root is the nuclear norm of ``A B^T / sqrt((n - 1) (m - 1))``,
    so nothing of size d x d is made.

    Args:
        a: ``[n, d]``, at least two samples.
        b: ``[m, d]``, likewise.

    Returns:
        Not negative but for rounding.

    Raises:
        ValueError: For fewer samples, or samples of different sizes.
    """
    a, b = _checked(a, b)
    mean_a, mean_b = a.mean(0), b.mean(0)
    centred_a = (a - mean_a) / np.sqrt(len(a) - 1)
    centred_b = (b - mean_b) / np.sqrt(len(b) - 1)
    # Rotating the samples among each other changes no covariance: no more than d of them are needed.
    small_a, small_b = (x if len(x) <= x.shape[1] else np.linalg.qr(x)[1] for x in (centred_a, centred_b))
    root = np.linalg.svd(small_a @ small_b.T, compute_uv=False).sum()
    spread = (centred_a**2).sum() + (centred_b**2).sum()
    return float(((mean_a - mean_b) ** 2).sum() + spread - 2 * root)


def kernel_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Unbiased squared maximum mean discrepancy; arguments and errors as of `frechet_distance`."""
    a, b = _checked(a, b)
    within = [_off_diagonal_mean(_kernel(samples, samples)) for samples in (a, b)]
    return float(sum(within) - 2 * _kernel(a, b).mean())


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _off_diagonal_mean(gram: NDArray[np.float64]) -> float:
    n = len(gram)
    return float((gram.sum() - np.trace(gram)) / (n * (n - 1)))


def _checked(a: NDArray[np.floating], b: NDArray[np.floating]) -> tuple[NDArray[np.float64], ...]:
    for name, samples in (("a", a), ("b", b)):
        if samples.ndim != 2 or len(samples) < 2:
            raise ValueError(f"{name}: needs two samples [n, d] at least, got {list(samples.shape)}")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"samples have different sizes, {a.shape[1]} and {b.shape[1]}")
    return a.astype(np.float64), b.astype(np.float64)
