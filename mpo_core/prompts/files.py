"""CSV, JSON lines and Parquet as records; whatever is malformed is told with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mpo_core import files
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
    found = list(files.json_rows(path, mend=_MEND))
    columns = dict.fromkeys(name for _, values in found for name in values)
    return Records(
        str(path),
        list(columns),
        [Record(number, f"{path}, line {line}", values) for number, (line, values) in enumerate(found)],
    )


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
