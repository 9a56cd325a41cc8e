"""GLB files (binary glTF 2.0): triangles and materials out of one file, and into it.

Positions stay in the file's units and axes (metres, Y up). The vertices of a file have an order: nodes depth
first as the scene lists them, primitives as a node's mesh lists them; `focuspull.render.spec.VertexFile`
counts on it. Texture coordinates are turned so that v = 1 is the top of an image.

Read: triangles, strips and fans, node transforms, quantized accessors, embedded images, metallic-roughness
materials, ``KHR_materials_transmission``, ``_ior``, ``_volume``, ``KHR_texture_transform``. Not read: skins,
morph targets, animations, sparse accessors, compressed buffers, light that materials give, vertex colours.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError

MAGIC = b"glTF"
_JSON, _BIN = 0x4E4F534A, 0x004E4942
_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_FLOAT, _UINT = 5126, 5125
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_CLAMP = 33071
READABLE_EXTENSIONS = {"KHR_texture_transform", "KHR_mesh_quantization", "EXT_texture_webp"}
"""Extensions that a file may require, beside those of materials."""


@dataclass(frozen=True)
class FileImage:
    """An encoded image inside a file, and whether it repeats beyond its edges."""

    data: bytes
    mime: str
    repeats: bool = True


@dataclass(frozen=True)
class FileMaterial:
    """A material as a file has it; images multiply the factors, as in glTF.

    Attributes:
        name: In the file.
        base_color: Linear factor.
        opacity: Factor.
        base_image: sRGB colour, with alpha that counts if ``alpha_mode`` is not ``OPAQUE``.
        alpha_mode: ``OPAQUE``, ``MASK`` or ``BLEND``.
        alpha_cutoff: Of ``MASK``.
        roughness: Factor.
        metallic: Factor.
        rough_metal_image: Roughness in green, metallic in blue, linear.
        normal_image: Tangent-space normals, green upwards.
        transmission: Factor.
        ior: Of glass, and of the coat of all else.
        thickness: Above 0: light goes into a volume; 0: the surface is a thin wall.
    """

    name: str = ""
    base_color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    opacity: float = 1.0
    base_image: FileImage | None = None
    alpha_mode: str = "OPAQUE"
    alpha_cutoff: float = 0.5
    roughness: float = 1.0
    metallic: float = 0.0
    rough_metal_image: FileImage | None = None
    normal_image: FileImage | None = None
    transmission: float = 0.0
    ior: float = 1.5
    thickness: float = 0.0


@dataclass(frozen=True)
class FilePart:
    """Triangles of one material, in the file's units and axes.

    Attributes:
        vertices: ``[V, 3]`` float64.
        triangles: ``[F, 3]`` int64.
        normals: ``[V, 3]``, or None if the file has none.
        uvs: ``[V, 2]``, or None.
        material: Number among the file's materials.
    """

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int64]
    normals: NDArray[np.float64] | None = None
    uvs: NDArray[np.float64] | None = None
    material: int = 0


@dataclass(frozen=True)
class MeshDocument:
    """What a mesh file holds."""

    parts: tuple[FilePart, ...]
    materials: tuple[FileMaterial, ...]


def read_glb(path: Path, name: str) -> MeshDocument:
    """Triangles and materials of a GLB file.

    Args:
        path: Where it lies.
        name: For messages.

    Raises:
        UserError: If it is no GLB file, is broken or needs what is not read here.
    """
    try:
        return _Reader(path.read_bytes(), name).document()
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror}). Check the path.") from None
    except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{name}: is a broken GLB file ({reason}). Export it again.") from error


def needs_conversion(path: Path) -> str | None:
    """Why a GLB or glTF file has to go through Blender to be read here; None: it need not, or is broken."""
    try:
        document, _ = _chunks(path.read_bytes())
    except (OSError, ValueError, struct.error):
        return None
    if document.get("skins") or any("targets" in p for p in _primitives(document)):
        return "has a skin or shape keys"
    if document.get("animations"):
        return "is animated"
    beyond = sorted(n for n in document.get("extensionsRequired", ()) if not _is_readable(n))
    return f"needs {', '.join(beyond)}" if beyond else None


def write_glb(document: MeshDocument, path: Path) -> None:
    """Writes one node with all parts as primitives, so that `read_glb` returns them in their order."""
    path.write_bytes(_Writer(document).encode())


# --- Reading ------------------------------------------------------------------------------------


def _is_readable(extension: str) -> bool:
    return extension in READABLE_EXTENSIONS or extension.startswith("KHR_materials_")


def _primitives(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [p for mesh in document.get("meshes", ()) for p in mesh["primitives"]]


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON and the binary chunk."""
    magic, version, _ = struct.unpack_from("<4sII", data)
    if magic != MAGIC or version != 2:
        raise ValueError("does not begin as one")
    document: dict[str, Any] | None = None
    binary, at = b"", 12
    while at + 8 <= len(data):
        size, kind = struct.unpack_from("<II", data, at)
        chunk = data[at + 8 : at + 8 + size]
        if len(chunk) < size:
            raise ValueError("ends too early")
        if kind == _JSON:
            document = json.loads(chunk)
        elif kind == _BIN and not binary:
            binary = chunk
        at += 8 + size
    if document is None:
        raise ValueError("has no content")
    return document, binary


class _Reader:
    """One file while it is read."""

    def __init__(self, data: bytes, name: str) -> None:
        self._name = name
        self._json, self._binary = _chunks(data)

    def document(self) -> MeshDocument:
        required = self._json.get("extensionsRequired", ())
        beyond = sorted(extension for extension in required if not _is_readable(extension))
        if beyond:
            hint = "Add it with: focuspull-render assets add"
            raise UserError(f"{self._name}: needs {', '.join(beyond)}, which is not read here. {hint}")
        materials = [self._material(m) for m in self._json.get("materials", ())]
        parts: list[FilePart] = []
        for mesh, matrix in self._nodes():
            for primitive in self._json["meshes"][mesh]["primitives"]:
                part = self._part(primitive, matrix, len(materials))
                parts += [] if part is None else [part]
        if any(part.material == len(materials) for part in parts):
            materials.append(FileMaterial(name="default", roughness=0.5, base_color=(0.8, 0.8, 0.8)))
        return MeshDocument(tuple(parts), tuple(materials))

    def _nodes(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Meshes and their transforms in the order of the file."""
        nodes = self._json.get("nodes", [])
        if scenes := self._json.get("scenes"):
            roots = scenes[self._json.get("scene", 0)].get("nodes", [])
        else:
            children = {child for node in nodes for child in node.get("children", ())}
            roots = [i for i in range(len(nodes)) if i not in children]
        # The path guards against circles.
        pending = [(i, np.eye(4), frozenset[int]()) for i in reversed(roots)]
        while pending:
            i, parent, path = pending.pop()
            if i in path:
                raise ValueError("its nodes form a circle")
            node = nodes[i]
            matrix = parent @ _local(node)
            if "mesh" in node:
                yield node["mesh"], matrix
            pending += [(child, matrix, path | {i}) for child in reversed(node.get("children", []))]

    def _part(self, primitive: dict[str, Any], matrix: NDArray[np.float64], default: int) -> FilePart | None:
        mode = primitive.get("mode", _TRIANGLES)
        if mode not in (_TRIANGLES, _STRIP, _FAN):
            return None  # points and lines
        attributes = primitive["attributes"]
        vertices = self._accessor(attributes["POSITION"])
        index = (
            self._accessor(primitive["indices"]).reshape(-1).astype(np.int64)
            if "indices" in primitive
            else np.arange(len(vertices))
        )
        triangles = _triangles(index, mode)
        if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(vertices):
            raise ValueError("an index is beyond its vertices")
        linear = matrix[:3, :3]
        if np.linalg.det(linear) < 0:
            triangles = triangles[:, ::-1]
        normals = self._accessor(attributes["NORMAL"]) if "NORMAL" in attributes else None
        if normals is not None:
            normals = normals @ np.linalg.pinv(linear)
            normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
        material = primitive.get("material", default)
        uvs = self._uvs(attributes, material)
        for array in (normals, uvs):
            if array is not None and len(array) != len(vertices):
                raise ValueError("attributes differ in length")
        return FilePart(vertices @ linear.T + matrix[:3, 3], triangles, normals, uvs, material)

    def _uvs(self, attributes: dict[str, int], material: int) -> NDArray[np.float64] | None:
        """Texture coordinates that the images of a material use, v upwards."""
        materials = self._json.get("materials", [])
        texture = _first_texture(materials[material]) if material < len(materials) else {}
        transform = texture.get("extensions", {}).get("KHR_texture_transform", {})
        channel = f"TEXCOORD_{transform.get('texCoord', texture.get('texCoord', 0))}"
        if channel not in attributes:
            return None
        uvs = self._accessor(attributes[channel])[:, :2]
        if transform:
            angle = transform.get("rotation", 0.0)
            cosine, sine = np.cos(angle), np.sin(angle)
            turn = np.array([[cosine, sine], [-sine, cosine]])
            uvs = (uvs * transform.get("scale", (1, 1))) @ turn.T + transform.get("offset", (0, 0))
        return np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1)

    def _accessor(self, number: int) -> NDArray[np.float64]:
        """Its values; normalized integers become fractions."""
        accessor = self._json["accessors"][number]
        if "sparse" in accessor:
            raise ValueError("has sparse accessors")
        dtype = np.dtype(_DTYPES[accessor["componentType"]])
        count, width = accessor["count"], _WIDTHS[accessor["type"]]
        if "bufferView" not in accessor:
            return np.zeros((count, width))
        view = self._json["bufferViews"][accessor["bufferView"]]
        stride = view.get("byteStride", width * dtype.itemsize)
        start = accessor.get("byteOffset", 0)
        data = self._view(accessor["bufferView"])
        if start + (count - 1) * stride + width * dtype.itemsize > len(data):
            raise ValueError("an accessor is beyond its buffer")
        strides = (stride, dtype.itemsize)
        raw = np.ndarray((count, width), dtype, data, start, strides)
        values = raw.astype(np.float64)
        if accessor.get("normalized") and dtype.kind != "f":
            values = np.maximum(values / np.iinfo(dtype).max, -1.0)
        return values

    def _view(self, number: int) -> bytes:
        view = self._json["bufferViews"][number]
        buffer = self._json["buffers"][view["buffer"]]
        data = _data_uri(buffer["uri"])[0] if "uri" in buffer else self._binary
        start = view.get("byteOffset", 0)
        chunk = data[start : start + view["byteLength"]]
        if len(chunk) < view["byteLength"]:
            raise ValueError("a buffer view is beyond its buffer")
        return chunk

    def _material(self, material: dict[str, Any]) -> FileMaterial:
        pbr = material.get("pbrMetallicRoughness", {})
        extensions = material.get("extensions", {})
        r, g, b, a = (float(c) for c in pbr.get("baseColorFactor", (1, 1, 1, 1)))
        return FileMaterial(
            name=material.get("name", ""),
            base_color=(r, g, b),
            opacity=a,
            base_image=self._texture(pbr.get("baseColorTexture")),
            alpha_mode=material.get("alphaMode", "OPAQUE"),
            alpha_cutoff=float(material.get("alphaCutoff", 0.5)),
            roughness=float(pbr.get("roughnessFactor", 1.0)),
            metallic=float(pbr.get("metallicFactor", 1.0)),
            rough_metal_image=self._texture(pbr.get("metallicRoughnessTexture")),
            normal_image=self._texture(material.get("normalTexture")),
            transmission=float(extensions.get("KHR_materials_transmission", {}).get("transmissionFactor", 0)),
            ior=float(extensions.get("KHR_materials_ior", {}).get("ior", 1.5)),
            thickness=float(extensions.get("KHR_materials_volume", {}).get("thicknessFactor", 0)),
        )

    def _texture(self, info: dict[str, Any] | None) -> FileImage | None:
        if info is None:
            return None
        texture = self._json["textures"][info["index"]]
        source = texture.get("extensions", {}).get("EXT_texture_webp", texture).get("source")
        if source is None:
            raise ValueError("a texture has no image that is read here")
        sampler = self._json["samplers"][texture["sampler"]] if "sampler" in texture else {}
        repeats = sampler.get("wrapS", 0) != _CLAMP or sampler.get("wrapT", 0) != _CLAMP
        image = self._json["images"][source]
        if "uri" in image:
            data, mime = _data_uri(image["uri"])
        else:
            data, mime = self._view(image["bufferView"]), image.get("mimeType", "image/png")
        return FileImage(data, mime, repeats)


def _first_texture(material: dict[str, Any]) -> dict[str, Any]:
    """Where a material's texture coordinates are told; all of its images are taken to share them."""
    pbr = material.get("pbrMetallicRoughness", {})
    infos = (pbr.get("baseColorTexture"), pbr.get("metallicRoughnessTexture"), material.get("normalTexture"))
    return next((info for info in infos if info), {})


def _data_uri(uri: str) -> tuple[bytes, str]:
    head, comma, body = uri.partition(",")
    if not head.startswith("data:") or not comma:
        raise ValueError(f"refers to the file {uri[:80]}; it must hold everything itself")
    return base64.b64decode(body), head.removeprefix("data:").partition(";")[0]


def _local(node: dict[str, Any]) -> NDArray[np.float64]:
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0.0, 0.0, 0.0, 1.0))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    ) * np.asarray(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def _triangles(index: NDArray[np.int64], mode: int) -> NDArray[np.int64]:
    if mode == _TRIANGLES:
        return index[: len(index) // 3 * 3].reshape(-1, 3)
    a = np.arange(len(index) - 2)
    if mode == _FAN:
        return np.stack([np.full_like(a, index[0]), index[a + 1], index[a + 2]], axis=1)
    odd = a % 2
    return np.stack([index[a], index[a + 1 + odd], index[a + 2 - odd]], axis=1)


# --- Writing ------------------------------------------------------------------------------------


class _Writer:
    """One file while it is written."""

    def __init__(self, document: MeshDocument) -> None:
        self._document = document
        self._binary = bytearray()
        self._json: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "focuspull"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "bufferViews": [],
            "accessors": [],
        }
        self._images: dict[bytes, int] = {}
        self._textures: dict[tuple[int, bool], int] = {}

    def encode(self) -> bytes:
        primitives = [self._primitive(part) for part in self._document.parts]
        self._json["meshes"] = [{"primitives": primitives}]
        self._json["materials"] = [self._material(m) for m in self._document.materials]
        used = sorted({name for m in self._json["materials"] for name in m.get("extensions", ())})
        if used:
            self._json["extensionsUsed"] = used
        self._json["buffers"] = [{"byteLength": len(self._binary)}]
        text = json.dumps(self._json, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        body = struct.pack("<II", len(text), _JSON) + text
        body += struct.pack("<II", len(self._binary), _BIN) + bytes(self._binary)
        return struct.pack("<4sII", MAGIC, 2, 12 + len(body)) + body

    def _primitive(self, part: FilePart) -> dict[str, Any]:
        attributes = {"POSITION": self._accessor(part.vertices, bounds=True)}
        if part.normals is not None:
            attributes["NORMAL"] = self._accessor(part.normals)
        if part.uvs is not None:
            uvs = np.stack([part.uvs[:, 0], 1 - part.uvs[:, 1]], axis=1)
            attributes["TEXCOORD_0"] = self._accessor(uvs)
        index = part.triangles.astype("<u4").reshape(-1)
        view = self._view(index.tobytes())
        self._json["accessors"].append(
            {"bufferView": view, "componentType": _UINT, "count": index.size, "type": "SCALAR"}
        )
        indices = len(self._json["accessors"]) - 1
        return {"attributes": attributes, "indices": indices, "material": part.material}

    def _accessor(self, values: NDArray[np.float64], *, bounds: bool = False) -> int:
        values = values.astype("<f4")
        accessor: dict[str, Any] = {
            "bufferView": self._view(values.tobytes()),
            "componentType": _FLOAT,
            "count": len(values),
            "type": f"VEC{values.shape[1]}",
        }
        if bounds:
            accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        self._json["accessors"].append(accessor)
        return len(self._json["accessors"]) - 1

    def _view(self, data: bytes) -> int:
        view = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(data)}
        self._binary += data + b"\0" * (-len(data) % 4)
        self._json["bufferViews"].append(view)
        return len(self._json["bufferViews"]) - 1

    def _material(self, material: FileMaterial) -> dict[str, Any]:
        pbr: dict[str, Any] = {
            "baseColorFactor": [*material.base_color, material.opacity],
            "metallicFactor": material.metallic,
            "roughnessFactor": material.roughness,
        }
        result: dict[str, Any] = {"name": material.name, "pbrMetallicRoughness": pbr, "doubleSided": True}
        if material.base_image is not None:
            pbr["baseColorTexture"] = self._texture(material.base_image)
        if material.rough_metal_image is not None:
            pbr["metallicRoughnessTexture"] = self._texture(material.rough_metal_image)
        if material.normal_image is not None:
            result["normalTexture"] = self._texture(material.normal_image)
        if material.alpha_mode != "OPAQUE":
            result["alphaMode"] = material.alpha_mode
        if material.alpha_mode == "MASK":
            result["alphaCutoff"] = material.alpha_cutoff
        extensions: dict[str, Any] = {}
        if material.transmission > 0:
            extensions["KHR_materials_transmission"] = {"transmissionFactor": material.transmission}
        if material.ior != 1.5:
            extensions["KHR_materials_ior"] = {"ior": material.ior}
        if material.thickness > 0:
            extensions["KHR_materials_volume"] = {"thicknessFactor": material.thickness}
        return result | ({"extensions": extensions} if extensions else {})

    def _texture(self, image: FileImage) -> dict[str, int]:
        if image.data not in self._images:
            images = self._json.setdefault("images", [])
            images.append({"bufferView": self._view(image.data), "mimeType": image.mime})
            self._images[image.data] = len(images) - 1
        key = (self._images[image.data], image.repeats)
        if key not in self._textures:
            textures = self._json.setdefault("textures", [])
            texture: dict[str, int] = {"source": key[0]}
            if not image.repeats:
                self._json["samplers"] = [{"wrapS": _CLAMP, "wrapT": _CLAMP}]
                texture["sampler"] = 0
            textures.append(texture)
            self._textures[key] = len(textures) - 1
        return {"index": self._textures[key]}
