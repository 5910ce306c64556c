"""Reads and extends the registry's log: one file per event, each sequence number claimed by a single writer.

`<root>/registry/events/00000001.json`, `00000002.json` … A writer reads the log, decides, and
claims the next number; whoever comes second finds it taken, reads again and decides anew. So
two writers never lose an event, and none decides on an outdated state.
"""

import json
import os
import posixpath
import unicodedata
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import fsspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore
from mpo_core.contract.errors import BadInputError, DamagedError
from mpo_core.gate.decide import GateDecision

_FOLDER = posixpath.join("registry", "events")
# Each round one writer succeeds, so this is far more than enough for all that may write at the same time.
_ROUNDS = 1000
GATE = "gate"
"""Name under which the gate promotes a version. Older logs mark a decision of the gate by this name alone."""
PIPELINE = "pipeline"
"""Name under which a run registers a version."""
LONGEST = 1000
"""Maximum length of a name or a reason, in characters."""
_RESTORE = "Restore it from a copy of the root: events are written once and never changed"

Kind = Literal["registered", "promoted", "rolled_back", "withdrawn", "evaluated", "checked"]
"""What happened to a version.

`withdrawn`: it was the only promoted one and was taken out of use, so no version is in use. `checked`: the gate decided
otherwise than before, and nothing was promoted.
"""


class Entry(BaseModel):
    """The record of a registered model: the model, where it comes from, and its figures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    """Name of the run that made it."""
    model: ArtifactRef
    """The model folder."""
    base: str
    """sha256 of the model it was made from."""
    inputs: list[ArtifactRef] = Field(default_factory=list)
    """Artifacts it was made from: pairs, reference gaps, evaluation tables."""
    settings: str = ""
    """Digest of the settings that can change an answer."""
    figures: dict[str, float] = Field(default_factory=dict)
    """Headline figures, such as the median target ASR before and after."""
    gate: GateDecision | None = None
    """The gate's decision; None if there was none."""
    targets: list[str] = Field(default_factory=list)
    """The languages that it was aligned in."""
    prompts: list[ArtifactRef] = Field(default_factory=list)
    """The blocks of prompts that it was trained and evaluated on."""
    evaluation: ArtifactRef | None = None
    """Table METRICS of its own evaluation."""
    dominant: str | None = None
    """The dominant language; None in entries from before it was recorded."""

    @property
    def covers(self) -> set[str]:
        """The languages that the model is made for: its targets and its dominant language."""
        return {*self.targets, *([] if self.dominant is None else [self.dominant])}


class _Change(BaseModel):
    """What happens to a version: the kind of event, with its model, evaluation or decision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    version: str
    """The version to which it happens; in a rollback, the one that is in use again."""
    entry: Entry | None = None
    """The registered model; None for the other kinds."""
    evaluation: ArtifactRef | None = None
    """Table METRICS of a later evaluation; None for the other kinds."""
    gate: GateDecision | None = None
    """The gate's decision, where the gate promoted or checked the version; None where a person promoted it."""


class Draft(_Change):
    """An event before it has its number in the log."""

    why: str | None = None
    """The reason, where it depends on the log; else the one that `append` is given."""


class Event(_Change):
    """One event of the registry's log: what happened, who did it, when and why."""

    sequence: int = Field(ge=1)
    who: str
    why: str
    when: datetime

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.kind == "registered") != (self.entry is not None):
            raise ValueError("an entry belongs to `registered`, and to it alone")
        if (self.kind == "evaluated") != (self.evaluation is not None):
            raise ValueError("an evaluation belongs to `evaluated`, and to it alone")
        if self.kind == "checked" if self.gate is None else self.kind not in {"promoted", "checked"}:
            raise ValueError("a decision of the gate belongs to `checked`, and to `promoted` by the gate")
        return self

    @property
    def by_person(self) -> bool:
        """Whether a person decided this, and not the gate."""
        return self.gate is None and self.who != GATE


def read(store: ArtifactStore) -> list[Event]:
    """Returns every event, oldest first.

    Raises:
        DamagedError: an event cannot be read, or one is missing between others.
    """
    fs, base = fsspec.url_to_fs(store.root)
    folder = posixpath.join(base, _FOLDER)
    fs.invalidate_cache()  # object stores remember listings; another process may have written since
    try:
        if not fs.exists(folder):
            return []
        if not fs.isdir(folder):
            raise DamagedError(f"{_FOLDER}: this is not a folder. {_RESTORE}.")
        files = {posixpath.basename(file["name"]): file for file in fs.ls(folder, detail=True)}
        events = [_parse(name, fs, files[name]) for name in sorted(files) if _ours(name)]
    except OSError as error:
        raise _unreadable(_FOLDER, error) from error
    if [event.sequence for event in events] != list(range(1, len(events) + 1)):
        raise DamagedError(f"{_FOLDER}: events are missing or renamed; {len(events)} are there. {_RESTORE}.")
    return events


def append(store: ArtifactStore, decide: Callable[[list[Event]], Draft | None], *, who: str, why: str) -> list[Event]:
    """Adds the event that `decide` makes from the log so far, or none if it returns None.

    `decide` is called again if another writer was faster, and raises if nothing can be done. The result is the log with
    the new event, if there is one.

    Raises:
        BadInputError: `who` or `why` is empty or is no plain text, or the folder cannot be written.
    """
    who, why = plain_text("who", who), plain_text("why", why)
    for _ in range(_ROUNDS):
        log = read(store)
        draft = decide(log)
        if draft is None:
            return log
        fields = dict(draft) | {"why": why if draft.why is None else plain_text("why", draft.why)}
        event = Event(sequence=len(log) + 1, who=who, when=datetime.now(UTC).replace(microsecond=0), **fields)
        if _claim(store, event):
            return [*log, event]
    raise RuntimeError(f"registry: no free sequence number in {_ROUNDS} rounds")


def plain_text(name: str, text: str) -> str:
    """Returns the text on one line, as the log stores it.

    Raises:
        BadInputError: it is empty, too long, not UTF-8, or holds control characters.
    """
    line = " ".join(text.split())
    try:
        line.encode()
    except UnicodeEncodeError:
        wrong = "is not UTF-8 text"
    else:
        if not line:
            wrong = "is empty"
        elif len(line) > LONGEST:
            wrong = f"has {len(line):,} characters, at most {LONGEST:,} are allowed"
        elif any(unicodedata.category(character) == "Cc" for character in line):
            wrong = "holds control characters"
        else:
            return line
    raise BadInputError(f"{name!r} {wrong}", where="registry", fix="Say who acts and why, in plain text.")


def _ours(name: str) -> bool:
    return name.endswith(".json") and name.removesuffix(".json").isdigit()


def _parse(name: str, fs: fsspec.AbstractFileSystem, file: dict[str, Any]) -> Event:
    if file["type"] != "file":  # reading a pipe would wait forever
        raise DamagedError(f"{_FOLDER}/{name}: this is not a file. {_RESTORE}.")
    try:
        event = Event.model_validate_json(fs.cat_file(file["name"]))
    except OSError as error:
        raise _unreadable(f"{_FOLDER}/{name}", error) from error
    except ValidationError as error:
        raise DamagedError(f"{_FOLDER}/{name}: the file holds no event of the registry. {_RESTORE}.") from error
    if name != f"{event.sequence:08d}.json":
        raise DamagedError(f"{_FOLDER}/{name}: this is event {event.sequence}, under another name. {_RESTORE}.")
    return event


def _unreadable(path: str, error: OSError) -> DamagedError:
    fix = "Allow this user to read it" if isinstance(error, PermissionError) else _RESTORE
    return DamagedError(f"{path}: unreadable ({error.strerror or type(error).__name__}). {fix}.")


def _claim(store: ArtifactStore, event: Event) -> bool:
    """Writes the whole event under its number, unless the number is taken; returns whether it was written."""
    data = (json.dumps(event.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode()
    path = posixpath.join(_FOLDER, f"{event.sequence:08d}.json")
    try:
        if store.local:
            store.local_path(_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:  # there is a file in place of the folder, which does not mean that the number is taken
        raise _unwritable(store, path, error) from None
    try:
        if store.local:
            _create(store.local_path(path), data)
        else:  # a conditional put: object stores refuse it if the key exists
            fs, base = fsspec.url_to_fs(store.root)
            fs.pipe_file(posixpath.join(base, path), data, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        raise _unwritable(store, path, error) from None
    return True


def _unwritable(store: ArtifactStore, path: str, error: OSError) -> BadInputError:
    return BadInputError(
        f"cannot write ({error.strerror or type(error).__name__})",
        where=f"run.root {store.root}, {path}",
        fix="Allow this user to write there, and make space; nothing was changed.",
    )


def _create(path: Path, data: bytes) -> None:
    """Writes a file that is not there yet. A hard link, unlike a rename, never replaces one."""
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(scratch)
    finally:
        scratch.unlink(missing_ok=True)
