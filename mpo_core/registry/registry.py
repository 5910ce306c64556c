"""Register, promote, roll back: each adds one event, and the state is replayed from all of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from mpo_core.artifacts import ArtifactRef, ArtifactStore
from mpo_core.errors import BadInputError
from mpo_core.registry.events import Draft, Entry, Event, append, read


class Version(BaseModel):
    """A registered model as the registry stands now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    """`v1`, `v2`, … in order of registration."""
    entry: Entry
    who: str
    when: datetime
    promoted: bool
    """Whether the alias `promoted` names it."""
    evaluation: ArtifactRef | None
    """Table METRICS of its latest evaluation."""


def register(
    store: ArtifactStore, entry: Entry, *, who: str = "pipeline", why: str = "trained and evaluated"
) -> Version:
    """Adds a model, unpromoted. The same model of the same run is registered once.

    Returns:
        Its version: the one it already had, if it was known.
    """

    def decide(log: list[Event]) -> Draft | None:
        known = _versions(log)
        if any(_same(version.entry, entry) for version in known):
            return None
        return Draft(kind="registered", version=f"v{len(known) + 1}", entry=entry)

    log = append(store, decide, who=who, why=why)
    return next(version for version in _versions(log) if _same(version.entry, entry))


def promote(store: ArtifactStore, version: str, *, who: str, why: str) -> Version:
    """Points the alias `promoted` at a version; nothing happens if it is there already.

    The gate's word is kept with the version and does not bind a person: who overrides it is
    in the history, with the reason.

    Raises:
        BadInputError: the version is not known, or `who` or `why` is empty.
    """

    def decide(log: list[Event]) -> Draft | None:
        known = [found.version for found in _versions(log)]
        if version not in known:
            raise BadInputError(
                f"unknown version {version!r}",
                where=f"registry of {store.root}",
                mend=f"Known: {', '.join(known)}." if known else "Nothing is registered yet: run the pipeline first.",
            )
        if _alias(log)[-1:] == [version]:
            return None
        return Draft(kind="promoted", version=version)

    return _find(_versions(append(store, decide, who=who, why=why)), version)


def rollback(store: ArtifactStore, *, who: str, why: str) -> Version:
    """Points the alias `promoted` back at the version that was promoted before this one.

    Rolling back twice goes back two promotions.

    Raises:
        BadInputError: no version was promoted before, or `who` or `why` is empty.
    """

    def decide(log: list[Event]) -> Draft | None:
        alias = _alias(log)
        if len(alias) < 2:  # noqa: PLR2004 - the one in use and the one before it
            state = f"only {alias[0]} was ever promoted" if alias else "no version is promoted"
            raise BadInputError(
                f"nothing to roll back to: {state}",
                where=f"registry of {store.root}",
                mend="Promote a version by name: mpo models promote VERSION.",
            )
        return Draft(kind="rolled_back", version=alias[-2])

    log = append(store, decide, who=who, why=why)
    return _find(_versions(log), log[-1].version)


def evaluated(store: ArtifactStore, version: str, evaluation: ArtifactRef, *, who: str, why: str) -> Version:
    """Records a later evaluation of a version; one with the same figures as the last is not recorded again."""

    def decide(log: list[Event]) -> Draft | None:
        if _find(_versions(log), version).evaluation == evaluation:
            return None
        return Draft(kind="evaluated", version=version, evaluation=evaluation)

    return _find(_versions(append(store, decide, who=who, why=why)), version)


def promoted(store: ArtifactStore) -> Version | None:
    """The version that the alias `promoted` names, if any."""
    return next((version for version in versions(store) if version.promoted), None)


def versions(store: ArtifactStore) -> list[Version]:
    """Every version, oldest first."""
    return _versions(read(store))


def history(store: ArtifactStore) -> list[Event]:
    """Every event, oldest first."""
    return read(store)


def _same(known: Entry, new: Entry) -> bool:
    return (known.model.sha256, known.run) == (new.model.sha256, new.run)


def _versions(log: Sequence[Event]) -> list[Version]:
    current = _alias(log)[-1:]
    later = {event.version: event.evaluation for event in log if event.evaluation is not None}
    return [
        Version(
            version=event.version,
            entry=event.entry,
            who=event.who,
            when=event.when,
            promoted=[event.version] == current,
            evaluation=later.get(event.version, event.entry.evaluation),
        )
        for event in log
        if event.entry is not None
    ]


def _alias(log: Sequence[Event]) -> list[str]:
    """The promotions that still stand, the last of which is in use: a rollback takes one back."""
    stack: list[str] = []
    for event in log:
        if event.kind == "promoted":
            stack.append(event.version)
        elif event.kind == "rolled_back":
            stack.pop()
    return stack


def _find(known: list[Version], version: str) -> Version:
    return next(found for found in known if found.version == version)
