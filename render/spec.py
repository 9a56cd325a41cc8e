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
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Vec2 = tuple[float, float]
Vec3 = tuple[float, float, float]
Color = tuple[Unit, Unit, Unit]
Light3 = tuple[NonNegative, NonNegative, NonNegative]


class Model(BaseModel):
    """Frozen, closed record: an unknown key or a non-finite number is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def dumped_without_defaults(
    record: Model, dump: SerializerFunctionWrapHandler, names: Iterable[str]
) -> dict[str, Any]:
    """The fields of a record without those of ``names`` that are at their default.

    For optional fields of records that are hashed: who does not use them keeps the JSON, and so the hash,
    that there was before they existed.
    """
    fields: dict[str, Any] = dump(record)
    kinds = type(record).model_fields
    omitted = {
        name for name in names if getattr(record, name) == kinds[name].get_default(call_default_factory=True)
    }
    return {name: value for name, value in fields.items() if name not in omitted}


class FileRef(Model):
    """A file by content. YAML may give just the name, relative to the spec's folder.

    ``bpy:PATH`` names a file inside the installed bpy wheel, e.g. ``bpy:studiolights/world/forest.exr``.
    """

    name: str
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class ImageSequence(Model):
    """Frames of an animated card; ``pattern`` is a glob (``walk/*.png``), sorted by name.

    Frame t of the clip shows ``frames[t % len(frames)]``.
    """

    pattern: str
    frames: tuple[FileRef, ...] = ()


# --- Textures and materials ---------------------------------------------------------------------


class ImageTexture(Model):
    """An 8-bit sRGB image (or a float linear one), bilinear, repeated ``tiles`` times in u and v."""

    type: Literal["image"]
    file: FileRef
    tiles: tuple[Positive, Positive] = (1.0, 1.0)


class ProceduralTexture(Model):
    """A pattern between two colours, baked once per clip so that both renderers see the same texels.

    ``perlin``: fractal noise. ``marble``: noise-warped bands. ``wood``: noise-warped rings.
    ``checker`` and ``bricks``: ``cells`` per tile with slightly uneven tints. All tile
    seamlessly, a checker with an even number of cells.
    """

    type: Literal["perlin", "marble", "wood", "checker", "bricks"]
    color_a: Color
    color_b: Color
    cells: int = Field(default=8, ge=1, le=256)
    octaves: int = Field(default=5, ge=1, le=10)
    resolution: int = Field(default=512, ge=16, le=4096)
    seed: int = Field(default=0, ge=0, lt=256)
    tiles: tuple[Positive, Positive] = (1.0, 1.0)


Texture = Annotated[ImageTexture | ProceduralTexture, Field(discriminator="type")]


class MaterialSpec(Model):
    """Lobes that Cycles and Mitsuba share exactly (see `focuspull.render.backends`).

    Opaque: ``(1-m) * mix(Lambert(base), GGX(1), Fresnel(ior)) + m * GGX(base)``, the Fresnel term of the
    view direction; GGX has single scattering, height-correlated masking and ``alpha = roughness**2``.
    Glass: GGX dielectric interface (smooth at roughness 0), both lobes tinted by ``base_color``.
    ``transmission`` mixes opaque to glass. An emitting material (radiance ``emission``,
    W/m2/sr per channel, front side only) reflects nothing.
    """

    base_color: Color | Texture = (0.8, 0.8, 0.8)
    roughness: Unit | Texture = 0.5
    metallic: Unit = 0.0
    transmission: Unit = 0.0
    ior: float = Field(default=1.5, ge=1.01, le=3.0)
    emission: Light3 = (0.0, 0.0, 0.0)


# --- Shapes -------------------------------------------------------------------------------------


class Sphere(Model):
    """Latitude-longitude sphere around the origin."""

    type: Literal["sphere"]
    radius_m: Positive = 0.5
    segments: int = Field(default=64, ge=8, le=512)


class Box(Model):
    """Axis-aligned box around the origin, edges rounded by ``bevel_m``."""

    type: Literal["box"]
    size_m: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    bevel_m: NonNegative = 0.0


class Plane(Model):
    """Rectangle in the xy plane, facing +z."""

    type: Literal["plane"]
    size_m: tuple[Positive, Positive] = (1.0, 1.0)


class Cylinder(Model):
    """Closed cylinder, or cone with ``top_radius_m``, along z, standing on z = 0."""

    type: Literal["cylinder"]
    radius_m: Positive = 0.5
    top_radius_m: NonNegative | None = None
    height_m: Positive = 1.0
    segments: int = Field(default=64, ge=8, le=512)


class Torus(Model):
    """Torus in the xy plane around the origin."""

    type: Literal["torus"]
    major_radius_m: Positive = 0.5
    minor_radius_m: Positive = 0.15
    segments: int = Field(default=96, ge=8, le=512)


class Lathe(Model):
    """Surface of revolution around z through smooth (radius, z) ``profile_m`` points: a vase, a bowl."""

    type: Literal["lathe"]
    profile_m: tuple[tuple[NonNegative, float], ...] = Field(min_length=2)
    segments: int = Field(default=96, ge=8, le=512)


class Blob(Model):
    """Sphere displaced by Perlin noise: pebbles, fruit, rocks."""

    type: Literal["blob"]
    radius_m: Positive = 0.5
    amplitude: Annotated[float, Field(ge=0.0, le=0.9)] = 0.2
    frequency: Positive = 1.5
    seed: int = Field(default=0, ge=0, lt=256)
    segments: int = Field(default=96, ge=8, le=512)


class Terrain(Model):
    """Height field over the xy plane from Perlin noise, zero mean."""

    type: Literal["terrain"]
    size_m: tuple[Positive, Positive] = (10.0, 10.0)
    amplitude_m: NonNegative = 0.3
    frequency_per_m: Positive = 0.3
    seed: int = Field(default=0, ge=0, lt=256)
    resolution: int = Field(default=96, ge=2, le=1024)


class MeshFile(Model):
    """Triangles of an OBJ or GLB file (colours and textures of the file are not read).

    ``height_m`` rescales the mesh to that height and stands it on z = 0, centred in x and y; ``None``
    keeps the file's own units and origin. ``y_up`` turns the usual OBJ/glTF axes to Z up.
    """

    type: Literal["mesh"]
    file: FileRef
    height_m: Positive | None = None
    y_up: bool = True


class Card(Model):
    """Alpha cut-out: an RGBA image, or a sequence, on a plane standing on z = 0 and facing -y.

    The image gives base colour and opacity; the other material fields apply. Width follows the image.

    ``unlit``: the image is light instead, ``radiance`` where it is white (above that in a float image), from
    the front only and dimmed by its opacity; nothing is reflected, so there is no material. Such a card
    shines on lit objects.
    """

    type: Literal["card"]
    image: FileRef | None = None
    sequence: ImageSequence | None = None
    height_m: Positive = 1.0
    unlit: bool = False
    radiance: Light3 = (1.0, 1.0, 1.0)

    @model_validator(mode="after")
    def _one_source(self) -> Card:
        if (self.image is None) == (self.sequence is None):
            raise ValueError("a card needs exactly one of 'image' and 'sequence'")
        if self.radiance != (1.0, 1.0, 1.0) and not self.unlit:
            raise ValueError("radiance is for unlit cards: set unlit, or take radiance away")
        return self


Shape = Annotated[
    Sphere | Box | Plane | Cylinder | Torus | Lathe | Blob | Terrain | MeshFile | Card,
    Field(discriminator="type"),
]


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


Motion = Annotated[Linear | Spin | Sway | Keys, Field(discriminator="type")]


class ObjectSpec(Model):
    """One instance: shape, material, rest pose and rigid motion.

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

    @model_validator(mode="after")
    def _cards_shine_by_their_image(self) -> ObjectSpec:
        if not isinstance(self.shape, Card):
            return self
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


CameraPath = Annotated[StaticPath | DollyPath | PushInPath | OrbitPath, Field(discriminator="type")]


class Handheld(Model):
    """Smooth Perlin shake on top of a path; amplitudes are about the largest excursion."""

    translation_m: NonNegative = 0.01
    rotation_deg: NonNegative = 0.4
    frequency_hz: Positive = 0.8
    seed: int = Field(default=0, ge=0, lt=256)


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


class FocusKey(Model):
    """Where focus is at a frame: a disparity, or the median disparity of an object's visible pixels.

    Of several objects, the first that is well in view is meant.
    """

    frame: int = Field(ge=0)
    disparity: Unit | None = None
    subject: str | tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> FocusKey:
        if (self.disparity is None) == (self.subject is None):
            raise ValueError("a focus key needs exactly one of 'disparity' and 'subject'")
        return self

    @property
    def subjects(self) -> tuple[str, ...]:
        """The objects meant, in order of preference; empty for a disparity."""
        return (self.subject,) if isinstance(self.subject, str) else self.subject or ()


class TargetSpec(Model):
    """One bokeh video: K per frame (quoted at 1024 px width), the focus track, the lens.

    Between focus keys the disparity in focus eases smoothly; one key holds for the whole clip.

    ``domain`` ``linear_hdr`` blurs light, as a lens does; ``encoded8`` blurs display values, all-in-focus
    images after exposure, clipping, sRGB curve and rounding to 8 bits, as earlier data of flat cards did.
    ``twin_of`` is the number of the target that this one repeats through the ideal lens.
    """

    k_at_1024: tuple[Annotated[float, Field(ge=0.0, le=256.0)], ...]
    focus: tuple[FocusKey, ...] = Field(min_length=1)
    lens: LensSpec = LensSpec()
    domain: BlurDomain = "linear_hdr"
    twin_of: int | None = Field(default=None, ge=0)

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

    ``labels`` say what the clip is an example of (``stratum``, ``family``); they change no pixel.
    """

    version: Literal[1] = 1
    seed: int = Field(ge=0, lt=2**32)
    film: FilmSpec
    quality: QualitySpec
    world: World
    targets: tuple[TargetSpec, ...] = Field(min_length=1, max_length=64)
    labels: dict[str, str] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _without_empty_labels(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return dumped_without_defaults(self, dump, ("labels",))

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
                for name in key.subjects:
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
