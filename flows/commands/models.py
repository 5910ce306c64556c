"""The commands about the registry: which versions there are, and which one is promoted."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.table import Table

from flows.commands.shared import AsJson, Root, output, store_at, tell
from mpo_core.contract.errors import BadInputError

Why = Annotated[str, typer.Option(help="The reason; it is stored.")]
Who = Annotated[str, typer.Option(help="Who decides; it is stored.", envvar="USER")]
models_app = typer.Typer(help="The registry: versions, promotion, rollback.", no_args_is_help=True)


@models_app.command("list")
def list_(root: Root = "artifacts", as_json: AsJson = False) -> None:
    """List the registered versions."""
    from mpo_core import registry

    versions = registry.versions(_root_of_runs(root))
    if as_json:
        print(json.dumps([version.model_dump(mode="json") for version in versions]))
        return
    table = Table("version", "run", "median target ASR", "gate", "promoted")
    for version in versions:
        figures = version.entry.figures
        change = " → ".join(
            f"{figures[name]:.1%}" for name in ("median_unsafe_before", "median_unsafe_after") if name in figures
        )
        gate = version.gate
        gate_state = "none" if gate is None else "passed" if gate.promoted else "refused"
        table.add_row(version.version, version.entry.run, change, gate_state, "✓" if version.promoted else "")
    output.print(table)
    for version in versions:  # a path is one line, to be copied as it is
        place = f"{root.rstrip('/')}/{version.entry.model.path}"
        output.print(f"{version.version}: {place}", soft_wrap=True)


@models_app.command("history")
def history_(root: Root = "artifacts", as_json: AsJson = False) -> None:
    """List who registered, promoted or rolled back which version, when and why."""
    from mpo_core import registry

    events = registry.history(_root_of_runs(root))
    if as_json:
        print(json.dumps([event.model_dump(mode="json", exclude={"entry"}) for event in events]))
        return
    table = Table("when", "what", "version", "who", "why")
    for event in events:
        table.add_row(f"{event.when:%Y-%m-%d %H:%M}", event.kind.replace("_", " "), event.version, event.who, event.why)
    output.print(table)


@models_app.command()
def promote(
    version: str,
    why: Why,
    who: Who = "unknown",
    root: Root = "artifacts",
    as_json: AsJson = False,
) -> None:
    """Make a version the promoted one."""
    from mpo_core import registry

    _change(root, lambda store: registry.promote(store, version, who=_person(who), why=why), as_json)


@models_app.command()
def rollback(
    why: Why,
    who: Who = "unknown",
    root: Root = "artifacts",
    as_json: AsJson = False,
) -> None:
    """Take the promoted version out of use, and go back to the one that was promoted before it, if any."""
    from mpo_core import registry

    _change(root, lambda store: registry.rollback(store, who=_person(who), why=why), as_json)


@models_app.command()
def push(
    version: str,
    to: Annotated[str, typer.Option(help="Repository on the hub, user/name; made if it is not there.")],
    public: Annotated[bool, typer.Option("--public", help="Make it public; else it is private.")] = False,
    root: Root = "artifacts",
    as_json: AsJson = False,
) -> None:
    """Push a version to the Hugging Face hub, with a model card."""
    from mpo_core import registry

    tell({"pushed": registry.push(store_at(root), version, to, private=not public)}, as_json)


def _root_of_runs(root: str) -> Any:
    """Opens a folder of artifacts, and rejects another folder: an empty list would say that nothing is registered.

    A run makes the folder of cache records first, before there is a version.
    """
    store = store_at(root)
    if not any(store.exists(folder) for folder in ("registry", "runs", ".results")):
        raise BadInputError(
            "this is no folder of artifacts: no run has written here",
            where=f"--root {root}",
            fix="Name the run.root of an earlier run.",
        )
    return store


def _person(who: str) -> str:
    """Returns the name of the person who decides, and rejects the names that the history uses for mpo itself."""
    from mpo_core import registry

    name = who.strip().lower()
    if name in {registry.GATE, registry.PIPELINE}:
        raise BadInputError(
            f"a person cannot have this name: the history uses it for the {name}",
            where=f"--who {who}",
            fix="Name the person who decides.",
        )
    return who


def _change(root: str, decide: Callable[[Any], Any], as_json: bool) -> None:
    """Changes which version is promoted, and prints the languages of the earlier one that the new one does not cover.

    A person may promote such a version; the gate does not.
    """
    from mpo_core import registry

    store = store_at(root, writes=True)
    before, now = registry.promoted(store), decide(store)
    if now is None:
        tell({"withdrawn": None if before is None else before.version, "promoted": None}, as_json)
        return
    uncovered = sorted(before.entry.covers - now.entry.covers) if before is not None and now.entry.targets else []
    tell({"promoted": now.version, **({"no_longer_covered": uncovered} if uncovered else {})}, as_json)
