"""A `SceneSpec` as arrays that both renderers take: triangles, texels, poses, light.

Everything that shines is geometry here, except points and the environment: an area light is an emitting
rectangle, the sun an emitting disc 1 km away. That keeps the two renderers' light transport the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError
from focuspull.render import motion, spec
from focuspull.render.deform import bent, rippled
from focuspull.render.drawings import drawn
from focuspull.render.file_meshes import Piece, joined, read_file_mesh, texels, vertex_motion
from focuspull.render.geometry import Mesh, bent_card, card_mesh, disc, make_mesh, rectangle
from focuspull.render.textures import Pixels, TextureMap, bake, read_image, read_values

SUN_DISTANCE_M = 1000.0
MIN_ALPHA = 1e-3
"""GGX widths below this are drawn as this: a narrower lobe is a mirror in float32."""
MAX_TRANSPARENT_HITS = 64
"""Cut-outs that a ray may pass."""
SKY_ID = 0
"""Instance id of everything that is not an object: sky, area lights, the sun."""

Pose = NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """A material with its textures loaded; a number stands for itself.

    ``opacity`` is there on cut-outs only; ``emission`` is a texture on unlit cards, already multiplied by it.
    ``normals`` are tangent-space normals as an image has them, 0.5 for 0.
    """

    base_color: spec.Color | TextureMap
    roughness: float | TextureMap
    metallic: float
    transmission: float
    ior: float
    emission: spec.Light3 | TextureMap
    opacity: TextureMap | None = None
    normals: TextureMap | None = None

    @property
    def emits(self) -> bool:
        """Whether the surface is a light source and nothing else."""
        return isinstance(self.emission, TextureMap) or max(self.emission) > 0

    @property
    def mean_emission(self) -> float:
        """Radiance averaged over channels and texels."""
        light = self.emission
        return float(np.mean(light.pixels if isinstance(light, TextureMap) else light))


@dataclass(frozen=True)
class Item:
    """One thing with triangles; an object whose file has several materials is several of them.

    Attributes:
        name: Unique; lights are called ``_light-0`` and so on, as no object can be.
        owner: The object that it belongs to, or the light.
        instance: 1, 2, ... for objects in the order of the spec, `SKY_ID` for lights.
        mesh: Object space, scale applied, as it is at rest.
        surfaces: One, or one per frame of an image sequence (used in turn).
        pose: Object to world at a frame number, which may be fractional.
        moves: Whether the pose or the form depends on the frame.
        form: The mesh at a frame number, with the triangles of ``mesh``; None: it is rigid.
        is_sun: The sun counts as sky in the ground truth.
        is_area_light: A rectangle around its origin, facing +z, that stays where it is.
    """

    name: str
    owner: str
    instance: int
    mesh: Mesh
    surfaces: tuple[Surface, ...]
    pose: Callable[[float], Pose]
    moves: bool
    form: Callable[[float], Mesh] | None = None
    is_sun: bool = False
    is_area_light: bool = False

    def formed(self, frame: float) -> Mesh:
        """The mesh in object space at a frame number."""
        return self.mesh if self.form is None else self.form(frame)

    def placed(self, frame: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vertices and normals in the world, ``[V, 3]`` each, at a frame number."""
        return self.formed(frame).moved(self.pose(frame))

    def surface(self, frame: int) -> Surface:
        """The surface shown at a frame."""
        return self.surfaces[frame % len(self.surfaces)]


@dataclass(frozen=True)
class Built:
    """A whole scene as arrays.

    ``environment`` is ``[H, 2 H, 3]`` linear radiance as a panorama reads: row 0 is straight up, the middle
    column looks along +x, columns to its right turn towards -y; texel centres at half-integers. ``None``
    in its place: the constant ``environment_color``.
    """

    scene: spec.SceneSpec
    items: tuple[Item, ...]
    points: tuple[spec.PointLight, ...]
    environment: Pixels | None
    environment_color: spec.Light3
    camera: Callable[[float], Pose] = field(repr=False)

    @property
    def has_cards(self) -> bool:
        """Whether any surface is partly transparent."""
        return any(item.surfaces[0].opacity is not None for item in self.items)


def build(scene: spec.SceneSpec, files: Mapping[str, Path]) -> Built:
    """Loads and bakes everything a scene needs.

    Args:
        scene: The clip.
        files: Where each file of the scene lies, by SHA-256.

    Raises:
        UserError: If a file is missing or unreadable.
    """
    world, film = scene.world, scene.film
    items = [part for i, item in enumerate(world.objects) for part in _object_items(item, i + 1, film, files)]
    lights = [light for light in world.lights if not isinstance(light, spec.PointLight)]
    items += [_light_item(light, f"_light-{i}") for i, light in enumerate(lights)]
    environment = world.environment
    constant = isinstance(environment, spec.ConstantEnvironment)
    return Built(
        scene=scene,
        items=tuple(items),
        points=tuple(light for light in world.lights if isinstance(light, spec.PointLight)),
        environment=None if constant else _environment_pixels(environment, files),
        environment_color=environment.radiance if constant else (0.0, 0.0, 0.0),
        camera=lambda frame: motion.camera_pose(world.camera, film, frame),
    )


def locate(ref: spec.FileRef, files: Mapping[str, Path]) -> Path:
    """Where a file lies.

    Raises:
        UserError: If the table has no such file.
    """
    path = files.get(ref.sha256)
    if path is None or not path.is_file():
        raise UserError(
            f"{ref.name}: file is missing (sha256 {ref.sha256[:12]}). Put it back beside the spec."
        )
    return path


def _object_items(
    item: spec.ObjectSpec, instance: int, film: spec.FilmSpec, files: Mapping[str, Path]
) -> list[Item]:
    shape, material = item.shape, item.material
    own_vertices = isinstance(item.deform, spec.VertexFile)
    if isinstance(shape, spec.MeshFile) and (shape.file_materials or own_vertices):
        return _file_items(item, shape, instance, film, files)
    if isinstance(shape, spec.Card):
        images = _card_images(shape, files)
        coverage = np.max([image[..., 3] for image in images], axis=0)
        mesh = bent_card(card_mesh(coverage, shape.height_m), shape.bend_deg)
        if shape.unlit:
            surfaces = tuple(_unlit_surface(image, shape.radiance) for image in images)
        else:
            surfaces = tuple(_surface(material, files, card=image) for image in images)
    else:
        mesh = make_mesh(shape, locate(shape.file, files) if isinstance(shape, spec.MeshFile) else None)
        surfaces = (_surface(material, files),)
    mesh = mesh.scaled(item.scale)
    return [_item(item, item.name, instance, film, mesh, surfaces, _form(item, mesh, film.fps))]


def _item(
    item: spec.ObjectSpec,
    name: str,
    instance: int,
    film: spec.FilmSpec,
    mesh: Mesh,
    surfaces: tuple[Surface, ...],
    form: Callable[[float], Mesh] | None,
) -> Item:
    return Item(
        name=name,
        owner=item.name,
        instance=instance,
        mesh=mesh,
        surfaces=surfaces,
        pose=lambda frame: motion.object_pose(item, frame / film.fps),
        moves=bool(item.motion) or item.deform is not None,
        form=form,
    )


def _file_items(
    item: spec.ObjectSpec,
    shape: spec.MeshFile,
    instance: int,
    film: spec.FilmSpec,
    files: Mapping[str, Path],
) -> list[Item]:
    """One item for each material of a file, or one of the object's own material."""
    thing = read_file_mesh(shape, locate(shape.file, files))
    whole = joined(thing.pieces)
    mesh = whole.mesh.scaled(item.scale)
    if isinstance(item.deform, spec.VertexFile):
        path = locate(item.deform.file, files)
        at = vertex_motion(item.deform, path, thing, mesh, whole.source, item.scale)
        form: Callable[[float], Mesh] | None = lru_cache(maxsize=1)(lambda frame: at(frame / film.fps))
    else:
        form = _form(item, mesh, film.fps)
        form = None if form is None else lru_cache(maxsize=1)(form)
    if not shape.file_materials:
        return [_item(item, item.name, instance, film, mesh, (_surface(item.material, files),), form)]
    items: list[Item] = []
    start = 0
    for number, piece in enumerate(thing.pieces, 1):
        stop = start + len(piece.mesh.vertices)
        name = item.name if len(thing.pieces) == 1 else f"{item.name}.{number}"
        surface = _file_surface(piece, shape.file.name)
        part = piece.mesh.scaled(item.scale)
        # A material that shows nothing makes no item.
        if surface.opacity is None or surface.opacity.pixels.max() > 0:
            own_form = None if form is None else _slice(form, part, start, stop)
            items.append(_item(item, name, instance, film, part, (surface,), own_form))
        start = stop
    if not items:
        raise UserError(f"{shape.file.name}: is fully transparent. Give a mesh with some opaque material.")
    return items


def _slice(form: Callable[[float], Mesh], part: Mesh, start: int, stop: int) -> Callable[[float], Mesh]:
    """The vertices of a part of what a form makes."""

    def at(frame: float) -> Mesh:
        whole = form(frame)
        return replace(part, vertices=whole.vertices[start:stop], normals=whole.normals[start:stop])

    return at


def _file_surface(piece: Piece, name: str) -> Surface:
    """The material of a piece of a mesh file."""
    found = texels(piece, name)

    def texture(pixels: Pixels) -> TextureMap:
        return TextureMap(pixels, repeats=found.repeats)

    return Surface(
        base_color=found.color if isinstance(found.color, tuple) else texture(found.color),
        roughness=texture(found.roughness) if isinstance(found.roughness, np.ndarray) else found.roughness,
        metallic=found.metallic,
        transmission=found.transmission,
        ior=min(max(piece.material.ior, 1.01), 3.0),
        emission=(0.0, 0.0, 0.0),
        opacity=None if found.opacity is None else texture(found.opacity),
        normals=None if found.normals is None else texture(found.normals),
    )


def _form(item: spec.ObjectSpec, mesh: Mesh, fps: float) -> Callable[[float], Mesh] | None:
    """How an object's mesh deforms with the frame number; None: it does not."""
    match item.deform:
        case spec.Wind() as wind:
            rest = motion.rest_pose(item)
            return lambda frame: bent(mesh, wind, frame / fps, rest)
        case spec.Ripple() as ripple:
            return lambda frame: rippled(mesh, ripple, frame / fps)
        case _:
            return None


def _card_images(card: spec.Card, files: Mapping[str, Path]) -> list[Pixels]:
    """The pictures of a card, ``[H, W, 4]`` each, of one size."""
    if card.drawing is not None:
        picture = drawn(card.drawing)
        # What is lit reflects at most all of it.
        return [picture if card.unlit else np.minimum(picture, 1)]
    refs = card.sequence.frames if card.image is None else (card.image,)  # type: ignore[union-attr]
    images = [_rgba(locate(ref, files), ref.name, opaque=card.opaque) for ref in refs]
    if len({image.shape for image in images}) > 1:
        raise UserError(f"{card.sequence.pattern}: frames differ in size. Give frames of one size.")  # type: ignore[union-attr]
    if not any(image[..., 3].any() for image in images):
        raise UserError(f"{refs[0].name}: is fully transparent. Give an image with some opaque pixels.")
    return images


def _rgba(path: Path, name: str, *, opaque: bool) -> Pixels:
    image = read_image(path, name)
    if opaque:
        return np.concatenate([image[..., :3], np.ones_like(image[..., :1])], axis=2)
    if image.shape[2] != 4:
        raise UserError(f"{name}: has no alpha channel. Give an RGBA image.")
    return image


def _surface(
    material: spec.MaterialSpec,
    files: Mapping[str, Path],
    card: Pixels | None = None,
) -> Surface:
    """A material with textures; ``card`` is the ``[H, W, 4]`` image that gives colour and opacity."""
    base = material.base_color
    if card is not None:
        color = TextureMap(card[..., :3], repeats=False)
    else:
        color = base if isinstance(base, tuple) else _texture(base, files)
    roughness = material.roughness
    if not isinstance(roughness, float | int):
        pixels = _texture(roughness, files)
        roughness = TextureMap(
            np.clip(pixels.pixels[..., :3].mean(axis=2, keepdims=True), 0, 1), pixels.tiles
        )
    return Surface(
        base_color=color,
        roughness=roughness,
        metallic=material.metallic,
        transmission=material.transmission,
        ior=material.ior,
        emission=material.emission,
        opacity=None if card is None else TextureMap(card[..., 3:], repeats=False),
        normals=None if material.normal_map is None else _normals(material.normal_map, files),
    )


def _normals(texture: spec.ImageTexture, files: Mapping[str, Path]) -> TextureMap:
    """A normal map as it is in the file."""
    pixels = read_values(locate(texture.file, files), texture.file.name)
    return TextureMap(pixels[..., :3], texture.tiles)


def _unlit_surface(image: Pixels, radiance: spec.Light3) -> Surface:
    """An ``[H, W, 4]`` image as light.

    The product with the opacity is taken texel by texel, so that no filter mixes in the colour of what
    is transparent.
    """
    emission = image[..., :3] * image[..., 3:] * np.asarray(radiance, np.float32)
    return Surface(
        base_color=(0.0, 0.0, 0.0),
        roughness=1.0,
        metallic=0.0,
        transmission=0.0,
        ior=1.5,
        emission=TextureMap(emission, repeats=False),
        opacity=TextureMap(image[..., 3:], repeats=False),
    )


def _texture(texture: spec.Texture, files: Mapping[str, Path]) -> TextureMap:
    if isinstance(texture, spec.ProceduralTexture):
        return TextureMap(bake(texture), texture.tiles)
    pixels = read_image(locate(texture.file, files), texture.file.name)
    return TextureMap(np.clip(pixels[..., :3], 0, 1), texture.tiles)


def _light_item(light: spec.AreaLight | spec.SunLight, name: str) -> Item:
    if isinstance(light, spec.AreaLight):
        mesh = rectangle(*light.size_m)
        pose = motion.look_at(light.position_m, light.look_at_m)
        radiance = light.radiance
    else:
        half = math.radians(light.angle_deg) / 2
        mesh = disc(SUN_DISTANCE_M * math.tan(half))
        toward = np.asarray(light.direction, np.float64)
        pose = motion.look_at(SUN_DISTANCE_M * toward / np.linalg.norm(toward), (0, 0, 0))
        # A disc of half-angle h gives irradiance L pi sin^2(h) to a surface that faces it.
        r, g, b = (e / (math.pi * math.sin(half) ** 2) for e in light.irradiance_w_m2)
        radiance = (r, g, b)
    # `look_at` points -z at the aim; the mesh shines along +z.
    pose = pose @ np.diag([1.0, -1.0, -1.0, 1.0])
    surface = Surface((0.0, 0.0, 0.0), 1.0, 0.0, 0.0, 1.5, emission=radiance)
    is_sun = isinstance(light, spec.SunLight)
    return Item(
        name,
        name,
        SKY_ID,
        mesh,
        (surface,),
        lambda frame: pose,
        moves=False,
        is_sun=is_sun,
        is_area_light=not is_sun,
    )


def _environment_pixels(
    environment: spec.HdriEnvironment | spec.SkyEnvironment, files: Mapping[str, Path]
) -> Pixels:
    if isinstance(environment, spec.HdriEnvironment):
        pixels = read_image(locate(environment.file, files), environment.file.name)[..., :3]
        if pixels.shape[1] != 2 * pixels.shape[0]:
            raise UserError(
                f"{environment.file.name}: is {pixels.shape[1]}x{pixels.shape[0]}, a lat-long map is 2:1."
            )
        shift = environment.rotation_deg / 360.0 * pixels.shape[1]
        return _roll_columns(pixels, shift) * np.float32(environment.strength)
    elevation = (np.pi / 2) * (1 - (np.arange(256) + 0.5) / 128)[:, None]
    up = np.sin(np.clip(elevation, 0, None)) ** 0.5
    down = np.clip(np.sin(-elevation) / 0.1, 0, 1)  # a soft horizon, about 6 degrees
    sky = np.asarray(environment.horizon) * (1 - up) + np.asarray(environment.zenith) * up
    row = np.where(elevation >= 0, sky, sky * (1 - down) + np.asarray(environment.ground) * down)
    return np.repeat(row[:, None], 512, axis=1).astype(np.float32)


def _roll_columns(pixels: Pixels, shift: float) -> Pixels:
    """Moves columns to the right by a fractional number, bilinear."""
    whole = math.floor(shift)
    part = np.float32(shift - whole)
    left = np.roll(pixels, whole, axis=1)
    return (1 - part) * left + part * np.roll(left, 1, axis=1) if part else left
