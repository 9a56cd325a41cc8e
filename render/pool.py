"""What scene families may take from files: the assets of a corpus, resolved and named by content.

The spec of a corpus holds the whole pool, so that scenes stay a pure function of it. Without a pool the
families make do with what they draw themselves.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from focuspull.render.records import FileRef, ImageSequence, Model, Positive


class MeshAsset(Model):
    """A mesh file with its own materials, standing on z = 0 at its real size.

    Attributes:
        id: Name among the assets.
        file: GLB or OBJ.
        height_m: To which the file is scaled.
        footprint_m: Width (x) and depth (y) at that height.
        tags: What it is: ``chair``, ``plant``, ``person``, ``car``.
        vertices: Positions over time, see `focuspull.render.spec.VertexFile`; None: rigid.
        rate_hz: Of those.
        num_triangles: How many it has; 0: not known.
    """

    id: str
    file: FileRef
    height_m: Positive
    footprint_m: tuple[Positive, Positive]
    tags: tuple[str, ...] = ()
    vertices: FileRef | None = None
    rate_hz: Positive = 24.0
    num_triangles: int = Field(default=0, ge=0)
    later_fields: ClassVar[tuple[str, ...]] = ("num_triangles",)


class CutoutAsset(Model):
    """An RGBA still, or the frames of a matted video.

    Attributes:
        id: Name among the assets.
        image: The still.
        sequence: The frames, in its place.
        height_m: How tall a card with it usually is.
        tags: What it shows.
    """

    id: str
    image: FileRef | None = None
    sequence: ImageSequence | None = None
    height_m: Positive = 1.7
    tags: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> CutoutAsset:
        if (self.image is None) == (self.sequence is None):
            raise ValueError("a cut-out needs exactly one of 'image' and 'sequence'")
        return self


class AssetCredit(Model):
    """Under which licence an asset of the library may be shown, and whom it asks to name.

    Attributes:
        name: As specs have it, ``asset:SOURCE/NAME``.
        licence: SPDX name, or ``user``.
        attribution: Empty if nobody need be named.
    """

    name: str
    licence: str
    attribution: str = ""


class AssetPool(Model):
    """The files that families of a corpus draw from.

    Attributes:
        hdris: Panoramas, linear, 2:1.
        textures: Colour images that tile.
        normal_maps: Tangent-space normals that tile, green upwards.
        photos: Pictures for walls, screens and backdrops.
        meshes: Things.
        cutouts: Cards.
        credits: Licences of all assets that a corpus names; filled in when its spec is read.
    """

    hdris: tuple[FileRef, ...] = ()
    textures: tuple[FileRef, ...] = ()
    normal_maps: tuple[FileRef, ...] = ()
    photos: tuple[FileRef, ...] = ()
    meshes: tuple[MeshAsset, ...] = Field(default=(), max_length=20000)
    cutouts: tuple[CutoutAsset, ...] = Field(default=(), max_length=20000)
    credits: tuple[AssetCredit, ...] = ()
    later_fields: ClassVar[tuple[str, ...]] = ("credits",)

    def with_tags(self, *tags: str) -> tuple[MeshAsset, ...]:
        """The meshes that have one of the tags."""
        return tuple(mesh for mesh in self.meshes if not set(tags).isdisjoint(mesh.tags))
