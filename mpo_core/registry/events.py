"""The registry's log: one file per event, each sequence number claimed by one writer only.

`<root>/registry/events/00000001.json`, `00000002.json` … A writer reads the log, decides, and
claims the next number; whoever comes second finds it taken, reads again and decides anew. So
two writers never lose an event, and none decides on a state that has passed.
"""

from __future__ import annotations

import json
import os
import posixpath
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

import fsspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mpo_core.artifacts import ArtifactRef, ArtifactStore
from mpo_core.errors import BadInputError, DamagedError
from mpo_core.gate import GateDecision

_FOLDER = posixpath.join("registry", "events")
# Far more rounds than writers that could plausibly meet; each round one of them succeeds.
_ROUNDS = 1000

Kind = Literal["registered", "promoted", "rolled_back", "evaluated"]


class Entry(BaseModel):
    """A model and where it comes from: what `register` is told."""

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
    """What the gate said; None if it was not asked."""
    targets: list[str] = Field(default_factory=list)
    """The languages that it was aligned in."""
    prompts: list[ArtifactRef] = Field(default_factory=list)
    """The blocks of prompts that it was trained and evaluated on."""
    evaluation: ArtifactRef | None = None
    """Table METRICS of its own evaluation."""


class Event(BaseModel):
    """One thing that happened, told by who did it and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int = Field(ge=1)
    kind: Kind
    version: str
    """The version registered, promoted or evaluated; of a rollback, the one that is in use again."""
    who: str
    why: str
    when: datetime
    entry: Entry | None = None
    """The registered model; None for the other kinds."""
    evaluation: ArtifactRef | None = None
    """Table METRICS of a later evaluation; None for the other kinds."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.kind == "registered") != (self.entry is not None):
            raise ValueError("an entry belongs to `registered`, and to it alone")
        if (self.kind == "evaluated") != (self.evaluation is not None):
            raise ValueError("an evaluation belongs to `evaluated`, and to it alone")
        return self


class Draft(BaseModel):
    """An event that has no place in the log yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    version: str
    entry: Entry | None = None
    evaluation: ArtifactRef | None = None


def read(store: ArtifactStore) -> list[Event]:
    """Every event, oldest first.

    Raises:
        DamagedError: an event cannot be read, or one is missing between others.
    """
    fs, base = fsspec.url_to_fs(store.root)
    folder = posixpath.join(base, _FOLDER)
    fs.invalidate_cache()  # object stores remember listings; another process may have written since
    if not fs.exists(folder):
        return []
    names = sorted(name for name in (posixpath.basename(path) for path in fs.ls(folder, detail=False)) if _ours(name))
    events = [_parse(name, fs.cat_file(posixpath.join(folder, name))) for name in names]
    if [event.sequence for event in events] != list(range(1, len(events) + 1)):
        raise DamagedError(f"{_FOLDER}: events are missing or renamed; {len(events)} are left")
    return events


def append(store: ArtifactStore, decide: Callable[[list[Event]], Draft | None], *, who: str, why: str) -> list[Event]:
    """Adds the event that `decide` draws from the log so far, or none if it returns None.

    Args:
        store: the artifacts' store.
        decide: is asked again if another writer was faster; it raises if nothing can be done.
        who: who acts.
        why: and for which reason.

    Returns:
        The log as it stands.

    Raises:
        BadInputError: `who` or `why` is empty, or the folder cannot be written.
    """
    for name, text in (("who", who), ("why", why)):
        if not text.strip():
            raise BadInputError(f"{name!r} is empty", where="registry", mend="Say who acts and why; it is kept.")
    for _ in range(_ROUNDS):
        log = read(store)
        draft = decide(log)
        if draft is None:
            return log
        event = Event(
            sequence=len(log) + 1,
            kind=draft.kind,
            version=draft.version,
            who=who,
            why=why,
            when=datetime.now(UTC).replace(microsecond=0),
            entry=draft.entry,
            evaluation=draft.evaluation,
        )
        if _claim(store, event):
            return [*log, event]
    raise RuntimeError(f"registry: no free sequence number in {_ROUNDS} rounds")


def _ours(name: str) -> bool:
    return name.endswith(".json") and name.removesuffix(".json").isdigit()


def _parse(name: str, data: bytes) -> Event:
    try:
        event = Event.model_validate_json(data)
    except ValidationError as error:
        raise DamagedError(f"{_FOLDER}/{name}: unreadable ({error.error_count()} errors)") from error
    if name != f"{event.sequence:08d}.json":
        raise DamagedError(f"{_FOLDER}/{name}: tells of event {event.sequence}")
    return event


def _claim(store: ArtifactStore, event: Event) -> bool:
    """Publishes the event whole under its number, unless the number is taken."""
    data = (json.dumps(event.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode()
    path = posixpath.join(_FOLDER, f"{event.sequence:08d}.json")
    try:
        if store.local:
            _create(store.local_path(path), data)
        else:  # a conditional put: object stores refuse it if the key exists
            fs, base = fsspec.url_to_fs(store.root)
            fs.pipe_file(posixpath.join(base, path), data, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        raise BadInputError(
            f"cannot write ({error.strerror or type(error).__name__})",
            where=f"run.root {store.root}, {path}",
            mend="Choose a writable folder with free space; nothing was changed.",
        ) from None
    return True


def _create(path: Path, data: bytes) -> None:
    """Writes a file that is not there yet. A hard link, unlike a rename, never replaces one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(scratch)
    finally:
        scratch.unlink(missing_ok=True)
