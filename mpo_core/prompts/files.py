"""CSV, JSON lines and Parquet as records; whatever is malformed is told with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mpo_core import files
from mpo_core.errors import BadInputError
from mpo_core.prompts.records import Record, Records

_MEND = "Check prompts.sources[].path."


def read_csv(path: Path) -> Records:
    """A comma-separated file with a header.

    Raises:
        BadInputError: the file cannot be read or is malformed.
    """
    table = files.read_csv(path, mend=_MEND)
    rows = [
        Record(number, f"{path}, line {row.line}", dict(zip(table.header, row.values, strict=True)))
        for number, row in enumerate(table.rows)
    ]
    return Records(str(path), table.header, rows)


def read_jsonl(path: Path) -> Records:
    """One JSON object per line; blank lines are none.

    Raises:
        BadInputError: the file cannot be read, is not UTF-8, or a line is no JSON object.
    """
    columns: dict[str, None] = {}
    rows: list[Record] = []
    # Not splitlines(): JSON strings may hold U+2028 and its kin unescaped.
    for number, line in enumerate(files.read_text(path, mend=_MEND).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            values: Any = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            raise BadInputError("this line is not JSON", where=where, mend="Write one object per line.") from None
        if not isinstance(values, dict):
            raise BadInputError(
                f"this line is a JSON {type(values).__name__}, not an object",
                where=where,
                mend="Write one object per line.",
            )
        columns.update(dict.fromkeys(values))
        rows.append(Record(len(rows), where, values))
    return Records(str(path), list(columns), rows)


def read_parquet(path: Path) -> Records:
    """A Parquet file, or a folder of them.

    Raises:
        BadInputError: it is missing or damaged.
    """
    table = files.read_parquet(path, mend=_MEND)
    return from_rows(str(path), table.column_names, table.to_pylist())


def from_rows(where: str, columns: list[str], rows: list[dict[str, Any]]) -> Records:
    """Records from plain rows, which have numbers and no lines."""
    return Records(where, columns, [Record(i, f"{where}, row {i}", values) for i, values in enumerate(rows)])
