"""The command `mpo judge`: verdicts on answers of any tool, and how well they agree with people."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table
from typer.core import TyperGroup

from flows.commands.shared import (
    DEFAULT_ROOT,
    AsJson,
    LanguagesRoot,
    Overrides,
    console,
    know_registered,
    output,
    tell,
)
from flows.prefect_api import require_server
from flows.registered import define_registered, load_config
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.judge import JUDGES
from mpo_core.settings.profiles import OptionOverride


class _FileFirst(TyperGroup):
    """A group of commands whose first one, `file`, needs not be named: `mpo judge FILE` is `mpo judge file FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the name of the first command before arguments that name none."""
        named = args and (args[0] in self.commands or args[0] == "--help")
        parsed: list[str] = super().parse_args(ctx, args if named else ["file", *args])
        return parsed


judge_app = typer.Typer(
    cls=_FileFirst,
    help="Judge answers of any tool: `mpo judge FILE`, with the options of `mpo judge file --help`; or sample answers "
    "for people to label.",
)
AnswersPath = Annotated[Path, typer.Argument(help="File of answers: CSV, JSON, JSON lines, Parquet or Arrow.")]
PromptColumn = Annotated[str, typer.Option("--prompt", help="Column of the prompts.")]
ResponseColumn = Annotated[str, typer.Option("--response", help="Column of the answers.")]
LanguageColumn = Annotated[
    str, typer.Option("--language", help="Column of the language codes, or one code for all rows, such as sw.")
]
KindColumn = Annotated[
    str, typer.Option("--kind", help="Column with harmful or harmless, or one of the two for all rows.")
]


@judge_app.command("file")
def judge(
    file: AnswersPath,
    out: Annotated[Path, typer.Option("--out", help="Where the verdicts go: a .parquet or .csv file.")],
    judge: Annotated[
        str | None,
        typer.Option(help="Judge: refusal_rules, guard=FOLDER_OR_ID, openai=MODEL … Default: the profile's."),
    ] = None,
    profile: Annotated[Path | None, typer.Option(help="YAML profile whose judge is used.")] = None,
    prompt: PromptColumn = "prompt",
    response: ResponseColumn = "response",
    language: LanguageColumn = "language",
    kind: KindColumn = "kind",
    labels: Annotated[
        str | None,
        typer.Option(help="Column of people's labels (safe, unsafe, invalid): how well does the judge agree?"),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Labelled sheet of `mpo judge sample`, or another judge's verdicts: how well do they agree?"),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Judge the answers of a file; with --labels or --against, report how well the judge agrees with these."""
    if judge is None and profile is None and not any(item.startswith("judging") for item in overrides or []):
        raise BadInputError("no judge is named", where="mpo judge", fix="Write --judge NAME, or --profile FILE.")
    if labels is not None and against is not None:
        raise BadInputError("labels are named twice", where="--labels, --against", fix="Give one of the two.")
    chosen = [] if judge is None else [OptionOverride(f"judging={json.dumps(judge_settings(judge))}", "--judge")]
    config = load_config(profile, [*chosen, *(overrides or [])])
    define_registered(config.run.root)  # the answers may be in languages that the settings do not name
    from flows import progress
    from flows.judge_files import judge_file
    from flows.run import open_root
    from mpo_core.judging.answers_file import Columns

    open_root(config)
    require_server()
    with progress.show(console):
        result = judge_file(config, file, out, Columns(prompt, response, language, kind, labels), against)
    if as_json:
        print(json.dumps(result))
        return
    output.print(_outcomes(result["outcomes"]))
    if "agreement" in result:
        other = "people" if against is None else against.name
        output.print(_agreement(result["agreement"], other))
        output.print(_confusion(result["agreement"], other))
    if result.get("corrected"):
        output.print(_corrected(result["corrected"]))
    for caution in result["cautions"]:
        output.print(f"Caution: {caution}", soft_wrap=True)
    tell({name: result[name] for name in ("quarantined", "out") if result[name]}, as_json=False)


@judge_app.command()
def sample(
    file: AnswersPath,
    out: Annotated[Path, typer.Option("--out", help="Where the sheet goes: a new .csv file.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of answers to sample.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    prompt: PromptColumn = "prompt",
    response: ResponseColumn = "response",
    language: LanguageColumn = "language",
    kind: KindColumn = "kind",
    root: LanguagesRoot = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Draw answers evenly over languages and kinds, as a sheet whose column `label` people fill in."""
    know_registered(root)
    from flows.judge_files import sample_answers
    from mpo_core.judging.answers_file import Columns

    result = sample_answers(file, out, Columns(prompt, response, language, kind), n, seed=seed)
    tell({name: value for name, value in result.items() if value or as_json}, as_json)


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


def _agreement(rows: list[dict[str, Any]], other: str) -> Table:
    """Makes the table of how well the judge agrees with people or another judge, by language, with intervals."""
    names = ("agreement", "kappa", "sensitivity", "specificity")
    title = f"Agreement with {other} on what is unsafe"
    table = Table(*("language", "n", "unjudged", *names), title=title, box=SIMPLE, padding=(0, 1, 0, 0))
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


def _confusion(rows: list[dict[str, Any]], other: str) -> Table:
    """Makes the table of how many answers got which label and which verdict, by language."""
    names = sorted({name for row in rows for name in row["confusion"]})
    title = f"Answers by label of {other} (above) and verdict of the judge (below)"
    table = Table("language", *(name.replace("/", "\n") for name in names), title=title, box=SIMPLE)
    for row in rows:
        table.add_row(row["language"], *(str(row["confusion"].get(name, 0)) for name in names))
    return table


def _estimate(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "–"
    interval = "no interval" if estimate["low"] is None else f"{estimate['low']:.2f}…{estimate['high']:.2f}"
    return f"{estimate['value']:.2f}\n{interval}\nn={estimate['n']}"
