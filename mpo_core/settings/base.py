"""What all settings share."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
DEVICE = r"^(auto|cpu|cuda(:[0-9]+)?)$"
OPERATIONAL: dict[str, JsonValue] = {"operational": True}


class Settings(BaseModel):
    """Base of all settings: strict, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", strict=True, validate_default=True, use_attribute_docstrings=True)

    def key(self) -> str:
        """A digest of the settings that can change an answer: the settings' part of a cache key."""
        dumped = json.dumps(_content(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(dumped.encode()).hexdigest()


def _content(value: Any) -> Any:
    if isinstance(value, Settings):
        return {
            name: _content(getattr(value, name))
            for name, field in type(value).model_fields.items()
            if not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("operational"))
        }
    if isinstance(value, list | tuple):
        return [_content(item) for item in value]
    if isinstance(value, dict):
        return {str(k): _content(v) for k, v in value.items()}
    return value
