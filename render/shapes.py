"""Shapes and materials of a scene; metres, Z up, every shape in its own frame."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from focuspull.render.records import (
    Color,
    FileRef,
    ImageSequence,
    Light3,
    Model,
    NonNegative,
    Positive,
    Unit,
    Vec2,
    Vec3,
)

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
    W/m2/sr per channel, front side only) reflects nothing. ``normal_map`` is a tangent-space normal image
    with green upwards (OpenGL); its values are taken as they are, not as sRGB.
    """

    base_color: Color | Texture = (0.8, 0.8, 0.8)
    roughness: Unit | Texture = 0.5
    metallic: Unit = 0.0
    transmission: Unit = 0.0
    ior: float = Field(default=1.5, ge=1.01, le=3.0)
    emission: Light3 = (0.0, 0.0, 0.0)
    normal_map: ImageTexture | None = None
    later_fields: ClassVar[tuple[str, ...]] = ("normal_map",)


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
    """Triangles of an OBJ or GLB file.

    ``height_m`` rescales the mesh to that height and stands it on z = 0, centred in x and y; ``None``
    keeps the file's own units and origin. ``y_up`` turns the usual OBJ/glTF axes to Z up. With
    ``file_materials`` the file's own materials and textures are used, and the object's is not.
    """

    type: Literal["mesh"]
    file: FileRef
    height_m: Positive | None = None
    y_up: bool = True
    file_materials: bool = False
    later_fields: ClassVar[tuple[str, ...]] = ("file_materials",)


class Drawing(Model):
    """A picture that is drawn from its seed, for cards without files.

    Attributes:
        kind: ``cutout``: one random outline with a texture. ``figure``, ``bird``, ``tree``, ``bloom``:
            such things, shaded. ``scenery``: a whole picture of soft shapes and lamps, for backdrops.
        seed: Of all that is drawn.
        resolution: Height in pixels.
        aspect: Width over height, of a scenery; others fit into a square.
    """

    kind: Literal["cutout", "figure", "bird", "tree", "bloom", "scenery"] = "cutout"
    seed: int = Field(default=0, ge=0)
    resolution: int = Field(default=256, ge=16, le=2048)
    aspect: float = Field(default=1.0, ge=0.25, le=4.0)


class Card(Model):
    """Alpha cut-out: an RGBA image, a sequence or a drawing, on a plane standing on z = 0 and facing -y.

    The image gives base colour and opacity; the other material fields apply. Width follows the image.
    ``bend_deg`` rolls it around the vertical into part of a cylinder, whose sides come towards -y.
    ``opaque`` takes the image whole, with or without transparency: a photograph.

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
    bend_deg: float = Field(default=0.0, ge=-180.0, le=180.0)
    drawing: Drawing | None = None
    opaque: bool = False
    later_fields: ClassVar[tuple[str, ...]] = ("bend_deg", "drawing", "opaque")

    @model_validator(mode="after")
    def _one_source(self) -> Card:
        if sum(source is not None for source in (self.image, self.sequence, self.drawing)) != 1:
            raise ValueError("a card needs exactly one of 'image', 'sequence' and 'drawing'")
        if self.radiance != (1.0, 1.0, 1.0) and not self.unlit:
            raise ValueError("radiance is for unlit cards: set unlit, or take radiance away")
        return self


class Tube(Model):
    """A round tube along a smooth curve through ``points_m``: cables, stems, rails, neon signs.

    ``tip_radius_m`` tapers it from its first point to its last.
    """

    type: Literal["tube"]
    points_m: tuple[Vec3, ...] = Field(min_length=2)
    radius_m: Positive = 0.01
    tip_radius_m: Positive | None = None
    segments: int = Field(default=16, ge=3, le=256)
    steps: int = Field(default=8, ge=1, le=64)


class Lattice(Model):
    """Wires in the xz plane around the origin, standing on z = 0: fences, grilles, nets.

    ``bars`` are upright, ``mesh`` crosses them with level ones, ``chain`` crosses two slanting families of
    wires that pass in front of and behind each other.
    """

    type: Literal["lattice"]
    pattern: Literal["bars", "mesh", "chain"]
    size_m: tuple[Positive, Positive] = (2.0, 1.5)
    pitch_m: Positive = 0.1
    wire_m: Positive = 0.004
    segments: int = Field(default=8, ge=3, le=64)


class Scatter(Model):
    """Where copies stand on a rectangle around the origin, on a terrain if one is given.

    With ``dense_at`` the density falls with the distance r from there as ``1 / (r^2 + dense_radius_m^2)``,
    so that a camera above that point sees them about equally dense near and far; what stands for several is
    that much larger (at most ``largest`` times).

    Attributes:
        count: How many; fewer if the rules below leave too little room.
        size_m: Of the rectangle.
        ground: They stand on it; its size should be that of the rectangle or larger.
        dense_at: See above; None: the same density everywhere.
        dense_radius_m: See above.
        largest: See above.
        fan_deg: Full angle around +y, seen from ``dense_at``, within which they stand.
        patchiness: 0: even; 1: in patches with bare ground between.
        above_m: They stand only where the ground is higher than this, as beside water.
        bare: Discs (x, y, radius) where none stands; a path is a row of discs.
        seed: Of places, turns and sizes.
    """

    count: int = Field(ge=1, le=200_000)
    size_m: tuple[Positive, Positive] = (10.0, 10.0)
    ground: Terrain | None = None
    dense_at: Vec2 | None = None
    dense_radius_m: Positive = 2.0
    largest: float = Field(default=3.0, ge=1.0, le=10.0)
    fan_deg: float = Field(default=360.0, gt=0.0, le=360.0)
    patchiness: Unit = 0.3
    above_m: float | None = None
    bare: tuple[Vec3, ...] = ()
    seed: int = Field(default=0, ge=0)


class Grass(Model):
    """Curved blades, each with a tint of its own in the texture."""

    type: Literal["grass"]
    scatter: Scatter
    height_m: Positive = 0.25
    width_m: Positive = 0.004
    lean: NonNegative = 0.5
    uneven: Unit = 0.4
    segments: int = Field(default=3, ge=1, le=16)


class Strewn(Model):
    """Small things that lie about: pebbles, or fallen leaves."""

    type: Literal["strewn"]
    kind: Literal["pebbles", "leaves"]
    scatter: Scatter
    size_m: Positive = 0.03
    uneven: Unit = 0.6


class Plant(Model):
    """A plant that grows from the origin, from a herb to a tree; each part is an object of its own.

    Stems fan out of the root; each carries ``branches``, those carry more, ``levels`` deep. The last ones
    carry ``leaves``, and at their tips flowers. The same record with another ``part`` fits exactly.

    Attributes:
        part: Which of its parts this object is.
        height_m: Length of the stems.
        radius_m: Of the stems at the root; they taper.
        stems: Number of stems.
        spread_deg: How far the outer stems lean.
        levels: How often it branches.
        branches: Branches of each stem, and of each branch.
        branch_from: Where on its parent the first one leaves.
        branch_angle_deg: Between branch and parent.
        branch_length: Of the parent's length.
        crown: 0: branches are equally long; 1: they shrink to nothing at the top, as a fir's.
        rise: Above 0 growth turns upwards, below 0 it hangs.
        crooked: How much growth wanders.
        leaf_shape: Outline.
        leaf_length_m: Length of a leaf.
        leaf_width: Of its length.
        leaf_angle_deg: Between leaf and twig.
        detail: 1: for the distance, a leaf is four triangles; more: finer outlines that curl, round middles.
        leaves: On each of the last branches.
        leaves_from: Where on the twig they begin.
        pairs: Leaves to the left and right, as a fern's, and smaller towards the tip; else in a spiral.
        flower_radius_m: Of open flowers.
        petals: Of each flower; 0: it does not flower.
        petal_lift_deg: 0 flat, 80 a cup.
        centre: Radius of the flower's middle, of the flower's.
        scatter: Many copies instead of one; they are turned, and up to a third smaller or larger.
        variants: How many different plants those are.
        seed: Of the growth.
    """

    type: Literal["plant"]
    part: Literal["wood", "leaves", "petals", "centres"]
    height_m: Positive = 0.5
    radius_m: Positive = 0.004
    stems: int = Field(default=1, ge=1, le=200)
    spread_deg: float = Field(default=15.0, ge=0.0, le=90.0)
    levels: int = Field(default=0, ge=0, le=4)
    branches: int = Field(default=6, ge=1, le=80)
    branch_from: Unit = 0.3
    branch_angle_deg: float = Field(default=50.0, ge=0.0, le=150.0)
    branch_length: float = Field(default=0.5, gt=0.0, le=1.5)
    crown: Unit = 0.5
    rise: float = Field(default=0.2, ge=-3.0, le=3.0)
    crooked: Unit = 0.25
    leaf_shape: Literal["oval", "lance", "round", "heart", "needle"] = "oval"
    leaf_length_m: Positive = 0.05
    leaf_width: float = Field(default=0.5, gt=0.0, le=2.0)
    leaf_angle_deg: float = Field(default=50.0, ge=0.0, le=120.0)
    detail: int = Field(default=1, ge=1, le=4)
    leaves: int = Field(default=8, ge=0, le=400)
    leaves_from: Unit = 0.15
    pairs: bool = False
    flower_radius_m: Positive = 0.02
    petals: int = Field(default=0, ge=0, le=60)
    petal_lift_deg: float = Field(default=15.0, ge=-60.0, le=85.0)
    centre: float = Field(default=0.3, gt=0.0, le=1.0)
    scatter: Scatter | None = None
    variants: int = Field(default=3, ge=1, le=16)
    seed: int = Field(default=0, ge=0)


class Fibres(Model):
    """Hair-like strands, tapering to nothing; each has a tint of its own in the texture.

    ``tuft`` fans out of the origin upwards, ``fur`` covers a sphere around the origin, ``curtain`` hangs from
    a rail of ``width_m`` along x at ``length_m``, and ``seedhead`` is a sphere of stalks, each with a parasol
    of hairs at its end.
    """

    type: Literal["fibres"]
    arrangement: Literal["tuft", "fur", "curtain", "seedhead"]
    count: int = Field(default=800, ge=1, le=100_000)
    length_m: Positive = 0.1
    radius_m: Positive = 0.0003
    width_m: Positive = 0.1
    curl: Unit = 0.2
    droop: float = Field(default=0.3, ge=-2.0, le=2.0)
    steps: int = Field(default=6, ge=1, le=64)
    sides: int = Field(default=3, ge=3, le=32)
    seed: int = Field(default=0, ge=0)


class Hull(Model):
    """A smooth closed body along x through sections that are rounded rectangles: cars, boats, cushions.

    ``stations`` are (x, half width, lowest z, highest z) in order of x. A section is the superellipse of
    exponent ``squareness`` (2: an ellipse; the larger, the more of a rectangle), narrowed towards its top by
    the part ``taper``.
    """

    type: Literal["hull"]
    stations: tuple[tuple[float, Positive, float, float], ...] = Field(min_length=2)
    squareness: float = Field(default=4.0, ge=2.0, le=16.0)
    taper: float = Field(default=0.0, ge=0.0, le=0.9)
    segments: int = Field(default=48, ge=8, le=256)
    steps: int = Field(default=6, ge=1, le=32)

    @model_validator(mode="after")
    def _in_order(self) -> Hull:
        x = [station[0] for station in self.stations]
        if any(b <= a for a, b in zip(x, x[1:], strict=False)):
            raise ValueError("stations must be in order of x")
        if any(low >= high for _, _, low, high in self.stations):
            raise ValueError("stations need their lowest z below their highest")
        return self


class Wall(Model):
    """A wall in the xz plane with rectangular holes, centred in x, standing on z = 0, its front to -y.

    ``openings_m`` are (x from, z from, x to, z to), apart from each other; their reveals reach ``depth_m``
    into the wall, towards +y. Texture coordinates run once over the whole front.
    """

    type: Literal["wall"]
    size_m: tuple[Positive, Positive] = (8.0, 3.0)
    depth_m: Positive = 0.2
    openings_m: tuple[tuple[float, float, float, float], ...] = Field(default=(), max_length=1024)

    @model_validator(mode="after")
    def _inside(self) -> Wall:
        half, height = self.size_m[0] / 2, self.size_m[1]
        for x0, z0, x1, z1 in self.openings_m:
            if not (-half <= x0 < x1 <= half and 0 <= z0 < z1 <= height):
                raise ValueError(f"opening {[x0, z0, x1, z1]} does not lie in the wall")
        return self


class Faceted(Model):
    """A body of ``sides`` flat sides around z through (radius, z) ``profile_m`` points: prisms, cut glass.

    Without rounding: each facet is flat. A profile from radius 0 to radius 0 is closed.
    """

    type: Literal["faceted"]
    profile_m: tuple[tuple[NonNegative, float], ...] = Field(min_length=2)
    sides: int = Field(default=6, ge=3, le=64)


PlainShape = Annotated[
    Sphere | Box | Plane | Cylinder | Torus | Lathe | Blob | Terrain | Tube | Lattice | Hull | Wall | Faceted,
    Field(discriminator="type"),
]


class Part(Model):
    """A piece of a `Compound`, placed in its frame: scaled, turned by XYZ Euler angles, moved."""

    shape: PlainShape
    position_m: Vec3 = (0.0, 0.0, 0.0)
    rotation_deg: Vec3 = (0.0, 0.0, 0.0)
    scale: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)


class Compound(Model):
    """Several shapes as one rigid thing of one material: furniture, facades, cars."""

    type: Literal["compound"]
    parts: tuple[Part, ...] = Field(min_length=1, max_length=4096)


Shape = Annotated[
    PlainShape | Compound | MeshFile | Card | Grass | Strewn | Plant | Fibres,
    Field(discriminator="type"),
]
