"""Lenses: `mitsuba_lens` against plain geometry, and the discs that renders make with it, measured."""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from focuspull.render import spec
from focuspull.render.backends import mitsuba_lens
from focuspull.render.frames import Frames
from focuspull.render.spec import LensSpec
from tests.rendering import in_child, open_session

CORNER = 0.6 + 0.8j
"""A film point in the upper right, in half diagonals."""
GRID = 1000
METHODS = ("separate", "rebinned")
"""Ways in which Mitsuba renders targets."""

OUTLINES = (
    LensSpec(),
    LensSpec(blades=3, rotation_deg=20),
    LensSpec(blades=5, rotation_deg=-7),
    LensSpec(blades=6, roundness=0.5, rotation_deg=10),
    LensSpec(blades=7, roundness=0.01),
    LensSpec(blades=5, roundness=1),
    LensSpec(squeeze=2),
    LensSpec(blades=3, rotation_deg=30, squeeze=4),
    LensSpec(blades=8, roundness=0.8, squeeze=0.5),
)
LENSES = (
    *OUTLINES,
    LensSpec(obstruction=0.5),
    LensSpec(apodization_ev=6),
    LensSpec(cat_eye=0.7),
    LensSpec(cat_eye=1, cat_eye_radius=1.3, vignetting=True),
    LensSpec(
        blades=6, roundness=0.3, squeeze=1.5, obstruction=0.3, apodization_ev=2, cat_eye=0.6, vignetting=True
    ),
)


def named(lens: LensSpec) -> str:
    return lens.label.replace(", ", "-").replace(" ", "_")


# --- A second implementation, in complex numbers ------------------------------------------------


def outline(lens: LensSpec, z: NDArray[np.complex128]) -> NDArray[np.bool_]:
    """Whether points before the squeeze are within the blades, blade by blade from the two corners."""
    if lens.blades == 0:
        return np.abs(z) <= 1
    step = 2 * math.pi / lens.blades
    # The area of the unit outline, from its radius in every direction.
    around = np.linspace(-step / 2, step / 2, 20001)
    scale = math.sqrt(math.pi / (lens.blades * np.mean(blade(lens, around) ** 2) * step / 2))
    from_middle = (np.angle(z) - math.radians(lens.rotation_deg)) % step - step / 2
    return np.abs(z) <= scale * blade(lens, from_middle)


def blade(lens: LensSpec, angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radius of a blade with corners on the unit circle, at angles from its middle."""
    half = math.pi / lens.blades
    if lens.roundness == 0:
        return math.cos(half) / np.cos(angle)
    r = 1 / lens.roundness
    centre = math.cos(half) - math.sqrt(r**2 - math.sin(half) ** 2)
    return centre * np.cos(angle) + np.sqrt(r**2 - (centre * np.sin(angle)) ** 2)


def model(
    lens: LensSpec, p: NDArray[np.complex128], at: complex | NDArray[np.complex128]
) -> tuple[NDArray, NDArray, NDArray]:
    """Weight, reference and the shift of focus ``[..., 3]`` of lens points."""
    root = math.sqrt(lens.squeeze)
    z = p.real * root + 1j * p.imag / root
    height = np.abs(z)
    reference = outline(lens, z) * (height >= lens.obstruction) * 2.0 ** (-lens.apodization_ev * height**2)
    weight = reference
    if lens.cat_eye > 0:
        reach = np.abs(p[outline(lens, z)]).max()
        weight = reference * (np.abs(p - lens.cat_eye * reach * at) <= lens.cat_eye_radius * reach)
    shift = lens.spherical * height[..., None] ** 2 + lens.axial_chromatic * np.array([1, 0, -1])
    return weight, reference if lens.vignetting else weight, shift


def points(lens: LensSpec) -> NDArray[np.complex128]:
    """A grid over the aperture and a bit more."""
    line = (np.arange(GRID) + 0.5) / GRID * 2 - 1
    x, y = np.meshgrid(line, line)
    return 1.05 * mitsuba_lens.extent(lens) * (x + 1j * y)


# --- What `mitsuba_lens` says -------------------------------------------------------------------


def evaluate(
    variant: str, cases: list[tuple[LensSpec, NDArray[np.complex128], complex]]
) -> list[tuple[NDArray, NDArray, NDArray]]:
    """Weight, reference and shift of focus by `mitsuba_lens`; in a child."""
    from focuspull.render.backends.mitsuba import force_variant, import_mitsuba

    force_variant(variant)
    mi = import_mitsuba(1)

    def evaluate_at(lens: LensSpec, x: Any, y: Any, at: complex) -> tuple[Any, ...]:
        p = mi.Point2f(x, y)
        weight, reference = mitsuba_lens.transmission(lens, p, mi.Point2f(at.real, at.imag))
        return weight, reference, *(mitsuba_lens.focus_shift(lens, p) or (mi.Float(0),) * 3)

    results = []
    for lens, z, at in cases:
        x, y = z.real.ravel(), z.imag.ravel()
        if variant.startswith("scalar"):
            rows = [evaluate_at(lens, float(a), float(b), at) for a, b in zip(x, y, strict=True)]
            columns = [np.array(column) for column in zip(*rows, strict=True)]
        else:
            numbers = evaluate_at(lens, mi.Float(x), mi.Float(y), at)
            columns = [np.broadcast_to(np.array(n), x.shape) for n in numbers]
        weight, reference, *shift = (column.reshape(z.shape) for column in columns)
        results.append((weight, reference, np.stack(shift, axis=-1)))
    return results


@pytest.fixture(scope="module")
def evaluated() -> dict[LensSpec, tuple[NDArray, NDArray, NDArray]]:
    """Every lens of `LENSES` on its grid, seen from `CORNER`."""
    results = in_child(evaluate, "llvm_ad_rgb", [(lens, points(lens), CORNER) for lens in LENSES])
    return dict(zip(LENSES, results, strict=True))


def area(lens: LensSpec, values: NDArray) -> float:
    """Integral over a grid of `points`, in areas of the disc."""
    return float(values.mean()) * (2.1 * mitsuba_lens.extent(lens)) ** 2 / math.pi


@pytest.mark.mitsuba
@pytest.mark.parametrize("lens", OUTLINES, ids=named)
def test_every_outline_has_the_area_of_the_disc(evaluated, lens):
    weight, reference, _ = evaluated[lens]
    assert area(lens, weight) == pytest.approx(1, abs=0.005)
    assert np.array_equal(weight, reference)


@pytest.mark.mitsuba
@pytest.mark.parametrize("lens", LENSES, ids=named)
def test_transmission_is_that_of_plain_geometry(evaluated, lens):
    """Two implementations differ on points of the boundary only."""
    for ours, theirs in zip(evaluated[lens][:2], model(lens, points(lens), CORNER)[:2], strict=True):
        assert np.mean(np.abs(ours - theirs) > 1e-4) < 1e-3


@pytest.mark.mitsuba
@pytest.mark.parametrize("lens", LENSES, ids=named)
def test_extent_is_the_farthest_point(evaluated, lens):
    _, reference, _ = evaluated[lens]
    farthest = np.abs(points(lens)[reference > 0]).max()
    assert farthest <= mitsuba_lens.extent(lens)
    assert farthest == pytest.approx(mitsuba_lens.extent(lens), rel=0.01)


def test_extent_in_closed_form():
    assert mitsuba_lens.extent(LensSpec()) == 1
    assert mitsuba_lens.extent(LensSpec(squeeze=0.25)) == 2
    assert mitsuba_lens.extent(LensSpec(squeeze=4)) == 2
    side = math.sqrt(2 * math.pi / (3 * math.sin(2 * math.pi / 3)))
    assert mitsuba_lens.extent(LensSpec(blades=3)) == pytest.approx(side)
    assert mitsuba_lens.extent(LensSpec(blades=4, rotation_deg=90, squeeze=4)) == pytest.approx(
        2 * math.sqrt(math.pi / 2)
    )


@pytest.mark.mitsuba
def test_a_corner_is_where_the_rotation_says(evaluated):
    """<(x + iy)^n> of an n-gon with a corner at angle a points to n a."""
    for lens in OUTLINES[1:4]:
        weight, _, _ = evaluated[lens]
        mean = complex((points(lens) ** lens.blades * weight).sum())
        expected = cmath.rect(1, lens.blades * math.radians(lens.rotation_deg))
        assert abs(cmath.phase(mean / expected)) < 0.02, lens.label


@pytest.mark.mitsuba
def test_squeeze_is_height_over_width(evaluated):
    for lens in (lens for lens in OUTLINES if lens.blades != 3):
        z = points(lens)[evaluated[lens][0] > 0]
        # Of a disc, and nearly so of a rounded polygon.
        assert np.ptp(z.imag) / np.ptp(z.real) == pytest.approx(
            lens.squeeze, rel=0.1 if lens.blades else 0.005
        )


@pytest.mark.mitsuba
def test_a_ring_is_open_from_the_obstruction_on(evaluated):
    lens = LensSpec(obstruction=0.5)
    weight, _, _ = evaluated[lens]
    assert np.abs(points(lens)[weight > 0]).min() == pytest.approx(0.5, abs=0.005)
    assert area(lens, weight) == pytest.approx(1 - 0.5**2, rel=0.005)


@pytest.mark.mitsuba
def test_apodization_takes_stops_at_the_rim(evaluated):
    lens = LensSpec(apodization_ev=6)
    weight, _, _ = evaluated[lens]
    rim = weight[(np.abs(points(lens)) > 0.995) & (weight > 0)]
    assert np.log2(weight.max() / rim).mean() == pytest.approx(6, abs=0.06)
    light = area(lens, weight)
    assert light == pytest.approx((1 - 2**-6) / (6 * math.log(2)), rel=0.005)
    assert -math.log2(light) == pytest.approx(2, abs=0.1), "the docstring says two stops"


def two_discs(distance: float) -> float:
    """What two unit discs have in common, over the area of one."""
    return (2 * math.acos(distance / 2) - distance * math.sqrt(1 - distance**2 / 4)) / math.pi


@pytest.mark.mitsuba
def test_a_cat_eye_is_what_two_discs_have_in_common():
    lens = LensSpec(cat_eye=0.7)
    film = [0, 0.4, CORNER, -1j]
    results = in_child(evaluate, "llvm_ad_rgb", [(lens, points(lens), complex(at)) for at in film])
    for at, (weight, reference, _) in zip(film, results, strict=True):
        assert area(lens, weight) == pytest.approx(two_discs(0.7 * abs(at)), rel=0.005)
        assert np.array_equal(weight, reference)
        if at != 0:
            centroid = complex((points(lens) * weight).mean())
            # In front of the focus; behind it, where the picture is upside down, the outer side is missing.
            assert cmath.phase(centroid / at) == pytest.approx(0, abs=0.01), "the inner side is missing"
    assert two_discs(1) == pytest.approx(0.39, abs=0.005), "the docstring says 39 %"


@pytest.mark.mitsuba
def test_vignetting_compares_with_the_uncut_lens():
    lens = LensSpec(cat_eye=0.7, vignetting=True, obstruction=0.3)
    uncut = LensSpec(obstruction=0.3)
    (weight, reference, _), (plain, _, _) = in_child(
        evaluate, "llvm_ad_rgb", [(which, points(lens), CORNER) for which in (lens, uncut)]
    )
    assert np.array_equal(reference, plain)
    assert set(np.unique(weight[reference > 0])) == {0, 1}
    assert not weight[reference == 0].any()


@pytest.mark.mitsuba
def test_a_wide_rim_leaves_the_middle_of_the_image_alone():
    lens = LensSpec(cat_eye=1, cat_eye_radius=1.3)
    inside, outside = in_child(
        evaluate, "llvm_ad_rgb", [(lens, points(lens), at) for at in (0.29 + 0j, 0.4 + 0j)]
    )
    assert area(lens, inside[0]) == pytest.approx(1, abs=0.005)
    assert area(lens, outside[0]) < 0.995


FAULTY = (
    LensSpec(),
    LensSpec(spherical=-0.2, squeeze=2, blades=6),
    LensSpec(axial_chromatic=0.03),
    LensSpec(spherical=0.1, axial_chromatic=-0.02, blades=3),
)


@pytest.mark.mitsuba
def test_focus_shift_goes_with_the_square_of_the_height():
    results = in_child(evaluate, "llvm_ad_rgb", [(lens, points(lens), CORNER) for lens in FAULTY])
    for lens, (weight, _, shift) in zip(FAULTY, results, strict=True):
        np.testing.assert_allclose(shift, model(lens, points(lens), CORNER)[2], atol=1e-6)
        largest, bound = np.abs(shift[weight > 0]).max(), mitsuba_lens.max_focus_shift(lens)
        assert largest <= bound
        assert largest == pytest.approx(bound, rel=0.02)


@pytest.mark.mitsuba
def test_the_scalar_variant_says_the_same():
    everything = [*LENSES, *FAULTY]
    cases = [(lens, points(lens)[::97, ::89], CORNER) for lens in everything]
    vectorized = in_child(evaluate, "llvm_ad_rgb", cases)
    for a, b, lens in zip(vectorized, in_child(evaluate, "scalar_rgb", cases), everything, strict=True):
        for ours, theirs in zip(a, b, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6, err_msg=lens.label)


# --- Images -------------------------------------------------------------------------------------

SIZE = 160
FOCAL_PX = SIZE * 50 / 36
NEAR_M, FOCUS = 2.0, 0.6
BLUR_PX = 12.0
K = BLUR_PX / (1 - FOCUS)
EMITTER_PX = 2.0
PATCH_PX = 21
PLACES = {
    # Offset from the middle of the image in pixels, y up; disparity.
    "near": (-28 + 0j, 1.0),
    "far": (28 + 0j, 2 * FOCUS - 1),
    "near, upper right": (58 + 58j, 1.0),
    "far, lower left": (-58 - 58j, 2 * FOCUS - 1),
    "far, upper left": (-58 + 58j, 2 * FOCUS - 1),
    "near, lower right": (58 - 58j, 1.0),
}
IN_IMAGES = (
    LensSpec(),
    LensSpec(blades=3, rotation_deg=20),
    LensSpec(blades=6, roundness=0.5, rotation_deg=10),
    LensSpec(squeeze=2),
    LensSpec(cat_eye=1),
    LensSpec(cat_eye=1, vignetting=True),
    LensSpec(obstruction=0.6),
    LensSpec(apodization_ev=6),
    LensSpec(spherical=-0.08),
    LensSpec(spherical=0.05, blades=5, roundness=0.4),
    LensSpec(axial_chromatic=0.06),
    LensSpec(
        blades=3,
        squeeze=1.5,
        obstruction=0.3,
        apodization_ev=1,
        cat_eye=0.6,
        vignetting=True,
        spherical=-0.03,
    ),
)


def highlights() -> spec.SceneSpec:
    """Small emitters before a black sky, near and far, in the middle and in the corners; every lens."""
    objects = []
    for i, (offset, disparity) in enumerate(PLACES.values()):
        z = NEAR_M / disparity
        objects.append(
            {
                "name": f"emitter-{i}",
                "shape": {"type": "sphere", "radius_m": EMITTER_PX * z / FOCAL_PX, "segments": 32},
                "material": {"emission": (100.0, 100.0, 100.0)},
                "position_m": (offset.real * z / FOCAL_PX, z, offset.imag * z / FOCAL_PX),
            }
        )
    target = {"k_at_1024": (K * 1024 / SIZE,), "focus": [{"frame": 0, "disparity": FOCUS}]}
    return spec.SceneSpec.model_validate(
        {
            "seed": 5,
            "film": {"width": SIZE, "height": SIZE, "num_frames": 1},
            "quality": {"aif_samples": 256, "bokeh_samples": 256, "denoise": False, "max_bounces": 0},
            "world": {
                "objects": objects,
                "environment": {"type": "constant", "radiance": (0, 0, 0)},
                "camera": {"path": {"type": "static", "position_m": (0, 0, 0), "look_at_m": (0, 1, 0)}},
            },
            "targets": [target | {"lens": lens.model_dump()} for lens in IN_IMAGES],
        }
    )


def render_by(method: str, scene: str) -> Frames:
    """Renders with the method that is asked for, whatever it costs; in a child."""
    from focuspull.render.frames import render_frames

    session, built = open_session("mitsuba", spec.SceneSpec.model_validate_json(scene), {}, 1)

    def plan(frames: object) -> str:
        session._method = method
        return method

    session.plan = plan
    return render_frames(session, built)


@dataclass(frozen=True)
class Disc:
    """Moments of a disc, pixels; x to the right and y up, about the place that the pinhole gives it.

    Attributes:
        light: Over that of the all-in-focus image.
        place: Centroid.
        second: ``[2, 2]`` central second moments.
        third: ``<(x + i y)^3>`` about the centroid: the corner of a triangle.
    """

    light: float
    place: complex
    second: NDArray[np.float64]
    third: complex

    @classmethod
    def of(cls, values: NDArray, z: NDArray[np.complex128]) -> Disc:
        """Of a density at places."""
        light = float(values.sum())
        place = complex((values * z).sum() / light)
        z = z - place
        xy = np.stack([z.real.ravel(), z.imag.ravel()])
        second = (values.ravel() * xy) @ xy.T / light
        return cls(light, place, second, complex((values * z**3).sum() / light))

    @property
    def radius(self) -> float:
        """Of the even disc with the same polar moment."""
        return math.sqrt(2 * float(np.trace(self.second)))


def patch(image: NDArray, place: str) -> tuple[NDArray, NDArray[np.complex128]]:
    """Pixels about an emitter, and where they are from it."""
    rows, columns = np.indices(image.shape)
    z = (columns + 0.5 - SIZE / 2) - 1j * (rows + 0.5 - SIZE / 2) - PLACES[place][0]
    near = (np.abs(z.real) <= PATCH_PX) & (np.abs(z.imag) <= PATCH_PX)
    return image[near].astype(np.float64), z[near]


def measured(image: NDArray, aif: NDArray, place: str) -> Disc:
    """The disc of a point in an image ``[H, W]``: the emitter's own size is taken off.

    The blurred image is the sharp one convolved with the disc, and central moments add.
    """
    sharp, blurred = (Disc.of(*patch(each, place)) for each in (aif, image))
    return Disc(
        blurred.light / sharp.light,
        blurred.place - sharp.place,
        blurred.second - sharp.second,
        blurred.third - sharp.third,
    )


def predicted(lens: LensSpec, defocus: float, place: str, channel: int) -> Disc:
    """The disc by `model`: lens point p lands at K p (defocus - shift).

    Args:
        lens: The lens.
        defocus: Disparity of the point minus that in focus.
        place: One of `PLACES`.
        channel: Red, green, blue.
    """
    p = points(lens)[::2, ::2]
    landing = K * p * (defocus - model(lens, p, 0)[2][..., channel])
    half_diagonal = SIZE / math.sqrt(2)
    at = (PLACES[place][0] + landing) / half_diagonal
    weight, reference, _ = model(lens, p, at)
    if lens.cat_eye > 0 and not lens.vignetting:
        # A pixel is divided by the open area that it sees; of round lenses its distance decides.
        assert not lens.has_corners and lens.squeeze == 1
        distances = np.linspace(0, 1.2, 61)
        areas = [model(lens, p, complex(distance))[1].sum() for distance in distances]
        return Disc.of(weight / np.interp(np.abs(at), distances, areas), landing)
    return Disc.of(weight / reference.sum(), landing)


@pytest.fixture(scope="module", params=METHODS)
def frames(request) -> Frames:
    return in_child(render_by, request.param, highlights().canonical_json())


def targets(frames: Frames) -> list[tuple[LensSpec, NDArray]]:
    """Every lens with its image."""
    return [(lens, image[0]) for lens, image in zip(IN_IMAGES, frames.bokeh, strict=True)]


def image_of(frames: Frames, lens: LensSpec) -> NDArray:
    return frames.bokeh[IN_IMAGES.index(lens)][0].mean(axis=2)


def defocus_of(frames: Frames, place: str) -> float:
    return float(frames.disparity_map.disparity(NEAR_M / PLACES[place][1])) - FOCUS


@pytest.mark.mitsuba
@pytest.mark.parametrize("place", PLACES)
def test_discs_have_the_light_place_and_shape_of_the_model(frames, place):
    """Tolerances are 1.5 times the largest difference seen with two methods, which is noise."""
    for lens, image in targets(frames):
        for channel in range(3) if lens.axial_chromatic else (1,):
            disc = measured(image[..., channel], frames.aif[0][..., channel], place)
            expected = predicted(lens, defocus_of(frames, place), place, channel)
            where = f"{lens.label}, {place}, channel {channel}"
            assert disc.light == pytest.approx(expected.light, abs=0.08), where
            assert abs(disc.place - expected.place) < 0.6, where
            size = expected.radius
            np.testing.assert_allclose(
                disc.second / size**2, expected.second / size**2, atol=0.03, err_msg=where
            )
            assert abs(disc.third - expected.third) / size**3 < 0.06, where


@pytest.mark.mitsuba
def test_only_vignetting_darkens_the_corners(frames):
    """Without it, discs near and far average out: pixels closer to a corner are divided by less open area."""
    aif = frames.aif[0].mean(axis=2)
    for lens in IN_IMAGES:
        lights = [measured(image_of(frames, lens), aif, place).light for place in PLACES]
        if lens == LensSpec(cat_eye=1, vignetting=True):
            assert np.mean(lights[:2]) == pytest.approx(two_discs(28 / SIZE * math.sqrt(2)), abs=0.04)
            assert np.mean(lights[2:]) == pytest.approx(two_discs(58 / SIZE * 2), abs=0.04)
        elif not lens.vignetting:
            assert np.mean(lights[:2]) == pytest.approx(1, abs=0.04), lens.label
            assert np.mean(lights[2:]) == pytest.approx(1, abs=0.04), lens.label


@pytest.mark.mitsuba
@pytest.mark.parametrize("place", [place for place in PLACES if "," in place])
def test_a_cat_eye_in_the_corner_lies_across_the_radius(frames, place):
    """Long across the direction from the middle of the image; in front of the focus the inner side is cut."""
    aif = frames.aif[0].mean(axis=2)
    disc = measured(image_of(frames, LensSpec(cat_eye=1)), aif, place)
    outwards = PLACES[place][0] / abs(PLACES[place][0])
    along = np.array([outwards.real, outwards.imag])
    across = np.array([-outwards.imag, outwards.real])
    # Two discs of radius 1 at this distance: from -t/2 to t/2 and sqrt(1 - d^2/4) high.
    assert (across @ disc.second @ across) / (along @ disc.second @ along) > 1.8
    assert abs(across @ disc.second @ along) < 0.1 * (across @ disc.second @ across)
    sign = 1 if place.startswith("near") else -1
    assert (disc.place / outwards).real * sign > 0.25 * BLUR_PX
    assert abs((disc.place / outwards).imag) < 0.1 * BLUR_PX


@pytest.mark.mitsuba
@pytest.mark.parametrize("place", ["near", "far"])
def test_a_mirror_lens_makes_rings(frames, place):
    """A ring has <rho^2> = (outer^2 + inner^2) / 2, and nothing in its middle."""
    lens, aif = LensSpec(obstruction=0.6), frames.aif[0].mean(axis=2)
    outer = K * abs(defocus_of(frames, place))
    disc = measured(image_of(frames, lens), aif, place)
    inner = math.sqrt(disc.radius**2 - outer**2)
    assert inner == pytest.approx(0.6 * outer, abs=0.6)
    values, z = patch(image_of(frames, lens), place)
    assert values[np.abs(z) < 0.6 * outer - EMITTER_PX - 1].sum() < 0.005 * values.sum()


@pytest.mark.mitsuba
def test_overcorrection_makes_soap_bubbles_behind_the_focus(frames):
    """Light per area of the rim over that of the middle: 1 for even discs."""

    def rim(lens: LensSpec, place: str) -> float:
        disc = predicted(lens, defocus_of(frames, place), place, 1)
        values, z = patch(image_of(frames, lens), place)
        rho = np.abs(z) / disc.radius
        return float(values[(rho > 0.65) & (rho < 0.85)].mean() / values[rho < 0.4].mean())

    bubbles = LensSpec(spherical=-0.08)
    assert rim(LensSpec(), "far") == pytest.approx(1, abs=0.1)
    assert rim(bubbles, "far") > 1.4
    assert rim(bubbles, "near") < 0.8


@pytest.mark.mitsuba
def test_axial_colour_makes_fringes(frames):
    """Positive: red focuses nearer, so that its discs are larger behind the focus."""
    lens = LensSpec(axial_chromatic=0.06)
    image, aif = frames.bokeh[IN_IMAGES.index(lens)][0], frames.aif[0]
    for place, sign in (("near", -1), ("far", 1)):
        red, green, blue = (measured(image[..., c], aif[..., c], place).radius for c in range(3))
        assert (red - green) * sign == pytest.approx(0.06 * K, abs=0.3)
        assert (green - blue) * sign == pytest.approx(0.06 * K, abs=0.3)
