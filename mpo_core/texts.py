"""One column of texts from a file of the user's, row by row: such a file may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    yield from reader(path, column)


def _csv(path: Path, column: str) -> Iterator[str]:
    rows = files.csv_rows(path, mend=_MEND)
    header = next(rows).values
    _require(column, header, str(path))
    at = header.index(column)
    for row in rows:
        yield row.values[at]


def _jsonl(path: Path, column: str) -> Iterator[str]:
    for line, values in files.json_rows(path, mend=_MEND):
        where = f"{path}, line {line}"
        _require(column, list(values), where)
        yield _text(values[column], column, where)


def _parquet(path: Path, column: str) -> Iterator[str]:
    with files.opened_parquet(path, mend=_MEND) as file:
        _require(column, file.schema_arrow.names, str(path))
        row = 0
        for batch in file.iter_batches(batch_size=1024, columns=[column]):
            for value in batch.column(0).to_pylist():
                yield _text(value, column, f"{path}, row {row}")
                row += 1


def _lines(path: Path, _column: str) -> Iterator[str]:
    return files.text_lines(path, mend=_MEND)


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
