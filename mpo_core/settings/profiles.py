"""Reads settings from a profile (a YAML file) and `--set` overrides; every mistake is reported with its key."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mpo_core.contract.errors import BadInputError, quantity, shortened
from mpo_core.contract.extensions import FOREIGN
from mpo_core.files.safe_yaml import LARGEST_FILE, YamlError, read_yaml
from mpo_core.settings import PipelineConfig, Settings

_DEEPEST_KEY = 50
_DEMO = Path(__file__).resolve().parents[2] / "deployments" / "profiles" / "demo.yaml"


Complete = Callable[[dict[str, Any]], dict[str, Any]]
"""Adds to plain settings what is known of them elsewhere, before they are checked."""


class OptionOverride(str):
    """An override that an option of a command stands for, such as `--languages`; errors name the option."""

    option: str

    def __new__(cls, override: str, option: str) -> Self:
        """Makes the override, `key=value`, of this option."""
        made = super().__new__(cls, override)
        made.option = option
        return made


def load_config(
    profile: Path | None = None, overrides: list[str] | None = None, *, complete: Complete | None = None
) -> PipelineConfig:
    """Reads settings from a profile (the demo if none) and `key=value` overrides, `complete`d.

    Raises:
        BadInputError: the file is missing or no YAML, a key is unknown, a value has a wrong type.
    """
    data = _read_profile(profile or _DEMO)
    if not isinstance(data, dict):
        raise BadInputError(
            "the profile is not a mapping of settings keys to values",
            where=str(profile),
            fix="See deployments/profiles/.",
        )
    origins = [(_override(data, override), getattr(override, "option", None)) for override in overrides or []]
    place = "the demo's settings" if profile is None else str(profile)
    return parse_config(complete(data) if complete else data, where=lambda key: _origin(key, place, origins))


def _origin(key: str, place: str, origins: Sequence[tuple[str, str | None]]) -> str:
    """Returns where a setting comes from: the last override that sets it, or the profile and what changes it.

    Args:
        key: key of the setting, or of settings of which some do not go together; empty for all.
        place: the profile.
        origins: the key of each override, and the option that stands for it if that is not `--set`.
    """
    names = [(changed.split("."), option or f"--set {shortened(changed)}") for changed, option in origins]
    parts = key.split(".") if key else []
    if own := [name for changed, name in names if changed == parts[: len(changed)]]:
        return own[-1]
    below = [name for changed, name in names if changed[: len(parts)] == parts]
    return f"{place}, changed by {', '.join(dict.fromkeys(below))}" if below else place


def _read_profile(profile: Path) -> Any:
    """Reads the plain values of a profile, every mistake reported with its line."""
    fix = "Name a YAML file."
    try:
        with profile.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: no file can have this name
        reason = getattr(error, "strerror", None) or "no file can have this name"
        raise BadInputError(f"cannot read the profile ({reason})", where=str(profile), fix=fix) from None
    if len(content) > LARGEST_FILE:
        raise BadInputError(
            f"the profile is too large: at most {LARGEST_FILE:,} bytes are allowed", where=str(profile), fix=fix
        )
    try:
        return read_yaml(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BadInputError("cannot read the profile (not UTF-8 text)", where=str(profile), fix=fix) from None
    except YamlError as error:
        where = str(profile) if error.line is None else f"{profile}, line {error.line}"
        raise BadInputError(error.problem, where=where, fix="Fix the syntax there.") from None


def with_overrides(
    config: PipelineConfig, overrides: dict[str, Any], *, complete: Complete | None = None, where: str = "overrides"
) -> PipelineConfig:
    """Changes some of the settings, by key such as `training.beta`, `complete`d; `where` is for messages.

    Raises:
        BadInputError: a key is unknown or a value is wrong.
    """
    data = config.model_dump()  # not as JSON: URLs have their credentials
    # Only what was set: defaults of one method, or of one judge, are not settings of another that an override names.
    data |= {name: getattr(config, name).model_dump(exclude_unset=True) for name in ("training", "judging")}
    for key, value in overrides.items():
        _set(data, key, value, where=f"{where} {key}")
    completed = complete(data) if complete else data
    return config if completed is data and not overrides else parse_config(completed, where=where)


def parse_config(data: dict[str, Any], *, where: str | Callable[[str], str]) -> PipelineConfig:
    """Makes settings of plain data; the first error is reported with its key, and with where the key was set.

    Raises:
        BadInputError: a key is unknown, a value has a wrong type or is out of range.
    """
    try:
        return PipelineConfig.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        # Each member of a union complains; the deepest complaint is of the member that was meant.
        related = [item for item in errors if _key(item["loc"]).startswith(_key(errors[0]["loc"]))]
        first = max(related, key=lambda item: len(_key(item["loc"])))
        key = _key(first["loc"])
        cause = first.get("ctx", {}).get("error")
        if not isinstance(where, str):  # a bad input within a section names its own key
            where = where(cause.where if isinstance(cause, BadInputError) else _walk(first["loc"])[0])
        others = len(errors) - len(related)
        more = f" ({quantity(others, 'more error')})" if others else ""
        if first["type"] == FOREIGN:
            about = first["ctx"]
            owner = "one of these" if "," in about["owners"] else about["owners"]
            raise BadInputError(
                f"`{key}.{about['setting']}` is a setting of {about['owners']}, not of {about['name']}{more}",
                where=where,
                fix=f"Remove it, or set {key}.{about['tag']} to {owner}.",
            ) from None
        if first["type"] == "extra_forbidden":
            fix = f"Known here: {', '.join(_known_keys(first['loc'][:-1]))}."
            raise BadInputError(f"unknown settings key {shortened(key)!r}{more}", where=where, fix=fix) from None
        silent = first["type"] == "secret_url" or isinstance(first["input"], dict | list | BaseModel)
        value = "" if silent else f", given {shortened(repr(first['input']))}"
        raise BadInputError(
            f"{key}: {first['msg'].removeprefix('Value error, ').rstrip('.')}{value}{more}",
            where=where,
            fix=f"See {key} in docs/settings.md.",
        ) from None


def _key(path: tuple[int | str, ...]) -> str:
    """Returns the key as the profile has it, without the members of unions that pydantic puts into the path."""
    return _walk(path)[0] or "settings"


def _known_keys(path: tuple[int | str, ...]) -> list[str]:
    return list(dict.fromkeys(name for model in _walk(path)[1] for name in model.model_fields))


_PLAIN_TYPES = frozenset({"bool", "int", "float", "str", "list", "dict"})  # how pydantic names a union's members


def _walk(path: tuple[int | str, ...]) -> tuple[str, list[type[Settings]]]:
    """Follows a path of pydantic's; returns the key without members of unions, and the settings that it leads to."""
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
    """Returns the values that required fields may have: a union's members are told apart by it."""
    return tuple(
        value
        for field in model.model_fields.values()
        if field.is_required() and get_origin(field.annotation) is Literal
        for value in get_args(field.annotation)
    )


def settings_in(annotation: Any) -> list[type[Settings]]:
    """Returns the settings models that a field's annotation names, those of a union in its order."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [inner for argument in get_args(annotation) for inner in settings_in(argument)]


def _override(data: dict[str, Any], override: str) -> str:
    """Applies `a.b=value`, the value read as YAML (`1e-4` is a number here too); returns the key."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise BadInputError(
            "the override has no `key=` before its value",
            where=f"--set {shortened(override)}",
            fix="Write KEY=VALUE, for example --set training.beta=1.5",
        )
    where = f"--set {shortened(override)}"
    if len(text) > LARGEST_FILE:
        raise BadInputError(
            f"the value has {len(text):,} characters, at most {LARGEST_FILE:,} are allowed",
            where=where,
            fix="Put the setting into a profile, a YAML file of settings such as those in deployments/profiles/.",
        )
    try:
        value = read_yaml(text)
    except YamlError as error:
        raise BadInputError(f"the value is not YAML: {error.problem}", where=where, fix="Quote the value.") from None
    _set(data, key.strip(), value, where=where)
    return key.strip()


def _set(data: dict[str, Any], key: str, value: Any, *, where: str) -> None:
    """Sets `a.b`, or `a.0.b` in a list."""
    node: Any = data
    *parents, leaf = key.split(".")
    if len(parents) > _DEEPEST_KEY:
        raise BadInputError(
            f"the key has {len(parents) + 1} parts, at most {_DEEPEST_KEY + 1} are allowed",
            where=where,
            fix="See docs/settings.md for the keys.",
        )
    for part in parents:
        if isinstance(node, list):
            node = _item(node, part, where)
        else:
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
        if not isinstance(node, dict | list):
            raise BadInputError(f"{shortened(part)!r} has no keys below it", where=where, fix="See docs/settings.md.")
    if isinstance(node, list):
        _item(node, leaf, where)
        node[int(leaf)] = value
    else:
        node[leaf] = value


def _item(items: list[Any], index: str, where: str) -> Any:
    if not re.fullmatch("[0-9]{1,9}", index) or int(index) >= len(items):
        raise BadInputError(
            f"{shortened(index)!r} is no index of this list, which has {quantity(len(items), 'entry')}",
            where=where,
            fix="Write the number of an entry: 0 for the first.",
        )
    return items[int(index)]
