"""`spec.LensSpec` as functions of a lens point and a film point, for everything that traces with Mitsuba.

A lens is a weight on the pair (how much of a ray's light gets through) and a shift of focus on the lens
point. An image is ``sum(weight * radiance) / sum(reference)``.

Lens points ``p`` are those of the lens's picture, which a point of light in front of the focus shows: x to
the right, y up, in units of the disc of equal area. The point of the glass, seen from behind the camera, is
``-p``. Light from disparity d lands ``K p (d - d_f)`` from where the pinhole would show it, so behind the
focus the picture is upside down. Film points ``at`` are from the image centre in units of half its diagonal,
x to the right, y up.

A plain disc costs one comparison; code is made only for what differs from that. This holds for all variants
of Mitsuba, also ``scalar_rgb``, where numbers are Python's. Mitsuba is imported where it is used: its variant
has to be chosen first.
"""

# mitsuba and drjit are typed per variant; the modules are handled as Any.
# pyright: basic, reportAttributeAccessIssue=false
from __future__ import annotations

import functools
import math
from typing import Any

from focuspull.render.spec import LensSpec


def extent(lens: LensSpec) -> float:
    """Radius of the smallest centred disc with the aperture inside, in units of the disc of equal area.

    The cut of the barrel is not counted. Exact for straight blades, within 1e-5 for rounded ones.
    """
    if lens.has_corners:
        return _farthest(lens.blades, lens.roundness, lens.rotation_deg, lens.squeeze)
    return math.sqrt(max(lens.squeeze, 1 / lens.squeeze))


def max_focus_shift(lens: LensSpec) -> float:
    """The largest `focus_shift` over the aperture and the channels, without its sign."""
    return abs(lens.spherical) * circumradius(lens) ** 2 + abs(lens.axial_chromatic)


def transmission(lens: LensSpec, p: Any, at: Any) -> tuple[Any, Any]:
    """How much light gets from a lens point to a film point.

    The barrel cuts as two discs do, the pupil and a front rim before it (optical vignetting; Born and Wolf,
    Principles of Optics, 4.8; photographs: van Walree, Vignetting, toothwalker.org). Light from the upper
    right of the scene passes the rim's plane further up and right than the pupil. So the rim, projected along
    it onto the pupil, lies to the lower left and leaves out the pupil's upper right; ``p`` is minus the point
    of the pupil. In the upper right corner of an image, discs behind the focus lack their upper right, discs
    in front of it their lower left.

    Args:
        lens: The lens.
        p: Lens point, ``mi.Point2f``.
        at: Film point, ``mi.Point2f``.

    Returns:
        ``weight`` and ``reference``, both ``mi.Float`` in [0, 1]. The reference is what the weight would be
        without the barrel if the lens darkens corners, else the weight itself.
    """
    import drjit as dr
    import mitsuba as mi

    height2 = dr.squared_norm(unsqueezed(lens, p))
    is_open = _is_in_outline(lens, p, height2)
    if lens.obstruction > 0:
        is_open &= height2 >= lens.obstruction**2
    # The filter's thickness grows with the square of the height, so that its stops do.
    clear = dr.exp2(-lens.apodization_ev * height2) if lens.apodization_ev > 0 else mi.Float(1)
    uncut = dr.select(is_open, clear, mi.Float(0))
    if lens.cat_eye == 0:
        return uncut, uncut
    move = lens.cat_eye * extent(lens)
    x, y = p.x - move * at.x, p.y - move * at.y
    is_within_rim = x * x + y * y <= (lens.cat_eye_radius * extent(lens)) ** 2
    weight = dr.select(is_within_rim, uncut, mi.Float(0))
    return weight, uncut if lens.vignetting else weight


def focus_shift(lens: LensSpec, p: Any) -> tuple[Any, Any, Any] | None:
    """What a lens point adds to the disparity in focus of red, green and blue; None: nothing.

    Primary spherical aberration displaces a ray on the film by the cube of its height in the pupil (Born and
    Wolf, Principles of Optics, 5.3). Defocus displaces it by the height, so focus moves by the square. Axial
    colour is a focus for each wavelength, whatever the height; red, green and blue are evenly spaced.

    Args:
        lens: The lens.
        p: Lens point, ``mi.Point2f``.
    """
    import drjit as dr
    import mitsuba as mi

    if lens.spherical == 0 and lens.axial_chromatic == 0:
        return None
    green = mi.Float(0)
    if lens.spherical != 0:
        green = lens.spherical * dr.squared_norm(unsqueezed(lens, p))
    if lens.axial_chromatic == 0:
        return green, green, green
    return green + lens.axial_chromatic, green, green - lens.axial_chromatic


def unsqueezed(lens: LensSpec, p: Any) -> Any:
    """A lens point before the squeeze; its norm is the height in the pupil."""
    import mitsuba as mi

    if lens.squeeze == 1:
        return p
    root = math.sqrt(lens.squeeze)
    return mi.Point2f(p.x * root, p.y / root)


def circumradius(lens: LensSpec) -> float:
    """Largest height in the pupil, in units of the disc of equal area."""
    return _outline(lens.blades, lens.roundness)[0] if lens.has_corners else 1.0


def _is_in_outline(lens: LensSpec, p: Any, height2: Any) -> Any:
    """Whether a lens point, of this squared height, is within the blades.

    Blades are arcs of radius r whose centres lie m behind the middle of the aperture; the outline is what
    their discs have in common: ``height^2 + 2 m max(p . normal) <= r^2 - m^2``. Divided by 2 r, this has a
    limit for straight blades.
    """
    import drjit as dr

    if not lens.has_corners:
        return height2 <= 1
    _, curvature, slope, limit = _outline(lens.blades, lens.roundness)
    q = unsqueezed(lens, p)
    has_pairs = lens.blades % 2 == 0  # of parallel blades
    first, step = math.radians(lens.rotation_deg) + math.pi / lens.blades, 2 * math.pi / lens.blades
    angles = [first + i * step for i in range(lens.blades // 2 if has_pairs else lens.blades)]
    outwards = [q.x * math.cos(angle) + q.y * math.sin(angle) for angle in angles]
    reach = functools.reduce(dr.maximum, [dr.abs(out) for out in outwards] if has_pairs else outwards)
    return reach <= limit if curvature == 0 else slope * reach + curvature * height2 <= limit


@functools.cache
def _outline(blades: int, roundness: float) -> tuple[float, float, float, float]:
    """Circumradius for an area of pi; ``1 / 2r``, ``m / r``, ``(r^2 - m^2) / 2r`` of `_is_in_outline`."""
    apothem, half_chord = math.cos(math.pi / blades), math.sin(math.pi / blades)
    if roundness == 0:
        circumradius = math.sqrt(math.pi / (blades * apothem * half_chord))
        return circumradius, 0.0, 1.0, circumradius * apothem
    r = 1 / roundness
    to_chord = math.sqrt(r**2 - half_chord**2)
    segment = r**2 * math.asin(half_chord / r) - half_chord * to_chord
    circumradius = math.sqrt(math.pi / (blades * (apothem * half_chord + segment)))
    m = to_chord - apothem
    return circumradius, roundness / (2 * circumradius), m / r, circumradius * (r - m) * (r + m) / (2 * r)


@functools.cache
def _farthest(blades: int, roundness: float, rotation_deg: float, squeeze: float) -> float:
    """Distance of the outline's farthest point, by steps around it that include the corners."""
    circumradius, curvature, slope, limit = _outline(blades, roundness)
    root, half = math.sqrt(squeeze), math.pi / blades
    farthest = 0.0
    for i in range(blades):
        middle = math.radians(rotation_deg) + (2 * i + 1) * half
        for step in range(257):
            angle = half * (step / 128 - 1)
            radius = circumradius * math.cos(half) / math.cos(angle)
            if curvature > 0:
                b = slope * math.cos(angle)
                radius = (math.sqrt(b * b + 4 * curvature * limit) - b) / (2 * curvature)
            x, y = radius * math.cos(middle + angle) / root, radius * math.sin(middle + angle) * root
            farthest = max(farthest, math.hypot(x, y))
    return farthest
