"""What the records of a scene are made of: closed models, numbers with ranges, files named by content."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

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
    """Frozen, closed record: an unknown key or a non-finite number is an error.

    Attributes:
        later_fields: Fields that the JSON leaves out while they are at their default. Records are hashed: who
            does not use such a field keeps the hash that there was before it existed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    later_fields: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = dump(self)
        kinds = type(self).model_fields
        for name in self.later_fields:
            if getattr(self, name) == kinds[name].get_default(call_default_factory=True):
                fields.pop(name, None)
        return fields


class FileRef(Model):
    """A file by content. YAML may give just the name, relative to the spec's folder.

    ``bpy:PATH`` names a file inside the installed bpy wheel, e.g. ``bpy:studiolights/world/forest.exr``;
    ``asset:SOURCE/NAME`` one in the asset library (see `focuspull.render.assets`).
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
