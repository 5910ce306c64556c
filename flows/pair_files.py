"""Files of pairs: what `mpo pairs import`, `audit` and `export` do, and what `mpo train` reads."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from mpo_core.contract.artifacts import write_parquet
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PAIRS, QUARANTINE
from mpo_core.pairs import FLAWS, audit, export_official, export_trl, import_pairs, of_languages
from mpo_core.settings import LanguageSettings


def import_file(file: Path, out: Path) -> dict[str, Any]:
    """Imports pairs of another tool as Parquet; rejected rows go into a file beside it, with their reasons.

    Raises:
        BadInputError: no row is usable, or the file cannot be read or `out` not be written; nothing is written then.
    """
    if out.suffix.lower() not in {".parquet", ""}:
        raise BadInputError(
            "the name of the output does not end in .parquet", where=f"--out {out}", fix="Name a .parquet file."
        )
    beside = out.with_suffix(".quarantine.parquet")
    if file.resolve() in {out.resolve(), beside.resolve()}:
        raise BadInputError("this file is the input", where=f"--out {out}", fix="Name another file.")
    pairs, rejected = usable_pairs(file)
    write_parquet(out, PAIRS, pairs)
    result: dict[str, Any] = {
        "pairs": pairs.num_rows,
        "languages": counts(pairs, "language"),
        "kinds": counts(pairs, "kind"),
        "splits": counts(pairs, "split"),
        "quarantined": rejected.num_rows,
        "out": str(out),
    }
    if rejected.num_rows:
        write_parquet(beside, QUARANTINE, rejected)
        result |= {"reasons": counts(rejected, "reason"), "quarantine": str(beside)}
    return result


def usable_pairs(file: Path, languages: LanguageSettings | None = None) -> tuple[pa.Table, pa.Table]:
    """Reads the pairs of a file; returns those that can be used, and the rejected rows with their reasons.

    Raises:
        BadInputError: no pair is usable; the reasons are counted, and the first rejected row is named.
    """
    pairs, rejected = import_pairs(file)
    if languages is not None:
        pairs, others = of_languages(pairs, languages.dominant, languages.targets)
        rejected = pa.concat_tables([rejected, others])
    if pairs.num_rows:
        return pairs, rejected
    reasons = (
        ", ".join(f"{reason} {count}" for reason, count in counts(rejected, "reason").items())
        or "the file holds no row"
    )
    first = next(iter(rejected.to_pylist()), None)
    example = "" if first is None else f"; the first is row {first['row_id']}: {first['detail']}"
    raise BadInputError(
        f"no pair can be used ({reasons}){example}",
        where=str(file),
        fix="Fix these rows, or give other pairs; docs/your-model.md lists the forms that are read.",
    )


def audit_file(file: Path) -> dict[str, Any]:
    """Counts the flaws of a file of pairs, by target language."""
    languages = audit(file)
    if not languages:
        raise BadInputError("the file holds no row", where=str(file), fix="Name a file of pairs.")
    return {"flaws": ["rows", *FLAWS], "languages": languages}


def export_file(file: Path, out: Path, form: str) -> dict[str, Any]:
    """Writes pairs in the official MPO JSON (`official`) or TRL's format (`trl`); returns their number by language."""
    forms = {"official": export_official, "trl": export_trl}
    if form not in forms:
        raise BadInputError("unknown format", where=f"--format {form}", fix=f"Known: {', '.join(forms)}.")
    if file.resolve() == out.resolve():
        raise BadInputError("this file is the input", where=f"--out {out}", fix="Name another file.")
    pairs, rejected = usable_pairs(file)
    forms[form](pairs, out)
    by_column = {f"{name}s": counts(pairs, name) for name in ("language", "kind", "split")}
    reasons = {"rejected": counts(rejected, "reason")} if rejected.num_rows else {}
    return {"pairs": pairs.num_rows, **by_column, **reasons, "out": str(out)}


def counts(table: pa.Table, column: str) -> dict[str, int]:
    """Counts the rows of each value of a column."""
    return dict(Counter(table[column].to_pylist()))
