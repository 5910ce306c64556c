"""Files of the user's; whatever is malformed is told with its line."""

from __future__ import annotations

import codecs
import contextlib
import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

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
    """A comma-separated file with a header, whole; see `csv_rows`."""
    header, *rows = csv_rows(path, mend=mend)
    return Csv(header.values, rows)


def csv_rows(path: Path, *, mend: str) -> Iterator[CsvRow]:
    """The header, then the rows of a comma-separated file, read as they are asked for; blank lines are no rows.

    Args:
        path: the file, UTF-8 with or without a byte-order mark.
        mend: what to do where it cannot be read at all, such as which setting to check.

    Raises:
        BadInputError: the file cannot be read, is not UTF-8, the header names no column or one twice, or a
            row has another number of columns.
    """
    with _opened(path, mend, newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            if not header:
                raise BadInputError("the first line names no columns", where=str(path), mend="Give it a header.")
            if len(set(header)) != len(header):
                raise BadInputError("the header names a column twice", where=f"{path}, line 1", mend="Rename one.")
            yield CsvRow(1, header)
            line = reader.line_num + 1  # a quoted field may span lines: a row is where it starts
            for values in reader:
                if values:
                    if len(values) != len(header):
                        raise BadInputError(
                            f"{len(values)} columns where the header has {len(header)}",
                            where=f"{path}, line {line}",
                            mend="Quote fields that hold commas, quotes or line breaks; give each row all columns.",
                        )
                    yield CsvRow(line, values)
                line = reader.line_num + 1
        except csv.Error as error:
            raise BadInputError(
                f"this is not CSV ({error})", where=f"{path}, line {reader.line_num}", mend="Check the quotes."
            ) from None


def json_rows(path: Path, *, mend: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with its line, read as they are asked for; blank lines are none.

    Raises:
        BadInputError: the file cannot be read (`mend` tells what to do), is not UTF-8, or a line is no JSON object.
    """
    # Lines end with \n alone: JSON strings may hold U+2028 and its kin unescaped.
    with _opened(path, mend, newline="\n") as file:
        for number, line in enumerate(file, start=1):
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
            yield number, values


def text_lines(path: Path, *, mend: str) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends, read as they are asked for.

    Raises:
        BadInputError: it cannot be read (`mend` tells what to do), or is not UTF-8.
    """
    with _opened(path, mend, newline=None) as file:
        for line in file:
            yield line.rstrip("\n")


@contextlib.contextmanager
def _opened(path: Path, mend: str, *, newline: str | None) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError:
        read_text(path, mend=mend)  # knows the line
        raise
    except OSError as error:
        raise _unreadable(path, error, mend) from None


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
    with _parquet_of(path, mend):
        # partitioning=None: a folder named `language=en` is no column.
        return pq.read_table(path, partitioning=None)


@contextlib.contextmanager
def opened_parquet(path: Path, *, mend: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file to read batch by batch.

    Raises:
        BadInputError: it is missing (`mend` tells what to do) or damaged.
    """
    with _parquet_of(path, mend), pq.ParquetFile(path) as file:
        yield file


@contextlib.contextmanager
def _parquet_of(path: Path, mend: str) -> Iterator[None]:
    try:
        yield
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
