"""Re-binned targets against renders of their own: the same images, any number of threads, bounded memory.

All seeds are fixed, so these tests pass or fail for good. With other seeds, and code that is right, the tests
against separate renders would fail with a chance of a few per cent together: each says its own.
"""

# mitsuba is typed per variant; its sessions and batches are handled as Any.
from __future__ import annotations

import math
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from focuspull.dataset import optics
from focuspull.render import spec
from focuspull.render.backends.mitsuba_rebin import _divide, balance, base_lens, efficiency, pays
from focuspull.render.frames import Aperture, Frames, View, fit_disparity_map, render_frames, shutter_times
from tests.benchmarks.agreement import AREA, GLOWS, MATT, MOTIONS, still_life
from tests.rendering import in_child, open_session, simple_scene

WIDTH, HEIGHT = 64, 36
K_PX = (2.0, 8.0, 20.0, 40.0)
FOCUS = (0.95, 0.5, 0.1)
CASES = tuple((k, focus) for k in K_PX for focus in FOCUS)
NAMES = [f"K{k:.0f}-focus{focus}" for k, focus in CASES]
HOLES = ((20.0, 0.1), (4.0, 0.9))
BORDER_PX = 3
BLOCK_PX = 4
REBINNED_SAMPLES, SEPARATE_SAMPLES = 64, 16
"""Per pixel, repetition and time in the shutter."""
FEW, MANY = 16, 256
"""Per pixel, half and time in the shutter: a range of 16."""
REPETITIONS = 8


def variety(seed: int = 3) -> spec.SceneSpec:
    """Sharp metal, smooth glass, textures and small emitters; half of them move while the shutter is open."""
    stripes = {"color_a": (0.1, 0.1, 0.3), "color_b": (0.9, 0.7, 0.4), "resolution": 128}
    return still_life(
        WIDTH,
        1,
        seed=seed,
        materials=[
            {"base_color": (0.9, 0.7, 0.4), "metallic": 1.0, "roughness": 0.1},
            {"base_color": (0.95, 0.97, 1.0), "transmission": 1.0, "roughness": 0.0},
            {"base_color": {"type": "marble", **stripes}, "roughness": 0.6},
            {"base_color": {"type": "checker", **stripes}, **MATT},
        ],
        lights=(AREA | {"radiance": (6, 6, 5)},),
        more=GLOWS[:1],
        motions=(*MOTIONS[:2], (), ()),
        film={"num_frames": 2, "shutter": 0.5, "shutter_samples": 2, "fps": 12.0},
    )


def apertures_on(
    built: Any, disparity_map: optics.DisparityMap, cases: Sequence[tuple[float, float]]
) -> list[Aperture]:
    camera = built.scene.world.camera
    focal_px = optics.focal_length_px(camera.focal_length_mm, camera.sensor_width_mm, built.scene.film.width)
    return [Aperture(k, focus, focal_px, disparity_map, spec.LensSpec()) for k, focus in cases]


# --- Expectation and variance -------------------------------------------------------------------


@dataclass(frozen=True)
class Trials:
    """Independent estimates of the same images, grey.

    Attributes:
        rebinned: ``[targets, repetitions, H, W]``.
        separate: The same of each target by itself.
        few: ``[targets, repetitions, H, W]``, re-binned with `FEW` samples.
        many: With `MANY`.
    """

    rebinned: NDArray[np.float64]
    separate: NDArray[np.float64]
    few: NDArray[np.float64]
    many: NDArray[np.float64]


def run_trials(scene_json: str) -> Trials:
    """Renders all of it; in a child."""
    scene = spec.SceneSpec.model_validate_json(scene_json)
    session, built = open_session("mitsuba", scene, {}, 1)
    apertures = apertures_on(built, fit_disparity_map(session.truth(0)[0]), CASES)
    views = [View(aperture, 1, i) for i, aperture in enumerate(apertures)]
    rebinned = [session._batch(views, channels=3, rebinned=True) for _ in range(REPETITIONS // 2)]
    separate = [[session._batch([v], channels=3, rebinned=False) for v in views] for _ in range(REPETITIONS)]
    few, many = ([session._batch(views, channels=3, rebinned=True) for _ in range(n)] for n in (8, 2))
    seed = iter(range(1, 2**31, 7919))
    for time in shutter_times(scene.film, 0):
        session._move_to(0, time)

        def add(batch: Any, samples: int, at: float = time) -> None:
            batch.add(session._scene, session._scene.integrator(), at, samples, next(seed))

        for batches, samples in ((rebinned, REBINNED_SAMPLES), (few, FEW), (many, MANY)):
            for batch in batches:
                add(batch, samples)
        for repetition in separate:
            for batch in repetition:
                add(batch, SEPARATE_SAMPLES)

    def stack(batches: list[Any]) -> NDArray[np.float64]:
        return np.stack([np.concatenate([b.halves(i) for b in batches]) for i in range(len(views))]).mean(
            axis=-1
        )

    alone = np.stack([np.concatenate([r[i].halves(0) for r in separate]) for i in range(len(views))])
    return Trials(stack(rebinned), alone.mean(axis=-1), stack(few), stack(many))


@pytest.fixture(scope="module")
def trials() -> Trials:
    return in_child(run_trials, variety().canonical_json())


def scores(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Welch's t of the difference of the means along the first axis, as a normal score.

    The score of t is that of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.8.
    """
    rounding = (1e-5 * b.mean(axis=0)) ** 2  # for pixels in which all paths carry the same
    va, vb = (x.var(axis=0, ddof=1) / len(x) + rounding for x in (a, b))
    t = (a.mean(axis=0) - b.mean(axis=0)) / np.sqrt(va + vb)
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    return t * (1 - 1 / (4 * freedom)) / np.sqrt(1 + t**2 / (2 * freedom))


def blocks(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of blocks of pixels."""
    n, height, width = images.shape
    return images.reshape(n, height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX).mean(axis=(2, 4))


@pytest.mark.mitsuba
@pytest.mark.parametrize("case", range(len(CASES)), ids=NAMES)
def test_every_pixel_is_that_of_a_separate_render(trials, case):
    """Scores spread as they do for equal means. No block is off at 1 % for all of an image's (Sidak)."""
    pixels = scores(trials.rebinned[case], trials.separate[case])
    assert 0.9 < math.sqrt((pixels**2).mean()) < 1.1
    found = np.abs(scores(blocks(trials.rebinned[case]), blocks(trials.separate[case])))
    chance = 1 - (1 - 0.01) ** (1 / found.size)
    assert found.max() < NormalDist().inv_cdf(1 - chance / 2)


@pytest.mark.mitsuba
@pytest.mark.parametrize("case", range(len(CASES)), ids=NAMES)
def test_image_is_neither_brighter_nor_darker(trials, case):
    """Within 3 standard errors (3 in 1000 for each), and these are small."""
    a, b = (x[case].mean(axis=(1, 2)) for x in (trials.rebinned, trials.separate))
    error = math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    assert abs(a.mean() - b.mean()) < 3 * error
    assert error < 5e-3 * b.mean()


@pytest.mark.mitsuba
@pytest.mark.parametrize("case", range(len(CASES)), ids=NAMES)
def test_border_is_not_darker(trials, case):
    """Rays that start outside of the image land here; within 3 standard errors (3 in 1000 for each)."""
    border = np.ones((HEIGHT, WIDTH), bool)
    border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    a, b = (x[case][:, border].mean(axis=1) for x in (trials.rebinned, trials.separate))
    error = math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    assert abs(a.mean() - b.mean()) < 3 * error
    assert error < 0.01 * b.mean()


@pytest.mark.mitsuba
def test_error_falls_as_fast_as_the_root_of_the_samples(trials):
    """Over a range of 16; the error is that against separate renders, whose own noise cancels.

    A little faster: few rays in a pixel make a worse mean, and targets that hardly shift stay stratified.
    """
    one, two = (trials.separate[:, i::2].mean(axis=1) for i in (0, 1))
    few, many = (
        np.mean([(x - one) * (x - two) for x in images.swapaxes(0, 1)], axis=(0, 2, 3))
        for images in (trials.few, trials.many)
    )
    slopes = np.log(few / many) / np.log(MANY / FEW) / 2
    assert 0.47 < slopes.mean() < 0.65
    assert slopes.min() > 0.4


# --- Sets of targets ----------------------------------------------------------------------------


def render_rebinned(scene_json: str, threads: int, method: str = "rebinned") -> Frames:
    """A clip by a method, whatever it costs; in a child."""
    session, built = open_session("mitsuba", spec.SceneSpec.model_validate_json(scene_json), {}, threads)
    session.force_method(method)
    return render_frames(session, built)


def with_targets(
    scene: spec.SceneSpec, samples: int, *targets: tuple[Sequence[float], float]
) -> spec.SceneSpec:
    """K in pixels of every frame and focus disparity of each target."""
    width = scene.film.width
    described = [
        {"k_at_1024": tuple(x * 1024 / width for x in k), "focus": [{"frame": 0, "disparity": focus}]}
        for k, focus in targets
    ]
    quality = {"aif_samples": samples, "bokeh_samples": samples}
    changed = scene.model_dump() | {"targets": described, "quality": scene.quality.model_dump() | quality}
    return spec.SceneSpec.model_validate(changed)


@pytest.mark.mitsuba
def test_number_of_threads_changes_no_bit():
    scene = with_targets(variety(), 8, *(((k, k), focus) for k, focus in CASES[:6]), ((5.0, 9.0), 0.2))
    one, two = (in_child(render_rebinned, scene.canonical_json(), threads) for threads in (1, 2))
    assert one.method == "rebinned"
    for a, b in zip(one.bokeh, two.bokeh, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.bokeh[0][0], one.bokeh[0][1])


@pytest.mark.mitsuba
def test_k_may_change_and_vanish():
    """A ramp, a lens that closes, one that opens, and a frame in which every lens is closed."""
    ramps = ((0.0, 4.0, 16.0), (0.0, 12.0, 0.0), (0.0, 0.0, 8.0))
    matt = still_life(
        WIDTH, 1, seed=3, materials=[MATT | {"base_color": (0.7, 0.3, 0.2)}], film={"num_frames": 3}
    )
    scene = with_targets(matt, 64, *((k, 0.6) for k in ramps))
    rebinned, separate = (
        in_child(render_rebinned, scene.canonical_json(), 1, method) for method in ("rebinned", "separate")
    )
    np.testing.assert_allclose(rebinned.k, ramps)
    for a, b, k in zip(rebinned.bokeh, separate.bokeh, ramps, strict=True):
        for frame in range(3):
            if k[frame] == 0:  # the pinhole is rendered by itself, whatever the method
                np.testing.assert_array_equal(a[frame], b[frame])
            assert a[frame].mean() == pytest.approx(b[frame].mean(), rel=0.02)
            means = [blocks(x[frame].mean(axis=-1)[None]) for x in (a, b)]
            assert np.sqrt(np.mean((means[0] - means[1]) ** 2)) < 0.1 * means[1].std()


@pytest.mark.mitsuba
def test_pixels_that_no_ray_met_are_filled():
    """With one path per pixel and half, a shifted target has holes."""
    for empty, image in in_child(holes_and_images, variety().canonical_json()):
        assert 0.02 < empty.mean() < 0.9
        assert np.isfinite(image).all()
        assert (image[empty] == 0).mean() < 0.01  # paths may end in black
        assert image[empty].mean() == pytest.approx(image[~empty].mean(), rel=0.3)


def holes_and_images(scene_json: str) -> list[tuple[NDArray[np.bool_], NDArray[np.float64]]]:
    """Of both halves of each target, which pixels met no ray ``[2, H, W]``, and the images; in a child."""
    scene = spec.SceneSpec.model_validate_json(scene_json)
    session, built = open_session("mitsuba", scene, {}, 1)
    apertures = apertures_on(built, fit_disparity_map(session.truth(0)[0]), HOLES)
    batch = session._batch([View(a, 2, i) for i, a in enumerate(apertures)], channels=3, rebinned=True)
    session._move_to(0, 0.0)
    batch.add(session._scene, session._scene.integrator(), 0.0, 1, 5)
    weights = [np.array(sums[0][0]).reshape(2, HEIGHT, WIDTH, 4)[..., 3] for sums in batch._sums]
    return [(weight == 0, batch.halves(i)) for i, weight in enumerate(weights)]


def test_holes_take_the_mean_of_what_is_near():
    weights = np.ones((9, 9, 1))
    weights[2:7, 2:7] = 0
    values = np.arange(81.0).reshape(9, 9, 1) * weights
    filled = _divide(values, weights)
    np.testing.assert_array_equal(filled[weights > 0], values[weights > 0])
    assert 0 < filled[2:7, 2:7].min() <= filled[2:7, 2:7].max() < 81
    assert filled[4, 4, 0] == pytest.approx(40)


# --- Mixture ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("discs", "expected"),
    [([1.0], 1.0), ([1.0, 0.5], 0.625), ([1.0, 0.5, 0.25], 0.455), ([1.0, 0.5, 0.25, 0.125], 0.357)],
)
def test_mixture_serves_all_discs_alike(discs, expected):
    radii = np.array(discs)
    shares = balance(radii)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(efficiency(radii, shares), expected, atol=1e-3)


def test_efficiency_is_that_of_samples():
    """``1 / E[w^2]`` of weights ``w = p / q`` with mean 1, drawn."""
    radii, rng = np.array([1.0, 0.6, 0.3]), np.random.default_rng(1)
    shares = balance(radii)
    drawn = radii[rng.choice(3, size=200_000, p=shares)] * np.sqrt(rng.random(200_000))
    density = (shares / radii**2 * (drawn[:, None] < radii)).sum(axis=1)
    for radius, expected in zip(radii, efficiency(radii, shares), strict=True):
        weight = (drawn < radius) / radius**2 / density
        assert weight.mean() == pytest.approx(1, abs=0.01)
        assert 1 / (weight**2).mean() == pytest.approx(expected, rel=0.01)


def test_guard_covers_the_largest_shift():
    depth = optics.DisparityMap(2.0, 20.0)
    lenses = [
        Aperture(k, d, 100.0, depth, spec.LensSpec()) for k, d in ((20.0, 0.1), (20.0, 0.9), (5.0, 0.5))
    ]
    base = base_lens(lenses)
    assert base.focus_disparity == pytest.approx(0.5)
    assert (base.guard, base.radius, base.discs) == (8, 20.0, (1.0, 0.25))


# --- Memory -------------------------------------------------------------------------------------


def peak_bytes(samples: int) -> int:
    """Of a frame of 1024x576 with 16 targets; in a child."""
    ball = {"name": "ball", "shape": {"type": "sphere", "radius_m": 0.6}, "position_m": (0.0, 0.0, 1.0)}
    wall = {"name": "wall", "shape": {"type": "plane", "size_m": (80.0, 80.0)}}
    scene = simple_scene([ball, wall], size=(1024, 576), samples=samples)
    targets = [((k,), focus) for k in (20.0, 40.0) for focus in np.linspace(0.05, 0.95, 8)]
    frames = render_rebinned(with_targets(scene, samples, *targets).canonical_json(), 1)
    assert len(frames.bokeh) == 16
    assert min(frames.samples[1:]) >= samples
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.slow
@pytest.mark.mitsuba
def test_memory_does_not_grow_with_the_samples():
    few, many = (in_child(peak_bytes, samples) for samples in (2, 128))
    assert many < 4 * 2**30
    assert many < 1.1 * few


@pytest.mark.parametrize("denoised", [False, True])
def test_the_backend_re_bins_where_that_is_cheaper(denoised: bool) -> None:
    def lenses(count: int, k: float = 20.0) -> list[Aperture]:
        depth = optics.DisparityMap(2.0, 20.0)
        return [Aperture(k, (i + 0.5) / count, 600.0, depth, spec.LensSpec()) for i in range(count)]

    def wins(apertures: list[Aperture]) -> bool:
        return pays([apertures] * 3, (288, 512), denoised=denoised)

    assert not wins(lenses(1)) and not wins(lenses(2))
    assert wins(lenses(8)) and wins(lenses(16))
    # Small apertures get few of the rays of a large one.
    assert not wins([*lenses(3), *lenses(2, 1.0)])
    assert not pays([[], []], (288, 512), denoised=denoised)
