"""Promote, roll back, evaluate again: each adds one event, and the state is replayed from all of them."""

from collections.abc import Callable

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore
from mpo_core.contract.errors import BadInputError
from mpo_core.registry.events import Draft, Entry, Event, append, read
from mpo_core.registry.state import State, Version, replay


def change(store: ArtifactStore, decide: Callable[[State], Draft | None], *, who: str, why: str) -> State:
    """Adds the event that `decide` makes from the registry's state, if any; returns the state after it.

    Raises:
        BadInputError: see `append`.
        DamagedError: the log cannot be read, or its events cannot follow each other.
    """
    return replay(append(store, lambda log: decide(replay(log)), who=who, why=why))


def next_version(state: State) -> str:
    """Returns the name that the next version gets."""
    return f"v{len(state.registered) + 1}"


def find(state: State, entry: Entry) -> str | None:
    """Returns the version under which this entry is registered, or None."""
    return next((name for name in state.registered if _same(state.entry(name), entry)), None)


def promote(store: ArtifactStore, version: str, *, who: str, why: str) -> Version:
    """Promotes a version; does nothing if it is the promoted one already.

    A person may promote a version that the gate refused; the history records who did so and why.

    Raises:
        BadInputError: the version is not known, its model is missing or damaged, or `who` or `why` is empty.
    """

    def decide(state: State) -> Draft | None:
        require_known(store, state, version)
        _require_model(store, state, version)
        if state.in_use == version:
            return None
        return Draft(kind="promoted", version=version)

    return change(store, decide, who=who, why=why).version(version)


def rollback(store: ArtifactStore, *, who: str, why: str) -> Version | None:
    """Takes the current version out of use and promotes the one again that was promoted before it, if there is one.

    Rolling back twice goes back two promotions. Returns the version that is in use now; None if there is none.

    Raises:
        BadInputError: no version is promoted, the earlier model is missing or damaged, or `who` or `why` is empty.
    """

    def decide(state: State) -> Draft | None:
        if state.in_use is None:
            raise BadInputError(
                "no version is promoted",
                where=f"registry of {store.root}",
                fix="Promote a version by name: mpo models promote VERSION --why REASON.",
            )
        if len(state.promotions) == 1:
            return Draft(kind="withdrawn", version=state.in_use)
        _require_model(store, state, state.promotions[-2])
        return Draft(kind="rolled_back", version=state.promotions[-2])

    state = change(store, decide, who=who, why=why)
    return None if state.in_use is None else state.version(state.in_use)


def evaluated(store: ArtifactStore, version: str, evaluation: ArtifactRef, *, who: str, why: str) -> Version:
    """Records a later evaluation of a version, unless it has the same figures as the last."""

    def decide(state: State) -> Draft | None:
        require_known(store, state, version)
        if state.version(version).evaluation == evaluation:
            return None
        return Draft(kind="evaluated", version=version, evaluation=evaluation)

    return change(store, decide, who=who, why=why).version(version)


def promoted(store: ArtifactStore) -> Version | None:
    """Returns the promoted version, or None."""
    state = replay(read(store))
    return None if state.in_use is None else state.version(state.in_use)


def versions(store: ArtifactStore) -> list[Version]:
    """Returns every version, oldest first."""
    return replay(read(store)).versions


def history(store: ArtifactStore) -> list[Event]:
    """Returns every event, oldest first."""
    log = read(store)
    replay(log)  # raises for a log whose events cannot follow each other
    return log


def require_known(store: ArtifactStore, state: State, version: str) -> None:
    """Rejects a version that is not registered.

    Raises:
        BadInputError: it is not registered; names those that are.
    """
    if version not in state.registered:
        known = ", ".join(state.registered)
        raise BadInputError(
            f"unknown version {version[:100]!r}",
            where=f"registry of {store.root}",
            fix=f"Known: {known}." if known else "Nothing is registered yet: run the pipeline first.",
        )


def _require_model(store: ArtifactStore, state: State, version: str) -> None:
    """Rejects a version whose model is missing or damaged."""
    model = state.entry(version).model
    if not store.intact(model):
        raise BadInputError(
            f"the model of {version} is missing or damaged ({model.path})",
            where=f"registry of {store.root}",
            fix="Nothing was changed. Restore the folder from a copy, or train it again with the profile that made it.",
        )


def _same(known: Entry, new: Entry) -> bool:
    """Returns whether both are the same version; entries from before languages and prompts were recorded lack both."""
    return (
        (known.model.sha256, known.run) == (new.model.sha256, new.run)
        and (not known.targets or set(known.targets) == set(new.targets))
        and (not known.prompts or _digests(known.prompts) == _digests(new.prompts))
    )


def _digests(refs: list[ArtifactRef]) -> set[str]:
    return {ref.sha256 for ref in refs}
