"""What stored records are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class FrozenModel(BaseModel):
    """Base of all stored records: immutable, no unknown fields, no NaN or infinity."""

    # Opaque dictionaries escape `allow_inf_nan`. "constants" lets `canonical_json` see and refuse a NaN in
    # them, where pydantic's default would write null.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")
