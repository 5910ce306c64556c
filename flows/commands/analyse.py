"""The command that analyses a finished run, or trains for an analysis."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.shared import AsJson, Overrides, console, kinds_printed, output, store_at, tell
from flows.registered import load_config
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.own_packages import ROOT

_STUDIES = Path(ROOT) / "deployments" / "profiles" / "studies.yaml"


def analyse(
    name: Annotated[str, typer.Argument(help="Name of the analysis, such as gap_vs_asr or beta.")],
    profile: Annotated[
        Path | None,
        typer.Argument(
            help="YAML profile. Default: the demo's; for analyses that train, studies.yaml.", show_default=False
        ),
    ] = None,
    overrides: Overrides = None,
    seeds: Annotated[
        int | None, typer.Option(help="Trainings of each variant, for analyses that train. Default: 3.", min=1)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Analyse a finished run, or train for an analysis: write a table, a picture and a page into the run's folder."""
    from mpo_core import reporting
    from mpo_core.contract.analysis import ANALYSES, Study

    implementation = ANALYSES.implementations.get(name)
    if implementation is None:
        known = ", ".join(ANALYSES.implementations)
        raise BadInputError(
            "there is no analysis of this name", where=f"analyse {name[:100]!r}", fix=f"Known: {known}."
        )
    trains = issubclass(implementation, Study)
    if seeds is not None and not trains:
        raise BadInputError(f"{name} does not train", where="--seeds", fix="Leave it out.")
    config = load_config(_STUDIES if trains and profile is None else profile, overrides)
    analysis = ANALYSES.parse({"analysis": name} | ({} if seeds is None else {"seeds": seeds}))
    if trains:
        store, folder, run = _studied(config, analysis, as_json=as_json)
    else:
        store = store_at(config.run.root, writes=True)
        folder = reporting.run_folder(store, config.run.name)
        run = reporting.analysed(reporting.read(store, folder), store)
        if implementation.reads_states:
            run = run._replace(states=_states(config, as_json=as_json))
    files, findings = reporting.write_analysis(analysis, run, store, folder)
    if not as_json:
        output.print(f"{implementation.title}. {findings.supports}\n{findings.limits}", soft_wrap=True)
    paths = {
        kind: f"{config.run.root.rstrip('/')}/{path}" for kind, path in files._asdict().items() if path is not None
    }
    tell({"supports": findings.supports, "limits": findings.limits, **paths} if as_json else paths, as_json)


def _studied(config: Any, analysis: Any, *, as_json: bool) -> tuple[Any, str, Any]:
    """Trains the variants of a study; returns store, folder and figures."""
    from flows import progress
    from flows.prefect_api import require_server
    from flows.run import open_root
    from flows.study import train_variants
    from mpo_core.contract.analysis import AnalysedRun
    from mpo_core.contract.tables import METRICS

    store, targets = open_root(config), sorted(config.languages.targets)
    require_server()
    with progress.show(console), kinds_printed(as_json):
        trainings = train_variants(config, analysis.variants(targets), analysis.seeds)
    languages = config.languages
    run = AnalysedRun(config.run.name, languages.dominant, languages.targets, METRICS.build([]), trainings=trainings)
    return store, f"runs/{config.run.name}", run


def _states(config: Any, *, as_json: bool) -> Any:
    """Measures the hidden states of prompts under both models of a run."""
    from flows import progress
    from flows.prefect_api import require_server
    from flows.study import prompt_states

    require_server()
    with progress.show(console), kinds_printed(as_json):
        return prompt_states(config)
