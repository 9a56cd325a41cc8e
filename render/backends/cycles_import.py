"""Blender as a converter: .blend, USD, FBX, glTF and others to one GLB file, with moving vertices beside it.

Runs in a process of its own (``python -m focuspull.render.backends.cycles_import SOURCE FOLDER``), which ends
without unwinding, since bpy may crash when it is torn down. What it made is in FOLDER: ``mesh.glb``, for what
moves ``vertices.npy`` (``[F, V, 3]`` float32 at 24 Hz, in the order, units and axes of the GLB file), and
last ``done.json``, without which it failed. Scripts in files never run.
"""

# bpy has no stubs.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError
from focuspull.render.assets_obj import embedded, encoded, with_alpha
from focuspull.render.backends.cycles import import_bpy
from focuspull.render.glb import FileImage, FileMaterial, FilePart, MeshDocument, write_glb

RATE_HZ = 24.0
"""Of baked vertices."""
MAX_SAMPLES = 240
"""Of baked vertices: ten seconds."""
STILL = 1e-4
"""Movements below this part of a thing's size are none."""
_GEOMETRY = {"MESH", "CURVE", "SURFACE", "FONT", "META"}
_TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
_IMPORTERS = {
    ".fbx": ("wm", "fbx_import"),
    ".usd": ("wm", "usd_import"),
    ".usda": ("wm", "usd_import"),
    ".usdc": ("wm", "usd_import"),
    ".usdz": ("wm", "usd_import"),
    ".abc": ("wm", "alembic_import"),
    ".ply": ("wm", "ply_import"),
    ".stl": ("wm", "stl_import"),
    ".obj": ("wm", "obj_import"),
    ".glb": ("import_scene", "gltf"),
    ".gltf": ("import_scene", "gltf"),
}


@dataclass(frozen=True)
class _Source:
    """Which vertices of which instance a part's vertices are."""

    instance: int
    vertices: NDArray[np.int64]


def convert(source: Path, folder: Path) -> dict[str, Any]:
    """Convert a file; what ``done.json`` says is returned.

    Raises:
        UserError: If it cannot be opened, or shows nothing.
    """
    bpy = import_bpy()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    _open(bpy, source)
    parts, materials, sources = _parts(bpy, source.name)
    if not parts:
        raise UserError(f"{source.name}: shows no surface. Put meshes into it that are not hidden.")
    write_glb(MeshDocument(tuple(parts), tuple(materials)), folder / "mesh.glb")
    note, frames = "", _sample_frames(bpy)
    if len(frames) > 1:
        moved = _bake(bpy, frames, sources)
        if moved is None:
            note = "its triangles change with time; it is taken as it is at first"
        elif np.ptp(moved, axis=0).max() > STILL * np.ptp(moved[0], axis=0).max():
            np.save(folder / "vertices.npy", moved)
    return {"note": note, "unit_m": bpy.context.scene.unit_settings.scale_length}


def _open(bpy: Any, source: Path) -> None:
    bpy.context.preferences.filepaths.use_scripts_auto_execute = False
    suffix = source.suffix.lower()
    try:
        if suffix == ".blend":
            bpy.ops.wm.open_mainfile(filepath=str(source), load_ui=False, use_scripts=False)
        else:
            group, name = _IMPORTERS[suffix]
            getattr(getattr(bpy.ops, group), name)(filepath=str(source))
    except (RuntimeError, AttributeError) as error:
        text = str(error).strip() or type(error).__name__
        reason = text.splitlines()[0].removeprefix("Error: ")
        raise UserError(f"{source.name}: cannot be opened by Blender ({reason}). Export it again.") from None


def _instances(bpy: Any) -> list[tuple[Any, NDArray[np.float64]]]:
    """Everything visible with a surface, and its transform, in Blender's own order."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    found = []
    for instance in depsgraph.object_instances:
        thing = instance.object
        if thing.type in _GEOMETRY and instance.show_self and not thing.hide_render:
            found.append((thing.original, np.array(instance.matrix_world)))
    return found


def _evaluated(bpy: Any, thing: Any) -> Any:
    return thing.evaluated_get(bpy.context.evaluated_depsgraph_get())


def _parts(bpy: Any, name: str) -> tuple[list[FilePart], list[FileMaterial], list[_Source]]:
    parts: list[FilePart] = []
    materials: list[FileMaterial] = []
    sources: list[_Source] = []
    numbers: dict[str, int] = {}
    start = _sample_frames(bpy)[0]
    bpy.context.scene.frame_set(int(start), subframe=start % 1)
    unit = bpy.context.scene.unit_settings.scale_length
    for i, (thing, world) in enumerate(_instances(bpy)):
        evaluated = _evaluated(bpy, thing)
        mesh = evaluated.to_mesh()
        if mesh is None or not len(mesh.polygons):
            continue
        mesh.calc_loop_triangles()
        points = _array(mesh.vertices, "co", 3)
        vertex = _array(mesh.loops, "vertex_index", 1, np.int32).reshape(-1)
        normals = _array(mesh.corner_normals, "vector", 3)
        layer = mesh.uv_layers.active
        uvs = _array(layer.uv, "vector", 2) if layer is not None else np.zeros((len(vertex), 2))
        loops = _array(mesh.loop_triangles, "loops", 3, np.int32)
        slots = _array(mesh.loop_triangles, "material_index", 1, np.int32).reshape(-1)
        linear = world[:3, :3]
        if np.linalg.det(linear) < 0:
            loops = loops[:, ::-1]
        normals = normals @ np.linalg.pinv(linear) @ _TO_Y_UP.T
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
        for slot in np.unique(slots):
            corners = loops[slots == slot]
            used = corners.reshape(-1)
            key = np.concatenate([vertex[used, None], normals[used].round(4), uvs[used].round(6)], axis=1)
            _, first, index = np.unique(key, axis=0, return_index=True, return_inverse=True)
            chosen = used[first]
            own = evaluated.material_slots[slot].material if slot < len(evaluated.material_slots) else None
            label = own.name if own is not None else ""
            if label not in numbers:
                numbers[label] = len(materials)
                materials.append(_material(bpy, own.original if own is not None else None, name))
            parts.append(
                FilePart(
                    vertices=_placed(points[vertex[chosen]], world, unit),
                    triangles=index.reshape(-1, 3).astype(np.int64),
                    normals=normals[chosen],
                    uvs=uvs[chosen] if layer is not None else None,
                    material=numbers[label],
                )
            )
            sources.append(_Source(i, vertex[chosen].astype(np.int64)))
        evaluated.to_mesh_clear()
    return parts, materials, sources


def _placed(points: NDArray, world: NDArray, unit: float) -> NDArray[np.float64]:
    """Points of an instance in the axes of glTF, metres."""
    return (points @ world[:3, :3].T + world[:3, 3]) @ _TO_Y_UP.T * unit


def _array(collection: Any, name: str, width: int, dtype: Any = np.float32) -> NDArray:
    values = np.empty(len(collection) * width, dtype)
    collection.foreach_get(name, values)
    return values.reshape(-1, width).astype(np.float64 if dtype is np.float32 else np.int64)


# --- Motion -------------------------------------------------------------------------------------


def _sample_frames(bpy: Any) -> list[float]:
    """Frame numbers, fractional, at 24 Hz over all actions; the current one alone if there are none."""
    scene = bpy.context.scene
    ranges = [tuple(action.frame_range) for action in bpy.data.actions]
    if len(bpy.data.cache_files):  # vertices that stream in from USD or Alembic
        ranges.append((scene.frame_start, scene.frame_end))
    if not ranges:
        return [float(scene.frame_current)]
    low, high = min(a for a, _ in ranges), max(b for _, b in ranges)
    if scene.frame_end > scene.frame_start and bpy.data.filepath:
        low, high = max(low, scene.frame_start), min(high, scene.frame_end)
    step = scene.render.fps / scene.render.fps_base / RATE_HZ
    count = min(int(max(high - low, 0) / step + 1e-6) + 1, MAX_SAMPLES)
    return [low + i * step for i in range(count)]


def _bake(bpy: Any, frames: list[float], sources: list[_Source]) -> NDArray[np.float32] | None:
    """Positions ``[F, V, 3]`` in the order of the parts; None if the mesh is another one later."""
    unit = bpy.context.scene.unit_settings.scale_length
    wanted = {source.instance for source in sources}
    sizes: dict[int, int] = {}
    samples = []
    for frame in frames:
        bpy.context.scene.frame_set(int(np.floor(frame)), subframe=float(frame % 1))
        placed: dict[int, NDArray] = {}
        for i, (thing, world) in enumerate(_instances(bpy)):
            if i not in wanted:
                continue
            evaluated = _evaluated(bpy, thing)
            mesh = evaluated.to_mesh()
            if sizes.setdefault(i, len(mesh.vertices)) != len(mesh.vertices):
                return None
            placed[i] = _placed(_array(mesh.vertices, "co", 3), world, unit)
            evaluated.to_mesh_clear()
        if placed.keys() != wanted:
            return None
        samples.append(np.concatenate([placed[s.instance][s.vertices] for s in sources]).astype(np.float32))
    return np.stack(samples)


# --- Materials ----------------------------------------------------------------------------------


def _material(bpy: Any, material: Any, name: str) -> FileMaterial:
    """A Blender material as glTF has it: the first shader found behind the output."""
    if material is None:
        return FileMaterial(base_color=(0.8, 0.8, 0.8), roughness=0.5)
    tree = material.node_tree
    output = tree.get_output_node("ALL") if tree is not None else None
    shader = _upstream(output.inputs["Surface"], lambda node: "BSDF" in node.type) if output else None
    if shader is None:
        r, g, b, a = material.diffuse_color
        return FileMaterial(
            name=material.name,
            base_color=(r, g, b),
            opacity=a,
            alpha_mode="BLEND" if a < 1 else "OPAQUE",
            roughness=material.roughness,
            metallic=material.metallic,
        )
    color_socket = shader.inputs.get("Base Color") or shader.inputs.get("Color")
    image_node = _image_node(color_socket)
    base = None if image_node is None else _image(bpy, image_node, name)
    r, g, b = (1.0, 1.0, 1.0) if base is not None else tuple(color_socket.default_value)[:3]
    opacity, alpha_mode = _number(shader, "Alpha", 1.0), "OPAQUE"
    mask = _image_node(shader.inputs.get("Alpha"))
    if mask is not None:
        opacity, alpha_mode = 1.0, "BLEND"
        if image_node is None or mask.image != image_node.image:
            base = with_alpha(base, _image(bpy, mask, name), name)
    elif opacity < 1:
        alpha_mode = "BLEND"
    glass = shader.type in ("BSDF_GLASS", "BSDF_REFRACTION")
    metal = shader.type in ("BSDF_GLOSSY", "BSDF_ANISOTROPIC", "BSDF_METALLIC")
    rough = _image_node(shader.inputs.get("Roughness"))
    bump = _upstream(shader.inputs.get("Normal"), lambda node: node.type == "NORMAL_MAP")
    normal = None if bump is None else _image_node(bump.inputs["Color"])
    transmission = 1.0 if glass else _number(shader, "Transmission Weight", 0.0)
    return FileMaterial(
        name=material.name,
        base_color=(float(r), float(g), float(b)),
        opacity=opacity,
        base_image=base,
        alpha_mode=alpha_mode,
        roughness=1.0 if rough is not None else _number(shader, "Roughness", 0.5),
        metallic=1.0 if metal else _number(shader, "Metallic", 0.0),
        rough_metal_image=None if rough is None else _rough_image(bpy, shader, rough, name),
        normal_image=None if normal is None else _image(bpy, normal, name),
        transmission=transmission,
        ior=min(max(_number(shader, "IOR", 1.5), 1.01), 3.0),
    )


def _number(shader: Any, socket: str, default: float) -> float:
    found = shader.inputs.get(socket)
    return float(found.default_value) if found is not None else default


def _upstream(socket: Any, wanted: Any) -> Any:
    """The nearest node behind a socket that is wanted; None if there is none."""
    pending, seen = [socket] if socket is not None else [], set()
    while pending:
        for link in pending.pop(0).links:
            node = link.from_node
            if node.name in seen:
                continue
            seen.add(node.name)
            if wanted(node):
                return node
            pending += [s for s in node.inputs if s.is_linked]
    return None


def _image_node(socket: Any) -> Any:
    return _upstream(socket, lambda node: node.type == "TEX_IMAGE" and node.image is not None)


def _image(bpy: Any, node: Any, name: str) -> FileImage:
    image, repeats = node.image, node.extension == "REPEAT"
    if image.source == "FILE" and not image.is_dirty:
        if image.packed_file is not None:
            return embedded(bytes(image.packed_file.data), image.name, repeats=repeats)
        path = Path(bpy.path.abspath(image.filepath, library=image.library))
        if not path.is_file():
            hint = "Pack it into the file, or put it back."
            raise UserError(f"{name}: its texture {path.name or image.name} is missing. {hint}")
        return embedded(path.read_bytes(), path.name, repeats=repeats)
    width, height = image.size
    if not width * height:
        raise UserError(f"{name}: its texture {image.name} is missing. Pack it into the file.")
    pixels = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(pixels)
    rgba = np.clip(pixels.reshape(height, width, image.channels)[::-1], 0, 1)
    if rgba.shape[2] < 3:
        rgba = np.repeat(rgba[..., :1], 3, axis=2)
    return encoded((rgba * 255 + 0.5).astype(np.uint8), repeats=repeats)


def _rough_image(bpy: Any, shader: Any, node: Any, name: str) -> FileImage:
    """Roughness in green and metallic in blue, as glTF wants it."""
    from focuspull.render.textures import decode

    image = _image(bpy, node, name)
    between = _upstream(shader.inputs["Roughness"], lambda n: n.type in ("SEPARATE_COLOR", "SEPRGB"))
    metallic = _image_node(shader.inputs.get("Metallic"))
    if between is not None and (metallic is None or metallic.image == node.image):
        return image
    pixels = decode(image.data, name)[..., :3].copy()
    top = np.iinfo(pixels.dtype).max
    pixels[..., 1] = pixels[..., 0]
    pixels[..., 2] = top  # what the factor then multiplies
    return encoded(pixels, repeats=image.repeats)


def _main() -> None:
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        done = convert(source, folder)
    except UserError as error:
        done = {"problem": str(error)}
    (folder / "done.json").write_text(json.dumps(done))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _main()
