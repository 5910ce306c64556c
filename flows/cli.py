"""The `mpo` command."""

import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import typer
from rich.console import Console

from flows import surroundings
from flows.commands.analyse import analyse
from flows.commands.edit import edit
from flows.commands.evaluate import evaluate
from flows.commands.judge import judge_app
from flows.commands.languages import languages_app
from flows.commands.models import models_app
from flows.commands.pairs import pairs_app
from flows.commands.report import report
from flows.commands.shared import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    REFUSED,
    AsIs,
    AsJson,
    Out,
    Overrides,
    Profile,
    bar,
    complain,
    console,
    kinds_printed,
    note_unidentified,
    output,
    tell,
    unexpected,
    with_methods,
    with_model,
)
from flows.commands.translate import translate
from flows.prefect_api import REPEATED_STATUS, require_server, server_failure
from flows.registered import define_registered, load_config, origin_explained, with_registered
from mpo_core import __version__
from mpo_core.contract.errors import BadInputError, DamagedError, StageFailedError, quantity
from mpo_core.http.proxies import spare_loopback
from mpo_core.settings import PipelineConfig
from mpo_core.settings.profiles import OptionOverride, parse_config

app = typer.Typer(
    help="Make a language model as safe in every language as it is in English.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 not promoted, 130 interrupted, 143 ended by SIGTERM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
microworld_app = typer.Typer(help="The embedded worlds, small and hard.", no_args_is_help=True)
app.add_typer(pairs_app, name="pairs")
app.add_typer(languages_app, name="languages")
app.command("translate")(translate)
app.add_typer(judge_app, name="judge")
app.command("edit")(edit)
app.command("evaluate")(evaluate)
app.command("report")(report)
app.command("analyse")(analyse)
app.add_typer(models_app, name="models")
app.add_typer(microworld_app, name="microworld")


@app.command()
def run(
    profile: Profile = None,
    overrides: Overrides = None,
    languages: Annotated[str | None, typer.Option(help="Target languages, such as sw,bn.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole pipeline on this machine."""
    config = load_config(profile, _with_languages(overrides, languages))
    _require_root_and_server(config)
    note_unidentified(config, as_json=as_json)
    from flows import progress
    from flows.full_pipeline import full_pipeline
    from mpo_core import reporting

    with progress.show(console), kinds_printed(as_json):
        summary = full_pipeline(config)
    if as_json:
        print(summary.model_dump_json(exclude={"examples"}))
    else:
        out = output
        out.print()
        out.print(reporting.before_after_tables(summary))
        _print_outcome(out, config, summary)
    if summary.gate is not None and not summary.gate.promoted:
        raise typer.Exit(REFUSED)


@app.command()
def realign(profile: Profile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Align what the promoted version does not cover well: new languages, languages that got worse, new prompts."""
    config = load_config(profile, overrides)
    _require_root_and_server(config)
    with origin_explained(config):
        joined = parse_config(with_registered(config.model_dump(), join=True), where=f"registry of {config.run.root}")
    note_unidentified(joined, as_json=as_json)
    from flows import progress
    from flows.realign import realign as realign_flow
    from mpo_core import reporting

    with progress.show(console), kinds_printed(as_json):
        done = realign_flow(config)
    summary = done.summary
    if as_json:
        print(done.model_dump_json(exclude={"summary": {"examples"}}))
    else:
        out = output
        for code, why in done.needs:
            out.print(f"{code or 'all languages'}: {why}", soft_wrap=True)
        if summary is None:
            out.print("No language needs training, and no prompt is new.")
        else:
            out.print(reporting.before_after_tables(summary))
            _print_outcome(out, config, summary)
    if summary is not None and summary.gate is not None and not summary.gate.promoted:
        raise typer.Exit(REFUSED)


@app.command()
def compare(
    profile: Profile = None,
    methods: Annotated[
        str | None, typer.Option(help="Methods to train, such as mpo,dpo. Default: compare.methods.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Number of seeds, counted from 0. Default: compare.seeds.", min=1)
    ] = None,
    flipped: Annotated[
        str | None,
        typer.Option(help="Shares (0 to 1) of low-resource pairs to swap, such as 0,0.2. Default: compare.flipped."),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate several methods side by side, on the same pairs."""
    changes = list(overrides or [])
    if seeds is not None:
        changes.append(OptionOverride(f"compare.seeds={list(range(seeds))}", "--seeds"))
    if flipped is not None:
        changes.append(OptionOverride(f"compare.flipped=[{flipped}]", "--flipped"))
    config = load_config(profile, changes)
    if methods is not None:
        config = parse_config(with_methods(config, methods.split(",")), where=f"--methods {methods}")
    _require_root_and_server(config)
    from flows import progress
    from flows.compare import compare_methods
    from mpo_core import reporting

    with progress.show(console), kinds_printed(as_json):
        summary = compare_methods(config)
    if as_json:
        print(summary.model_dump_json())
        return
    out = output
    out.print()
    out.print(reporting.methods_table(summary))
    folder = f"{config.run.root.rstrip('/')}/runs/{config.run.name}"
    out.print(f"Report: {folder}/methods.html", soft_wrap=True)


@app.command()
def train(
    pairs: Annotated[Path, typer.Option(help="File or dataset of pairs, in any form that `mpo pairs import` reads.")],
    model: Annotated[str, typer.Option(help="Model folder, hub id, or microworld.")],
    out: Out,
    profile: Profile = None,
    validation: Annotated[Path | None, typer.Option(help="File of pairs to evaluate on while training.")] = None,
    as_is: AsIs = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Run the training stage alone, on a file of pairs; writes the model and trainer_state.json."""
    config, _ = with_model(profile, overrides, model)
    define_registered(config.run.root)  # the pairs may be in languages that the settings do not name
    from flows import progress
    from flows.train_files import train_file

    # Without a profile the demo's settings apply, but the user has not chosen the demo's languages.
    chosen = profile is not None or any(override.startswith("languages") for override in overrides or [])
    with progress.show(console):
        languages = config.languages if chosen else None
        result = train_file(config, pairs, out, languages=languages, validation=validation, as_is=as_is)
    tell(result, as_json)


@microworld_app.command("build")
def build(
    out: Out,
    world: Annotated[
        Literal["small", "hard"],
        typer.Option(help="World of the model: small, the demo's, or hard, the benchmark for methods."),
    ] = "small",
    seed: Annotated[int, typer.Option(help="Random seed of everything that is sampled.", min=0, max=2**63 - 1)] = 0,
    as_json: AsJson = False,
) -> None:
    """Train the base model of a microworld from scratch."""
    from mpo_core.microworld import build as build_world
    from mpo_core.microworld import world_of

    if out.exists() and any(out.iterdir()):
        raise BadInputError("the folder is not empty", where=f"--out {out}", fix="Name a new folder.")
    with bar("pretraining") as on_progress:
        build_world(out, seed=seed, world=world_of(world), progress=lambda step, steps, _loss: on_progress(step, steps))
    tell({"model": str(out)}, as_json)


def _require_root_and_server(config: PipelineConfig) -> None:
    """Checks that `run.root` and the Prefect server can be used, before a temporary server takes its time to start."""
    from flows.run import open_root

    open_root(config)
    require_server()


def _print_outcome(out: Console, config: Any, summary: Any) -> None:
    """Prints how many tasks computed, the decisions of gate and registry, and where model and report are."""
    computed = sum(stage.state == "computed" for stage in summary.stages)
    out.print(
        f"{quantity(computed, 'task')} computed, {len(summary.stages) - computed} from cache, {summary.seconds:.0f} s"
    )
    if summary.gate is not None:
        out.print(f"Gate: {summary.gate.reason}", soft_wrap=True)
    if summary.registry:
        out.print(f"Registry: {summary.registry}", soft_wrap=True)
    model = [f"{config.run.root}/{ref.path}" for ref in summary.artifacts if _is_model(ref)][-1]
    lineage = f"version {summary.version} in the registry, made of {summary.base_model}"
    out.print(f"Model: {model} ({lineage})", soft_wrap=True)
    from mpo_core import reporting
    from mpo_core.contract.artifacts import ArtifactStore

    root = config.run.root.rstrip("/")
    # Another run of this name may have ended since.
    store = ArtifactStore(config.run.root, writes=False)
    folder = reporting.report_folder(store, f"runs/{config.run.name}", summary.version)
    if summary.earlier is not None:
        page = f"{root}/{summary.earlier}/{reporting.PAGE}"
        out.print(f"Report of another version, which had this name: {page}", soft_wrap=True)
    out.print(f"Report: {root}/{folder}/{reporting.PAGE}", soft_wrap=True)


def _version(requested: bool) -> None:
    if requested:
        print(f"mpo {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Make a language model as safe in every language as it is in English."""


def _is_model(ref: Any) -> bool:
    return ref.stage in {"training", "edit"} and not ref.path.endswith(".parquet")


def _with_languages(overrides: list[str] | None, languages: str | None) -> list[str]:
    chosen = list(overrides or [])
    if languages is not None:
        codes = [code.strip() for code in languages.split(",")]
        chosen.append(OptionOverride(f"languages.targets={json.dumps(codes)}", "--languages"))
    return chosen


def quiet_surroundings() -> None:
    """Turns off usage statistics and progress bars of libraries, unless the user's environment sets them."""
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": REPEATED_STATUS,
        # The command reports a failed task once; Prefect would add a traceback per task.
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)
    spare_loopback()
    # The ephemeral server is stopped in the middle of its own queries when the process ends.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    # At the end of the process it reports the events that it still sends.
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)


def main() -> None:
    """Runs the `mpo` command, and turns every error into one line and an exit code."""
    surroundings.utf8_names()
    with surroundings.lasting_streams():
        surroundings.own_modules_in_children()
        surroundings.usable_homes()
        quiet_surroundings()
        _run_command([_expanded(argument) for argument in sys.argv[1:]])


def _run_command(arguments: list[str]) -> None:
    try:
        with surroundings.ended_by_signals():
            _require_readable(arguments)
            app(arguments, standalone_mode=True)
    except BadInputError as error:
        complain(str(error), BAD_INPUT)
    except (DamagedError, StageFailedError) as error:
        complain(str(error), FAILED)
    except SystemExit as end:
        if isinstance(end.__context__, typer.Abort):  # Ctrl-C, which typer takes for a failure
            sys.exit(INTERRUPTED)
        raise
    except Exception as error:  # noqa: BLE001 - the last resort: one line, and the traceback for whoever asks
        complain(server_failure(error) or unexpected(error), FAILED)


def _require_readable(arguments: list[str]) -> None:
    """Rejects arguments that are not UTF-8, and a PREFECT_API_URL with which importing Prefect would fail."""
    for argument in arguments:
        if re.search("[\ud800-\udfff]", argument):
            raise BadInputError(
                "the argument is not UTF-8 text", where=argument, fix="Rename the file, or write UTF-8."
            )
    address = os.environ.get("PREFECT_API_URL", "")
    try:
        parts = urlsplit(address)
        known = not address or (parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0)
    except ValueError:
        known = False
    if not known:
        fix = "Write http://HOST:PORT/api, or unset the variable to run without a server."
        raise BadInputError("this is not the address of a Prefect server", where="PREFECT_API_URL", fix=fix)


def _expanded(argument: str) -> str:
    """Expands `~` where the shell does not: in quotes, and behind `--out=`."""
    option, equals, path = argument.partition("=")
    if equals and option.startswith("--") and path.startswith("~"):
        return f"{option}={os.path.expanduser(path)}"  # noqa: PTH111 - Path.expanduser() raises without a home
    return os.path.expanduser(argument) if argument.startswith("~") else argument  # noqa: PTH111


if __name__ == "__main__":
    main()
