"""Small assets, made on the spot: meshes, images, sequences, videos, catalogues."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.render.assets_obj import encoded
from focuspull.render.backends.cycles import import_bpy
from focuspull.render.glb import FileMaterial, FilePart, MeshDocument, write_glb


def checker(size: int = 32, *, alpha: bool = False) -> NDArray[np.uint8]:
    """Red and green fields; with alpha a disc of them."""
    y, x = np.mgrid[:size, :size]
    odd = ((x // 8 + y // 8) % 2).astype(bool)
    pixels = np.where(odd[..., None], (220, 30, 30), (30, 200, 40)).astype(np.uint8)
    if not alpha:
        return pixels
    disc = (np.hypot(x - size / 2 + 0.5, y - size / 2 + 0.5) < size * 0.4) * 255
    return np.concatenate([pixels, disc[..., None].astype(np.uint8)], axis=2)


def write_image(path: Path, pixels: NDArray) -> Path:
    """An image file; RGB or RGBA, integers or floats."""
    order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(pixels, order))
    return path


def panorama(height: int = 64) -> NDArray[np.float32]:
    """A bright sky over a dark ground, blue on top."""
    pixels = np.full((height, 2 * height, 3), 0.2, np.float32)
    pixels[: height // 2] = (0.6, 0.8, 1.5)
    return pixels


def box_part(size: tuple[float, float, float], foot: float = 0.0, material: int = 0) -> FilePart:
    """A closed box, y up, standing on y = foot, with flat normals and texture coordinates on every side."""
    vertices, normals, uvs, triangles = [], [], [], []
    half = np.array(size) / 2
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            start = len(vertices)
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                p = np.zeros(3)
                p[axis], p[u], p[v] = sign, a, b
                vertices.append(p * half + [0, half[1] + foot, 0])
                normals.append(np.eye(3)[axis] * sign)
                uvs.append(((a + 1) / 2, (b + 1) / 2))
            order = (0, 1, 2, 0, 2, 3) if sign > 0 else (0, 2, 1, 0, 3, 2)
            triangles.append(np.reshape(order, (2, 3)) + start)
    arrays = (np.array(a, np.float64) for a in (vertices, normals, uvs))
    points, directions, coordinates = arrays
    return FilePart(points, np.concatenate(triangles).astype(np.int64), directions, coordinates, material)


def two_part_document() -> MeshDocument:
    """A checkered box 1 high, and a blue one on it, half as wide, 0.5 high: 1.5 in all."""
    materials = (
        FileMaterial(name="checker", base_image=encoded(checker()), roughness=0.8),
        FileMaterial(name="blue", base_color=(0.05, 0.1, 0.9), roughness=0.3),
    )
    return MeshDocument((box_part((1, 1, 1)), box_part((0.5, 0.5, 0.5), 1.0, material=1)), materials)


def write_box_glb(path: Path) -> Path:
    """`two_part_document` as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_glb(two_part_document(), path)
    return path


OBJ = """
mtllib {stem}.mtl
v -50 0 -10
v 50 0 -10
v 50 120 -10
v -50 120 -10
v -50 0 10
v 50 0 10
v 50 120 10
v -50 120 10
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl painted
f 5/1 6/2 7/3 8/4
f 2/1 1/2 4/3 3/4
usemtl plain
f 1/1 2/2 6/3 5/4
f 4/1 8/2 7/3 3/4
f 1/1 5/2 8/3 4/4
f -7/1 -6/2 -2/3 -3/4
"""
MTL = """
newmtl painted
Kd 1 1 1
Ks 0.1 0.1 0.1
Ns 20
map_Kd {image}
newmtl plain
Kd 0.5 0.5 0.5
"""


def write_obj(path: Path, image: str = "paint.png", *, has_image: bool = True) -> Path:
    """A board of 100 x 120 x 20 centimetres in an OBJ file, with its MTL and texture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(OBJ.format(stem=path.stem))
    path.with_suffix(".mtl").write_text(MTL.format(image=image))
    if has_image:
        write_image(path.parent / image, checker())
    return path


def write_video(path: Path, frames: list[NDArray[np.uint8]]) -> Path:
    """Frames ``[H, W, 3]`` without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=24, options={"qp": "0"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb24"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def make_blend(path: Path) -> None:
    """A red post that a bone bends to and fro in a second, and a script that must not run; for a child."""
    bpy = import_bpy()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_cylinder_add(vertices=12, radius=0.2, depth=1.0, location=(0, 0, 0.5))
    post = bpy.context.object
    material = bpy.data.materials.new("red")
    material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (0.8, 0.05, 0.05, 1)
    post.data.materials.append(material)
    bpy.ops.object.armature_add(location=(0, 0, 0))
    armature = bpy.context.object
    post.modifiers.new("bones", "ARMATURE").object = armature
    upper = [vertex.index for vertex in post.data.vertices if vertex.co.z > 0]
    post.vertex_groups.new(name="Bone").add(upper, 1.0, "REPLACE")
    bone = armature.pose.bones["Bone"]
    bone.rotation_mode = "XYZ"
    for frame, angle in ((1, 0.0), (13, 0.5), (25, 0.0)):
        bone.rotation_euler = (0, 0, angle)
        bone.keyframe_insert("rotation_euler", frame=frame)
    script = bpy.data.texts.new("run.py")
    script.write(f"open({str(path.parent / 'ran')!r}, 'w')")
    script.use_module = True
    bpy.context.scene.frame_end = 25
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.export_scene.gltf(filepath=str(path.with_suffix(".glb")))
    sys.stdout.flush()


def scripts_ran(folder: Path) -> bool:
    """Whether the script of `make_blend` ran."""
    return os.path.exists(folder / "ran")
