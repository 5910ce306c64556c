"""Writes docs/settings.md and docs/data-contract.md from the code that they describe.

python docs/generate.py
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from mpo_core.contract.tables import ALL_TABLES
from mpo_core.settings import PipelineConfig, Settings
from mpo_core.settings.profiles import settings_in

HERE = Path(__file__).resolve().parent
_HEAD = "<!-- written by docs/generate.py; edit the descriptions in the code -->\n\n"
_OPERATIONAL = "Does not change results."
_LOCATION = "Results depend on the content of the files, not on their place or name."


def settings_page() -> str:
    """Every settings key, with type, default and description."""
    lines = [
        _HEAD + "# Settings\n",
        "A profile is a YAML file of these keys; `--set key=value` overrides one. Unknown keys are refused.",
        "",
        f"*{_OPERATIONAL}* marks operational settings: they decide how fast something runs, where, with how much",
        "memory, or whether a check stops it. They take no part in cache keys, so finished work stays valid when you",
        "change one.",
        "",
        f"*{_LOCATION}* marks names of models and files.",
        "Cache keys hold the digest of the content: they see when files change, not when they move.\n",
        *(line for part in _section("", PipelineConfig, set()) for line in part),
    ]
    return "\n".join(lines) + "\n"


def _section(
    prefix: str,
    model: type[Settings],
    seen: set[type[Settings]],
    *,
    names: Sequence[str] | None = None,
    shown: Mapping[str, str | None] | None = None,
) -> tuple[list[str], list[str]]:
    """The settings of a model as a table, and the sections of the settings inside of it.

    Args:
        prefix: of their keys.
        model: the settings.
        seen: unions that have a section already.
        names: of the settings to show; all by default.
        shown: those that another member of the union has shown, description by name: shown by name.
    """
    rows: list[str] = []
    nested: list[str] = []
    again: list[str] = []
    for name in model.model_fields if names is None else names:
        field = model.model_fields[name]
        key = f"{prefix}{name}"
        if shown and not field.is_required() and shown.get(name) == field.description:
            again.append(f"`{name}`")
            continue
        inner = [model for model in settings_in(field.annotation) if model.model_fields]  # a base has none
        if inner:
            many = "[]" if getattr(field.annotation, "__origin__", None) is list else ""
            nested += [f"\n## {key}\n", f"{field.description}\n"]
            common = _common(inner)
            parts = [(inner[0], common)] if common else []
            parts += [(member, [n for n in member.model_fields if n not in common]) for member in _once(inner, seen)]
            shown: dict[str, str | None] = {}
            deeper: list[str] = []
            for member, own in parts:
                if len(inner) > 1 and own is not common:
                    nested.append(f"\n### {member.__doc__}\n")
                table, inside = _section(f"{key}{many}.", member, seen, names=own, shown=shown)
                nested += table
                deeper += inside
                shown = {name: member.model_fields[name].description for name in own} | shown
            nested += deeper
            if not _once(inner, seen) and len(inner) > 1:
                nested.append("As above.\n")
            seen.update(inner if len(inner) > 1 else [])
            continue
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        described = " ".join(f"{field.description}{_marker(field)}".split())
        rows.append(f"| `{key}` | {_type(field.annotation)} | {default} | {described} |")
    table = ["| key | type | default | meaning |", "|---|---|---|---|", *rows] if rows else []
    return table + ([f"\nAs above: {', '.join(again)}."] if again else []), nested


def _marker(field: FieldInfo) -> str:
    """What a setting's marker in the code means for the reader."""
    extra = field.json_schema_extra
    if not isinstance(extra, dict) or not extra.get("operational"):
        return ""
    return f" *{_LOCATION if extra.get('location') else _OPERATIONAL}*"


def _common(members: list[type[Settings]]) -> list[str]:
    """Names of the settings that all members of a union have alike."""
    first, *others = members
    return [
        name
        for name, field in first.model_fields.items()
        if others and all(_described(other.model_fields.get(name)) == _described(field) for other in others)
    ]


def _described(field: FieldInfo | None) -> tuple[Any, ...]:
    return () if field is None else (field.annotation, field.default, field.description)


def _default(value: Any) -> str:
    return f"`{value}`" if value != "" else "empty"


def _once(models: list[type[Settings]], seen: set[type[Settings]]) -> list[type[Settings]]:
    """The models without a section so far: a union that stands in two places is described in the first."""
    return [model for model in models if model not in seen]


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return f"one of {list(arguments)}"
    if origin in (Union, UnionType):
        return " or ".join(map(_type, arguments))
    name: str = (origin or annotation).__name__.replace("NoneType", "None")
    return f"{name}[{', '.join(map(_type, arguments))}]" if arguments else name


def contract_page() -> str:
    """Every table with its key and columns."""
    lines = [
        _HEAD + "# The data contract\n",
        "Every table that passes between stages, as `mpo_core/contract/tables.py` declares it. Tables are joined by",
        "id, never by position. A row that fails a gate goes to its stage's `quarantine` table with the reason.\n",
    ]
    for spec in ALL_TABLES:
        lines += [
            f"## {spec.name}\n",
            f"Key: {', '.join(f'`{name}`' for name in spec.key)}\n",
            "| column | type | null | meaning |",
            "|---|---|---|---|",
            *(f"| `{c.name}` | {c.type} | {'yes' if c.nullable else 'no'} | {c.meaning} |" for c in spec.columns),
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    (HERE / "settings.md").write_text(settings_page(), encoding="utf-8")
    (HERE / "data-contract.md").write_text(contract_page(), encoding="utf-8")
