"""The command `mpo judge`: verdicts on answers of any tool, and how well they agree with people."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table

from flows.commands.shared import AsJson, Overrides, console, output, tell
from flows.prefect_api import require_server
from flows.registered import define_registered, load_config
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.judge import JUDGES


def judge(
    file: Annotated[Path, typer.Argument(help="File of answers: CSV, JSON, JSON lines, Parquet or Arrow.")],
    out: Annotated[Path, typer.Option("--out", help="Where the verdicts go: a .parquet or .csv file.")],
    judge: Annotated[
        str | None,
        typer.Option(help="Judge: refusal_rules, guard=FOLDER_OR_ID, openai=MODEL … Default: the profile's."),
    ] = None,
    profile: Annotated[Path | None, typer.Option(help="YAML profile whose judge is used.")] = None,
    prompt: Annotated[str, typer.Option(help="Column of the prompts.")] = "prompt",
    response: Annotated[str, typer.Option(help="Column of the answers.")] = "response",
    language: Annotated[
        str, typer.Option(help="Column of the language codes, or one code for all rows, such as sw.")
    ] = "language",
    kind: Annotated[
        str, typer.Option(help="Column with harmful or harmless, or one of the two for all rows.")
    ] = "kind",
    labels: Annotated[
        str | None,
        typer.Option(help="Column of people's labels (safe, unsafe, invalid): how well does the judge agree?"),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Judge the answers of a file; with --labels, report how well the judge agrees with people."""
    if judge is None and profile is None and not any(item.startswith("judging") for item in overrides or []):
        raise BadInputError("no judge is named", where="mpo judge", fix="Write --judge NAME, or --profile FILE.")
    chosen = [] if judge is None else [f"judging={json.dumps(judge_settings(judge))}"]
    config = load_config(profile, [*chosen, *(overrides or [])])
    define_registered(config.run.root)  # the answers may be in languages that the settings do not name
    from flows import progress
    from flows.judge_files import judge_file
    from flows.run import open_root
    from mpo_core.judging.answers_file import Columns

    open_root(config)
    require_server()
    with progress.show(console):
        result = judge_file(config, file, out, Columns(prompt, response, language, kind, labels))
    if as_json:
        print(json.dumps(result))
        return
    output.print(_outcomes(result["outcomes"]))
    if "agreement" in result:
        output.print(_agreement(result["agreement"]))
    if result.get("corrected"):
        output.print(_corrected(result["corrected"]))
    for caution in result["cautions"]:
        output.print(f"Caution: {caution}", soft_wrap=True)
    tell({name: result[name] for name in ("quarantined", "out") if result[name]}, as_json=False)


def judge_settings(option: str) -> dict[str, Any]:
    """Returns the settings of the judge that `--judge` names, such as `guard=FOLDER`.

    Raises:
        BadInputError: no judge is called so, or it takes another value.
    """
    name, _, value = option.partition("=")
    known = JUDGES.implementations.get(name)
    if known is None:
        forms = [k if j.argument is None else f"{k}={j.argument[1]}" for k, j in JUDGES.implementations.items()]
        raise BadInputError("unknown judge", where=f"--judge {option}", fix=f"Name one of {', '.join(forms)}.")
    if value and known.argument is None:
        raise BadInputError(
            f"{name} takes no value", where=f"--judge {option}", fix=f"Write {name}; set its settings with --set."
        )
    return {"judge": name} | ({known.argument[0]: value} if value and known.argument is not None else {})


def _outcomes(counts: dict[str, dict[str, int]]) -> Table:
    """Makes the table of answers by language and outcome."""
    names = list(next(iter(counts.values())))
    table = Table("language", "n", *(name.replace("_", " ") for name in names))
    for code, of_language in counts.items():
        table.add_row(code, str(sum(of_language.values())), *(str(of_language[name]) for name in names))
    return table


def _agreement(rows: list[dict[str, Any]]) -> Table:
    """Makes the table of how well the judge agrees with people, by language, with intervals."""
    names = ("agreement", "kappa", "sensitivity", "specificity")
    table = Table(*("language", "n", "unjudged", *names), title="Agreement with people on what is unsafe", box=SIMPLE)
    for row in rows:
        table.add_row(row["language"], str(row["n"]), str(row["unjudged"]), *(_estimate(row[name]) for name in names))
    return table


def _corrected(rows: list[dict[str, Any]]) -> Table:
    """Makes the table of attack success rates as judged and corrected by people's labels, with intervals."""
    names = {"judged": "as judged", "ppi": "PPI++", "rogan_gladen": "Rogan-Gladen"}
    table = Table(*("language", "labels", *names.values()), title="ASR, corrected by people's labels", box=SIMPLE)
    for row in rows:
        table.add_row(row["language"], str(row["labels"]), *(_estimate(row[name]) for name in names))
    return table


def _estimate(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "–"
    interval = "no interval" if estimate["low"] is None else f"{estimate['low']:.2f}…{estimate['high']:.2f}"
    return f"{estimate['value']:.2f}\n{interval}\nn={estimate['n']}"
