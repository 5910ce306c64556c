"""The registered languages, in which models are to be aligned: one file each, in the folder of artifacts."""

import contextlib
import posixpath
from datetime import UTC, datetime
from typing import Any

import fsspec
from pydantic import AwareDatetime, BaseModel, ConfigDict

from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.contract.errors import BadInputError, DamagedError, shortened
from mpo_core.languages.known import LANGUAGES
from mpo_core.registry.events import plain_text
from mpo_core.settings import DefinedLanguage

_FOLDER = posixpath.join("registry", "languages")


class RegisteredLanguage(BaseModel):
    """A language with its facts, and who registered it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    facts: DefinedLanguage
    who: str
    when: AwareDatetime


def add_language(store: ArtifactStore, facts: DefinedLanguage, *, who: str) -> bool:
    """Registers a language, or adds facts to a registered one; returns whether the language is new.

    Raises:
        BadInputError: it is registered or known with another name, script or resource level.
    """
    who = plain_text("who", who)
    earlier = next((known for known in registered_languages(store) if known.facts.code == facts.code), None)
    before = [LANGUAGES.get(facts.code), None if earlier is None else earlier.facts.entry]
    if any(entry is not None and not entry.same_as(facts.entry) for entry in before):
        raise BadInputError(
            f"{facts.code!r} is known with another name, script or resource level",
            where=f"languages add {facts.code}",
            fix="Leave out --name, --script and --resource: mpo knows them for this language.",
        )
    if earlier is not None:
        joined = earlier.facts.entry.joined(facts.entry)
        if joined == earlier.facts.entry:
            return False
        facts = DefinedLanguage.of(joined)
    entry = RegisteredLanguage(facts=facts, who=who, when=datetime.now(UTC).replace(microsecond=0))
    store.write_text(posixpath.join(_FOLDER, f"{facts.code}.json"), entry.model_dump_json(indent=1) + "\n")
    return earlier is None


def remove_language(store: ArtifactStore, code: str) -> None:
    """Removes the registration of a language; versions that cover the language stay as they are.

    Raises:
        BadInputError: the language is not registered; names those that are. Or the folder cannot be written.
    """
    codes = [known.facts.code for known in registered_languages(store)]
    if code not in codes:
        raise BadInputError(
            f"the language {shortened(code)!r} is not registered",
            where=f"registry of {store.root}",
            fix=f"Registered: {', '.join(codes)}." if codes else "No language is registered there.",
        )
    fs, base = fsspec.url_to_fs(store.root)
    path = posixpath.join(_FOLDER, f"{code}.json")
    try:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            fs.rm_file(posixpath.join(base, path))
    except OSError as error:
        raise BadInputError(
            f"cannot delete the registration ({error.strerror or type(error).__name__})",
            where=f"run.root {store.root}, {path}",
            fix="Allow writing into this folder; nothing was changed.",
        ) from None


def registered_languages(store: ArtifactStore) -> list[RegisteredLanguage]:
    """Returns every registered language, by code.

    Raises:
        DamagedError: a file cannot be read.
    """
    fs, base = fsspec.url_to_fs(store.root)
    folder = posixpath.join(base, _FOLDER)
    fs.invalidate_cache()  # another process may have written since
    if not fs.exists(folder):
        return []
    if not fs.isdir(folder):
        raise DamagedError(f"{_FOLDER}: this is not a folder. Delete it, and register the languages again.")
    files = sorted(fs.ls(folder, detail=True), key=lambda file: str(file["name"]))
    return [_read(fs, file) for file in files if file["name"].endswith(".json")]


def _read(fs: fsspec.AbstractFileSystem, file: dict[str, Any]) -> RegisteredLanguage:
    name = posixpath.basename(file["name"])
    registered = None
    if file["type"] == "file":  # reading a pipe would wait forever
        try:
            registered = RegisteredLanguage.model_validate_json(fs.cat_file(file["name"]))
        except PermissionError:
            raise DamagedError(f"{_FOLDER}/{name}: unreadable. Allow this user to read it.") from None
        except (OSError, ValueError):
            pass
    if registered is None or name != f"{registered.facts.code}.json":
        raise DamagedError(
            f"{_FOLDER}/{name}: the registration cannot be read. Delete it, and register the language again."
        )
    return registered
