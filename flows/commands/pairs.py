"""The commands `mpo pairs`."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.shared import (
    DEFAULT_ROOT,
    AsIs,
    AsJson,
    LanguagesRoot,
    know_registered,
    output,
    tell,
)
from mpo_core.contract.errors import BadInputError, quantity
from mpo_core.languages.known import language

pairs_app = typer.Typer(help="Preference pairs of other tools: import, export, audit, describe.", no_args_is_help=True)
PairsPath = Annotated[Path, typer.Argument(help="Pairs in any form that `mpo pairs import` reads.")]


@pairs_app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="File (JSON, JSON lines, Parquet, Arrow or CSV), dataset folder, or dataset id on the hub."
        ),
    ],
    out: Annotated[Path, typer.Option(help="A .parquet file.")],
    dominant: Annotated[
        str, typer.Option(help="Language of the source rows, where each row holds one language.")
    ] = "en",
    id_column: Annotated[
        str | None,
        typer.Option(help="Column that joins such rows. Default: id, prompt_id or source_id."),
    ] = None,
    language_column: Annotated[str, typer.Option(help="Column with the language of such a row.")] = "language",
    as_is: AsIs = False,
    root: LanguagesRoot = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Import pairs and identify their languages; rows that cannot be used are rejected with the reason."""
    from flows.pair_files import import_file
    from mpo_core.pairs import Joining

    know_registered(root)
    code = language(dominant, where=f"--dominant {dominant}").code
    tell(import_file(file, out, Joining(code, id_column, language_column), as_is=as_is), as_json)


@pairs_app.command()
def audit(
    file: PairsPath,
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
    file: PairsPath,
    root: LanguagesRoot = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Count pairs by language, kind, split and origin, and report length and variety of the answers."""
    from mpo_core import pairs

    know_registered(root)
    table, rejected = pairs.import_pairs(file)
    if not table.num_rows:
        raise BadInputError(
            f"no pair can be used; rejected: {quantity(rejected.num_rows, 'row')}",
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
    file: PairsPath,
    out: Annotated[Path, typer.Option(help="A .json file; with --format trl, a .jsonl file.")],
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
