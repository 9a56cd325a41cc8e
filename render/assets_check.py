"""Checks of what users give: what cannot be rendered, or would look wrong, is refused in one line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError
from focuspull.render.assets import Kind
from focuspull.render.file_meshes import is_closed
from focuspull.render.geometry import Mesh
from focuspull.render.glb import FilePart, MeshDocument
from focuspull.render.textures import decode, linear, values

Unit = Literal["m", "cm", "mm", "inch"]
UNITS_M: dict[str, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254}
MAX_TRIANGLES = 2_000_000
MIN_SIZE_M, MAX_SIZE_M = 0.01, 60.0
"""Of the longest side of a thing. What is longer in its file's units is taken to be in smaller ones."""
LIKELY_SIZE_M = 6.0
"""Longest side that is believed when units are guessed."""
MIN_IMAGE_PX = 16
MIN_PANORAMA_PX = 64
SUN_TEXELS = 8


@dataclass(frozen=True)
class MeshFacts:
    """What is known of a mesh: height and footprint in metres, triangles, whether it is watertight."""

    height_m: float
    footprint_m: tuple[float, float]
    num_triangles: int
    is_closed: bool


def check_mesh(
    document: MeshDocument, name: str, *, height_m: float | None, unit_m: float | None
) -> MeshFacts:
    """Size and soundness of a mesh, whose y axis is up.

    Args:
        document: The mesh.
        name: For messages.
        height_m: Height that it shall have; None: from its units.
        unit_m: Length of its unit; None: guessed, metres if that is plausible.

    Raises:
        UserError: If it has nothing to show, values that are not finite, no volume in space, broken images or
            an absurd size.
    """
    parts = [part for part in document.parts if len(part.triangles)]
    count = sum(len(part.triangles) for part in parts)
    if not count:
        raise UserError(f"{name}: has no triangles. Export the mesh again.")
    if count > MAX_TRIANGLES:
        raise UserError(f"{name}: has {count} triangles, at most {MAX_TRIANGLES} are taken. Simplify it.")
    for part in parts:
        _check_finite(part, name)
    used = np.concatenate([part.vertices[np.unique(part.triangles)] for part in parts])
    extents = np.ptp(used, axis=0)
    longest = float(extents.max())
    if longest <= 0:
        raise UserError(f"{name}: all of it is in one point. Export the mesh again.")
    if extents[1] < 1e-4 * longest:
        hint = "Give it a thickness, or turn it upright (--up z for files with Z upwards)."
        raise UserError(f"{name}: is flat, it has no height. {hint}")
    if float(sum(_area(part) for part in parts)) < 1e-6 * longest**2:
        raise UserError(f"{name}: its triangles have no area. Export the mesh again.")
    for material in {part.material for part in parts}:
        found = document.materials[material]
        for image in (found.base_image, found.rough_metal_image, found.normal_image):
            if image is not None:
                decode(image.data, f"{name}: a texture of {found.name or 'a material'}")
    factor = height_m / float(extents[1]) if height_m else _unit(longest, name, unit_m)
    if height_m and not 1e-3 <= longest * factor <= 1000:
        hint = "Give another height."
        raise UserError(
            f"{name}: would be {longest * factor:.4g} m long with --height-m {height_m:g}. {hint}"
        )
    width, height, depth = (float(x) * factor for x in extents)
    closed = all(is_closed(_as_mesh(part)) for part in parts)
    return MeshFacts(height, (max(width, 1e-4), max(depth, 1e-4)), count, closed)


def _unit(longest: float, name: str, unit_m: float | None) -> float:
    """Metres per unit of a file."""
    if unit_m is not None:
        if not MIN_SIZE_M <= longest * unit_m <= MAX_SIZE_M:
            raise UserError(
                f"{name}: is {longest * unit_m:.3g} m long, which no thing is here ({MIN_SIZE_M:g} to "
                f"{MAX_SIZE_M:g} m). Give --height-m."
            )
        return unit_m
    if MIN_SIZE_M <= longest <= MAX_SIZE_M:
        return 1.0
    if longest > MAX_SIZE_M:
        for unit in ("cm", "mm"):
            if longest * UNITS_M[unit] <= LIKELY_SIZE_M:
                return UNITS_M[unit]
    raise UserError(
        f"{name}: is {longest:.3g} units long, which is no plausible size in metres, centimetres or "
        "millimetres. Give --height-m."
    )


def _check_finite(part: FilePart, name: str) -> None:
    for what, array in (("vertices", part.vertices), ("normals", part.normals), ("UVs", part.uvs)):
        if array is not None and not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).any(axis=1).sum())
            raise UserError(f"{name}: {bad} {what} are not finite. Export the mesh again.")


def _area(part: FilePart) -> float:
    a, b, c = (part.vertices[part.triangles[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def _as_mesh(part: FilePart) -> Mesh:
    scale = max(float(np.abs(part.vertices).max()), 1e-30)
    vertices = (part.vertices / scale).astype(np.float32)
    none = np.zeros((len(vertices), 3), np.float32)
    return Mesh(vertices, none, none[:, :2], part.triangles.astype(np.int32))


# --- Images -------------------------------------------------------------------------------------


def check_image(data: bytes, name: str, kind: Kind) -> NDArray[Any]:
    """A decoded image, fit for its kind.

    Raises:
        UserError: If it cannot be decoded, or cannot be used as that.
    """
    image = decode(data, name)
    height, width = image.shape[:2]
    least = MIN_PANORAMA_PX if kind == "hdri" else MIN_IMAGE_PX
    if min(height, width) < least:
        raise UserError(f"{name}: is {width}x{height} pixels, a {kind} needs {least}. Give a larger image.")
    pixels = linear(image, name)
    if kind == "hdri":
        if width != 2 * height:
            raise UserError(f"{name}: is {width}x{height}, a panorama is 2:1. Give a lat-long map.")
        if pixels[..., :3].max() <= 0:
            raise UserError(f"{name}: is black. Give a panorama with some light.")
        _check_sun(pixels[..., :3].reshape(-1, 3), name)
    elif kind == "normal-map":
        mean = values(image)[..., :3].mean(axis=(0, 1))
        if mean[2] < 0.6 or abs(mean[0] - 0.5) > 0.2 or abs(mean[1] - 0.5) > 0.2:
            text = ", ".join(f"{c:.2f}" for c in mean)
            raise UserError(
                f"{name}: its mean is ({text}), that of normals is near (0.5, 0.5, 1). Use --kind."
            )
    elif kind == "cutout":
        check_alpha([image], name)
    elif not np.ptp(pixels[..., :3]):
        raise UserError(f"{name}: is of one colour. Give an image that shows something.")
    return image


def _check_sun(texels: NDArray[np.float32], name: str) -> None:
    """Refuses panoramas whose sun has lost colours, as very bright spots do in lossy compression of EXR."""
    brightest = texels[np.argsort(texels.max(axis=1))[-SUN_TEXELS:]].sum(axis=0, dtype=np.float64)
    share = brightest / np.maximum(texels.sum(axis=0, dtype=np.float64), 1e-12)
    is_lost = brightest < 1e-3 * brightest.max()
    if share.max() > 0.2 and is_lost.any():
        left = [c for c, lost in zip(("red", "green", "blue"), is_lost, strict=True) if not lost]
        raise UserError(
            f"{name}: its brightest spot has only {' and '.join(left)} light, {share.max():.0%} of all there "
            "is: it was damaged when it was compressed. Save it again without loss."
        )


def check_alpha(images: list[NDArray[Any]], name: str) -> None:
    """Refuses cut-outs that are no cut-outs.

    Raises:
        UserError: If an alpha channel is missing, or there is nothing, or nothing but, to see.
    """
    if any(image.shape[2] != 4 for image in images):
        raise UserError(f"{name}: has no alpha channel. Give an RGBA image, or another --kind.")
    top = np.iinfo(images[0].dtype).max if np.issubdtype(images[0].dtype, np.integer) else 1
    if not any(image[..., 3].any() for image in images):
        raise UserError(f"{name}: is fully transparent. Give an image with some opaque pixels.")
    if all((image[..., 3] >= top).all() for image in images):
        raise UserError(f"{name}: is opaque everywhere. Cut it out, or give another --kind.")
