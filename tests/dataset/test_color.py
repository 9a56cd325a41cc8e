"""The display transform: values of the standard, inverses, and rounding."""

from __future__ import annotations

import math

import numpy as np
import pytest

from focuspull.dataset import color


def test_srgb_matches_known_pairs():
    """Middle grey of the standard: linear 0.2140 is display 0.5; the knee is 0.0031308 to 0.04045."""
    np.testing.assert_allclose(color.srgb_to_linear([0.0, 0.5, 1.0]), [0.0, 0.21404114, 1.0], atol=1e-8)
    np.testing.assert_allclose(color.linear_to_srgb([0.0031308, 0.18]), [0.04045, 0.46135613], atol=2e-6)


def test_srgb_curves_are_inverse_on_every_8_bit_value():
    display = np.arange(256) / 255
    np.testing.assert_allclose(color.linear_to_srgb(color.srgb_to_linear(display)), display, atol=1e-7)


@pytest.mark.parametrize("exposure_ev", [-2.0, 0.0, 1.5])
def test_display_transform_is_undone_below_white(exposure_ev: float):
    radiance = np.random.default_rng(0).random((4, 5, 3), np.float32) * 2.0**-exposure_ev
    encoded = color.encode_display(radiance, exposure_ev=exposure_ev)
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(color.decode_display(encoded, exposure_ev=exposure_ev), radiance, rtol=2e-6)


def test_one_stop_doubles_the_light_and_white_clips():
    np.testing.assert_array_equal(
        color.encode_display([[0.1, 0.2, 0.4]], exposure_ev=1.0), color.encode_display([[0.2, 0.4, 0.8]])
    )
    np.testing.assert_array_equal(color.encode_display([1.0, 50.0]), [1.0, 1.0])


def test_rounding_to_8_bits_takes_halves_up():
    np.testing.assert_array_equal(
        color.to_uint8(np.array([0, 0.5, 1.5, 2.4999, 254.5, 255]) / 255), [0, 1, 2, 2, 255, 255]
    )


def test_8_bits_survive_the_round_trip_through_linear_light():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(
        color.to_uint8(color.encode_display(color.decode_display(values / 255))), values
    )


def test_psnr_of_a_uniform_error_is_its_closed_form():
    image = np.full((3, 4, 3), 100, np.uint8)
    assert color.psnr_db(image, image) == math.inf
    assert color.psnr_db(image, image + np.uint8(1)) == pytest.approx(20 * math.log10(255))
    assert color.psnr_db(image / 255, image) > 300
    with pytest.raises(ValueError, match=r"one shape, got \(3, 4, 3\) and \(2,\)"):
        color.psnr_db(image, image[0, 0, :2])
