"""The tracer of card scenes against path tracing by both renderers, closed forms, and itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focuspull.dataset.color import encode_display, srgb_to_linear, to_uint8
from focuspull.render import spec
from focuspull.render.build import build
from focuspull.render.frames import Aperture, Frames, View, fit_disparity_map, render_frames
from focuspull.render.textures import TextureMap
from tests.benchmarks.agreement import AREA, MATT, Files, cutout, photo
from tests.benchmarks.cards import stage
from tests.rendering import in_child, open_session, render, simple_scene

both = [pytest.mark.cycles, pytest.mark.mitsuba]
BLACK = {"type": "constant", "radiance": (0.0, 0.0, 0.0)}
SIZE = (96, 54)


def card(name: str, image: dict, position: tuple, turn: tuple = (0, 0, 0), **fields: Any) -> dict[str, Any]:
    shape = {"type": "card", "height_m": fields.pop("height_m", 1.2), "unlit": True, **image}
    return {"name": name, "shape": shape, "position_m": position, "rotation_deg": turn, **fields}


def rgba(color: tuple[float, float, float], alpha: float = 1.0, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """A flat float image, linear."""
    return np.broadcast_to(np.array([*color, alpha], np.float32), (*size, 4)).copy()


def soft(seed: int) -> np.ndarray:
    """Smooth colours, opacity from 0 to 1 with every value in between, 8 bits."""
    v, u = np.mgrid[0:48, 0:48] / 47
    waves = [0.5 + 0.5 * np.sin((seed + 3 + i) * u + (5 - i) * v * seed) for i in range(3)]
    return np.rint(
        255 * np.stack([*waves, np.clip(1.4 - 2.2 * np.hypot(u - 0.5, v - 0.5), 0, 1)], axis=2)
    ).astype(np.uint8)


def with_targets(scene: spec.SceneSpec, *targets: dict[str, Any]) -> spec.SceneSpec:
    """Targets with one K and one disparity in focus each, as many samples as the all-in-focus image."""
    data = scene.model_dump()
    data["quality"]["bokeh_samples"] = scene.quality.aif_samples
    data["targets"] = [
        target
        | {
            "k_at_1024": (target["k_at_1024"],) * scene.film.num_frames,
            "focus": [{"frame": 0, "disparity": target["focus"]}],
        }
        for target in targets
    ]
    return spec.SceneSpec.model_validate(data)


def scenes(
    name: str, files: Files, samples: int, lenses: bool = False
) -> tuple[spec.SceneSpec, spec.SceneSpec]:
    """One card scene with two seeds; ``lenses`` adds targets whose lens Cycles does not have."""
    backdrop = np.dstack([photo(), np.full(photo().shape[:2], 255, np.uint8)])
    back = card("back", {"image": files.add("back.png", backdrop)}, (0, 3, -3.0), height_m=8.0)
    flower, mist = {"image": files.add("flower.png", cutout())}, {"image": files.add("mist.png", soft(2))}
    fields: dict[str, Any] = {"environment": {"type": "constant", "radiance": (0.3, 0.4, 0.6)}}
    if name == "tilted, moving, soft":
        frames = [files.add(f"walk-{i}.png", soft(3 + i)) for i in range(2)]
        walk = {"sequence": {"pattern": "walk-*.png", "frames": frames}, "radiance": (2.0, 1.5, 1.0)}
        objects = [
            back,
            card(
                "near", flower, (-0.5, -1.6, 0.3), (20, 10, 25), motion=[{"type": "spin", "rate_deg_s": 90}]
            ),
            card(
                "walk",
                walk,
                (0.4, -0.4, 0.2),
                (0, 0, -30),
                motion=[{"type": "linear", "velocity_m_s": (2, 1, 0)}],
            ),
            card("mist", mist, (0.1, -1.0, 0.7), (-35, 0, 0)),
            card("away", flower, (0.9, 0.3, 0.8), (0, 0, 170)),
        ]
        fields["film"] = {"num_frames": 2, "shutter": 0.6, "shutter_samples": 2}
    elif name == "crossing":
        objects = [
            back,
            card("x-a", mist, (0, 0, 0.4), (0, 0, 35)),
            card("x-b", flower, (0.1, 0, 0.4), (10, 0, -40)),
            card("x-c", flower, (0, -0.1, 0.5), (60, 0, 0)),
        ]
    else:
        objects = [card("mist", mist, (0, 0, 0.4), (0, 0, 35)), card("near", flower, (0.4, -2, 0.4))]
        fields["environment"] = {"type": "sky"}
        fields["aim"], fields["camera"] = (0, 0, 1.4), {"focal_length_mm": 24}
    targets = [
        {"k_at_1024": 80.0, "focus": 0.9, "lens": {}},
        {"k_at_1024": 80.0, "focus": 0.1, "lens": {"blades": 3, "rotation_deg": 20.0}},
    ]
    if lenses:
        cut = {"cat_eye": 0.6, "vignetting": True, "apodization_ev": 2.0}
        faults = {"spherical": 0.2, "axial_chromatic": -0.05, "obstruction": 0.3}
        targets += [{"k_at_1024": 80.0, "focus": 0.4, "lens": lens} for lens in (cut, faults)]
    made = [simple_scene(objects, size=SIZE, samples=samples, seed=seed, **fields) for seed in (1, 2)]
    return with_targets(made[0], *targets), with_targets(made[1], *targets)


def path_traced(texts: list[str], files: dict[str, Path], frames: list[int]) -> list[Frames]:
    """The same through Mitsuba's path tracer; runs in a child."""
    from focuspull.render.backends import mitsuba

    mi = mitsuba.import_mitsuba(1)
    results = []
    for text in texts:
        built = build(spec.SceneSpec.model_validate_json(text), files)
        session = mitsuba.MitsubaSession(built, mi)
        session.force_method("separate")
        results.append(render_frames(session, built, frames))
    return results


def difference_db(cards: Frames, pair: list[Frames], stream: int) -> tuple[float, float]:
    """Of the converged images, as the noise of two renders has mean 0 in their product; twice its error."""
    images = [(f.aif, *f.bokeh)[stream] for f in (cards, *pair)]
    c, a, b = (encode_display(image).astype(np.float64) for image in images)
    squared = ((c - a) * (c - b)).mean(axis=-1)
    error = 2 * squared.std() / math.sqrt(squared.size)
    return -10 * math.log10(max(squared.mean(), 1e-9)), -10 * math.log10(max(error, 1e-9))


def check_equal(cards: Frames, pair: list[Frames], wanted_db: float) -> None:
    assert cards.method == "planes" and pair[0].method == "separate"
    # Pixel centres on an outline may fall to either side.
    same = cards.instance == pair[0].instance
    assert same.mean() > 0.998
    # Mitsuba starts rays that pass a texel up to half a millimetre beside it.
    np.testing.assert_allclose(cards.disparity[same], pair[0].disparity[same], atol=1e-4)
    for stream in range(1 + len(cards.bokeh)):
        found, resolution = difference_db(cards, pair, stream)
        assert resolution > wanted_db, (
            f"stream {stream}: the test itself has too much noise: {resolution:.1f}"
        )
        assert found > wanted_db, f"stream {stream}: {found:.1f} dB"


# --- Against path tracing -------------------------------------------------------------------------


@pytest.mark.mitsuba
@pytest.mark.parametrize("name", ["tilted, moving, soft", "crossing", "sky"])
def test_equals_mitsubas_path_tracer(name, files):
    few, many = scenes(name, files, 64, lenses=True), scenes(name, files, 2048, lenses=True)[0]
    frames = [few[0].film.num_frames - 1]
    (cards,) = render("mitsuba", many, files=files.paths, frames=frames)
    pair = in_child(path_traced, [s.canonical_json() for s in few], files.paths, frames)
    check_equal(cards, pair, 41.0)


@pytest.mark.cycles
@pytest.mark.mitsuba
@pytest.mark.parametrize("name", ["tilted, moving, soft", "crossing"])
def test_equals_cycles(name, files):
    few, many = scenes(name, files, 64), scenes(name, files, 2048)[0]
    frames = [few[0].film.num_frames - 1]
    (cards,) = render("mitsuba", many, files=files.paths, frames=frames)
    check_equal(cards, render("cycles", *few, files=files.paths, frames=frames), 41.0)


@pytest.mark.cycles
@pytest.mark.mitsuba
def test_renderers_agree_where_unlit_cards_shine_on_others(files):
    """Not a card scene: both path trace it."""
    image = {"image": files.add("flower.png", cutout()), "radiance": (6.0, 6.0, 6.0)}
    floor = {"name": "floor", "shape": {"type": "plane", "size_m": (9, 9)}, "material": MATT}
    ball = {
        "name": "ball",
        "shape": {"type": "sphere", "radius_m": 0.4},
        "position_m": (0.7, -1, 0.4),
        "material": MATT,
    }
    objects = [floor, ball, card("glow", image, (-0.3, 0, 0.05), (0, 0, 25))]
    pairs = []
    for backend in ("cycles", "mitsuba"):
        two = [
            simple_scene(
                objects,
                eye=(0, -5, 1.5),
                aim=(0, 0, 0.5),
                size=SIZE,
                samples=64,
                max_bounces=2,
                environment={"type": "constant", "radiance": (0.05, 0.05, 0.05)},
                seed=seed,
            )
            for seed in (1, 2)
        ]
        pairs.append(render(backend, *two, files=files.paths))
    cycles, mitsuba = pairs
    assert mitsuba[0].method == "separate"
    a1, a2, b1, b2 = (encode_display(f.aif).astype(np.float64) for f in (*cycles, *mitsuba))
    squared = ((a1 - b1) * (a2 - b2)).mean()
    assert -10 * math.log10(max(squared, 1e-9)) > 40
    lit = mitsuba[0].aif[0, 40:, 20:40]  # the floor before the card
    assert lit.mean() > 1.3 * 0.8 * 0.05


# --- Closed forms ---------------------------------------------------------------------------------


@pytest.mark.mitsuba
def test_highlights_blur_to_discs_of_the_right_radius(files):
    """Second moments of five spots, behind and before the focus; see ``tests/benchmarks/blur.py``."""
    width, k, focal_px = 320, 20.0, 50 / 36 * 320
    spot = np.zeros((9, 9, 4), np.float32)
    spot[4, 4] = (50, 50, 50, 1)
    image = {"image": files.add("spot.exr", spot)}
    disparities, eye = (1.0, 0.8, 0.6, 0.3, 0.15), np.array([0.0, 0.0, 1.0])
    objects = []
    for i, d in enumerate(disparities):
        z, x_px = 2 / d, (i - 2) * width / 5
        height = 9 * 2 * z / focal_px  # texels of 2 px
        position = (x_px * z / focal_px, z, 1.0 - height / 2)
        objects.append(card(f"spot-{i}", image, position, height_m=height))
    scene = simple_scene(
        objects, eye=tuple(eye), aim=(0, 1, 1), size=(width, 64), samples=4096, environment=BLACK
    )
    scene = with_targets(scene, {"k_at_1024": k * 1024 / width, "focus": 0.5})
    (frames,) = render("mitsuba", scene, files=files.paths)
    assert frames.disparity_map.z_near_m == pytest.approx(2.0, rel=1e-4)
    for i, d in enumerate(disparities):
        cut = (0, slice(None), slice(i * width // 5, (i + 1) * width // 5))
        sharp, blurred = (polar_moment(image[cut].mean(axis=-1)) for image in (frames.aif, frames.bokeh[0]))
        true = frames.disparity_map.disparity(2 / d) - frames.focus_disparity[0, 0]
        assert math.sqrt(2 * (blurred - sharp)) == pytest.approx(k * abs(true), abs=0.1), d


def polar_moment(image: np.ndarray) -> float:
    rows, columns = np.indices(image.shape)
    total = image.sum(dtype=np.float64)
    row, column = (float((at * image).sum() / total) for at in (rows, columns))
    return float((((rows - row) ** 2 + (columns - column) ** 2) * image).sum() / total)


@pytest.mark.mitsuba
def test_encoded8_blurs_display_values(files):
    """The edge of a flat card before a flat wall: the wall in focus, the card's edge a known integral."""
    ev, dark, bright = 0.5, (0.02, 0.1, 0.3), (0.9, 0.2, 0.013)
    left = files.add("left.exr", rgba(dark))
    wall = files.add("wall.exr", rgba(bright))
    objects = [
        card("wall", {"image": wall}, (0, 5, -9), height_m=20.0),
        card("left", {"image": left}, (-1.0, -3, 0), height_m=2.0),
    ]
    scene = simple_scene(
        objects, size=(64, 36), samples=4096, environment=BLACK, film={"exposure_ev": ev}, quality={}
    )
    k = 15.0
    target = {"k_at_1024": k * 16, "focus": 0.0}
    scene = with_targets(scene, target, target | {"domain": "encoded8"})
    (frames,) = render("mitsuba", scene, files=files.paths)
    # The card's edge is in the middle; a pixel's centre x is covered by the part of the disc to its right.
    x = (np.arange(64 * 64) + 0.5) / 64 - 32
    u = np.clip(x / k, -1, 1)
    covered = (0.5 - (u * np.sqrt(1 - u * u) + np.arcsin(u)) / math.pi).reshape(64, 64).mean(axis=1)[:, None]
    values = [to_uint8(encode_display(np.array(c), exposure_ev=ev)) / 255.0 for c in (dark, bright)]
    expected = covered * values[0] + (1 - covered) * values[1]
    shown = encode_display(frames.bokeh[1][0, 18], exposure_ev=ev)
    np.testing.assert_allclose(shown, expected, atol=2e-3)
    light = covered * np.array(dark) + (1 - covered) * np.array(bright)
    np.testing.assert_allclose(frames.bokeh[0][0, 18], light, atol=2e-3)
    middle = encode_display(frames.bokeh[0][0, 18, 31:33].mean(axis=0), exposure_ev=ev)
    assert (middle - shown[31:33].mean(axis=0) > (0.2, 0.005, 0.05)).all()  # light is brighter


# --- Against itself -------------------------------------------------------------------------------


@pytest.mark.mitsuba
def test_threads_do_not_change_a_byte(files):
    scene = scenes("tilted, moving, soft", files, 64, lenses=True)[0]
    one, two = (render("mitsuba", scene, files=files.paths, frames=[0], threads=n)[0] for n in (1, 2))
    for a, b in zip((one.aif, *one.bokeh, one.disparity), (two.aif, *two.bokeh, two.disparity), strict=True):
        assert a.tobytes() == b.tobytes()


def estimates(text: str, files: dict[str, Path], points: list[int]) -> list[tuple[str, float, float]]:
    """View, estimated and true decibels of a stage, over four images each; runs in a child."""
    session, built = open_session("mitsuba", spec.SceneSpec.model_validate_json(text), files, 1)
    disparity_map = fit_disparity_map(session.truth(0)[0])
    results = []
    for case, (k, focus, lens, domain) in enumerate(CASES):
        shape = spec.LensSpec.model_validate(lens)
        focal_px = 35 / 36 * built.scene.film.width
        aperture = Aperture(k, focus, focal_px, disparity_map, shape) if k else None
        (best,) = session.render(0, [View(aperture, 8192, 100 + case, domain)])
        for n in points:
            images = session.render(0, [View(aperture, n, 10 * case + i, domain) for i in range(4)])
            estimate = np.mean([image.squared_error for image in images])
            shown, reference = (encode_display([i.pixels for i in these]) for these in (images, [best]))
            true = np.mean((shown.astype(np.float64) - reference) ** 2)
            name = f"k {k}, focus {focus}, {shape.label}, {domain}, {images[0].samples} points"
            results.append((name, -10 * math.log10(estimate), -10 * math.log10(true)))
    return results


CASES: tuple[tuple[float, float, dict[str, Any], spec.BlurDomain], ...] = (
    (0.0, 0.0, {}, "linear_hdr"),
    (8.0, 1.0, {}, "linear_hdr"),
    (24.0, 0.0, {}, "linear_hdr"),
    (16.0, 0.5, {"blades": 5}, "linear_hdr"),
    (16.0, 1.0, {"cat_eye": 0.8}, "encoded8"),
)


@pytest.mark.mitsuba
def test_the_error_is_known(files):
    """The estimate from one small image is scattered by half a decibel and more."""
    scene = stage(files, 4, width=96, lamp=4.0)
    for name, estimated, true in in_child(estimates, scene.canonical_json(), files.paths, [64, 512]):
        assert estimated == pytest.approx(true, abs=1.0), name


@pytest.mark.mitsuba
def test_points_are_doubled_down_to_the_noise_floor(files):
    scene = stage(files, 3, width=64, k_at_1024=240.0)
    asked = [{"noise_floor_db": 44.0, "max_samples": most} for most in (65536, 600)]
    quality = [scene.quality.model_copy(update=fields) for fields in asked]
    enough, capped = render(
        "mitsuba", *(scene.model_copy(update={"quality": q}) for q in quality), files=files.paths
    )
    reached, missed = (frames.noise_floor_db[1] for frames in (enough, capped))
    assert reached is not None and missed is not None and reached >= 44.0 > missed
    assert capped.samples[1] == 512 < enough.samples[1]


def ordered(seed: int) -> tuple[int, int]:
    """Random quads, checked ray by ray against `front_to_back`; pairs with one order, errors; in a child."""
    from focuspull.render.backends.mitsuba import import_mitsuba

    import_mitsuba(1)
    from focuspull.render.backends.mitsuba_cards import front_to_back

    rng = np.random.default_rng(seed)
    settled = wrong = 0
    for _ in range(150):
        quads = []
        for _ in range(5):
            centre = rng.uniform((-2, -2, 0.5), (2, 2, 6))
            a, b = rng.normal(0, 0.8, (2, 3))
            quads.append(np.array([centre - a - b, centre + a - b, centre + a + b, centre - a + b]))
        radius = 0.2
        groups = front_to_back(quads, radius)
        assert sorted(i for group in groups for i in group) == list(range(5))
        place = {i: n for n, group in enumerate(groups) for i in group}
        angle, reach = rng.uniform(0, 2 * math.pi, 400), radius * np.sqrt(rng.uniform(0, 1, 400))
        origin = np.stack([reach * np.cos(angle), reach * np.sin(angle), 0 * angle], axis=1)
        ray = np.concatenate([rng.uniform(-1, 1, (400, 2)), np.ones((400, 1))], axis=1)
        hits = np.stack([_distance(q, origin, ray) for q in quads])
        for i in range(5):
            for j in range(5):
                if place[i] < place[j]:
                    settled += 1
                    wrong += int((hits[j] < hits[i])[np.isfinite(hits[i])].any())
    return settled, wrong


def _distance(quad: np.ndarray, origin: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """Depth at which rays meet a parallelogram, else infinity."""
    a, b = quad[1] - quad[0], quad[3] - quad[0]
    system = np.stack([np.broadcast_to(a, ray.shape), np.broadcast_to(b, ray.shape), -ray], axis=2)
    u, v, t = np.linalg.solve(system, (origin - quad[0])[..., None])[..., 0].T
    return np.where((u >= 0) & (u <= 1) & (v >= 0) & (v <= 1) & (t > 0), t, np.inf)


@pytest.mark.mitsuba
def test_the_order_holds_on_every_ray():
    settled, wrong = in_child(ordered, 5)
    assert wrong == 0
    assert settled > 150 * 10 / 3  # of ten pairs most have one order


def kind_of_session(text: str, files: dict[str, Path]) -> str:
    """Runs in a child."""
    return type(open_session("mitsuba", spec.SceneSpec.model_validate_json(text), files, 1)[0]).__name__


@pytest.mark.mitsuba
@pytest.mark.parametrize(
    ("fields", "variant", "expected"),
    [
        ({}, "", "CardSession"),
        ({"lights": [AREA]}, "", "MitsubaSession"),
        (
            {"lights": [{"type": "point", "position_m": (0, 0, 3), "intensity_w_sr": (1, 1, 1)}]},
            "",
            "MitsubaSession",
        ),
        ({}, "scalar_rgb", "MitsubaSession"),
    ],
)
def test_what_is_not_a_card_scene_is_path_traced(fields, variant, expected, files):
    image = {"image": files.add("flower.png", cutout())}
    scene = simple_scene([card("flower", image, (0, 0, 0))], **fields)
    env = {"FOCUSPULL_MITSUBA_VARIANT": variant} if variant else None
    assert in_child(kind_of_session, scene.canonical_json(), files.paths, env=env) == expected


# --- The spec -------------------------------------------------------------------------------------


def test_an_unlit_card_shines_by_its_image_and_opacity(files):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, :2] = (200, 100, 50, 51)
    image = files.add("half.png", pixels)
    (item,) = build(
        simple_scene([card("glow", {"image": image, "radiance": (1.0, 2.0, 0.0)}, (0, 0, 0))]), files.paths
    ).items
    (surface,) = item.surfaces
    expected = srgb_to_linear(np.array([200, 100, 50]) / 255) * 0.2 * (1, 2, 0)
    assert surface.emits and isinstance(surface.emission, TextureMap) and surface.opacity is not None
    np.testing.assert_allclose(surface.emission.pixels[0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(surface.opacity.pixels[0, 0], 0.2, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"material": {"roughness": 0.2}}, "an unlit card has no material"),
        ({"material": {"emission": (1, 1, 1)}}, "an unlit card has no material"),
        ({"shape": {"type": "card", "image": "a.png", "radiance": (2, 2, 2)}}, "radiance is for unlit cards"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        spec.ObjectSpec.model_validate(card("a", {"image": "a.png"}, (0, 0, 0)) | fields)
