"""The sampler of re-binned paths: its numbers, and that images do not depend on the number of threads."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.benchmarks.stratification import FOCUS, K, benchmark_scene
from tests.rendering import in_child, open_session

pytestmark = pytest.mark.mitsuba


def numbers(seed: int) -> NDArray[np.float64]:
    """Calls 0 to 2 and two beyond the table, ``[calls, sequences, samples, 2]``."""
    from focuspull.render.backends.mitsuba import import_mitsuba

    mi = import_mitsuba(1)
    from focuspull.render.backends import mitsuba_sampler

    lane = mi.UInt32(np.arange(64 * 32, dtype=np.uint32))
    sampler = mitsuba_sampler.path_sampler(mi, lane // 32, lane % 32, seed)
    calls = [np.array(sampler.next_2d()).T for _ in range(mitsuba_sampler.NUM_CALLS + 2)]
    return np.stack([calls[i] for i in (0, 1, 2, -2, -1)]).reshape(5, 64, 32, 2)


def images(sampler: str, threads: int) -> NDArray[np.float64]:
    """Halves of two targets, ``[2, 2, H, W, 3]``."""
    from focuspull.dataset import optics
    from focuspull.render import spec
    from focuspull.render.backends.mitsuba_rebin import Rebinner
    from focuspull.render.frames import Aperture, fit_disparity_map

    scene, files = benchmark_scene("spheres", 64)
    session, built = open_session("mitsuba", scene, files, threads)
    camera = scene.world.camera
    focal_px = optics.focal_length_px(camera.focal_length_mm, camera.sensor_width_mm, 64)
    depth = fit_disparity_map(session.truth(0)[0][None])
    apertures = [Aperture(K / 3, focus, focal_px, depth, spec.LensSpec()) for focus in (FOCUS[1], FOCUS[-1])]
    rebinner = Rebinner(
        session._mi,
        built.camera,
        size=(36, 64),
        apertures=apertures,
        num_channels=3,
        scale=1.0,
        sampler=sampler,  # pyright: ignore[reportArgumentType]
    )
    rebinner.add(session._scene, session._scene.integrator(), 0.0, 128, 5)
    return np.stack([rebinner.halves(i) for i in range(2)])


def test_numbers_are_even_within_a_sequence_and_independent_between() -> None:
    found = in_child(numbers, 3)
    assert found.min() >= 0
    assert found.max() < 1
    means = found.mean(axis=2)  # of 32 numbers
    assert np.abs(means - 0.5).max() < 0.25
    spread = means.std(axis=1)
    assert spread[:3].max() < 0.5 / np.sqrt(12 * 32)  # stratified
    assert spread[3:].min() > 0.7 / np.sqrt(12 * 32)  # independent
    first = found[0, :, 0, 0]
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.4
    assert not np.array_equal(found, in_child(numbers, 4))


def test_images_agree_with_multijitter_and_threads_change_nothing() -> None:
    one = in_child(images, "kronecker", 1)
    assert np.array_equal(one, in_child(images, "kronecker", 2))
    other = in_child(images, "multijitter", 1)
    difference = one.mean(axis=1) - other.mean(axis=1)  # [target, H, W, 3]
    noise = np.sqrt(
        ((one[:, 0] - one[:, 1]) ** 2 + (other[:, 0] - other[:, 1]) ** 2).mean(axis=(1, 2, 3)) / 4
    )
    pixels = difference[0, :, :, 0].size
    assert np.all(np.abs(difference.mean(axis=(1, 2, 3))) < 4 * noise / np.sqrt(pixels))
