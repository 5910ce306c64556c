"""The end of a run: its model is registered, and promoted if the gate and the registry agree.

Every step looks at the log first and adds only what is missing. So running it again finishes a run that was
killed anywhere, and the outcome says what the registry holds, not what was intended.
"""

from typing import NamedTuple

from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.gate.decide import GateCheck, GateDecision
from mpo_core.registry.events import GATE, LONGEST, PIPELINE, Draft, Entry, Kind
from mpo_core.registry.registry import change, evaluated, find, next_version
from mpo_core.registry.state import State, Version

_WHY_SHOWN = 200


class Settled(NamedTuple):
    """What the registry did with the model of a run: its version, the decision, and which version is in use."""

    version: Version
    gate: GateDecision
    """The gate's decision with the registry's own checks; `promoted` says that the version is in use."""
    outcome: str
    """What was done, in one sentence."""
    in_use: str | None
    """The version that is in use now."""


def settle(
    store: ArtifactStore, entry: Entry, gate: GateDecision, *, allow_fewer: bool, realigned: bool = False
) -> Settled:
    """Registers a model once, and promotes it if every check passes.

    The entry's `gate` is filled in here. If `realigned`, the version in use made the run necessary: that a person has
    promoted that version does not block the model then; a rollback from the model does.
    """

    def registration(state: State) -> Draft | None:
        if find(state, entry) is not None:
            return None
        name = next_version(state)
        checked = gate.and_checks(_checks(state, entry, name, allow_fewer=allow_fewer, realigned=realigned))
        return Draft(kind="registered", version=name, entry=entry.model_copy(update={"gate": checked}))

    before = change(store, registration, who=PIPELINE, why="trained and evaluated")
    name = find(before, entry) or ""
    if entry.evaluation is not None:
        evaluated(store, name, entry.evaluation, who=entry.run, why="evaluated again")

    states: list[State] = []
    decisions: list[GateDecision] = []

    def promotion(state: State) -> Draft | None:
        checked = gate.and_checks(_checks(state, entry, name, allow_fewer=allow_fewer, realigned=realigned))
        states.append(state)
        decisions.append(checked)
        known = state.version(name).gate
        if checked.promoted and state.in_use != name:
            kind: Kind = "promoted"
        elif known is None or known.promoted != checked.promoted:
            kind = "checked"
        else:
            return None
        return Draft(kind=kind, version=name, gate=checked, why=_short(checked.reason, LONGEST))

    after = change(store, promotion, who=GATE, why="passed")
    # If another writer was faster, the decision was made again: the last one counts.
    return Settled(after.version(name), decisions[-1], _outcome(name, states[-1], decisions[-1]), after.in_use)


def _checks(state: State, entry: Entry, name: str, *, allow_fewer: bool, realigned: bool) -> list[GateCheck]:
    """Returns the registry's own checks before a promotion."""
    if state.in_use == name:
        return []
    checks = []
    if state.in_use is not None:
        checks.append(_fewer_languages(state.in_use, state.entry(state.in_use), entry, allow_fewer=allow_fewer))
    event = state.taken_out.get(entry.model.sha256)
    if event is not None and (event.kind != "promoted" or not realigned):
        checks.append(
            GateCheck(
                name="taken_out",
                passed=False,
                value=None,
                bound=0.0,
                explanation=f"{event.who} took this model out of use on {event.when:%Y-%m-%d} "
                f"({_short(event.why, _WHY_SHOWN)}); a person can promote it again: mpo models promote {name} "
                "--why REASON",
            )
        )
    return checks


def _fewer_languages(version: str, current: Entry, entry: Entry, *, allow_fewer: bool) -> GateCheck:
    """Checks that no language of the version in use is lost, unless `allow_fewer` allows it."""
    if not current.targets:
        passed, lost = None, []
        explanation = f"{version}, the version in use, does not say which languages it covers"
    else:
        lost = sorted(current.covers - entry.covers)
        passed = allow_fewer or not lost
        explanation = (
            f"{len(lost)} of the {len(current.covers)} languages of {version}, the version in use, would be lost: "
            f"{', '.join(lost)}; gate.allow_fewer_languages {'allows' if allow_fewer else 'would allow'} that"
            if lost
            else f"all {len(current.covers)} languages of {version}, the version in use, are covered"
        )
    return GateCheck(
        name="fewer_languages",
        passed=passed,
        value=None if passed is None else float(len(lost)),
        bound=float(len(current.covers)) if allow_fewer else 0.0,
        explanation=explanation,
    )


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _outcome(name: str, before: State, decision: GateDecision) -> str:
    """Says in one sentence what was done to the state `before`."""
    current = before.in_use
    if current == name:
        if decision.promoted:
            return f"{name} was promoted before and stays in use"
        return f"{name} was promoted before and stays in use; the gate refuses it now: mpo models rollback --why REASON"
    if not decision.promoted:
        return f"{name} is registered, not promoted; {current or 'no version'} is in use"
    again = " again" if name in before.ever_in_use else ""
    return f"{name} was promoted{again}" + ("" if current is None else f", in place of {current}")
