import numpy as np
import torch

from focuspull.dataset import color
from focuspull.model.light import linear_to_srgb, srgb_to_linear


def test_the_curve_is_that_of_the_dataset() -> None:
    x = np.linspace(0, 1, 4097)
    assert np.abs(linear_to_srgb(torch.from_numpy(x)).numpy() - color.linear_to_srgb(x)).max() < 1e-12
    assert np.abs(srgb_to_linear(torch.from_numpy(x)).numpy() - color.srgb_to_linear(x)).max() < 1e-12


def test_there_and_back_is_the_same_eight_bits() -> None:
    stored = torch.arange(256)
    back = linear_to_srgb(srgb_to_linear(stored.float() / 255))
    assert torch.equal((back * 255).round().long(), stored)


def test_gradients_are_finite_at_black() -> None:
    x = torch.tensor([0.0, 1e-8, 0.5, 1.0], requires_grad=True)
    (linear_to_srgb(x) + srgb_to_linear(x)).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
