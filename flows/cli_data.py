"""The commands about data: languages, translation, pairs."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from flows.cli_shared import (
    DEFAULT_ROOT,
    FAILED,
    AsJson,
    LanguagesRoot,
    Out,
    Overrides,
    Root,
    console,
    know_registered,
    note_unidentified,
    output,
    store_at,
    tell,
)
from flows.prefect_api import require_server, server
from flows.registered import define_registered, load_config
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.settings import DELIMITER, single_character
from mpo_core.languages.known import LANGUAGES, language
from mpo_core.settings import PipelineConfig


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
        raise BadInputError("an engine is missing", where="mpo translate", fix="Give --engine NAME, or --profile FILE.")
    if out is None and not dry_run:
        raise BadInputError("the file for the result is missing", where="mpo translate", fix="Give --out FILE.parquet.")
    if out is not None:
        require_table(out)
    engine_override = (
        [f"translation.engines={json.dumps([engine_settings(name) for name in engine])}"] if engine else []
    )
    targets = [code.strip() for code in to.split(",")]
    # The source language of the settings, read before the command's own languages are added.
    known = [code for code in dict.fromkeys(targets) if code in LANGUAGES and code != source]
    first = [f"languages.targets={json.dumps(known)}"] if profile is None and known else []
    first += [f"languages.dominant={source}"] if profile is None and source else []
    first_config = load_config(profile, [*engine_override, *first, *(overrides or [])])
    source = source or first_config.languages.dominant
    _require_distinct(source, targets)
    language_overrides = [f"languages.dominant={source}", f"languages.targets={json.dumps(targets)}"]
    config = _translation_config(profile, [*engine_override, *(overrides or []), *language_overrides], source, targets)
    note_unidentified(config, as_json=as_json)
    delimiter = _delimiter(delimiter)
    load = estimate(config, file, column=column, delimiter=delimiter, with_keys=not dry_run)
    if dry_run or (not as_json and any(row["requests"] for row in load)):
        _tell_estimate(load, as_json=as_json)
    if dry_run or out is None:
        return
    from flows import progress
    from flows.translate_files import translate_file

    with progress.show(console):
        result = translate_file(config, file, out, column=column, delimiter=delimiter)
    _tell_translated(result, used_machine=any(row["kept"] or row["requests"] for row in load), as_json=as_json)
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
            "a delimiter is one character and no quote",
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
        console.print("To request the rejected texts again: --set translation.attempt=2")


def _tell_estimate(load: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(load))
        return
    names = ("language", "texts", "in memory", "kept", "requests", "characters", "engine")
    table = Table(*(Column(name, overflow="fold") for name in names), title="what would be requested, at most")
    for row in load:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    output.print(table)


def _tell_quality(languages: dict[str, Any]) -> None:
    names = ("language", "translated", "by engine", "marked", "rejected", "because")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for code, row in languages.items():
        counted = [", ".join(f"{name} {n:,}" for name, n in row[of].items()) for of in ("engines", "marked", "reasons")]
        table.add_row(code, f"{row['translated']:,}", counted[0], counted[1], f"{row['set_aside']:,}", counted[2])
    output.print(table)


pairs_app = typer.Typer(help="Preference pairs of other tools: import, export, audit, describe.", no_args_is_help=True)
languages_app = typer.Typer(help="The languages that are known; `add` registers one to be aligned.")


@languages_app.callback(invoke_without_command=True)
def languages_(context: typer.Context, root: LanguagesRoot = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """List the known languages: those that ship and those registered in a root."""
    if context.invoked_subcommand is not None:
        return
    know_registered(root)
    if as_json:
        print(json.dumps([entry._asdict() for entry in LANGUAGES.values()]))
        return
    table = Table("code", "name", "script", "resource level", "translation engines that know it")
    for entry in LANGUAGES.values():
        table.add_row(entry.code, entry.name, entry.script, entry.resource, " ".join(entry.engines))
    output.print(table)
    output.print("Engine openai=MODEL accepts every language; whether the model knows it is for its maker to say.")


@languages_app.command("add")
def add_language(
    code: Annotated[str, typer.Argument(help="BCP-47 code, such as sw.")],
    name: Annotated[str | None, typer.Option(help="Its English name, where mpo does not know it.")] = None,
    script: Annotated[str | None, typer.Option(help="Its script in ISO 15924, such as Latn.")] = None,
    resource: Annotated[
        str | None, typer.Option(help="How much text of it there is: high, medium or low. Default: low.")
    ] = None,
    refusals: Annotated[
        Path | None, typer.Option(help="Text file of phrases by which an answer declines, one per line.")
    ] = None,
    engine_code: Annotated[
        list[str] | None,
        typer.Option(help="A translation engine's own code for it, such as google=tl; may be repeated."),
    ] = None,
    who: Annotated[
        str, typer.Option(help="Name of the person who asks for it; it is stored.", envvar="USER")
    ] = "unknown",
    dominant: Annotated[
        str | None,
        typer.Option(help="The dominant language of the root's runs. Default: the promoted version's, or en."),
    ] = None,
    root: Root = "artifacts",
    as_json: AsJson = False,
) -> None:
    """Register a language to be aligned; if a Prefect server is set, it starts `realign`."""
    from flows.languages import canonical, facts_of, require_target, tell_server
    from mpo_core import registry
    from mpo_core.languages.identify import identifiable
    from mpo_core.languages.refusals import lexicon
    from mpo_core.settings import LanguageSettings

    store = store_at(root)
    define_registered(root)
    promoted = registry.promoted(store)
    known = None if promoted is None else promoted.entry.dominant
    code = canonical(code)
    require_target(code, script, canonical(dominant or known or LanguageSettings().dominant))
    options = {"name": name, "script": script, "resource": resource}
    facts = facts_of(code, options, engines=engine_code or (), refusals=refusals)
    require_server()  # before registering: the server gets the event of a new language alone
    new = registry.add_language(store_at(root, writes=True), facts, who=who)
    facts.define()
    notified = server() is not None and new
    if notified:
        tell_server(facts, root)
    result: dict[str, str | bool | int] = {
        "language": facts.code,
        "registered": "now" if new else "before",
        "server_told": notified,
    }
    if promoted is not None and facts.code in promoted.entry.targets:
        result["covered_by"] = promoted.version
    phrases = lexicon(facts.code)
    if phrases is None:
        result["refusal_phrases"] = 0
    if not identifiable(facts.code):
        result["identified_by"] = "script alone"
    tell(result, as_json)
    if phrases is None and not as_json:
        console.print(
            f"The judge refusal_rules needs refusal phrases in {facts.name} before a run: "
            f"mpo languages add {facts.code} --refusals FILE",
            soft_wrap=True,
        )


@pairs_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Official MPO JSON, JSON lines or Parquet.")],
    out: Out,
    root: LanguagesRoot = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Import pairs and identify their languages; rows that cannot be used are rejected with the reason."""
    from flows.pair_files import import_file

    know_registered(root)
    tell(import_file(file, out), as_json)


@pairs_app.command()
def audit(
    file: Annotated[Path, typer.Argument(help="Official MPO JSON, or Parquet of `mpo pairs import` or of a run.")],
    root: LanguagesRoot = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Count the flaws of a file of pairs, by language, and change nothing."""
    from flows.pair_files import audit_file

    know_registered(root)
    result = audit_file(file)
    if as_json:
        print(json.dumps(result))
        return
    table = Table("flaw", *result["languages"])
    for flaw in result["flaws"]:
        table.add_row(flaw.replace("_", " "), *(f"{row[flaw]:,}" for row in result["languages"].values()))
    output.print(table)


@pairs_app.command("describe")
def describe(
    file: Annotated[Path, typer.Argument(help="Pairs in any form that `mpo pairs import` reads.")],
    root: LanguagesRoot = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Count pairs by language, kind, split and origin, and report length and variety of the answers."""
    from mpo_core import pairs

    know_registered(root)
    table, rejected = pairs.import_pairs(file)
    if not table.num_rows:
        raise BadInputError(
            f"no pair can be used, {rejected.num_rows} rows are rejected",
            where=str(file),
            fix="Run `mpo pairs import`, which names the reasons and the first of these rows.",
        )
    figures = pairs.describe(table)
    reasons = dict(sorted(Counter(rejected["reason"].to_pylist()).items()))
    if as_json:
        print(json.dumps({"languages": figures, "rejected": reasons}))
        return
    counts = Table("", *figures)
    for name in next(iter(figures.values())):
        counts.add_row(name, *(f"{of[name]:,}" for of in figures.values()))
    output.print(counts)
    for reason, count in reasons.items():
        output.print(f"rejected: {reason} {count:,}")


@pairs_app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="Parquet of `mpo pairs import` or of a run.")],
    out: Out,
    form: Annotated[
        str, typer.Option("--format", help="official, the JSON of the released MPO code, or trl.")
    ] = "official",
    root: LanguagesRoot = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Export pairs to the official MPO JSON or TRL's preference format."""
    from flows.pair_files import export_file

    know_registered(root)
    tell(export_file(file, out, form), as_json)
