"""Mesh files with their own materials: pieces of one material each, placed as the shape asks; their motion.

The order of a file's vertices is that of `focuspull.render.glb`; each piece knows which of them it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError
from focuspull.render import spec
from focuspull.render.geometry import Mesh, creased, face_normals_and_areas, unit_vectors
from focuspull.render.glb import MAGIC, FileImage, FileMaterial, FilePart, MeshDocument, read_glb
from focuspull.render.textures import Pixels, decode, linear, values

MAX_TEXTURE_PX = 2048
"""Longer sides of a file's images are halved until they are no longer than this."""
LEAST_FACING = 0.1
"""Cosine between a triangle and the normals of its corners: what is below is taken for a mistake."""
THIN_GLASS_OPACITY = 0.08
"""Of glass that is a sheet without thickness: what two faces reflect at normal incidence."""


@dataclass(frozen=True)
class Piece:
    """Part of a file that has one material.

    Attributes:
        mesh: In the object's frame, the object's scale not applied.
        material: Its material.
        source: ``[V]``, numbers of the vertices in the order of the file.
    """

    mesh: Mesh
    material: FileMaterial
    source: NDArray[np.int64]


@dataclass(frozen=True)
class Placement:
    """From the file's units and axes to the object's frame: ``(turned - foot) * factor``."""

    y_up: bool
    foot: NDArray[np.float64]
    factor: float

    def turned(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        """Vectors ``[..., 3]`` with z upwards."""
        v = np.asarray(vectors, np.float64)
        return np.stack([v[..., 0], -v[..., 2], v[..., 1]], axis=-1) if self.y_up else v

    def placed(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Points ``[..., 3]`` in the object's frame."""
        return (self.turned(points) - self.foot) * self.factor


@dataclass(frozen=True)
class FileMesh:
    """A mesh file as pieces, in the order in which their materials come first."""

    pieces: tuple[Piece, ...]
    num_vertices: int
    placement: Placement


def read_file_mesh(shape: spec.MeshFile, path: Path) -> FileMesh:
    """Reads a GLB file into pieces.

    Raises:
        UserError: If it is another kind of file, is broken or has no triangles.
    """
    name = shape.file.name
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise UserError(
                f"{name}: is no GLB file, which alone holds materials and vertices in a fixed order. Turn it "
                "into one with: focuspull-render assets add"
            )
    document = read_glb(path, name)
    vertices = np.concatenate([part.vertices for part in document.parts] or [np.zeros((0, 3))])
    if not sum(len(part.triangles) for part in document.parts) or not np.isfinite(vertices).all():
        raise UserError(f"{name}: has no triangles or vertices that are not finite. Export the mesh again.")
    placement = _placement(shape, vertices)
    return FileMesh(_pieces(document, placement), len(vertices), placement)


def joined(pieces: tuple[Piece, ...]) -> Piece:
    """All pieces as one, of the first one's material."""
    meshes = [piece.mesh for piece in pieces]
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    mesh = Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uvs for mesh in meshes]),
        np.concatenate([mesh.triangles + n for mesh, n in zip(meshes, starts, strict=False)]).astype(
            np.int32
        ),
    )
    return Piece(mesh, pieces[0].material, np.concatenate([piece.source for piece in pieces]))


def _placement(shape: spec.MeshFile, vertices: NDArray[np.float64]) -> Placement:
    placement = Placement(shape.y_up, np.zeros(3), 1.0)
    if shape.height_m is None:
        return placement
    points = placement.turned(vertices)
    low, high = points.min(axis=0), points.max(axis=0)
    if high[2] - low[2] <= 0:
        raise UserError(f"{shape.file.name}: is flat, height_m cannot rescale it. Leave height_m out.")
    foot = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return Placement(shape.y_up, foot, shape.height_m / float(high[2] - low[2]))


def _pieces(document: MeshDocument, placement: Placement) -> tuple[Piece, ...]:
    by_material: dict[int, list[Piece]] = {}
    start = 0
    for part in document.parts:
        if len(part.triangles):
            material = document.materials[part.material]
            by_material.setdefault(part.material, []).append(_piece(part, material, start, placement))
        start += len(part.vertices)
    return tuple(joined(tuple(pieces)) for pieces in by_material.values())


def _piece(part: FilePart, material: FileMaterial, start: int, placement: Placement) -> Piece:
    vertices, triangles, normals, uvs = part.vertices, part.triangles, part.normals, part.uvs
    source = np.arange(len(vertices))
    if normals is None:
        source, normals, triangles = creased(vertices, triangles)
        vertices, uvs = vertices[source], None if uvs is None else uvs[source]
    # Where normals and triangles say different things, Blender's renderer is black: triangles turn towards
    # their normals, and those that some normal all the same looks away from get flat ones of their own.
    faces, area = face_normals_and_areas(vertices, triangles)
    facing = np.einsum("ij,ikj->ik", faces, normals[triangles])
    inverted = facing.sum(axis=1) < 0
    triangles = np.where(inverted[:, None], triangles[:, ::-1], triangles)
    flat = (np.where(inverted[:, None], -facing, facing).min(axis=1) < LEAST_FACING) & (area > 0)
    if flat.any():
        corners = triangles[flat].reshape(-1)
        own = np.where(inverted[:, None], -faces, faces)[flat]
        triangles[flat] = len(vertices) + np.arange(len(corners)).reshape(-1, 3)
        vertices = np.concatenate([vertices, vertices[corners]])
        normals = np.concatenate([normals, np.repeat(own, 3, axis=0)])
        uvs = None if uvs is None else np.concatenate([uvs, uvs[corners]])
        source = np.concatenate([source, source[corners]])
    mesh = Mesh(
        placement.placed(vertices).astype(np.float32),
        unit_vectors(placement.turned(normals)).astype(np.float32),
        np.zeros((len(vertices), 2), np.float32) if uvs is None else uvs.astype(np.float32),
        triangles.astype(np.int32),
    )
    return Piece(mesh, material, source + start)


# --- Vertices that move -------------------------------------------------------------------------


def vertex_motion(
    deform: spec.VertexFile,
    path: Path,
    thing: FileMesh,
    rest: Mesh,
    source: NDArray[np.int64],
    scale: tuple[float, float, float],
) -> Callable[[float], Mesh]:
    """The mesh at a time in seconds, with the vertices of a file.

    Normals are those of the faces, weighted by area; vertices that share place and normal at rest share them
    always, so that seams of textures stay smooth and creases stay sharp.

    Args:
        deform: How the file is played.
        path: Where it lies.
        thing: The file that the vertices are of.
        rest: The mesh at rest, scaled.
        source: ``[V]``, number in the file of each of its vertices.
        scale: Of the object.

    Raises:
        UserError: If the file does not fit.
    """
    name = deform.file.name
    try:
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: cannot be read as an .npy array ({error}). Bake it again.") from None
    if frames.ndim != 3 or not len(frames) or frames.shape[1:] != (thing.num_vertices, 3):
        raise UserError(
            f"{name}: has the shape {list(frames.shape)}, the mesh file needs [F, {thing.num_vertices}, 3]. "
            "Bake it for this file."
        )
    key = np.concatenate([rest.vertices.round(5), rest.normals.round(2)], axis=1)
    _, group = np.unique(key, axis=0, return_inverse=True)
    group = group.reshape(-1)
    corners = group[rest.triangles]

    def at(time_s: float) -> Mesh:
        position = max((time_s - deform.start_s) * deform.rate_hz, 0.0)
        count = len(frames)
        position = position % count if deform.loop else min(position, count - 1)
        first = int(position)
        after = (first + 1) % count if deform.loop else min(first + 1, count - 1)
        part = position - first
        points = np.asarray(frames[first], np.float64) * (1 - part)
        points += np.asarray(frames[after], np.float64) * part
        if not np.isfinite(points).all():
            raise UserError(f"{name}: has positions that are not finite at sample {first}. Bake it again.")
        moved = thing.placement.placed(points[source]) * np.asarray(scale)
        face_normals, area = face_normals_and_areas(moved, rest.triangles)
        total = np.zeros((int(group.max()) + 1, 3))
        for corner in range(3):
            np.add.at(total, corners[:, corner], face_normals * area[:, None])
        normals = unit_vectors(total)[group]
        lost = np.linalg.norm(normals, axis=1) < 0.5  # of triangles without area
        normals[lost] = rest.normals[lost]
        return replace(rest, vertices=moved.astype(np.float32), normals=normals.astype(np.float32))

    return at


# --- Materials ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileTexels:
    """What a material's images come to, factors multiplied in.

    Attributes:
        color: ``[H, W, 3]`` linear, or a constant.
        opacity: ``[H, W, 1]``, or None if nothing is transparent.
        roughness: ``[H, W, 1]``, or a constant.
        metallic: Averaged over the texels.
        normals: ``[H, W, 3]``, or None.
        transmission: Of glass with a volume.
        repeats: Whether the images repeat.
    """

    color: Pixels | spec.Color
    opacity: Pixels | None
    roughness: Pixels | float
    metallic: float
    normals: Pixels | None
    transmission: float
    repeats: bool


def texels(piece: Piece, name: str) -> FileTexels:
    """The images of a piece's material.

    Glass on a surface that is not closed has no inside: it becomes a thin wall that passes most light.

    Raises:
        UserError: If an image cannot be decoded.
    """
    material = piece.material
    r, g, b = (min(max(c, 0.0), 1.0) for c in material.base_color)
    color: Pixels | spec.Color = (r, g, b)
    opacity: Pixels | None = None
    constant = 1.0 if material.alpha_mode == "OPAQUE" else material.opacity
    if material.base_image is not None:
        image = linear(_image(material.base_image, name), name)
        color = np.clip(image[..., :3] * np.array([r, g, b], np.float32), 0, 1)
        if image.shape[2] == 4 and material.alpha_mode != "OPAQUE":
            opacity = image[..., 3:] * np.float32(constant)
    if opacity is None and constant < 1:
        opacity = np.full((1, 1, 1), constant, np.float32)
    if opacity is not None and material.alpha_mode == "MASK":
        opacity = (opacity >= material.alpha_cutoff).astype(np.float32)
    transmission = min(max(material.transmission, 0.0), 1.0)
    if transmission and not material.thickness and not is_closed(piece.mesh):
        seen = np.float32(1 - transmission * (1 - THIN_GLASS_OPACITY))
        opacity = np.full((1, 1, 1), seen, np.float32) if opacity is None else opacity * seen
        transmission = 0.0
    roughness, metallic = _rough_and_metal(material, name)
    normals = None
    if material.normal_image is not None:
        normals = values(_image(material.normal_image, name))[..., :3]
    return FileTexels(
        color=color,
        opacity=None if opacity is None or opacity.min() >= 0.999 else opacity,
        roughness=roughness,
        metallic=metallic,
        normals=normals,
        transmission=transmission,
        repeats=material.base_image is None or material.base_image.repeats,
    )


def is_closed(mesh: Mesh) -> bool:
    """Whether every edge has two triangles, vertices at one place taken as one."""
    _, merged = np.unique(mesh.vertices.round(6), axis=0, return_inverse=True)
    corners = merged.reshape(-1)[mesh.triangles]
    corners = corners[(corners != np.roll(corners, 1, axis=1)).all(axis=1)]
    if not len(corners):
        return False
    edges = np.sort(np.stack([corners, np.roll(corners, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    return bool((count == 2).all())


def _rough_and_metal(material: FileMaterial, name: str) -> tuple[Pixels | float, float]:
    roughness: Pixels | float = min(max(material.roughness, 0.0), 1.0)
    metallic = min(max(material.metallic, 0.0), 1.0)
    if material.rough_metal_image is not None:
        image = values(_image(material.rough_metal_image, name))
        roughness = np.clip(image[..., 1:2] * np.float32(roughness), 0, 1)
        metallic *= float(np.clip(image[..., 2], 0, 1).mean())
    return roughness, metallic


def _image(image: FileImage, name: str) -> NDArray[Any]:
    pixels = decode(image.data, name)
    while max(pixels.shape[:2]) > MAX_TEXTURE_PX:
        size = (max(pixels.shape[1] // 2, 1), max(pixels.shape[0] // 2, 1))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return pixels
