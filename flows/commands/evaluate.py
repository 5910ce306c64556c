"""The command `mpo evaluate`: one model or two, on benchmarks or on a file of prompts."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.judge import judge_settings
from flows.commands.shared import (
    AsJson,
    Overrides,
    Profile,
    console,
    note_unidentified,
    output,
    tell,
    tell_kinds,
    with_model,
)
from flows.registered import load_config
from mpo_core.contract.benchmark import BENCHMARKS, HELD_OUT, Benchmark, recognised
from mpo_core.contract.errors import BadInputError
from mpo_core.languages.known import LANGUAGES
from mpo_core.settings import PipelineConfig
from mpo_core.settings.profiles import OptionOverride


def evaluate(
    model: Annotated[str, typer.Option(help="Model folder or hub id.")],
    profile: Profile = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="File of prompts (CSV, JSON, Parquet …) or dataset folder, read as prompts.sources of the profile "
            "says, or as the benchmark whose columns it has."
        ),
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            help="Benchmark: own_over_refusal, multijail=FILE, xstest=HUB_ID@COMMIT …; may be repeated. "
            "Default: evaluation.benchmarks of the profile."
        ),
    ] = None,
    against: Annotated[str | None, typer.Option(help="Model to compare with, on the same prompts.")] = None,
    languages: Annotated[
        str | None,
        typer.Option(
            help="Languages beside the dominant one, such as sw,bn. Default: the profile's; without a profile, all "
            "that the benchmarks have."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Maximum number of prompts of each set, in each language.", min=1)
    ] = None,
    translate: Annotated[
        bool,
        typer.Option(
            "--translate", help="Translate benchmarks, with the profile's engines, into languages that they lack."
        ),
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Judge: refusal_rules, guard=FOLDER_OR_ID, openai=MODEL … Default: the profile's; without a profile, "
            "refusal_rules (for the model of the microworld on a file of prompts, the microworld's own)."
        ),
    ] = None,
    source: Annotated[
        int | None,
        typer.Option(
            help="Number, from 0, of the entry in the profile's prompts.sources that says how to read the file."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for answers, verdicts and figures as Parquet, page and summary.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write answers and figures as CSV into the folder too.")] = False,
    inspect: Annotated[
        bool, typer.Option("--inspect", help="Write logs into the folder that `inspect view` reads.")
    ] = False,
    texts: Annotated[
        bool, typer.Option("--texts", help="Show texts of harmful prompts and of the answers to them on the page.")
    ] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate one model, or compare two, on benchmarks or on a file of prompts."""
    if out is None and (csv or inspect or texts):
        raise BadInputError(
            "--csv, --inspect and --texts need a folder to write into", where="mpo evaluate", fix="Give --out FOLDER."
        )
    changes = list(overrides or [])
    if judge is not None:
        changes.append(OptionOverride(f"judging={json.dumps(judge_settings(judge))}", "--judge"))
    plain = load_config(profile, changes)
    sets, file = _prompt_sets(plain, prompts, benchmark or [], source)
    more = ({} if limit is None else {"limit": limit}) | ({"translate": True} if translate else {})
    measured = json.dumps([entry | more for entry in sets])
    option = "--benchmark" if benchmark else "evaluation.benchmarks" if prompts is None else f"--prompts {prompts}"
    changes.append(OptionOverride(f"evaluation.benchmarks={measured}", option))
    changes += _defaults(plain, sets, file, languages, changes, profile, model)
    config, own = with_model(profile, changes, model)
    from flows import progress
    from flows.evaluate_models import evaluate_models, figures_as_data
    from flows.evaluation_folder import OutFolder
    from mpo_core import reporting

    note_unidentified(config, as_json=as_json)
    with progress.show(console):
        done = evaluate_models(
            config,
            prompts=file,
            source=source,
            limit=limit,
            against=against,
            against_revision=own.revision if against == own.path else None,
            on_kinds=(lambda _: None) if as_json or file is None else tell_kinds,
            out=None if out is None else OutFolder(out, csv=csv, inspect=inspect, texts=texts),
        )
    rejected: Counter[str] = Counter()
    for row in done.summary.quarantine:
        rejected[row.reason] += row.count
    result: dict[str, Any] = {"quarantined": dict(rejected), "report": done.page}
    if out is not None:
        result["out"] = str(out)
    if as_json:
        print(json.dumps({"metrics": figures_as_data(done.summary), "kinds": done.summary.kinds, **result}))
        return
    output.print(reporting.before_after_tables(done.summary))
    tell(result, as_json=False)


def _prompt_sets(
    config: PipelineConfig, prompts: Path | None, names: list[str], source: int | None
) -> tuple[list[dict[str, Any]], Path | None]:
    """Returns the benchmarks to measure, as settings, and the file of prompts if it is none of them."""
    in_profile = {entry.benchmark: entry for entry in config.evaluation.benchmarks if entry.benchmark != HELD_OUT}
    chosen = [_benchmark(name, in_profile) for name in names]
    if not names and prompts is None:
        chosen = list(in_profile.values())
    paths = {Path(getattr(entry, "path", "")).resolve() for entry in config.prompts.sources}
    if prompts is not None and source is None and prompts.resolve() not in paths and (known := recognised(prompts)):
        chosen.append(known)
        console.print(
            f"{prompts.name} has the columns of {known.benchmark}, and is read as this benchmark.", soft_wrap=True
        )
        prompts = None
    if not chosen and prompts is None:
        raise BadInputError(
            "nothing to measure is named", where="mpo evaluate", fix="Give --benchmark NAME or --prompts FILE."
        )
    return [entry.model_dump(mode="json", exclude_defaults=True) for entry in chosen], prompts


def _benchmark(option: str, in_profile: dict[str, Benchmark]) -> Benchmark:
    """Returns the benchmark that `--benchmark` names: `multijail=FILE`, `xstest=HUB_ID@COMMIT`; else BadInputError."""
    name, _, place = option.partition("=")
    known = BENCHMARKS.implementations.get(name)
    if known is None or name == HELD_OUT:
        names = ", ".join(sorted(BENCHMARKS.implementations.keys() - {HELD_OUT}))
        raise BadInputError("unknown benchmark", where=f"--benchmark {option}", fix=f"Name one of {names}.")
    if not place and name in in_profile:
        return in_profile[name]
    needs_path = "path" in known.model_fields
    if needs_path != bool(place):
        fix = f"Write {name}=FILE, or {name}=HUB_ID@COMMIT." if needs_path else f"Write {name}."
        what = "this benchmark needs a file" if needs_path else "this benchmark comes with mpo and takes no file"
        raise BadInputError(what, where=f"--benchmark {option}", fix=fix)
    settings: dict[str, Any] = {"benchmark": name}
    if place:
        path, at, revision = place.rpartition("@")
        pinned = at and "revision" in known.model_fields and not Path(place).exists()
        settings |= {"path": path, "revision": revision} if pinned else {"path": place}
    return BENCHMARKS.parse(settings)


def _defaults(
    config: PipelineConfig,
    sets: list[dict[str, Any]],
    file: Path | None,
    languages: str | None,
    changes: list[str],
    profile: Path | None,
    model: str,
) -> list[str]:
    """Returns the settings of languages and judge that the command line implies.

    Without a profile the demo's settings apply, whose languages the user has not chosen, and whose judge and plain text
    are of the demo's world. On benchmarks their own languages take their place. `refusal_rules` judges everything but
    the answers of the demo's model to a file of prompts, and with another judge goes the shipped text.
    """
    dominant = config.languages.dominant
    more: list[str] = []
    unset = profile is None and file is None
    rules = profile is None and not (file is not None and model == "microworld")
    if languages is not None:
        codes = [code.strip() for code in languages.split(",")]
        targets = json.dumps([code for code in codes if code != dominant])
        more.append(OptionOverride(f"languages.targets={targets}", "--languages"))
    elif unset and not any(change.startswith("languages") for change in changes):
        entries = [BENCHMARKS.parse(entry) for entry in sets]
        codes = [code for code in LANGUAGES if code != dominant and any(_has(entry, code) for entry in entries)]
        more.append(OptionOverride(f"languages.targets={json.dumps(codes)}", "--benchmark"))
    judge_chosen = any(change.startswith("judging") for change in changes)
    text_chosen = any(change.startswith("evaluation.parallel_text") for change in changes)
    if profile is None and (rules or judge_chosen) and not text_chosen:
        more.append(OptionOverride("evaluation.parallel_text=shipped", "--judge"))
    if rules and not judge_chosen:
        console.print(
            "Judge: refusal_rules, which only knows phrases of refusal. --judge chooses another one.", soft_wrap=True
        )
        more.append(OptionOverride("judging.judge=refusal_rules", "--judge"))
    return more


def _has(benchmark: Benchmark, language: str) -> bool:
    return bool(benchmark.sources(language) or benchmark.prompts(language))
