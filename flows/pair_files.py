"""Files of pairs: what `mpo pairs import`, `audit` and `export` do, and what `mpo train` reads."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from mpo_core.contract.artifacts import rows_beside, write_parquet
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PAIRS, QUARANTINE
from mpo_core.pairs import (
    FLAWS,
    Imported,
    Joining,
    audit,
    export_official,
    export_trl,
    import_as_is,
    import_pairs,
    of_languages,
)
from mpo_core.settings import LanguageSettings

_JOINING = Joining()


def import_file(file: Path, out: Path, joining: Joining = _JOINING, *, as_is: bool = False) -> dict[str, Any]:
    """Imports pairs of another tool as Parquet; rejected rows go into a file beside it, with their reasons.

    `as_is` marks flawed pairs that can be trained on, in another file beside it, instead of rejecting them.

    Raises:
        BadInputError: no row is usable, or the file cannot be read or `out` not be written; nothing is written then.
    """
    if out.suffix.lower() not in {".parquet", ""}:
        raise BadInputError(
            "the name of the output does not end in .parquet", where=f"--out {out}", fix="Name a .parquet file."
        )
    beside = {name: out.with_suffix(f".{name}.parquet") for name in ("quarantine", "marks")}
    if file.resolve() in {out.resolve(), *(path.resolve() for path in beside.values())}:
        raise BadInputError("this file is the input", where=f"--out {out}", fix="Name another file.")
    pairs, rejected, marks = usable_pairs(file, joining=joining, as_is=as_is)
    with rows_beside(QUARANTINE, {beside["quarantine"]: rejected, beside["marks"]: marks}):
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
        result |= {"reasons": counts(rejected, "reason"), "quarantine": str(beside["quarantine"])}
    if marks.num_rows:
        result |= {"marked": counts(marks, "reason"), "marks": str(beside["marks"])}
    return result


def usable_pairs(
    file: Path, languages: LanguageSettings | None = None, joining: Joining = _JOINING, *, as_is: bool = False
) -> Imported:
    """Reads the pairs of a file; returns those that can be used, and the rejected rows and marks with their reasons.

    Raises:
        BadInputError: no pair is usable; the reasons are counted, and the first rejected row is named.
    """
    if as_is:
        pairs, rejected, marks = import_as_is(file, joining)
    else:
        (pairs, rejected), marks = import_pairs(file, joining), QUARANTINE.build([])
    if languages is not None:
        # An untranslated pair is in the dominant language twice.
        targets = [*languages.targets, *([languages.dominant] if as_is else [])]
        pairs, others = of_languages(pairs, languages.dominant, targets)
        rejected = pa.concat_tables([rejected, others])
        present = set(pairs["pair_id"].to_pylist())
        marks = QUARANTINE.build([row for row in marks.to_pylist() if row["row_id"] in present])
    if pairs.num_rows:
        return Imported(pairs, rejected, marks)
    reasons = (
        ", ".join(f"{reason} {count}" for reason, count in counts(rejected, "reason").items())
        or "the file holds no row"
    )
    first = next(iter(rejected.to_pylist()), None)
    example = "" if first is None else f"; the first is row {first['row_id']}: {first['detail']}"
    raise BadInputError(
        f"no pair can be used ({reasons}){example}",
        where=str(file),
        fix="Fix these rows, or give other pairs; docs/your-model.md lists the accepted formats.",
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
    pairs, rejected, _ = usable_pairs(file)
    forms[form](pairs, out)
    by_column = {f"{name}s": counts(pairs, name) for name in ("language", "kind", "split")}
    reasons = {"rejected": counts(rejected, "reason")} if rejected.num_rows else {}
    return {"pairs": pairs.num_rows, **by_column, **reasons, "out": str(out)}


def counts(table: pa.Table, column: str) -> dict[str, int]:
    """Counts the rows of each value of a column."""
    return dict(Counter(table[column].to_pylist()))
