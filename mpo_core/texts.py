"""One column of texts from a file of the user's, row by row: such a file may be larger than memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mpo_core import files
from mpo_core.errors import BadInputError

_MEND = "Name a file of texts."


def read_texts(path: Path, column: str) -> Iterator[str]:
    """The texts of a column, in order; a row without one is an empty text.

    Args:
        path: CSV, JSON lines or Parquet; of a `.txt` file each line is a text, and `column` is not asked for.
        column: the column (JSON lines: key) of the text.

    Raises:
        BadInputError: the file is missing, malformed or of another kind, or lacks the column.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise BadInputError("unknown kind of file", where=str(path), mend=f"Give one of {', '.join(_READERS)}.")
    try:
        yield from reader(path, column)
    except UnicodeDecodeError:
        files.read_text(path, mend=_MEND)  # knows the line
        raise
    except OSError as error:
        raise BadInputError(
            f"cannot be read ({error.strerror or type(error).__name__})", where=str(path), mend=_MEND
        ) from None


def _csv(path: Path, column: str) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            _require(column, header, str(path))
            at, line = header.index(column), reader.line_num + 1
            for values in reader:
                if values:
                    if len(values) != len(header):
                        raise BadInputError(
                            f"{len(values)} columns where the header has {len(header)}",
                            where=f"{path}, line {line}",
                            mend="Quote fields that hold commas, quotes or line breaks.",
                        )
                    yield values[at]
                line = reader.line_num + 1
        except csv.Error as error:
            raise BadInputError(
                f"this is not CSV ({error})", where=f"{path}, line {reader.line_num}", mend="Check the quotes."
            ) from None


def _jsonl(path: Path, column: str) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                values: Any = json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                values = None
            if not isinstance(values, dict):
                raise BadInputError("this line is no JSON object", where=where, mend="Write one object per line.")
            _require(column, list(values), where)
            yield _text(values[column], column, where)


def _parquet(path: Path, column: str) -> Iterator[str]:
    try:
        with pq.ParquetFile(path) as file:
            _require(column, file.schema_arrow.names, str(path))
            row = 0
            for batch in file.iter_batches(batch_size=1024, columns=[column]):
                for value in batch.column(0).to_pylist():
                    yield _text(value, column, f"{path}, row {row}")
                    row += 1
    except pa.ArrowException as error:
        raise BadInputError(
            f"this is no readable Parquet file ({type(error).__name__})", where=str(path), mend="Write it again."
        ) from None


def _lines(path: Path, _column: str) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            yield line.rstrip("\n")


def _require(column: str, present: list[str], where: str) -> None:
    if column not in present:
        raise BadInputError(
            f"no column {column!r}",
            where=where,
            mend=f"Columns present: {', '.join(present) or 'none'}. Name the text's: --column NAME.",
        )


def _text(value: Any, column: str, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadInputError(
            f"the column {column!r} holds a {type(value).__name__}, not text", where=where, mend="Name another column."
        )
    return value


_READERS: dict[str, Callable[[Path, str], Iterator[str]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".txt": _lines,
}
