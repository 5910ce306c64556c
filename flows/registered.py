"""Adds the languages that users registered with `mpo languages add` to the settings of every command and flow.

The registry is a part of the folder of artifacts (`run.root`).
"""

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.redact import has_password
from mpo_core.registry import registered_languages
from mpo_core.settings import DefinedLanguage, PipelineConfig, profiles


def load_config(profile: Path | None = None, overrides: list[str] | None = None) -> PipelineConfig:
    """Reads settings from a profile and `key=value` overrides; languages registered in `run.root` are known.

    Raises:
        BadInputError: the file is missing or no YAML, a key is unknown, a value has a wrong type.
    """
    return profiles.load_config(profile, overrides, complete=with_registered)


def with_overrides(config: PipelineConfig, overrides: dict[str, JsonValue]) -> PipelineConfig:
    """Changes settings by key, such as `training.beta`; languages registered in `run.root` are known.

    Raises:
        BadInputError: a key is unknown or a value is wrong.
    """
    return profiles.with_overrides(config, overrides, complete=with_registered)


def with_registered(data: dict[str, Any], *, join: bool = False) -> dict[str, Any]:
    """Adds to plain settings the facts of the registered languages that they name; `join` makes all of these targets.

    Malformed settings stay as they are, and are rejected later.
    """
    run, languages = data.get("run") or {}, data.get("languages") or {}
    if not isinstance(run, dict) or not isinstance(languages, dict):
        return data
    root, targets = run.get("root", "artifacts"), languages.get("targets")
    # A `run.root` that the settings are going to reject is not opened.
    facts = registered_facts(root) if isinstance(root, str) and not has_password(root) else {}
    if join and isinstance(targets, list):
        dominant = languages.get("dominant", "en")
        targets = [*targets, *(code for code in facts if code not in {*targets, dominant})]
        languages = languages | {"targets": targets}
    codes = [languages.get("dominant"), *(targets if isinstance(targets, list) else [])]
    defined = languages.get("defined") or []
    if isinstance(defined, list):
        known = [entry.get("code") for entry in defined if isinstance(entry, dict)]
        added = [fact.model_dump(mode="json") for code, fact in facts.items() if code in codes and code not in known]
        if added or languages is not data.get("languages"):
            return data | {"languages": languages | ({"defined": [*defined, *added]} if added else {})}
    return data


@contextlib.contextmanager
def origin_explained(config: PipelineConfig) -> Iterator[None]:
    """Adds to an error about a language that joined the targets where it comes from, and how to remove it.

    The settings do not name it, so nobody finds it there.
    """
    root, named = config.run.root, {config.languages.dominant, *config.languages.targets}
    registered = registered_facts(root)
    try:
        yield
    except BadInputError as error:
        message = f"{error.where} {error.what}"
        for code, facts in registered.items():
            if code not in named and re.search(rf"'{re.escape(code)}'|\b{re.escape(facts.name)}\b", message):
                origin = f"The settings do not name {code}: it is registered in {root}."
                command = f"mpo languages remove {code} --root {shlex.quote(root)}"
                fix = f"{origin} To go on without it: {command}. Else: {error.fix}"
                raise BadInputError(error.what, where=error.where, fix=fix) from None
        raise


def registered_facts(root: str) -> dict[str, DefinedLanguage]:
    """Returns the facts of every registered language, by code; none if the folder of artifacts does not exist.

    Raises:
        DamagedError: a registration cannot be read.
    """
    if "://" not in root and not Path(root).expanduser().is_dir():
        return {}
    return {entry.facts.code: entry.facts for entry in registered_languages(ArtifactStore(root, writes=False))}


def define_registered(root: str) -> None:
    """Makes the registered languages known in this process, for a command without settings.

    Raises:
        BadInputError: a language is registered with other facts than those of the table.
    """
    for facts in registered_facts(root).values():
        facts.define()
