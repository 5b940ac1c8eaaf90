"""The base of every domain type."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Hold an immutable value whose JSON form has a published schema.

    Unknown fields are refused; schemas are built on first use so that importing stays cheap.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def to_json_dict(self) -> dict[str, Any]:
        """Return the value as plain JSON types: datetimes as ISO 8601, enums as their values."""
        return self.model_dump(mode="json")
