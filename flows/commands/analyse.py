"""The command that analyses a finished run."""

from typing import Annotated

import typer

from flows.commands.shared import AsJson, Overrides, Profile, output, store_at, tell
from flows.registered import load_config
from mpo_core.contract.errors import BadInputError


def analyse(
    name: Annotated[str, typer.Argument(help="Name of the analysis, such as gap_vs_asr.")],
    profile: Profile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Analyse a finished run: write a table, a picture and a page into the run's folder."""
    from mpo_core import reporting
    from mpo_core.contract.analysis import ANALYSES

    implementation = ANALYSES.implementations.get(name)
    if implementation is None:
        known = ", ".join(ANALYSES.implementations)
        raise BadInputError(
            "there is no analysis of this name", where=f"analyse {name[:100]!r}", fix=f"Known: {known}."
        )
    run = load_config(profile, overrides).run
    store = store_at(run.root, writes=True)
    folder = reporting.run_folder(store, run.name)
    analysis, summary = ANALYSES.parse({"analysis": name}), reporting.read(store, folder)
    files, findings = reporting.write_analysis(analysis, summary, store, folder)
    if not as_json:
        output.print(f"{implementation.title}. {findings.supports}\n{findings.limits}", soft_wrap=True)
    paths = {kind: f"{run.root.rstrip('/')}/{path}" for kind, path in files._asdict().items() if path is not None}
    tell({"supports": findings.supports, "limits": findings.limits, **paths} if as_json else paths, as_json)
