"""The command `mpo translate`."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from flows.commands.shared import (
    FAILED,
    AsJson,
    Overrides,
    console,
    note_unidentified,
    output,
    tell,
)
from flows.registered import load_config
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.settings import DELIMITER, single_character
from mpo_core.languages.known import LANGUAGES, language
from mpo_core.settings import PipelineConfig
from mpo_core.settings.profiles import OptionOverride


def translate(
    file: Annotated[Path, typer.Argument(help="CSV, JSON or Parquet with a column of texts, or .txt by line.")],
    to: Annotated[str, typer.Option(help="Target languages, such as sw,bn.")],
    out: Annotated[Path | None, typer.Option(help="A .parquet or .csv file.")] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            help="Engine, one of google, deepl, microsoft, mymemory, libre …, memory=FILE, seq2seq=FOLDER_OR_ID, "
            "openai=MODEL, microworld. Repeat it for a chain. Default: translation.engines of --profile."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", help="Language of the texts. Default: languages.dominant of --profile, else en."),
    ] = None,
    column: Annotated[str, typer.Option(help="Column of the text, or of messages with one turn of the user.")] = "text",
    delimiter: Annotated[
        str | None, typer.Option(help='Between the fields of CSV, such as ";" or tab. Default: a comma; .tsv: a tab.')
    ] = None,
    profile: Annotated[Path | None, typer.Option(help="YAML profile with translation.engines.")] = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be requested, and send nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Translate a file's texts; a translation that fails a gate is rejected with the reason."""
    from flows.translate import engine_settings, estimate, require_table

    if not engine and profile is None:
        raise BadInputError(
            "no translation engine is named", where="mpo translate", fix="Give --engine NAME, or --profile FILE."
        )
    if out is None and not dry_run:
        raise BadInputError("no output file is named", where="mpo translate", fix="Give --out FILE.parquet.")
    if out is not None:
        require_table(out)
    engine_override = (
        [OptionOverride(f"translation.engines={json.dumps([engine_settings(name) for name in engine])}", "--engine")]
        if engine
        else []
    )
    targets = [code.strip() for code in to.split(",")]
    # The source language of the settings, read before the command's own languages are added.
    known = [code for code in dict.fromkeys(targets) if code in LANGUAGES and code != source]
    first = [OptionOverride(f"languages.targets={json.dumps(known)}", "--to")] if profile is None and known else []
    first += [OptionOverride(f"languages.dominant={source}", "--from")] if profile is None and source else []
    first_config = load_config(profile, [*engine_override, *first, *(overrides or [])])
    source = source or first_config.languages.dominant
    _require_distinct(source, targets)
    language_overrides = [
        OptionOverride(f"languages.dominant={source}", "--from"),
        OptionOverride(f"languages.targets={json.dumps(targets)}", "--to"),
    ]
    config = _translation_config(profile, [*engine_override, *(overrides or []), *language_overrides], source, targets)
    note_unidentified(config, as_json=as_json)
    delimiter = _delimiter(delimiter)
    load = estimate(config, file, column=column, delimiter=delimiter)
    if dry_run or (not as_json and any(row["requests"] for row in load)):
        _tell_estimate(load, as_json=as_json)
    if dry_run or out is None:
        return
    from flows import progress
    from flows.translate_files import translate_file

    with progress.show(console):
        result = translate_file(config, file, out, column=column, delimiter=delimiter)
    _tell_translated(result, used_machine=any(row["saved"] or row["requests"] for row in load), as_json=as_json)
    if not any(row["translated"] for row in result["languages"].values()):
        console.print("mpo: nothing was translated; the quarantine file has the reasons.", style="red")
        raise typer.Exit(FAILED)


def _translation_config(profile: Path | None, overrides: list[str], source: str, targets: list[str]) -> PipelineConfig:
    """Reads the settings; an unknown language is reported with the option that names it, not with its settings key."""
    try:
        return load_config(profile, overrides)
    except BadInputError:
        for code, option in ((source, "--from"), *((target, "--to") for target in targets)):
            language(code, where=f"{option} {code}")
        raise


def _require_distinct(source: str, targets: list[str]) -> None:
    """Rejects a language that is named twice. Unknown languages are rejected later, by the settings."""
    if len({*targets, source}) != len(targets) + 1:
        raise BadInputError(
            "a language is named twice", where=f"--from {source} --to {','.join(targets)}", fix="Name each once."
        )


def _delimiter(option: str | None) -> str | None:
    value: str | None = single_character(option)
    if value is not None and not re.fullmatch(DELIMITER, value):
        raise BadInputError(
            "the delimiter is not a single character, or it is a quote",
            where=f"--delimiter {option}",
            fix='Write ";" or tab, for example.',
        )
    return value


def _tell_translated(result: dict[str, Any], *, used_machine: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    for row in result["memories"]:
        print(
            f"{row['memory']}: {row['source']:,} units in the source language, "
            f"{row['target']:,} in {row['language']}, {row['both']:,} in both"
        )
    _tell_quality(result["languages"])
    tell({name: result[name] for name in ("out", "quarantine") if name in result}, as_json=False)
    if "quarantine" in result and used_machine:
        console.print("To request the rejected texts again: --set translation.attempt=2", soft_wrap=True)


def _tell_estimate(load: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(load))
        return
    names = ("language", "texts", "in memory", "saved", "requests", "characters", "engine")
    table = Table(*(Column(name, overflow="fold") for name in names), title="what would be requested, at most")
    for row in load:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    output.print(table)


def _tell_quality(languages: dict[str, Any]) -> None:
    names = ("language", "translated", "by engine", "marked", "rejected", "because")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for code, row in languages.items():
        counted = [", ".join(f"{name} {n:,}" for name, n in row[of].items()) for of in ("engines", "marked", "reasons")]
        table.add_row(code, f"{row['translated']:,}", counted[0], counted[1], f"{row['rejected']:,}", counted[2])
    output.print(table)
