"""Models in a registry, as `settle` registers them at the end of a run, but without a gate."""

from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.registry import Entry, Version
from mpo_core.registry.events import Draft
from mpo_core.registry.registry import change, find, next_version
from mpo_core.registry.state import State


def register(
    store: ArtifactStore, entry: Entry, *, who: str = "pipeline", why: str = "trained and evaluated"
) -> Version:
    """Adds a model as a version that is not promoted yet, unless it is registered already; returns the version."""

    def decide(state: State) -> Draft | None:
        if find(state, entry) is not None:
            return None
        return Draft(kind="registered", version=next_version(state), entry=entry)

    state = change(store, decide, who=who, why=why)
    return state.version(find(state, entry) or "")
