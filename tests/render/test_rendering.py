"""What a renderer must not do: depend on threads or earlier renders, clip highlights, shift means."""

from __future__ import annotations

import math
import os
import tempfile

import numpy as np
import pytest

from focuspull.dataset.optics import DisparityMap, focus_disparity, k_from_lens_radius
from focuspull.render import spec
from focuspull.render.corpus import load_corpus
from focuspull.render.frames import Aperture, Frames, View
from focuspull.render.randomize import randomize
from tests.benchmarks.agreement import MOTIONS, still_life
from tests.rendering import in_child, open_session, render, simple_scene

MATERIALS = [
    {"base_color": (0.7, 0.3, 0.2), "roughness": 0.4},
    {"base_color": (0.8, 0.8, 0.5), "metallic": 1.0, "roughness": 0.3},
    {"base_color": (0.9, 0.9, 0.9), "transmission": 1.0, "roughness": 0.2},
]


def little(width: int = 64, samples: int = 8, *, seed: int = 5, **fields) -> spec.SceneSpec:
    return still_life(width, samples, seed=seed, materials=MATERIALS, **fields)


def assert_same(a: Frames, b: Frames) -> None:
    for field in ("aif", "disparity", "instance"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    for first, second in zip(a.bokeh, b.bokeh, strict=True):
        np.testing.assert_array_equal(first, second)


def test_same_scene_gives_the_same_arrays_with_any_number_of_threads(backend):
    """Moving objects, an open shutter and the denoiser included; the second time in another process."""
    film = {"num_frames": 2, "shutter": 0.5, "shutter_samples": 2}
    scene = little(film=film, motions=MOTIONS)
    scene = scene.model_copy(update={"quality": scene.quality.model_copy(update={"denoise": True})})
    (one,) = render(backend, scene, threads=1)
    (two,) = render(backend, scene, threads=2)
    assert_same(one, two)
    assert not np.array_equal(one.aif[0], one.aif[1])


def test_some_frames_are_as_in_the_whole_clip(backend):
    """What a frame looks like depends on no frame before it."""
    scene = little(film={"num_frames": 2, "shutter": 0.5, "shutter_samples": 2}, motions=MOTIONS)
    (whole,) = render(backend, scene)
    (last,) = render(backend, scene, frames=[1])
    np.testing.assert_array_equal(last.aif[0], whole.aif[1])
    np.testing.assert_array_equal(last.bokeh[0][0], whole.bokeh[0][1])
    np.testing.assert_array_equal(last.disparity[0], whole.disparity[1])


def test_another_seed_is_other_noise_of_the_same_picture(backend):
    a, b = render(backend, little(seed=0), little(seed=1))
    np.testing.assert_array_equal(a.disparity, b.disparity)
    assert not np.array_equal(a.aif, b.aif)
    assert a.aif.mean() == pytest.approx(b.aif.mean(), rel=0.02)


# --- A session keeps the scene; what changes between renders must be seen ----------------------


DEPTH = DisparityMap(2.0, 20.0)
FOCAL_PX = 64 * 50 / 36


def aperture(radius_m: float, distance_m: float, **lens: float) -> Aperture:
    k = float(k_from_lens_radius(radius_m, FOCAL_PX, DEPTH))
    focus = float(focus_disparity(distance_m, DEPTH))
    return Aperture(k, focus, FOCAL_PX, DEPTH, spec.LensSpec.model_validate(lens))


VIEWS = (
    View(None, 4, 0),
    View(None, 9, 0),
    View(None, 9, 1),
    View(aperture(0.05, 6.0), 9, 1),
    View(aperture(0.05, 8.0), 9, 1),
    View(aperture(0.1, 8.0), 9, 1),
    View(aperture(0.1, 8.0, blades=5), 9, 1),
    View(aperture(0.1, 8.0, blades=5, rotation_deg=30), 9, 1),
    View(aperture(0.1, 8.0, squeeze=1.5), 9, 1),
    View(None, 4, 0),
)
"""Each differs from the one before in one thing: samples, seed, lens, focus, radius, blades, turn, shape."""


def render_views(backend: str, text: str, numbers: list[int], with_truth: bool) -> list[np.ndarray]:
    """Some of the `VIEWS` on one session, ground truth between them if asked."""
    session, _ = open_session(backend, spec.SceneSpec.model_validate_json(text), {}, 1)
    images = []
    for number in numbers:
        if with_truth:
            session.truth(0)
        images.extend(image.pixels for image in session.render(0, [VIEWS[number]]))
    return images


def test_reused_session_renders_like_a_fresh_one(backend):
    text = little(samples=4).canonical_json()
    chain = in_child(render_views, backend, text, list(range(len(VIEWS))), False)
    mixed = in_child(render_views, backend, text, list(range(len(VIEWS))), True)
    for i, image in enumerate(chain):
        np.testing.assert_array_equal(image, mixed[i], err_msg=f"view {i} after a ground truth pass")
        if i:
            assert not np.array_equal(image, chain[i - 1]), f"view {i} does not show its change"
    np.testing.assert_array_equal(chain[0], chain[-1])
    for i in (2, 5, 7, 8):
        (fresh,) = in_child(render_views, backend, text, [i], False)
        np.testing.assert_array_equal(fresh, chain[i], err_msg=f"view {i} on a fresh session")


# --- Light ------------------------------------------------------------------------------------------


def test_highlights_are_not_clipped(backend):
    """A lamp of radiance 500 in view keeps it, in a mirror too; behind the lens its light is all there."""
    lamp = {
        "name": "lamp",
        "shape": {"type": "plane", "size_m": (0.4, 0.4)},
        "material": {"emission": (500, 500, 500)},
        "position_m": (0.8, 0, 1),
        "rotation_deg": (90, 0, 0),
    }
    mirror = {
        "name": "mirror",
        "shape": {"type": "box", "size_m": (1, 1, 0.02)},
        "material": {"metallic": 1.0, "base_color": (1, 1, 1), "roughness": 0.0},
        "position_m": (-0.6, -1.0, 1),
        # Halfway between the ways to the camera and to the lamp.
        "rotation_deg": (90, 0, 67),
    }
    scene = simple_scene([lamp, mirror], samples=256, max_bounces=2, k_at_1024=60.0, size=(64, 36))
    (frames,) = render(backend, scene)
    lit = frames.instance[0] == 1
    inner = lit & np.roll(lit, 1, 1) & np.roll(lit, -1, 1) & np.roll(lit, 1, 0) & np.roll(lit, -1, 0)
    assert inner.sum() > 4
    np.testing.assert_allclose(frames.aif[0][inner], 500, rtol=1e-4)
    assert frames.aif[0][frames.instance[0] == 2].max() > 400
    np.testing.assert_allclose(frames.bokeh[0][0].sum(), frames.aif[0].sum(), rtol=0.05)


def test_denoising_changes_the_noise_but_not_the_mean(backend):
    """At 16 paths against 225 others: nearer to the truth, as bright."""
    noisy = little(96, 16)
    clean = noisy.model_copy(update={"quality": noisy.quality.model_copy(update={"denoise": True})})
    truth = little(96, 225, seed=6)
    noisy, clean, truth = render(backend, noisy, clean, truth)
    for a, b, c in ((noisy.aif, clean.aif, truth.aif), (noisy.bokeh[0], clean.bokeh[0], truth.bokeh[0])):
        assert b.mean(dtype=np.float64) == pytest.approx(a.mean(dtype=np.float64), rel=0.01)
        # Compressed, so that single bright pixels do not decide.
        a, b, c = (x / (1 + x) for x in (a, b, c))
        assert np.mean((b - c) ** 2) < 0.6 * np.mean((a - c) ** 2)


# --- Mitsuba's variants ------------------------------------------------------------------------------


@pytest.mark.mitsuba
def test_llvm_variant_is_chosen():
    """The LLVM that the extra `render` installs works, so nothing falls back to the slow variant here."""
    (frames,) = render("mitsuba", little())
    assert frames.variant == "llvm_ad_rgb"


@pytest.mark.mitsuba
def test_scalar_variant_renders_the_same(files):
    """Ground truth ray by ray and light with other numbers; a moving scene, a card, a shaped lens."""
    image = np.full((8, 8, 4), 200, np.uint8)
    image[:, 4:, 3] = 0
    card = {
        "name": "card",
        "shape": {"type": "card", "image": files.add("half.png", image), "height_m": 0.8},
        "position_m": (0.2, -2, 0.6),
    }
    ball = {
        "name": "ball",
        "shape": {"type": "sphere", "radius_m": 0.7},
        "position_m": (-0.4, 0, 1),
        "motion": ({"type": "linear", "velocity_m_s": (2.0, 0.0, 0.0)},),
    }
    scene = simple_scene(
        [card, ball],
        size=(16, 16),
        samples=256,
        max_bounces=2,
        film={"num_frames": 2, "fps": 4.0},
        k_at_1024=200.0,
        lens={"blades": 5},
        camera={"focal_length_mm": 35},
    )
    (scalar,) = render("mitsuba", scene, files=files.paths, variant="scalar_rgb")
    (llvm,) = render("mitsuba", scene, files=files.paths)
    assert (scalar.variant, llvm.variant) == ("scalar_rgb", "llvm_ad_rgb")
    np.testing.assert_array_equal(scalar.instance, llvm.instance)
    np.testing.assert_allclose(scalar.disparity, llvm.disparity, atol=1e-5)
    for a, b in ((scalar.aif, llvm.aif), (scalar.bokeh[0], llvm.bokeh[0])):
        assert a.mean() == pytest.approx(b.mean(), rel=0.01)
        assert math.sqrt(np.mean((a - b) ** 2)) < 0.05


def _temporary_files_of_an_open_session(text: str) -> list[str]:
    session, _ = open_session("mitsuba", spec.SceneSpec.model_validate_json(text), {}, 1)
    session.truth(0)
    return os.listdir(tempfile.gettempdir())


@pytest.mark.mitsuba
def test_a_loaded_scene_keeps_no_files(tmp_path):
    """A worker that is killed cannot tidy up: meshes and textures of every killed clip would stay."""
    scene = randomize(load_corpus("tiny").spec, 0)
    env = {"TMPDIR": str(tmp_path)}
    assert in_child(_temporary_files_of_an_open_session, scene.canonical_json(), env=env) == []
