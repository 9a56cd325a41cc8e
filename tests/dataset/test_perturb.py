"""Disparity perturbation: published strengths, faults of the published code and their cure, time, seeds."""

from __future__ import annotations

from typing import Any

import noise
import numpy as np
import pytest
from pydantic import ValidationError

from focuspull.dataset import perturb
from focuspull.dataset.perturb import (
    CORRECTED,
    OFFICIAL,
    PRESETS,
    Affine,
    Elastic,
    LowPass,
    Morphology,
    Perturbation,
    Quantization,
    Ring,
    perturb_disparity,
)

ALL_ON = Perturbation(
    elastic=Elastic(strength=1.0),
    ring=Ring(strength=1.0),
    morphology=Morphology(strength=1.0),
    low_pass=LowPass(strength=1.0),
    scale_shift=Affine(strength=1.0, temporal="constant"),
    flicker=Affine(strength=1.0),
    quantization=Quantization(strength=1.0),
)
COMPONENTS = ["elastic", "ring", "morphology", "low_pass", "scale_shift", "flicker", "quantization"]


def but(perturbation: Any, **changes: Any) -> Any:
    """The same with other fields."""
    return type(perturbation).model_validate(perturbation.model_dump() | changes)


def run(
    disparity: np.ndarray, mask: np.ndarray, perturbation: Perturbation, seed: int = 0, focus: float = 0.5
) -> np.ndarray:
    return perturb_disparity(
        disparity,
        focus_mask=mask,
        focus_disparity=np.full(len(disparity), focus),
        perturbation=perturbation,
        rng=np.random.default_rng(seed),
    )


def card(num_frames: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A disc of disparity 0.5 that fills much of the frame, before a wall of disparity 0.25."""
    y, x = np.mgrid[:height, :width]
    disc = np.hypot(x - width / 2, y - height / 2) < 0.4 * min(height, width)
    mask = np.repeat(disc[None], num_frames, axis=0)
    return np.where(mask, np.float32(0.5), np.float32(0.25)), mask


def displacement_px(elastic: Elastic, shape: tuple[int, int, int], axis: int, seed: int = 0) -> np.ndarray:
    """How far pixels are moved along an axis, read off a ramp that is all object; without the border."""
    length = shape[axis]
    ramp = np.broadcast_to(
        np.moveaxis(np.arange(length, dtype=np.float32)[:, None, None] / length, 0, axis), shape
    )
    out = run(ramp.copy(), np.ones(shape, bool), Perturbation(elastic=elastic), seed)
    margin = 2 + int(5 * max(elastic.std_px) * elastic.strength * shape[2] / 1024)
    return ((out - ramp) * length)[:, margin:-margin, margin:-margin]


def test_perlin_is_pnoise2():
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(-600, 2000, 400).astype(np.float32) for _ in range(2))
    x[:3], y[:3] = (0.0, -1.0, 255.5), (7.0, 256.0, -0.25)
    for octaves in (1, 3, 5):
        expected = [noise.pnoise2(float(a), float(b), octaves) for a, b in zip(x, y, strict=True)]
        found = perturb.perlin(x, y, octaves)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_perlin_broadcasts_to_a_map():
    x, y = np.linspace(0, 9, 7, dtype=np.float32), np.linspace(3, 5, 4, dtype=np.float32)
    grid = perturb.perlin(x, y[:, None], 3)
    expected = [[noise.pnoise2(float(a), float(b), 3) for a in x] for b in y]
    np.testing.assert_allclose(grid, expected, atol=1e-6, rtol=0)


def test_published_noise_is_what_a_loop_over_the_frame_gives():
    """At 1024 px: three scales where the ring is, 0 elsewhere, stretched to -+0.1 d_f."""
    ring = np.zeros((12, 1024), bool)
    ring[3:9:2, 100:180] = True
    raw = np.zeros(ring.shape)
    for row, column in np.argwhere(ring):
        for scale, weight in ((50, 0.5), (20, 0.3), (10, 0.2)):
            raw[row, column] += weight * noise.pnoise2(
                (column + 4321) / scale, (row + 1234) / scale, octaves=3
            )
    stretched = (raw - raw.min()) / (raw.max() - raw.min())
    frame = np.full(ring.shape, 0.5, np.float32)
    rows, columns = np.nonzero(ring)
    perturb._add_ring(frame, (rows, columns), OFFICIAL.ring, 0.1 * 0.8, np.array([4321.0, 1234.0]), 1.0)
    np.testing.assert_allclose(frame, 0.5 + 0.8 * (0.2 * stretched - 0.1), atol=1e-6)


@pytest.mark.parametrize(
    "perturbation", [Perturbation(), but(OFFICIAL, probability=0.0), but(CORRECTED, probability=0.0)]
)
def test_nothing_on_changes_no_bit(perturbation: Perturbation):
    disparity, mask = card(3, 40, 64)
    out = run(disparity, mask, perturbation)
    assert out is not disparity and out.tobytes() == disparity.tobytes()


@pytest.mark.parametrize("name", COMPONENTS)
def test_strength_is_a_dial_from_nothing(name: str):
    disparity = np.random.default_rng(1).random((2, 90, 160), dtype=np.float32)
    mask = card(2, 90, 160)[1]
    base = Perturbation(elastic=Elastic(strength=8.0)) if name == "ring" else Perturbation()
    change = []
    for strength in (0.0, 0.5, 1.0, 4.0):
        component = but(getattr(ALL_ON, name), strength=strength)
        out = run(disparity, mask, but(base, **{name: component}))
        without = run(disparity, mask, but(base, **{name: type(component)()}))
        change.append(float(np.abs(out - without).mean()))
    assert change[0] == 0
    assert np.all(np.diff(change) > 0)


@pytest.mark.parametrize("perturbation", [but(OFFICIAL, probability=1.0), CORRECTED, ALL_ON])
def test_same_generator_state_gives_the_same_bytes_and_input_stays(perturbation: Perturbation):
    disparity, mask = card(4, 72, 128)
    before = disparity.tobytes(), mask.tobytes()
    rng = np.random.default_rng(5)
    rng.random(3)
    state = rng.bit_generator.state
    arguments: Any = {"focus_mask": mask, "focus_disparity": np.full(4, 0.5), "perturbation": perturbation}
    first, second = (perturb_disparity(disparity, **arguments, rng=rng).tobytes() for _ in range(2))
    rng.bit_generator.state = state
    assert perturb_disparity(disparity, **arguments, rng=rng).tobytes() == first
    assert perturbation == CORRECTED or first != second
    assert before == (disparity.tobytes(), mask.tobytes())


def test_turning_one_corruption_off_leaves_what_the_others_draw():
    """Far from the object nothing but gain and shift is seen, whether there was an elastic warp or not."""
    disparity, mask = card(5, 72, 128)
    flicker = Affine(strength=1.0)
    alone = run(disparity, mask, Perturbation(flicker=flicker))
    both = run(disparity, mask, Perturbation(elastic=Elastic(strength=1.0), flicker=flicker))
    np.testing.assert_array_equal(alone[:, 0], both[:, 0])
    assert (alone != both).any()


@pytest.mark.parametrize(("axis", "std", "low", "high"), [(2, 1.81, 7.0, 10.5), (1, 0.573, 2.2, 3.6)])
def test_official_warp_has_the_published_strength(axis: int, std: float, low: float, high: float):
    """On 576x1024 torchvision gave 1.84 px (maximum 8.7) in x and 0.58 px (3.5) in y, borders included."""
    moved = displacement_px(OFFICIAL.elastic, (2, 576, 1024), axis)
    assert moved.std() == pytest.approx(std, rel=0.02)
    assert abs(moved.mean()) < 0.05 * std
    assert low < np.abs(moved).max() < high


def test_warp_is_smooth_over_four_pixels():
    """Noise smoothed with sigma 4 has correlation exp(-d^2 / (4 sigma^2)): 1/e at 8 px."""
    moved = displacement_px(OFFICIAL.elastic, (1, 288, 1024), 2)[0]
    for lag in (4, 8):
        correlation = np.corrcoef(moved[:, :-lag].ravel(), moved[:, lag:].ravel())[0, 1]
        assert correlation == pytest.approx(np.exp(-(lag**2) / 64), abs=0.03)


def test_corrected_warp_is_as_wide_as_high_and_as_strong():
    white = but(CORRECTED.elastic, temporal="white")
    x, y = (displacement_px(white, (1, 576, 1024), axis).std() for axis in (2, 1))
    assert x == pytest.approx(y, rel=0.05)
    assert x * y == pytest.approx(1.81 * 0.573, rel=0.05)


def test_lengths_scale_with_the_width():
    wide, narrow = (displacement_px(OFFICIAL.elastic, (4, 200, width), 2).std() for width in (1024, 512))
    assert narrow == pytest.approx(wide / 2, rel=0.05)


def test_only_the_object_and_a_rim_around_it_are_warped():
    y, x = np.mgrid[:144, :256]
    disparity = (0.3 + 0.2 * np.sin(x / 3) * np.cos(y / 3)).astype(np.float32)[None]
    mask = np.zeros(disparity.shape, bool)
    mask[:, 50:90, 100:150] = True
    out = run(disparity, mask, Perturbation(elastic=Elastic(strength=1.0)))
    rows, columns = np.nonzero((out != disparity)[0])
    assert (out != disparity)[mask].mean() > 0.9
    assert rows.min() >= 47 and rows.max() < 93 and columns.min() >= 97 and columns.max() < 153


def test_object_cut_by_the_frame_gets_a_dark_rim_only_as_published():
    mask = np.ones((1, 144, 256), bool)
    disparity = np.full(mask.shape, 0.8, np.float32)
    rim = run(disparity, mask, Perturbation(elastic=OFFICIAL.elastic))
    assert rim[:, :, 0].min() < 0.75
    np.testing.assert_allclose(rim[:, 8:-8, 8:-8], 0.8, atol=1e-6)
    cured = run(disparity, mask, Perturbation(elastic=CORRECTED.elastic))
    np.testing.assert_allclose(cured, 0.8, atol=1e-6)


def noise_of(preset: Perturbation, num_frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What a preset's noise adds to each frame, relative to d_f = 0.5, and where its ring is."""
    disparity, mask = card(num_frames, 288, 512)
    preset = but(preset, probability=1.0, morphology=Morphology())
    warped = run(disparity, mask, but(preset, ring=Ring()), seed)
    return (run(disparity, mask, preset, seed) - warped) / 0.5, ~mask & (warped != disparity)


def test_official_noise_offsets_the_whole_frame():
    added, ring = noise_of(OFFICIAL, 48)
    offset = added[:, 0, 0]
    for frame, inside, value in zip(added, ring, offset, strict=True):
        np.testing.assert_allclose(frame[~inside], value, atol=1e-6)
        assert frame[inside].min() == pytest.approx(-0.1, abs=1e-5)
        assert frame[inside].max() == pytest.approx(0.1, abs=1e-5)
    assert 0.005 < offset.std() < 0.02
    assert np.abs(offset).max() < 0.06


def test_corrected_noise_is_in_the_ring_only_and_has_mean_zero():
    preset = but(CORRECTED, elastic=OFFICIAL.elastic, ring=but(CORRECTED.ring, temporal="white"))
    added, ring = noise_of(preset, 48)
    assert not added[~ring].any()
    means = np.array([frame[inside].mean() for frame, inside in zip(added, ring, strict=True)])
    assert abs(means.mean()) < 4 * means.std() / np.sqrt(len(means))


def test_corrected_noise_is_as_strong_as_the_official():
    official, ring = noise_of(OFFICIAL, 48)
    white = but(CORRECTED, elastic=OFFICIAL.elastic, ring=but(CORRECTED.ring, temporal="white"))
    corrected, _ = noise_of(white, 48)
    strengths = [np.mean([f[r].std() for f, r in zip(x, ring, strict=True)]) for x in (official, corrected)]
    assert strengths[0] == pytest.approx(0.037, abs=0.004)
    assert strengths[1] == pytest.approx(strengths[0], rel=0.1)


def test_object_without_ring_lowers_the_official_frame_by_a_tenth_of_the_focus():
    disparity, mask = np.full((2, 40, 64), 0.05, np.float32), np.ones((2, 40, 64), bool)
    bare = but(OFFICIAL, probability=1.0, morphology=Morphology(), elastic=Elastic())
    np.testing.assert_allclose(run(disparity, mask, bare, focus=0.9), 0.05 - 0.09, atol=1e-6)
    cured = but(CORRECTED, probability=1.0, morphology=Morphology())
    np.testing.assert_allclose(run(disparity, mask, cured, focus=0.9), disparity, atol=1e-6)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_frame_that_hides_the_object_gets_neither_warp_nor_noise(preset: Perturbation):
    disparity, mask = card(4, 72, 128)
    mask[[0, 2]] = False
    out = run(disparity, mask, but(preset, probability=1.0, morphology=Morphology()))
    changed = (out != disparity).any(axis=(1, 2))
    assert changed.tolist() == [False, True, False, True]
    nowhere = run(disparity, np.zeros_like(mask), but(preset, probability=1.0, morphology=Morphology()))
    assert (nowhere == disparity).all()


def test_official_draws_half_of_the_frames_and_dilates_or_erodes_half_of_those():
    """The object is hidden, so that only the morphology shows: p/4 each of all frames."""
    disparity = np.zeros((4000, 3, 16), np.float32)
    disparity[:, :, 8:] = 0.9
    out = run(disparity, np.zeros(disparity.shape, bool), OFFICIAL)
    change = (out.astype(np.float64) - disparity).sum(axis=(1, 2))
    assert np.mean(change > 1e-6) == pytest.approx(0.125, abs=0.02)
    assert np.mean(change < -1e-6) == pytest.approx(0.125, abs=0.02)


@pytest.mark.parametrize("temporal", ["white", "correlated"])
def test_squares_of_3_5_and_7_are_equally_likely(temporal: str):
    disparity = np.zeros((900, 9, 1024), np.float32)
    disparity[:, 4, 500] = 1.0
    kind = Morphology.model_validate({"strength": 1.0, "temporal": temporal, "correlation_frames": 1.0})
    counts = run(disparity, np.zeros(disparity.shape, bool), Perturbation(morphology=kind)).sum(axis=(1, 2))
    # A point that is eroded is gone.
    for size, share in ((0, 1 / 2), (9, 1 / 6), (25, 1 / 6), (49, 1 / 6)):
        assert np.mean(counts == size) == pytest.approx(share, abs=0.06)


def test_radius_between_two_pixels_is_a_blend():
    """Half as wide: radii 0.5, 1 and 1.5 px."""
    disparity = np.zeros((60, 9, 512), np.float32)
    disparity[:, 4, 200] = 1.0
    out = run(disparity, np.zeros(disparity.shape, bool), Perturbation(morphology=Morphology(strength=1.0)))
    rows = {tuple(row.tolist()) for row in out[:, 4, 200:203]}
    assert rows == {(0.5, 0.0, 0.0), (0.0, 0.0, 0.0), (1.0, 0.5, 0.0), (1.0, 1.0, 0.0), (1.0, 1.0, 0.5)}


def gains(affine: Affine, num_frames: int, seed: int) -> np.ndarray:
    disparity = np.full((num_frames, 1, 1), 0.5, np.float32)
    perturbation = Perturbation(flicker=affine, clip_to_unit=False)
    out = run(disparity, np.zeros(disparity.shape, bool), perturbation, seed)
    return (out.ravel().astype(np.float64) / 0.5 - 1) / affine.gain_std


@pytest.mark.parametrize("temporal", ["white", "correlated", "constant"])
def test_frames_have_the_same_statistics_however_they_vary_in_time(temporal: str):
    affine = Affine.model_validate({"strength": 1.0, "shift_std": 0.0, "temporal": temporal})
    values = np.array([gains(affine, 20, seed)[[0, 7, 19]] for seed in range(500)])
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=0.15)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=0.1)
    assert np.mean(np.abs(values) < 0.6745) == pytest.approx(0.5, abs=0.05)


def test_correlation_falls_to_1_over_e_in_the_correlation_length():
    affine = Affine(strength=1.0, shift_std=0.0, temporal="correlated", correlation_frames=6.0)
    series = np.array([gains(affine, 200, seed) for seed in range(40)])
    for lag in (1, 3, 6, 12):
        correlation = np.mean(series[:, lag:] * series[:, :-lag]) / np.mean(series**2)
        assert correlation == pytest.approx(np.exp(-((lag / 6) ** 2)), abs=0.08)
    white = np.array([gains(but(affine, temporal="white"), 300, seed) for seed in range(12)])
    assert abs(np.mean(white[:, 1:] * white[:, :-1])) < 0.06
    assert np.ptp(gains(but(affine, temporal="constant"), 30, 0)) == 0


def test_warp_varies_in_time_as_asked_with_the_same_strength():
    elastic = Elastic(strength=1.0, std_px=(16.0, 16.0), sigma_px=16.0, correlation_frames=4.0)
    moved = {
        temporal: displacement_px(but(elastic, temporal=temporal), (40, 72, 128), 2)
        for temporal in ("white", "correlated", "constant")
    }
    correlation = {key: np.corrcoef(x[4:].ravel(), x[:-4].ravel())[0, 1] for key, x in moved.items()}
    assert abs(correlation["white"]) < 0.1
    assert correlation["correlated"] == pytest.approx(np.exp(-1), abs=0.1)
    assert correlation["constant"] > 0.999
    for key in ("white", "correlated"):
        assert moved[key].std() == pytest.approx(2.0, rel=0.07)


def test_noise_of_the_ring_loses_its_correlation_in_the_correlation_length():
    ring = Ring(strength=1.0, temporal="correlated", correlation_frames=5.0)
    rows, columns = (axis.ravel() for axis in np.mgrid[:576:13, :1024:13])
    correlation = {1: [], 5: [], 15: []}
    for seed in range(12):
        offsets = perturb._offsets_px(ring, 16, np.random.default_rng(seed))
        frames = np.zeros((16, 576, 1024), np.float32)
        for frame, offset in zip(frames, offsets, strict=True):
            perturb._add_ring(frame, (rows, columns), ring, 0.1, offset, 1.0)
        for lag, values in correlation.items():
            values.append(np.corrcoef(frames[0, rows, columns], frames[lag, rows, columns])[0, 1])
    means = {lag: np.mean(values) for lag, values in correlation.items()}
    assert means[1] > 0.8 and means[5] == pytest.approx(np.exp(-1), abs=0.08) and abs(means[15]) < 0.2


def test_corrected_perturbs_all_frames_of_half_of_the_clips():
    disparity, mask = card(3, 36, 64)
    plan = but(CORRECTED, elastic=Elastic(), ring=Ring(), flicker=Affine(strength=1.0))
    plan = but(plan, morphology=Morphology())
    changed = np.array([(run(disparity, mask, plan, s) != disparity).any(axis=(1, 2)) for s in range(200)])
    assert (changed.all(axis=1) | ~changed.any(axis=1)).all()
    assert changed[:, 0].mean() == pytest.approx(0.5, abs=0.1)


def test_corrected_changes_less_from_frame_to_frame_than_official():
    disparity, mask = card(8, 288, 512)
    steps = {}
    for name, preset in PRESETS.items():
        plan = but(preset, probability=1.0, morphology=Morphology())
        out = run(disparity, mask, plan, seed=2)
        steps[name] = np.abs(np.diff(out, axis=0)).mean()
    assert steps["corrected"] < 0.5 * steps["official"]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 40), (2, 40, 1), (3, 5, 3), (2, 13, 1024), (2, 96, 54)])
@pytest.mark.parametrize(
    "perturbation", [but(OFFICIAL, probability=1.0), but(CORRECTED, probability=1.0), ALL_ON]
)
@pytest.mark.filterwarnings("error")
def test_any_size_gives_finite_values_in_range(perturbation: Perturbation, shape: tuple[int, int, int]):
    rng = np.random.default_rng(0)
    disparity = rng.random(shape, dtype=np.float32)
    for mask in (rng.random(shape) < 0.5, np.ones(shape, bool)):
        out = run(disparity, mask, perturbation, focus=1.0)
        assert out.dtype == np.float32 and out.shape == shape
        low, high = (0.0, 1.0) if perturbation.clip_to_unit else (-0.1, 1.1)
        assert np.isfinite(out).all() and out.min() >= low - 1e-6 and out.max() <= high + 1e-6


def test_official_leaves_the_unit_range_and_corrected_does_not():
    disparity, mask = card(4, 72, 128)
    disparity[~mask] = 0.0
    plans = {name: but(preset, probability=1.0) for name, preset in PRESETS.items()}
    assert run(disparity, mask, plans["official"]).min() < 0
    assert run(disparity, mask, plans["corrected"]).min() == 0


def test_low_pass_blurs_as_wide_as_asked():
    """The variance of a blurred point is sigma squared: 4 px at 1024, 2 at 512."""
    disparity = np.zeros((1, 65, 512), np.float32)
    disparity[0, 32, 256] = 1.0
    out = run(disparity, np.zeros(disparity.shape, bool), Perturbation(low_pass=LowPass(strength=1.0)))[0]
    x = np.arange(512) - 256
    assert out.sum() == pytest.approx(1, abs=1e-4)
    assert (out.sum(axis=0) * x**2).sum() == pytest.approx(4, rel=0.02)


def test_scale_and_shift_are_one_line_for_the_whole_clip():
    disparity = np.random.default_rng(0).random((5, 20, 30), dtype=np.float32)
    plan = Perturbation(scale_shift=Affine(strength=1.0, temporal="constant"), clip_to_unit=False)
    out = run(disparity, np.zeros(disparity.shape, bool), plan)
    slope, offset = np.polyfit(disparity.ravel(), out.ravel(), 1)
    np.testing.assert_allclose(out, slope * disparity + offset, atol=1e-5)
    assert slope != 1 and offset != 0


def test_quantization_rounds_to_its_levels():
    disparity = np.linspace(0, 1, 1000, dtype=np.float32).reshape(1, 10, 100)
    plan = Perturbation(quantization=Quantization(strength=1.0, levels=5))
    out = run(disparity, np.zeros(disparity.shape, bool), plan)
    np.testing.assert_allclose(np.unique(out), [0, 0.25, 0.5, 0.75, 1])
    assert np.abs(out - disparity).max() <= 0.125 + 1e-6


def test_presets_survive_json():
    for preset in PRESETS.values():
        assert Perturbation.model_validate_json(preset.model_dump_json()) == preset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ring": {"weights": (1.0,)}}, "weights: needs 3, one per scale, got 1"),
        ({"elastic": {"strength": -1}}, "greater than or equal to 0"),
        ({"morphology": {"probability": 1.5}}, "less than or equal to 1"),
        ({"flicker": {"temporal": "pink"}}, "'white', 'correlated' or 'constant'"),
        ({"fog": {}}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_parameters_are_refused(change: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        Perturbation.model_validate(change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"disparity": np.zeros((2, 4, 4))},
            r"disparity: must be float32 \[T, H, W\], got float64 \[2, 4, 4\]",
        ),
        ({"disparity": np.zeros((4, 4), np.float32)}, r"disparity: must be float32 .* got float32 \[4, 4\]"),
        ({"disparity": np.full((2, 4, 4), 1.5, np.float32)}, r"disparity: must be finite and in \[0, 1\]"),
        ({"disparity": np.full((2, 4, 4), np.nan, np.float32)}, r"disparity: must be finite"),
        ({"focus_mask": np.zeros((2, 4, 4))}, r"focus_mask: must be bool \[2, 4, 4\], got float64"),
        ({"focus_mask": np.zeros((2, 4, 5), bool)}, r"focus_mask: .* got bool \[2, 4, 5\]"),
        ({"focus_disparity": np.zeros(3)}, r"focus_disparity: must be \[2\], got \[3\]"),
        ({"focus_disparity": np.full(2, -0.1)}, r"focus_disparity: .* spans \[-0.1, -0.1\]"),
    ],
)
def test_wrong_arrays_are_refused(change: dict[str, Any], message: str):
    arguments: dict[str, Any] = {
        "disparity": np.zeros((2, 4, 4), np.float32),
        "focus_mask": np.zeros((2, 4, 4), bool),
        "focus_disparity": np.zeros(2),
    } | change
    with pytest.raises(ValueError, match=message):
        perturb_disparity(
            arguments.pop("disparity"), **arguments, perturbation=OFFICIAL, rng=np.random.default_rng(0)
        )
