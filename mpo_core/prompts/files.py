"""CSV, JSON lines and Parquet as records; whatever is malformed is told with its line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mpo_core.errors import BadInputError
from mpo_core.prompts.records import Record, Records


def read_csv(path: Path) -> Records:
    """A comma-separated file with a header, UTF-8 with or without a byte-order mark.

    Raises:
        BadInputError: the file cannot be read, is not UTF-8, or a row has another number of columns.
    """
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    header: list[str] = []
    rows: list[Record] = []
    try:
        header = next(reader, [])
        line = reader.line_num + 1  # a quoted field may span lines: a row is where it starts
        for values in reader:
            if values:
                where = f"{path}, line {line}"
                if len(values) != len(header):
                    raise BadInputError(
                        f"{len(values)} columns where the header has {len(header)}",
                        where=where,
                        mend="Quote fields that hold commas, quotes or line breaks.",
                    )
                rows.append(Record(len(rows), where, dict(zip(header, values, strict=True))))
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadInputError(
            f"this is not CSV ({error})", where=f"{path}, line {reader.line_num}", mend="Check the quotes."
        ) from None
    if len(set(header)) != len(header):
        raise BadInputError("the header names a column twice", where=f"{path}, line 1", mend="Rename one.")
    return Records(str(path), header, rows)


def read_jsonl(path: Path) -> Records:
    """One JSON object per line; blank lines are none.

    Raises:
        BadInputError: the file cannot be read, is not UTF-8, or a line is no JSON object.
    """
    columns: dict[str, None] = {}
    rows: list[Record] = []
    # Not splitlines(): JSON strings may hold U+2028 and its kin unescaped.
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
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
    _require(path)
    try:
        # partitioning=None: columns are what the files hold; a folder named `language=en` in it is none.
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise BadInputError(
            f"this is no readable Parquet file ({type(error).__name__})", where=str(path), mend="Write it again."
        ) from None
    return from_rows(str(path), table.column_names, table.to_pylist())


def from_rows(where: str, columns: list[str], rows: list[dict[str, Any]]) -> Records:
    """Records from plain rows, which have numbers and no lines."""
    return Records(where, columns, [Record(i, f"{where}, row {i}", values) for i, values in enumerate(rows)])


def _require(path: Path) -> None:
    if not path.exists():
        raise BadInputError("no such file", where=str(path), mend="Check prompts.sources[].path.")


def _read_text(path: Path) -> str:
    _require(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInputError(
            f"cannot be read ({error.strerror or type(error).__name__})", where=str(path), mend="Name a readable file."
        ) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from behind the byte-order mark, which holds no line break.
        line = data[: error.start].count(b"\n") + 1
        raise BadInputError("not UTF-8 text", where=f"{path}, line {line}", mend="Save the file as UTF-8.") from None
