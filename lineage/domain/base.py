"""The base of every domain type."""

from functools import cache
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

_set = object.__setattr__


class Model(BaseModel):
    """Hold an immutable value whose JSON form has a published schema.

    Unknown fields are refused; schemas are built on first use so that importing stays cheap.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def of_valid(cls, fields: dict[str, Any]) -> Self:
        """Return the value that `fields` make: every one of them, in order, each valid as it is.

        Nothing is looked at, and the dict is the value's own from then on. For the hundreds of
        thousands of values of one answer, whose parts were checked when they were read.
        """
        value = cls.__new__(cls)
        _set(value, "__dict__", fields)
        _set(value, "__pydantic_fields_set__", _all_fields(cls))
        _set(value, "__pydantic_extra__", None)
        _set(value, "__pydantic_private__", None)
        return value

    def to_json_dict(self) -> dict[str, Any]:
        """Return the value as plain JSON types: datetimes as ISO 8601, enums as their values."""
        return self.model_dump(mode="json")


@cache
def _all_fields(kind: type[Model]) -> set[str]:
    return set(kind.model_fields)
