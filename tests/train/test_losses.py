"""Losses against values worked by hand and independent implementations."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from focuspull.train.losses import (
    LOSSES,
    SOBEL_EPSILON,
    latent_mse,
    pixel_l1,
    sobel_l1,
    sobel_magnitude,
    squared_gradient,
)


def images(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 1


def test_errors_of_a_constant_offset() -> None:
    target = images(0, 2, 3, 3, 8, 9)
    assert latent_mse(target + 0.5, target).item() == pytest.approx(0.25)
    assert pixel_l1(target - 0.5, target).item() == pytest.approx(0.5)
    # An offset has no gradient.
    assert squared_gradient(target + 0.5, target).item() == pytest.approx(0, abs=1e-12)
    assert sobel_l1(target + 0.5, target).item() == pytest.approx(0, abs=1e-6)


def test_gradients_of_a_ramp() -> None:
    ramp = torch.arange(6.0).expand(5, 6) / 10
    flat = torch.zeros(5, 6)
    assert squared_gradient(ramp, flat).item() == pytest.approx(0.01)
    assert squared_gradient(2 * ramp.mT, flat.mT).item() == pytest.approx(0.04)
    # 1 + 2 + 1 rows, two pixels apart.
    assert sobel_magnitude(ramp).numpy() == pytest.approx(np.full((3, 4), np.hypot(0.8, 1e-3)), rel=1e-5)


def test_sobel_is_opencv_s() -> None:
    image = images(1, 3, 12, 17)
    for channel in image:
        across, down = (
            cv2.Sobel(channel.numpy(), cv2.CV_64F, dx, dy, ksize=3)[1:-1, 1:-1] for dx, dy in ((1, 0), (0, 1))
        )
        expected = np.sqrt(across**2 + down**2 + SOBEL_EPSILON)
        assert sobel_magnitude(channel).numpy() == pytest.approx(expected, rel=1e-5)
    assert sobel_l1(image, image.flip(-1)).item() == pytest.approx(
        (sobel_magnitude(image) - sobel_magnitude(image.flip(-1))).abs().mean().item()
    )


@pytest.mark.parametrize("name", LOSSES)
def test_no_error_is_no_loss_and_has_a_finite_gradient(name: str) -> None:
    target = images(2, 1, 2, 3, 6, 6)
    target[..., :3, :3] = 0.25  # where a root without its epsilon has no slope
    predicted = target.clone().requires_grad_()
    loss = LOSSES[name](predicted, target)  # type: ignore[index]
    assert loss.item() == 0 and loss.dtype == torch.float32
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_mean_does_not_depend_on_the_number_of_frames(name: str) -> None:
    predicted, target = images(3, 1, 1, 3, 8, 8), images(4, 1, 1, 3, 8, 8)
    once = LOSSES[name](predicted, target)  # type: ignore[index]
    five = LOSSES[name](predicted.expand(1, 5, -1, -1, -1), target.expand(1, 5, -1, -1, -1))  # type: ignore[index]
    torch.testing.assert_close(once, five)


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_is_added_up_in_float32(name: str) -> None:
    predicted, target = (images(seed, 1, 2, 3, 32, 32).bfloat16() for seed in (5, 6))
    loss = LOSSES[name](predicted, target)  # type: ignore[index]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, LOSSES[name](predicted.float(), target.float()))  # type: ignore[index]
