"""The current state of the registry: all events of the log, applied in turn."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.errors import DamagedError
from mpo_core.gate.decide import GateDecision
from mpo_core.registry.events import Entry, Event


class Version(BaseModel):
    """A registered model with its present status in the registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    """`v1`, `v2`, … in order of registration."""
    entry: Entry
    who: str
    when: datetime
    promoted: bool
    """Whether it is the version in use."""
    evaluation: ArtifactRef | None
    """Table METRICS of its latest evaluation."""
    gate: GateDecision | None = None
    """The gate's latest decision, up to further ones with the same outcome; None if there was none."""


@dataclass
class State:
    """The state of the registry after some of its events."""

    registered: dict[str, Event] = field(default_factory=dict)
    """By version, the event that registered it."""
    promotions: list[str] = field(default_factory=list)
    """Promoted versions, the last of which is in use; a rollback removes the last."""
    ever_in_use: set[str] = field(default_factory=set)
    """Versions that were promoted at some time, whatever came after."""
    evaluations: dict[str, ArtifactRef] = field(default_factory=dict)
    gates: dict[str, GateDecision] = field(default_factory=dict)
    """By version, the gate's latest decision since it was registered."""
    taken_out: dict[str, Event] = field(default_factory=dict)
    """By sha256 of a model: the event by which a person took it out of use. Removed if it is promoted again."""

    @property
    def in_use(self) -> str | None:
        """The name of the promoted version, or None."""
        return self.promotions[-1] if self.promotions else None

    @property
    def versions(self) -> list[Version]:
        """Every version, oldest first."""
        return [self.version(name) for name in self.registered]

    def version(self, name: str) -> Version:
        """Returns a registered version with its current status."""
        event = self.registered[name]
        entry = self.entry(name)
        return Version(
            version=name,
            entry=entry,
            who=event.who,
            when=event.when,
            promoted=name == self.in_use,
            evaluation=self.evaluations.get(name, entry.evaluation),
            gate=self.gates.get(name, entry.gate),
        )

    def entry(self, name: str) -> Entry:
        """Returns what was registered under this version."""
        entry = self.registered[name].entry
        if entry is None:  # pragma: no cover - an event refuses to be so
            raise TypeError(f"{name} was registered without an entry")
        return entry

    def apply(self, event: Event) -> None:
        """Adds one event.

        Raises:
            DamagedError: it cannot follow the events before it.
        """
        before = self.in_use
        if event.kind == "registered":
            _require(event.version == f"v{len(self.registered) + 1}", event, "registers a version out of turn")
            self.registered[event.version] = event
            return
        _require(event.version in self.registered, event, "names a version that was never registered")
        if event.gate is not None:
            self.gates[event.version] = event.gate
        if event.evaluation is not None:
            self.evaluations[event.version] = event.evaluation
        elif event.kind == "promoted":
            self.promotions.append(event.version)
            self.ever_in_use.add(event.version)
        elif event.kind == "rolled_back":
            _require(self.promotions[-2:-1] == [event.version], event, "rolls back to a version that was not in use")
            self.promotions.pop()
        elif event.kind == "withdrawn":
            _require(self.promotions == [event.version], event, "withdraws a version that was not the only one")
            self.promotions.clear()
        self._note_who_decided(event, before)

    def _note_who_decided(self, event: Event, before: str | None) -> None:
        if before is not None and before != self.in_use and event.by_person:
            self.taken_out[self.entry(before).model.sha256] = event
        if self.in_use is not None:
            self.taken_out.pop(self.entry(self.in_use).model.sha256, None)


def replay(log: Sequence[Event]) -> State:
    """Returns the state after these events.

    Raises:
        DamagedError: an event cannot follow those before it, as in a log that begins with a rollback.
    """
    state = State()
    for event in log:
        state.apply(event)
    return state


def _require(fits: bool, event: Event, wrong: str) -> None:  # noqa: FBT001 - what is required
    if not fits:
        raise DamagedError(
            f"registry/events/{event.sequence:08d}.json: {wrong} ({event.version}). "
            "Restore it from a copy of the root: events are written once and never changed."
        )
