"""Files of the user's: read whole, and whatever is malformed is told with its line."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mpo_core.errors import BadInputError


class CsvRow(NamedTuple):
    """A row of a CSV file: the line on which it starts, and as many values as the header has names."""

    line: int
    values: list[str]


class Csv(NamedTuple):
    """A CSV file; the names in `header` differ from one another."""

    header: list[str]
    rows: list[CsvRow]


def read_csv(path: Path, *, mend: str) -> Csv:
    """A comma-separated file with a header, UTF-8 with or without a byte-order mark; blank lines are no rows.

    Args:
        path: the file.
        mend: what to do where it cannot be read at all, such as which setting to check.

    Raises:
        BadInputError: the file cannot be read, is not UTF-8, the header names a column twice, or a row
            has another number of columns.
    """
    reader = csv.reader(io.StringIO(read_text(path, mend=mend), newline=""), strict=True)
    rows: list[CsvRow] = []
    try:
        header = next(reader, [])
        if len(set(header)) != len(header):
            raise BadInputError("the header names a column twice", where=f"{path}, line 1", mend="Rename one.")
        line = reader.line_num + 1  # a quoted field may span lines: a row is where it starts
        for values in reader:
            if values:
                if len(values) != len(header):
                    raise BadInputError(
                        f"{len(values)} columns where the header has {len(header)}",
                        where=f"{path}, line {line}",
                        mend="Quote fields that hold commas, quotes or line breaks.",
                    )
                rows.append(CsvRow(line, values))
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadInputError(
            f"this is not CSV ({error})", where=f"{path}, line {reader.line_num}", mend="Check the quotes."
        ) from None
    return Csv(header, rows)


def read_text(path: Path, *, mend: str) -> str:
    """A UTF-8 file, with or without a byte-order mark.

    Raises:
        BadInputError: it cannot be read (`mend` tells what to do), or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error, mend) from None
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInputError("not UTF-8 text", where=f"{path}, line {line}", mend="Save the file as UTF-8.") from None


def read_parquet(path: Path, *, mend: str) -> pa.Table:
    """A Parquet file, or a folder of them. Columns are what the files hold, never parts of the path.

    Raises:
        BadInputError: it is missing (`mend` tells what to do) or damaged.
    """
    try:
        # partitioning=None: a folder named `language=en` is no column.
        return pq.read_table(path, partitioning=None)
    except (FileNotFoundError, PermissionError) as error:
        raise _unreadable(path, error, mend) from None
    except (pa.ArrowException, OSError) as error:
        raise BadInputError(
            f"this is no readable Parquet file ({type(error).__name__})", where=str(path), mend="Write it again."
        ) from None


def digest(path: Path, *, mend: str) -> str:
    """The sha256 of a file.

    Raises:
        BadInputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error, mend) from None


def _unreadable(path: Path, error: OSError, mend: str) -> BadInputError:
    # pyarrow's errors carry a number only now and then, and a text that names the path again.
    reason = "No such file or directory" if isinstance(error, FileNotFoundError) else error.strerror
    return BadInputError(f"cannot be read ({reason or type(error).__name__})", where=str(path), mend=mend)
