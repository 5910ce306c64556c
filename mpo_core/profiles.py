"""Settings from a profile (a YAML file) and `--set key=value` overrides; every mistake told with its key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from mpo_core.errors import BadInputError
from mpo_core.settings import PipelineConfig, Settings


class _Loader(yaml.SafeLoader):
    """YAML in which `1e-4` is a number (YAML 1.1 asks for `1.0e-4`)."""


class _RepeatedKeyError(yaml.MarkedYAMLError):
    """A mapping names a key twice; plain YAML readers let the last one win."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    repeated = next((key for number, key in enumerate(keys) if key in keys[:number]), None)
    if repeated is not None:
        problem = f"the key {repeated!r} stands twice"
        raise _RepeatedKeyError(problem=problem, problem_mark=node.start_mark)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _read_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def load_config(profile: Path | None = None, overrides: list[str] | None = None) -> PipelineConfig:
    """Settings from a profile (the demo if none) and `key=value` overrides.

    Raises:
        BadInputError: the file is missing or no YAML, a key is unknown, a value has a wrong type.
    """
    profile = profile or Path(__file__).resolve().parent.parent / "deployments" / "profiles" / "demo.yaml"
    try:
        data = _read_yaml(profile.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise BadInputError(
            f"cannot read the profile ({reason})", where=str(profile), mend="Name a YAML file."
        ) from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = str(profile) if line is None else f"{profile}, line {line + 1}"
        what = str(error.problem) if isinstance(error, _RepeatedKeyError) else "this is not YAML"
        raise BadInputError(what, where=where, mend="Mend the syntax there.") from None
    if not isinstance(data, dict):
        raise BadInputError("a profile is a mapping of settings", where=str(profile), mend="See deployments/profiles/.")
    for override in overrides or []:
        _override(data, override)
    return parse_config(data, where=str(profile))


def with_overrides(config: PipelineConfig, overrides: dict[str, Any]) -> PipelineConfig:
    """The settings with some of them changed, by key such as `training.beta`.

    Raises:
        BadInputError: a key is unknown or a value is wrong.
    """
    if not overrides:
        return config
    data = config.model_dump(mode="json")
    for key, value in overrides.items():
        _set(data, key, value, where=f"overrides {key}")
    return parse_config(data, where="overrides")


def parse_config(data: dict[str, Any], *, where: str) -> PipelineConfig:
    """Settings from plain data; the first error is told with its key.

    Raises:
        BadInputError: a key is unknown, a value has a wrong type or is out of range.
    """
    try:
        return PipelineConfig.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        # Each member of a union complains; the deepest complaint is of the member that was meant.
        about = [one for one in errors if _key(one["loc"]).startswith(_key(errors[0]["loc"]))]
        first = max(about, key=lambda one: len(_key(one["loc"])))
        key = _key(first["loc"])
        others = len(errors) - len(about)
        more = f" ({others} more errors)" if others else ""
        if first["type"] == "extra_forbidden":
            mend = f"Known here: {', '.join(_known_keys(first['loc'][:-1]))}."
            raise BadInputError(f"unknown settings key {key!r}{more}", where=where, mend=mend) from None
        given = "" if isinstance(first["input"], dict | list | BaseModel) else f", given {first['input']!r}"
        raise BadInputError(
            f"{key}: {first['msg'].removeprefix('Value error, ').rstrip('.')}{given}{more}",
            where=where,
            mend=f"See {key} in docs/settings.md.",
        ) from None


def _key(path: tuple[int | str, ...]) -> str:
    """The key as the profile has it: pydantic puts a union's member, such as `list[str]` or its tag, into the path."""
    return _walk(path)[0] or "settings"


def _known_keys(path: tuple[int | str, ...]) -> list[str]:
    return list(dict.fromkeys(name for model in _walk(path)[1] for name in model.model_fields))


_PLAIN_TYPES = frozenset({"bool", "int", "float", "str", "list", "dict"})  # how pydantic names a union's members


def _walk(path: tuple[int | str, ...]) -> tuple[str, list[type[Settings]]]:
    """Along a path of pydantic's: the key without the members of unions, and the settings that it leads to."""
    parts: list[str] = []
    models: list[type[Settings]] = [PipelineConfig]
    for part in map(str, path):
        tagged = [model for model in models if part in _tags(model)]
        if tagged:
            models = tagged
        elif re.fullmatch(r"\w+", part):
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            if not fields and part in _PLAIN_TYPES:
                continue
            parts.append(part)
            models = [inner for field in fields for inner in settings_in(field.annotation)] if fields else models
    return ".".join(parts), models


def _tags(model: type[Settings]) -> tuple[Any, ...]:
    """What the fields that must be there may be: a union's members are told apart by it."""
    return tuple(
        value
        for field in model.model_fields.values()
        if field.is_required() and get_origin(field.annotation) is Literal
        for value in get_args(field.annotation)
    )


def settings_in(annotation: Any) -> list[type[Settings]]:
    """The settings models that a field's annotation names, those of a union in its order."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [inner for argument in get_args(annotation) for inner in settings_in(argument)]


def _override(data: dict[str, Any], override: str) -> None:
    """Applies `a.b=value`, the value read as YAML (`1e-4` is a number here too)."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise BadInputError(
            "an override is key=value", where=f"--set {override}", mend="Example: --set training.beta=1.5"
        )
    try:
        value = _read_yaml(text)
    except yaml.YAMLError:
        raise BadInputError("the value is not YAML", where=f"--set {override}", mend="Quote it.") from None
    _set(data, key.strip(), value, where=f"--set {override}")


def _set(data: dict[str, Any], key: str, value: Any, *, where: str) -> None:
    """Sets `a.b`, or `a.0.b` in a list."""
    node: Any = data
    *parents, leaf = key.split(".")
    for part in parents:
        if isinstance(node, list):
            node = _item(node, part, where)
        else:
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
        if not isinstance(node, dict | list):
            raise BadInputError(f"{part!r} has no keys below it", where=where, mend="See docs/settings.md.")
    if isinstance(node, list):
        _item(node, leaf, where)
        node[int(leaf)] = value
    else:
        node[leaf] = value


def _item(items: list[Any], index: str, where: str) -> Any:
    if not index.isdigit() or int(index) >= len(items):
        raise BadInputError(f"{index!r} is no index of a list of {len(items)}", where=where, mend="Count from 0.")
    return items[int(index)]
