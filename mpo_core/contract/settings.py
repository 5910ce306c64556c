"""What all settings share."""

import hashlib
import json
import os
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic.fields import FieldInfo

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
UserPath = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path, or the name of something on a hub; a leading `~` is the home of the user."""
DELIMITER = r"^[^\"\r\n]$"


def single_character(value: Any) -> Any:
    r"""Returns the delimiter that a name or an escape stands for: `tab` and `\t` are a tab."""
    return "\t" if value in ("tab", r"\t") else value


Delimiter = Annotated[str, BeforeValidator(single_character), Field(pattern=DELIMITER)]
"""One character between the fields of a CSV file."""
DEVICE = r"^(auto|cpu|cuda(:[0-9]+)?)$"
OPERATIONAL: dict[str, JsonValue] = {"operational": True}
"""Marks a setting that does not change results, and so takes no part in cache keys."""
LOCATION: dict[str, JsonValue] = {**OPERATIONAL, "location": True}
"""Marks a setting that says where a model or a file is: cache keys hold the digest of its content instead."""


def alike(*values: JsonValue) -> dict[str, JsonValue]:
    """Marks a setting for which these values give the same results as its default: cache keys leave them out, too."""
    return {"alike": list(values)}


class Settings(BaseModel):
    """Base of all settings: unknown keys, wrong types and numbers that are not finite are rejected."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        # JSON has no infinity, and pydantic would write null in its place: a reader would take the default. A value
        # that `model_copy` has let in unchecked is written as it is, and rejected when it is read.
        ser_json_inf_nan="constants",
    )

    def key(self) -> str:
        """Returns a digest of the settings that can change an answer: the settings' part of a cache key.

        A setting that has its default value takes no part, so a new setting whose default keeps the old behaviour
        leaves every cache valid. Whoever changes a default must raise the version of the stages that read it.
        """
        dumped = json.dumps(_content(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(dumped.encode()).hexdigest()

    def normalised(self) -> Self:
        """Returns settings with the same answers, in a form that several such settings share, and so share a key."""
        return self


def _content(value: Any) -> Any:
    """Returns the part of a value that can change an answer, as plain data."""
    if isinstance(value, Settings):
        value = value.normalised()
        fields = type(value).model_fields.items()
        content = {name: (_content(getattr(value, name)), field) for name, field in fields if not _operational(field)}
        return {name: part for name, (part, field) in content.items() if not _is_default(part, field)}
    if isinstance(value, list | tuple):
        return [_content(item) for item in value]
    if isinstance(value, dict):
        return {str(k): _content(v) for k, v in value.items()}
    return value


def _operational(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("operational"))


def _is_default(content: Any, field: FieldInfo) -> bool:
    # A required field, such as the name that tells one engine's settings from another's, always takes part.
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    alike_values: Any = extra.get("alike", [])
    default = _content(field.get_default(call_default_factory=True))
    return not field.is_required() and bool(content == default or content in alike_values)
