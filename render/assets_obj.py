"""Wavefront OBJ and MTL files with their textures, read into what a GLB file can hold.

Read: polygons (cut into fans), texture coordinates, normals, ``usemtl``; of materials ``Kd``, ``Ks``, ``Ns``,
``d``, ``Tr``, ``Ni``, ``Pr``, ``Pm``, ``illum``, ``map_Kd``, ``map_d``, ``norm`` and ``map_Pr``. Vertices are
split where a corner has another texture coordinate or normal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError
from focuspull.render.glb import FileImage, FileMaterial, FilePart, MeshDocument
from focuspull.render.textures import decode

_MIMES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_GLASS_ILLUM = (4, 6, 7, 9)
_UNIT_NAMES = {
    "inch": 0.0254,
    "foot": 0.3048,
    "feet": 0.3048,
    "millimet": 0.001,
    "centimet": 0.01,
    "meter": 1.0,
    "metre": 1.0,
    "mm": 0.001,
    "cm": 0.01,
}


@dataclass(frozen=True)
class ObjFile:
    """What an OBJ file and its libraries hold; ``unit_m`` is the length of its unit if a comment says so."""

    document: MeshDocument
    unit_m: float | None


def read_obj(path: Path, name: str, *, needs_textures: bool = True) -> ObjFile:
    """Triangles, materials and textures.

    Args:
        path: Where it lies; its libraries and textures are looked for beside it.
        name: For messages.
        needs_textures: Whether a missing texture is an error; else the material's colour takes its place.

    Raises:
        UserError: If the file, a library or a texture is missing or broken.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ").splitlines()
        return _read(lines, path.parent, name, needs_textures)
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror}). Check the path.") from None
    except (ValueError, IndexError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{name}: is a broken OBJ file ({reason}). Export it again.") from error


def _read(lines: list[str], folder: Path, name: str, needs_textures: bool) -> ObjFile:
    points: list[list[float]] = []
    uvs: list[list[float]] = []
    normals: list[list[float]] = []
    entries: dict[str, _Entry] = {}
    corners: dict[str, list[tuple[int, int, int]]] = {}
    current, unit_m = "", None
    for line in lines:
        key, _, rest = line.strip().partition(" ")
        if key == "v":
            points.append([float(x) for x in rest.split()[:3]])
        elif key == "vt":
            uvs.append([float(x) for x in (rest.split() + ["0"])[:2]])
        elif key == "vn":
            normals.append([float(x) for x in rest.split()[:3]])
        elif key == "f":
            polygon = [_corner(c, len(points), len(uvs), len(normals)) for c in rest.split()]
            fan = corners.setdefault(current, [])
            for i in range(1, len(polygon) - 1):
                fan += (polygon[0], polygon[i], polygon[i + 1])
        elif key == "usemtl":
            current = rest.strip()
        elif key == "mtllib":
            for library in _libraries(rest, folder):
                entries |= _read_mtl(library)
        elif key.startswith("#") and "unit" in line.lower():
            unit_m = next((m for word, m in _UNIT_NAMES.items() if word in line.lower()), unit_m)
    if not any(corners.values()):
        raise UserError(f"{name}: has no triangles. Export the mesh again.")
    arrays = [np.asarray(a, np.float64).reshape(-1, n) for a, n in ((points, 3), (uvs, 2), (normals, 3))]
    # At the end only: some exporters list what a face needs behind it.
    largest = np.max([corner for some in corners.values() for corner in some], axis=0)
    for number, array in zip(largest, arrays, strict=True):
        if number >= len(array):
            raise ValueError(f"a corner has the number {number + 1} of {len(array)}")
    plain = FileMaterial(base_color=(0.8, 0.8, 0.8), roughness=0.5)
    parts = tuple(_part(np.array(c, np.int64), arrays, i) for i, c in enumerate(corners.values()))
    # Textures of materials that no face uses may be missing.
    kept = tuple(
        _material(entries[key], name, needs_textures) if key in entries else replace(plain, name=key)
        for key in corners
    )
    return ObjFile(MeshDocument(parts, kept), unit_m)


def _corner(text: str, *counts: int) -> tuple[int, int, int]:
    """Numbers of position, texture coordinate and normal; -1 where there is none."""
    fields = (text.split("/") + ["", ""])[:3]
    found: list[int] = []
    for value, count in zip(fields, counts, strict=True):
        number = int(value) if value else 0
        found.append(number - 1 if number >= 0 else count + number)
        if number and found[-1] < 0:
            raise ValueError(f"the corner {text} is before all that there is")
    if found[0] < 0:
        raise ValueError(f"the corner {text} has no position")
    return found[0], found[1], found[2]


def _part(corners: NDArray[np.int64], arrays: list[NDArray[np.float64]], material: int) -> FilePart:
    points, uvs, normals = arrays
    unique, index = np.unique(corners, axis=0, return_inverse=True)
    has_uvs, has_normals = len(uvs) > 0 and (unique[:, 1] >= 0).all(), (unique[:, 2] >= 0).all()
    own_normals = None
    if len(normals) and has_normals:
        own_normals = normals[unique[:, 2]]
        length = np.linalg.norm(own_normals, axis=1, keepdims=True)
        own_normals = None if (length < 1e-6).any() else own_normals / length
    return FilePart(
        vertices=points[unique[:, 0]],
        triangles=index.reshape(-1, 3).astype(np.int64),
        normals=own_normals,
        uvs=uvs[unique[:, 1]] if has_uvs else None,
        material=material,
    )


def _libraries(rest: str, folder: Path) -> list[Path]:
    """The files that ``mtllib`` names: one name with spaces, or several without."""
    whole = _beside(rest.strip(), folder)
    if whole is not None:
        return [whole]
    return [path for path in (_beside(word, folder) for word in rest.split()) if path is not None]


def _beside(name: str, folder: Path) -> Path | None:
    """A file that another one names: where it says, beside it, or whatever the case of its letters."""
    relative = name.replace("\\", "/")
    for path in (folder / relative, folder / Path(relative).name):
        if path.is_file():
            return path
    wanted = Path(relative).name.lower()
    return next((p for p in sorted(folder.glob("*")) if p.name.lower() == wanted and p.is_file()), None)


# --- Materials ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A material as its library has it: name, lines by key, and the folder that its images are beside."""

    key: str
    lines: dict[str, str]
    folder: Path


def _read_mtl(path: Path) -> dict[str, _Entry]:
    entries: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, rest = line.strip().partition(" ")
        if key == "newmtl":
            current = entries.setdefault(rest.strip(), {})
        elif rest:
            current[key.lower()] = rest.strip()
    return {key: _Entry(key, entry, path.parent) for key, entry in entries.items()}


def _material(material: _Entry, name: str, needs_textures: bool) -> FileMaterial:
    entry, folder = material.lines, material.folder

    def number(field: str, default: float) -> float:
        return float(entry[field].split()[-1]) if field in entry else default

    def color(field: str, default: float) -> tuple[float, float, float]:
        values = [float(x) for x in entry.get(field, "").split()[:3] if _is_number(x)]
        r, g, b = (values * 3)[:3] if len(values) in (1, 3) else (default,) * 3
        return r, g, b

    def texture(field: str) -> FileImage | None:
        return _texture(entry.get(field), folder, name, needs_textures)

    opacity = min(max(number("d", 1 - number("tr", 0.0)), 0.0), 1.0)
    shine = number("ns", 32.0)
    illum = int(number("illum", 2))
    base = texture("map_kd")
    mask = texture("map_d")
    base_color = color("kd", 0.8)
    if base is not None and max(base_color) < 0.05:
        base_color = (1.0, 1.0, 1.0)  # a black tint over an image is an exporter's slip
    has_alpha = base is not None and _has_alpha(base, name)
    if mask is not None:
        base = with_alpha(base, mask, name)
    # Sheets of glass are opacity; only what names a refraction is a body of glass.
    glass = illum in _GLASS_ILLUM and opacity < 0.95 and number("ni", 1.0) > 1.05
    rough = texture("map_pr")
    # Phong's exponent n has about the width of GGX with alpha^2 = 2 / (n + 2), Beckmann's rule.
    width = (2 / (max(shine, 0.0) + 2)) ** 0.25 if max(color("ks", 0)) > 0 else 0.7
    return FileMaterial(
        name=material.key,
        base_color=tuple(_linear(c) for c in base_color),  # type: ignore[arg-type]
        opacity=1.0 if glass else opacity,
        base_image=base,
        alpha_mode="BLEND" if mask is not None or has_alpha or (opacity < 1 and not glass) else "OPAQUE",
        roughness=min(max(number("pr", width), 0.0), 1.0),
        metallic=number("pm", 0.0),
        rough_metal_image=rough,
        normal_image=texture("norm"),
        transmission=1 - opacity if glass else 0.0,
        ior=min(max(number("ni", 1.5), 1.01), 3.0) if glass else 1.5,
    )


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) is not None


def _linear(value: float) -> float:
    """Colours in MTL files are display values, as the images beside them."""
    value = min(max(value, 0.0), 1.0)
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _texture(entry: str | None, folder: Path, name: str, is_needed: bool) -> FileImage | None:
    """The image that a ``map_`` line names behind its options."""
    if not entry:
        return None
    words = entry.split()
    # Names may have spaces: the longest tail that is a file.
    candidates = [" ".join(words[i:]) for i in range(len(words))]
    path = next((p for p in (_beside(c, folder) for c in candidates) if p is not None), None)
    if path is None and not is_needed:
        return None
    if path is None:
        raise UserError(f"{name}: its texture {Path(words[-1]).name} is missing. Put it beside the MTL file.")
    clamps = "-clamp on" in entry
    return embedded(path.read_bytes(), path.name, repeats=not clamps)


def embedded(data: bytes, name: str, *, repeats: bool = True) -> FileImage:
    """An image file for a GLB: PNG and JPEG as they are, all others as PNG.

    Raises:
        UserError: If it cannot be decoded.
    """
    for magic, mime in _MIMES.items():
        if data.startswith(magic):
            decode(data, name)
            return FileImage(data, mime, repeats)
    return encoded(decode(data, name), repeats=repeats)


def encoded(pixels: NDArray, *, repeats: bool = True) -> FileImage:
    """``[H, W, 3 or 4]`` integers as a PNG."""
    order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    done, data = cv2.imencode(".png", cv2.cvtColor(pixels, order))
    assert done
    return FileImage(data.tobytes(), "image/png", repeats)


def _has_alpha(image: FileImage, name: str) -> bool:
    pixels = decode(image.data, name)
    return pixels.shape[2] == 4 and bool(pixels[..., 3].min() < np.iinfo(pixels.dtype).max)


def with_alpha(base: FileImage | None, mask: FileImage, name: str) -> FileImage:
    """An image with the grey of another as its alpha.

    Raises:
        UserError: If one cannot be decoded.
    """
    pixels = decode(mask.data, name)
    alpha = pixels[..., 3] if pixels.shape[2] == 4 and np.ptp(pixels[..., 3]) else pixels[..., 0]
    mask_type = alpha.dtype
    if base is None:
        color = np.full((*alpha.shape, 3), np.iinfo(alpha.dtype).max, alpha.dtype)
    else:
        color = decode(base.data, name)[..., :3]
        alpha = cv2.resize(alpha, (color.shape[1], color.shape[0]), interpolation=cv2.INTER_AREA)
        part = np.asarray(alpha, np.float64) / np.iinfo(mask_type).max
        alpha = (part * np.iinfo(color.dtype).max).astype(color.dtype)
    return encoded(np.concatenate([color, alpha[..., None]], axis=2))
