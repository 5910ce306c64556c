"""The command `mpo edit`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.shared import AsJson, Out, Overrides, Profile, console, kinds_printed, tell, with_model
from mpo_core.contract.errors import BadInputError


def edit(
    model: Annotated[str, typer.Option(help="Model folder or hub id.")],
    out: Out,
    profile: Profile = None,
    apply: Annotated[
        Path | None, typer.Option(help="File of an edit, to apply to the model that it was made for.")
    ] = None,
    undo: Annotated[Path | None, typer.Option(help="File of an edit, to undo in a model that has it.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Edit a few neurons of a model (sparse weight editing), with the profile's prompts; or apply or undo an edit."""
    if apply is not None and undo is not None:
        raise BadInputError("--apply and --undo exclude each other", where="mpo edit", fix="Give one of the two.")
    config, _ = with_model(profile, overrides, model)
    from flows import progress
    from flows.edit_models import change_checkpoint, edit_checkpoint

    if (file := apply or undo) is not None:
        tell(change_checkpoint(config, file, out, undo=undo is not None), as_json)
        return
    with progress.show(console), kinds_printed(as_json):
        result = edit_checkpoint(config, out)
    tell(result, as_json)
