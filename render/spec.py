"""`SceneSpec`: one clip, nothing random left, independent of the renderer; its SHA-256 names it.

World: metres, right-handed, Z up, time in seconds from the first frame. Object frames are local:
vertices are scaled, then turned by XYZ Euler angles (x first), then moved. Colours are scene-linear
Rec.709 reflectances in [0, 1]; light is in radiometric units per channel.

Every field is taken by both backends. A file (`FileRef`) is named by its content: the SHA-256 is part
of the scene's identity, the place where the file lies is not, so a spec holds no machine's paths.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from focuspull.render.records import Color as Color
from focuspull.render.records import (
    FileRef,
    Light3,
    Model,
    NonNegative,
    Positive,
    Unit,
    Vec3,
)
from focuspull.render.records import ImageSequence as ImageSequence
from focuspull.render.records import Vec2 as Vec2
from focuspull.render.shapes import Blob as Blob
from focuspull.render.shapes import Box as Box
from focuspull.render.shapes import Card, MaterialSpec, Shape
from focuspull.render.shapes import Compound as Compound
from focuspull.render.shapes import Cylinder as Cylinder
from focuspull.render.shapes import Drawing as Drawing
from focuspull.render.shapes import Faceted as Faceted
from focuspull.render.shapes import Fibres as Fibres
from focuspull.render.shapes import Grass as Grass
from focuspull.render.shapes import Hull as Hull
from focuspull.render.shapes import ImageTexture as ImageTexture
from focuspull.render.shapes import Lathe as Lathe
from focuspull.render.shapes import Lattice as Lattice
from focuspull.render.shapes import MeshFile as MeshFile
from focuspull.render.shapes import Part as Part
from focuspull.render.shapes import PlainShape as PlainShape
from focuspull.render.shapes import Plane as Plane
from focuspull.render.shapes import Plant as Plant
from focuspull.render.shapes import ProceduralTexture as ProceduralTexture
from focuspull.render.shapes import Scatter as Scatter
from focuspull.render.shapes import Sphere as Sphere
from focuspull.render.shapes import Strewn as Strewn
from focuspull.render.shapes import Terrain as Terrain
from focuspull.render.shapes import Texture as Texture
from focuspull.render.shapes import Torus as Torus
from focuspull.render.shapes import Tube as Tube
from focuspull.render.shapes import Wall as Wall

# --- Motion, objects, lights --------------------------------------------------------------------


class Linear(Model):
    """Constant velocity."""

    type: Literal["linear"]
    velocity_m_s: Vec3


class Spin(Model):
    """Turning about an axis through the object's origin, in world orientation."""

    type: Literal["spin"]
    axis: Vec3 = (0.0, 0.0, 1.0)
    rate_deg_s: float

    @model_validator(mode="after")
    def _has_axis(self) -> Spin:
        if not any(self.axis):
            raise ValueError("axis must not be zero")
        return self


class Sway(Model):
    """Sine motion along a vector: ``amplitude_m * sin(2 pi (frequency_hz t + phase))``."""

    type: Literal["sway"]
    amplitude_m: Vec3
    frequency_hz: Positive
    phase: Unit = 0.0


class Keys(Model):
    """Rigid key frames, offsets to the rest pose, smoothly interpolated (monotone cubic) in time."""

    type: Literal["keys"]
    times_s: tuple[float, ...] = Field(min_length=2)
    positions_m: tuple[Vec3, ...]
    rotations_deg: tuple[Vec3, ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Keys:
        n = len(self.times_s)
        if any(b <= a for a, b in zip(self.times_s, self.times_s[1:], strict=False)):
            raise ValueError("times_s must increase")
        if len(self.positions_m) != n or (self.rotations_deg is not None and len(self.rotations_deg) != n):
            raise ValueError(f"positions_m and rotations_deg need {n} entries, one per time")
        return self


class Baked(Model):
    """Poses that were computed, such as by a physics engine: offset and turn against the rest pose.

    Sample i is at ``i / rate_hz`` seconds; in between, offsets are interpolated linearly and turns along the
    shorter arc; outside, the first and last hold. Quaternions are (w, x, y, z).
    """

    type: Literal["baked"]
    rate_hz: Positive
    positions_m: tuple[Vec3, ...] = Field(min_length=2)
    quaternions: tuple[tuple[float, float, float, float], ...]

    @model_validator(mode="after")
    def _consistent(self) -> Baked:
        if len(self.quaternions) != len(self.positions_m):
            raise ValueError(f"quaternions need {len(self.positions_m)} entries, one per position")
        if any(abs(math.hypot(*q) - 1) > 1e-3 for q in self.quaternions):
            raise ValueError("quaternions must have length 1")
        return self


Motion = Annotated[Linear | Spin | Sway | Keys | Baked, Field(discriminator="type")]


class Wind(Model):
    """Bending of a thing that stands on z = 0, the more the higher: grass, plants, trees.

    A point at height z moves along ``direction_deg`` (0 is +x, 90 is +y, in the world) by
    ``amplitude_m * (z / height_m)**stiffness * (0.6 + 0.4 * wave)``; the wave has two incommensurate
    frequencies, ``frequency_hz`` and 2.3 times that, and travels with 1 / ``wavelength_m``.
    """

    type: Literal["wind"]
    amplitude_m: NonNegative
    height_m: Positive
    frequency_hz: Positive = 0.5
    direction_deg: float = 0.0
    wavelength_m: Positive = 2.0
    stiffness: float = Field(default=2.0, ge=1.0, le=6.0)
    phase: Unit = 0.0


class Ripple(Model):
    """Waves that travel over a surface along its normals: flags, cloth, water.

    The height is ``amplitude_m * sin(2 pi (p . u / wavelength_m - frequency_hz t + phase))`` with u the unit
    vector ``direction`` in the thing's own frame. ``fixed_m`` of the way along u from the thing's edge
    stay still, as at a flag's pole.
    """

    type: Literal["ripple"]
    amplitude_m: NonNegative
    wavelength_m: Positive
    frequency_hz: Positive = 1.0
    direction: Vec3 = (1.0, 0.0, 0.0)
    fixed_m: NonNegative = 0.0
    phase: Unit = 0.0

    @model_validator(mode="after")
    def _has_direction(self) -> Ripple:
        if not any(self.direction):
            raise ValueError("direction must not be zero")
        return self


class VertexFile(Model):
    """Vertex positions over time of a `MeshFile`: a walk, an idling figure, anything that was simulated.

    ``file`` is an ``.npy`` of ``[F, V, 3]`` float16 or float32, in the units, axes and vertex order of the
    mesh file; sample i is at ``i / rate_hz``, linear in between. ``loop`` starts again after the last.
    """

    type: Literal["vertices"]
    file: FileRef
    rate_hz: Positive
    loop: bool = True
    start_s: float = 0.0


Deform = Annotated[Wind | Ripple | VertexFile, Field(discriminator="type")]


class ObjectSpec(Model):
    """One instance: shape, material, rest pose, rigid motion, and how it deforms in its own frame.

    ``role`` lets a corpus ask for focus on, say, a ``subject`` without knowing the objects' names.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]*$")
    role: Literal["subject", "foreground", "background", "set"] = "set"
    shape: Shape
    material: MaterialSpec = MaterialSpec()
    position_m: Vec3 = (0.0, 0.0, 0.0)
    rotation_deg: Vec3 = (0.0, 0.0, 0.0)
    scale: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    motion: tuple[Motion, ...] = ()
    deform: Deform | None = None
    later_fields: ClassVar[tuple[str, ...]] = ("deform",)

    @model_validator(mode="after")
    def _cards_shine_by_their_image(self) -> ObjectSpec:
        if isinstance(self.deform, VertexFile) and not isinstance(self.shape, MeshFile):
            raise ValueError("deform: vertices of a file are for a shape of type mesh. Use wind or ripple.")
        if not isinstance(self.shape, Card):
            return self
        if self.shape.unlit and (self.deform is not None or self.shape.bend_deg):
            raise ValueError("an unlit card is flat: take deform and bend_deg away")
        if self.shape.unlit and self.material != MaterialSpec():
            raise ValueError("an unlit card has no material: take the material or 'unlit' away")
        if max(self.material.emission) > 0:
            raise ValueError(
                "a card cannot emit: take emission away, make it unlit, or give it another shape"
            )
        return self


class PointLight(Model):
    """Isotropic point; ``intensity_w_sr`` per channel. Not visible to the camera."""

    type: Literal["point"]
    position_m: Vec3
    intensity_w_sr: Light3


class AreaLight(Model):
    """One-sided rectangle shining towards ``look_at_m``; a visible object that reflects nothing."""

    type: Literal["area"]
    position_m: Vec3
    look_at_m: Vec3
    size_m: tuple[Positive, Positive]
    radiance: Light3

    @model_validator(mode="after")
    def _shines_somewhere(self) -> AreaLight:
        if self.position_m == self.look_at_m:
            raise ValueError("position_m and look_at_m must differ")
        return self


class SunLight(Model):
    """A far disc: ``irradiance_w_m2`` on a surface facing it, from ``direction`` (towards the sun)."""

    type: Literal["sun"]
    direction: Vec3
    irradiance_w_m2: Light3
    angle_deg: float = Field(default=0.53, ge=0.1, le=30.0)

    @model_validator(mode="after")
    def _has_direction(self) -> SunLight:
        if not any(self.direction):
            raise ValueError("direction must not be zero")
        return self


LightSource = Annotated[PointLight | AreaLight | SunLight, Field(discriminator="type")]


class ConstantEnvironment(Model):
    """The same radiance from everywhere."""

    type: Literal["constant"]
    radiance: Light3 = (1.0, 1.0, 1.0)


class HdriEnvironment(Model):
    """A latitude-longitude image (EXR or HDR, linear), its top towards +z.

    Its middle looks along +x; ``rotation_deg`` turns it clockwise, seen from above.
    """

    type: Literal["hdri"]
    file: FileRef
    strength: NonNegative = 1.0
    rotation_deg: float = 0.0


class SkyEnvironment(Model):
    """A smooth gradient: zenith to horizon above, ground colour below."""

    type: Literal["sky"]
    zenith: Light3 = (0.25, 0.45, 0.9)
    horizon: Light3 = (0.9, 0.95, 1.0)
    ground: Light3 = (0.25, 0.22, 0.2)


Environment = Annotated[ConstantEnvironment | HdriEnvironment | SkyEnvironment, Field(discriminator="type")]


# --- Camera, film, targets ----------------------------------------------------------------------


class StaticPath(Model):
    """The camera stays where it is."""

    type: Literal["static"]
    position_m: Vec3
    look_at_m: Vec3


class DollyPath(Model):
    """Camera and aim move together by ``offset_m`` over the clip."""

    type: Literal["dolly"]
    position_m: Vec3
    look_at_m: Vec3
    offset_m: Vec3


class PushInPath(Model):
    """The camera moves ``distance_m`` towards its aim over the clip (negative: away)."""

    type: Literal["push-in"]
    position_m: Vec3
    look_at_m: Vec3
    distance_m: float

    @model_validator(mode="after")
    def _stops_short(self) -> PushInPath:
        if self.distance_m >= 0.99 * math.dist(self.position_m, self.look_at_m):
            raise ValueError("distance_m must leave the camera in front of its aim")
        return self


class OrbitPath(Model):
    """The camera turns by ``sweep_deg`` about the vertical through its aim over the clip."""

    type: Literal["orbit"]
    position_m: Vec3
    look_at_m: Vec3
    sweep_deg: float


class PanPath(Model):
    """The camera stays and turns over the clip: ``pan_deg`` to the left, ``tilt_deg`` upwards."""

    type: Literal["pan"]
    position_m: Vec3
    look_at_m: Vec3
    pan_deg: float = Field(default=0.0, ge=-180.0, le=180.0)
    tilt_deg: float = Field(default=0.0, ge=-80.0, le=80.0)


class CranePath(Model):
    """The camera moves by ``offset_m`` over the clip and keeps looking at its aim."""

    type: Literal["crane"]
    position_m: Vec3
    look_at_m: Vec3
    offset_m: Vec3


class TrackPath(Model):
    """The camera goes smoothly through ``positions_m``, even in time, and looks at the points beside them.

    ``position_m`` and ``look_at_m`` are the first ones.
    """

    type: Literal["track"]
    positions_m: tuple[Vec3, ...] = Field(min_length=2)
    look_at_points_m: tuple[Vec3, ...]

    @property
    def position_m(self) -> Vec3:
        """Where the camera is at first."""
        return self.positions_m[0]

    @property
    def look_at_m(self) -> Vec3:
        """What it looks at, at first."""
        return self.look_at_points_m[0]

    @model_validator(mode="after")
    def _consistent(self) -> TrackPath:
        if len(self.look_at_points_m) != len(self.positions_m):
            raise ValueError(f"look_at_points_m needs {len(self.positions_m)} entries, one per position")
        return self


CameraPath = Annotated[
    StaticPath | DollyPath | PushInPath | OrbitPath | PanPath | CranePath | TrackPath,
    Field(discriminator="type"),
]


class Handheld(Model):
    """Smooth shake on top of a path; amplitudes are about the largest excursion.

    ``spectrum`` ``perlin``: three octaves of noise from ``frequency_hz`` on. ``measured``: the spectrum of
    shaken footage, see `focuspull.render.motion`; as fast as that at 0.8 Hz, in proportion at others, and the
    amplitudes are reached within the first 20 s.
    """

    translation_m: NonNegative = 0.01
    rotation_deg: NonNegative = 0.4
    frequency_hz: Positive = 0.8
    seed: int = Field(default=0, ge=0, lt=256)
    spectrum: Literal["perlin", "measured"] = "perlin"
    later_fields: ClassVar[tuple[str, ...]] = ("spectrum",)


class CameraSpec(Model):
    """Pinhole geometry; the lens opens per target. ``ease`` starts and stops the path softly."""

    focal_length_mm: float = Field(default=50.0, ge=5.0, le=500.0)
    sensor_width_mm: float = Field(default=36.0, ge=1.0, le=100.0)
    path: CameraPath
    ease: bool = True
    handheld: Handheld | None = None

    @model_validator(mode="after")
    def _looks_somewhere(self) -> CameraSpec:
        dx, dy = (a - b for a, b in zip(self.path.position_m[:2], self.path.look_at_m[:2], strict=True))
        if dx * dx + dy * dy < 1e-12:
            raise ValueError("the camera must not look straight up or down: move look_at_m sideways")
        return self


class FilmSpec(Model):
    """Pixels and time. ``shutter`` is the open part of the frame interval, centred; 0 is instantaneous."""

    width: int = Field(default=512, ge=16, le=8192)
    height: int = Field(default=288, ge=16, le=8192)
    fps: float = Field(default=24.0, gt=0.0, le=1000.0)
    num_frames: int = Field(default=24, ge=1, le=10000)
    shutter: Unit = 0.0
    shutter_samples: int = Field(default=8, ge=1, le=256)
    exposure_ev: float = Field(default=0.0, ge=-20.0, le=20.0)


class QualitySpec(Model):
    """Paths per pixel and what becomes of them.

    Samples are a lower bound: Mitsuba renders two independent halves to measure their noise, its
    multijittered sampler rounds up to a product (17 to 20), and passes within the shutter share them evenly.
    ``denoise`` is OIDN with albedo and normal guides.

    With ``noise_floor_db`` Mitsuba goes on in rounds until the PSNR that every image of a frame is estimated
    to have against its converged self (display space, 8 bits) reaches it, or ``max_samples`` per pixel are
    spent. Cycles does not measure its noise and refuses it.
    """

    aif_samples: int = Field(default=64, ge=1, le=65536)
    bokeh_samples: int = Field(default=64, ge=1, le=65536)
    max_bounces: int = Field(default=6, ge=0, le=64)
    denoise: bool = True
    noise_floor_db: float | None = Field(default=None, ge=20.0, le=55.0)
    max_samples: int = Field(default=4096, ge=2, le=65536)


BlurDomain = Literal["linear_hdr", "encoded8"]
"""What a lens adds up: light (right), or 8-bit display values of the all-in-focus image."""


class LensSpec(Model):
    """Shape and faults of a lens; the default is the ideal thin lens with a round aperture.

    K is the radius of the disc that has the area of the aperture's outline (blades and squeeze). Obstruction,
    apodization and barrel take light away within that outline; exposure is kept all the same, except with
    ``vignetting``. Heights in the pupil are counted before the squeeze, 1 is the rim of a round aperture.

    Attributes:
        blades: 0 is a disc, 3 to 16 a regular polygon.
        rotation_deg: From +x of the image to a corner of the polygon, counter-clockwise, for points in front
            of the focus; behind it the image of the aperture is upside down.
        roundness: Curvature of the blades: 0 straight, 1 that of a full circle.
        squeeze: Anamorphic: height over width of the aperture. Its root divides the width and multiplies the
            height.
        cat_eye: Optical vignetting: a second disc, the front rim of the barrel, cuts the aperture. How far it
            is displaced in the corner of the image, in parts of the aperture's extent (its farthest point
            from the middle), and so less towards the centre. At 1 the corner has 39 % of a round aperture
            left.
        cat_eye_radius: Radius of that disc in parts of the aperture's extent. Above 1 the image has a middle
            without any cut.
        vignetting: Whether the light that the barrel takes away is missing in the image: it darkens
            towards the corners.
        obstruction: Mirror lens: height up to which the middle of the pupil is dark; rings.
        apodization_ev: Smooth trans focus: stops by which the rim is darker than the middle; a Gaussian. 6
            takes two stops of light in all (f/2.8 becomes T5.6).
        spherical: Spherical aberration: disparity in focus at the rim minus that in the middle; in between
            it goes with the square of the height. Negative (overcorrected): discs behind the focus have a
            bright rim (soap bubbles), those in front fade. Positive (undercorrected): the reverse. What is
            in focus glows.
        axial_chromatic: Disparity in focus for red minus green, and for green minus blue. Negative, as a
            simple lens: blue fringes behind the focus, red ones in front.
    """

    blades: int = Field(default=0, ge=0, le=16)
    rotation_deg: float = 0.0
    roundness: Unit = 0.0
    squeeze: float = Field(default=1.0, ge=0.25, le=4.0)
    cat_eye: Unit = 0.0
    cat_eye_radius: float = Field(default=1.0, ge=1.0, le=3.0)
    vignetting: bool = False
    obstruction: float = Field(default=0.0, ge=0.0, le=0.9)
    apodization_ev: float = Field(default=0.0, ge=0.0, le=12.0)
    spherical: float = Field(default=0.0, ge=-1.0, le=1.0)
    axial_chromatic: float = Field(default=0.0, ge=-0.5, le=0.5)

    @model_validator(mode="after")
    def _means_something(self) -> LensSpec:
        if self.blades in (1, 2):
            raise ValueError(f"blades must be 0 (a disc) or 3 to 16, got {self.blades}")
        if self.roundness > 0 and self.blades == 0:
            raise ValueError("roundness is for blades: set blades, or take roundness away")
        if self.vignetting and self.cat_eye == 0:
            raise ValueError("vignetting is for a cat_eye: set cat_eye, or take vignetting away")
        if self.cat_eye_radius != 1 and self.cat_eye == 0:
            raise ValueError("cat_eye_radius is for a cat_eye: set cat_eye, or take cat_eye_radius away")
        return self

    @property
    def has_corners(self) -> bool:
        """Whether the outline is a polygon, of straight or rounded blades."""
        return self.blades > 0 and self.roundness < 1

    @property
    def is_ideal(self) -> bool:
        """Whether this is the thin lens with a round aperture."""
        return self.is_native_in_cycles and self.blades == 0 and self.squeeze == 1

    @property
    def is_native_in_cycles(self) -> bool:
        """Whether Cycles has this lens: nothing but blades, rotation and squeeze is set."""
        return not self.beyond_cycles

    @property
    def beyond_cycles(self) -> tuple[str, ...]:
        """The fields that are set and that Cycles does not have."""
        default, native = LensSpec(), ("blades", "rotation_deg", "squeeze")
        others = (name for name in LensSpec.model_fields if name not in native)
        return tuple(name for name in others if getattr(self, name) != getattr(default, name))

    @property
    def label(self) -> str:
        """The lens in usual terms: ``disc``; ``6 blades, cat-eye 0.5``."""
        outline = f"{self.blades} blades" if self.has_corners else "disc"
        terms = {
            "roundness": self.roundness if self.has_corners else 0.0,
            "squeeze": self.squeeze if self.squeeze != 1 else 0.0,
            "cat-eye": self.cat_eye,
            "cat-eye radius": self.cat_eye_radius if self.cat_eye_radius != 1 else 0.0,
            "ring": self.obstruction,
            "apodization EV": self.apodization_ev,
            "spherical": self.spherical,
            "axial chromatic": self.axial_chromatic,
        }
        parts = [outline, *(f"{term} {value:g}" for term, value in terms.items() if value != 0)]
        return ", ".join([*parts, "vignetting"] if self.vignetting else parts)


Subjects = str | tuple[str, ...]
"""Names of objects, in order of preference: the first that is well in view is meant."""


class FocusKey(Model):
    """Where focus is at a frame: a disparity, or the median disparity of an object's visible pixels.

    Attributes:
        frame: From when on.
        disparity: A place in [0, 1].
        subject: Or objects, whose disparity is followed.
        at_frame: Takes the subject's disparity of this frame and holds it; None: it is followed.
        toward: Focuses between the subject and these objects ...
        part: ... this part of the way, in disparity.
    """

    frame: int = Field(ge=0)
    disparity: Unit | None = None
    subject: Subjects | None = None
    at_frame: int | None = Field(default=None, ge=0)
    toward: Subjects | None = None
    part: Unit = 0.5
    later_fields: ClassVar[tuple[str, ...]] = ("at_frame", "toward", "part")

    @model_validator(mode="after")
    def _one_place(self) -> FocusKey:
        if (self.disparity is None) == (self.subject is None):
            raise ValueError("a focus key needs exactly one of 'disparity' and 'subject'")
        if self.subject is None and (self.at_frame is not None or self.toward is not None):
            raise ValueError("'at_frame' and 'toward' are for a subject: set subject, or take them away")
        if self.part != 0.5 and self.toward is None:
            raise ValueError("'part' is of the way 'toward' something: set toward, or take part away")
        return self

    @property
    def subjects(self) -> tuple[str, ...]:
        """The objects meant, in order of preference; empty for a disparity."""
        return _names(self.subject)

    @property
    def others(self) -> tuple[str, ...]:
        """The objects that focus goes toward; empty if there are none."""
        return _names(self.toward)


def _names(subjects: Subjects | None) -> tuple[str, ...]:
    return (subjects,) if isinstance(subjects, str) else subjects or ()


class Breathing(Model):
    """Small corrections that a focus puller never stops making: smooth, of mean zero.

    ``amplitude`` is the largest excursion in disparity; the three waves have frequencies around
    ``frequency_hz`` that never come together again, and phases from ``seed``.
    """

    amplitude: float = Field(gt=0.0, le=0.2)
    frequency_hz: float = Field(default=0.7, gt=0.0, le=10.0)
    seed: int = Field(default=0, ge=0, lt=256)


class TargetSpec(Model):
    """One bokeh video: K per frame (quoted at 1024 px width), the focus track, the lens.

    Between focus keys the disparity in focus eases smoothly; one key holds for the whole clip.

    ``domain`` ``linear_hdr`` blurs light, as a lens does; ``encoded8`` blurs display values, all-in-focus
    images after exposure, clipping, sRGB curve and rounding to 8 bits, as earlier data of flat cards did.
    ``twin_of`` is the number of the target that this one repeats through the ideal lens. With ``lag_s`` focus
    comes after what it follows, as a critically damped follower of that time constant does.
    """

    k_at_1024: tuple[Annotated[float, Field(ge=0.0, le=256.0)], ...]
    focus: tuple[FocusKey, ...] = Field(min_length=1)
    lens: LensSpec = LensSpec()
    domain: BlurDomain = "linear_hdr"
    twin_of: int | None = Field(default=None, ge=0)
    lag_s: float = Field(default=0.0, ge=0.0, le=2.0)
    breathing: Breathing | None = None
    later_fields: ClassVar[tuple[str, ...]] = ("lag_s", "breathing")

    @model_validator(mode="after")
    def _keys_in_order(self) -> TargetSpec:
        frames = [key.frame for key in self.focus]
        if any(b <= a for a, b in zip(frames, frames[1:], strict=False)):
            raise ValueError(f"focus keys must be in order of frames, got {frames}")
        return self

    def twin(self, index: int) -> TargetSpec:
        """The same through the ideal lens, for a target of number ``index``."""
        return self.model_copy(update={"lens": LensSpec(), "twin_of": index})


def cycles_problem(targets: Iterable[tuple[LensSpec, BlurDomain]], quality: QualitySpec) -> str | None:
    """Why Cycles cannot render such targets: field, reason and what to do in one line; None: it can."""
    for i, (lens, domain) in enumerate(targets):
        if lens.beyond_cycles:
            field = f"targets.{i}.lens.{lens.beyond_cycles[0]}"
            return f"{field}: Cycles has no such lens. Use backend: mitsuba."
        if domain != "linear_hdr":
            return f"targets.{i}.domain: Cycles blurs light only, not {domain}. Use backend: mitsuba."
    if quality.noise_floor_db is not None:
        return "quality.noise_floor_db: Cycles does not measure its noise. Use backend: mitsuba."
    return None


class World(Model):
    """What stands in front of the lens: objects, lights, environment and the camera."""

    objects: tuple[ObjectSpec, ...] = Field(min_length=1)
    lights: tuple[LightSource, ...] = ()
    environment: Environment = ConstantEnvironment(type="constant")
    camera: CameraSpec

    @model_validator(mode="after")
    def _unique_names(self) -> World:
        names = [o.name for o in self.objects]
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise ValueError(f"object names must be unique, doubled: {', '.join(doubled)}")
        return self


class SceneSpec(Model):
    """One clip. ``seed`` feeds the renderer's noise only: another seed, the same picture.

    ``labels`` say what the clip is an example of (``stratum``, ``family``); they change no pixel. With
    ``annotate`` the metadata says where each subject is in every frame, and how difficult the clip is.
    """

    version: Literal[1] = 1
    seed: int = Field(ge=0, lt=2**32)
    film: FilmSpec
    quality: QualitySpec
    world: World
    targets: tuple[TargetSpec, ...] = Field(min_length=1, max_length=64)
    labels: dict[str, str] = Field(default_factory=dict)
    annotate: bool = False
    later_fields: ClassVar[tuple[str, ...]] = ("labels", "annotate")

    @model_validator(mode="after")
    def _targets_fit(self) -> SceneSpec:
        names = {o.name for o in self.world.objects}
        for i, target in enumerate(self.targets):
            count, num_frames = len(target.k_at_1024), self.film.num_frames
            if count != num_frames:
                raise ValueError(f"targets.{i}.k_at_1024 has {count} values for {num_frames} frames")
            for key in target.focus:
                if key.frame >= self.film.num_frames:
                    raise ValueError(
                        f"targets.{i}.focus: frame {key.frame} is beyond {self.film.num_frames - 1}"
                    )
                if key.at_frame is not None and key.at_frame >= self.film.num_frames:
                    raise ValueError(
                        f"targets.{i}.focus: at_frame {key.at_frame} is beyond {self.film.num_frames - 1}"
                    )
                for name in key.subjects + key.others:
                    if name not in names:
                        raise ValueError(f"targets.{i}.focus: no object is named '{name}'")
            of = target.twin_of
            if of is not None and (of >= i or target != self.targets[of].twin(of)):
                raise ValueError(
                    f"targets.{i}.twin_of: must differ from an earlier target in nothing but its ideal lens, "
                    f"got {of}"
                )
        return self

    def canonical_json(self) -> str:
        """The JSON that is hashed: sorted keys, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def sha256(self) -> str:
        """The clip's identity."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    def noise_seed(self, *stream: int) -> int:
        """Seed in [0, 2**31) for one render, from the scene's seed and the render's numbers."""
        text = ",".join(str(n) for n in (self.seed, *stream))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little") >> 1
