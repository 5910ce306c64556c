"""What the commands share: options, and how they print results and errors."""

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from flows.registered import load_config
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.own_packages import ROOT
from mpo_core.settings import ModelSettings, PipelineConfig
from mpo_core.settings.profiles import OptionOverride

Profile = Annotated[Path | None, typer.Argument(help="YAML profile. Default: the demo.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting, such as training.beta=1.5; all are in docs/settings.md."),
]
AsIs = Annotated[
    bool,
    typer.Option(
        "--as-is", help="Mark untranslated pairs, empty prompts, equal answers and marks of turns; do not reject them."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of the result.")]
Root = Annotated[str, typer.Option("--root", help="Folder or URL of the artifacts.")]
LanguagesRoot = Annotated[
    str, typer.Option("--root", help="Folder or URL of the artifacts; languages registered there are known.")
]
DEFAULT_ROOT = "artifacts"

FAILED, BAD_INPUT, REFUSED, INTERRUPTED = 1, 2, 3, 130

# Names and paths are printed as they are: `[sw]` is no markup, `:x:` no emoji, and a number needs no colour.
console = Console(stderr=True, markup=False, emoji=False, highlight=False)
output = Console(markup=False, emoji=False, highlight=False)


def complain(message: str, code: int) -> NoReturn:
    """Prints in one line what went wrong, and ends the command with this exit code."""
    # A name or a server's answer may hold control characters, which would drive the terminal.
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message)
    console.print(f"mpo: {line}", style="red", soft_wrap=True)
    sys.exit(code)


def unexpected(error: Exception) -> str:
    """Describes an unforeseen error by its type and place; its own message could quote a prompt."""
    if os.environ.get("MPO_TRACEBACK"):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT)] or frames
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(ours[-2:]))
    return (
        f"{type(error).__name__} at {places}: this is a fault of mpo itself. "
        "Set MPO_TRACEBACK=1 to see the traceback, and please report it."
    )


def store_at(root: str, *, writes: bool = False) -> Any:
    """Opens an existing folder of artifacts (`--root`); without `writes`, nothing in it is written or made."""
    from mpo_core.contract.artifacts import ArtifactStore

    store = ArtifactStore(root, writes=False, option="--root")
    if store.local and not store.local_path("").is_dir():
        raise BadInputError("no such folder", where=f"--root {root}", fix="Name the run.root of an earlier run.")
    return ArtifactStore(root, option="--root") if writes else store


def know_registered(root: str) -> None:
    """Makes languages added with `mpo languages add` known in this process.

    Args:
        root: the folder of artifacts that holds them; the default one need not exist.

    Raises:
        BadInputError: `root` is no folder, or a language is registered with other facts than those of the table.
    """
    from flows.registered import define_registered

    if root != DEFAULT_ROOT:
        store_at(root)
    define_registered(root)


def note_unidentified(config: Any, *, as_json: bool) -> None:
    """Prints the languages that the identifier does not know, whose texts are checked by their script alone."""
    from mpo_core.languages.identify import identifiable
    from mpo_core.languages.known import language

    codes = [] if as_json else [config.languages.dominant, *config.languages.targets]
    for code in codes:
        if not identifiable(code):
            console.print(
                f"{code}: the language identifier does not know {language(code).name}; texts are checked by their "
                f"script ({language(code).script}) alone, not by their language.",
                soft_wrap=True,
            )


def bar(what: str) -> Any:
    """Shows a progress bar on the terminal while the context lasts; yields `update(done, total)`."""
    from flows.progress import bar as progress_bar

    return progress_bar(console, what)


def tell(result: dict[str, Any], as_json: bool) -> None:
    """Prints a command's result: one JSON object, or a line for each of its parts."""
    if as_json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        shown = "none" if value is None else value
        output.print(f"{name.replace('_', ' ')}: {shown}", highlight=False, soft_wrap=True)


def tell_kinds(kinds: dict[str, dict[str, int]]) -> None:
    """Prints how many harmful and harmless prompts each source gave: an inverted label shows here first."""
    for source, counts in kinds.items():
        counted = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        output.print(f"Prompts of {source}: {counted}", highlight=False, soft_wrap=True)


def kinds_printed(as_json: bool) -> Any:
    """While the context lasts, prints how many prompts of each kind a flow has read; prints nothing with `--json`."""
    from flows.kinds import heard_by

    return contextlib.nullcontext() if as_json else heard_by(tell_kinds)


def with_model(profile: Path | None, overrides: list[str] | None, model: str) -> tuple[PipelineConfig, ModelSettings]:
    """Reads the settings with `model` in place of the profile's model; returns them and the profile's own model.

    The profile's `model.revision` belongs to its own model and is dropped for another one.
    """
    overrides = list(overrides or [])
    own = load_config(profile, overrides).model
    changes: list[str] = [OptionOverride(f"model.path={json.dumps(model)}", "--model")]
    if model != own.path and not any(override.startswith("model.revision=") for override in overrides):
        changes.append(OptionOverride("model.revision=null", "--model"))
    return load_config(profile, overrides + changes), own


def with_methods(config: Any, names: list[str]) -> dict[str, Any]:
    """Returns the settings with only these methods to compare, each with the profile's settings for it, if any."""
    data: dict[str, Any] = config.model_dump()  # not as JSON: URLs have their credentials
    tuned = data["compare"]["methods"]
    data["compare"]["methods"] = {name.strip(): tuned.get(name.strip(), {}) for name in names}
    return data
