"""Reads the user's files, plain or compressed; malformed content is reported with its line."""

import codecs
import contextlib
import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from mpo_core.contract.errors import BadInputError, quantity, shortened
from mpo_core.files.compression import (
    CORRUPT,
    NotAFileError,
    foreign_format,
    open_plain,
    plain_suffix,
    require_regular,
)

csv.field_size_limit(2**31 - 1)  # the module's own limit is 128 KB a field
_OTHER_TABLES = {".csv", ".tsv", ".jsonl", ".ndjson", ".arrow"}
_DELIMITERS = {";": ";", "\t": r"\t", "|": "|", ",": ","}


class CsvRow(NamedTuple):
    """A row of a CSV file: the line on which it starts, and as many values as the header has names."""

    line: int
    values: list[str]


class Csv(NamedTuple):
    """The content of a CSV file: the names of the columns, each of them once, and the rows."""

    header: list[str]
    rows: list[CsvRow]


def read_csv(path: Path, *, fix: str) -> Csv:
    """Reads a whole CSV file with a header; see `csv_rows`."""
    header, *rows = csv_rows(path, fix=fix)
    return Csv(header.values, rows)


def csv_rows(path: Path, *, fix: str, delimiter: str | None = None, key: str | None = None) -> Iterator[CsvRow]:
    """Yields the header, then the rows of a CSV file, read as they are needed; blank lines are no rows.

    Spaces around the names in the header are removed. A column without a name is skipped.

    The file may be compressed, and begin with a byte-order mark. The delimiter is by default a comma, or a tab in a
    `.tsv` file; `key` names its setting for an error, where there is one.

    Raises:
        BadInputError: the file cannot be read, is not UTF-8, the header names no column or one twice, or a
            row has another number of columns.
    """
    delimiter = delimiter or default_delimiter(path)
    with _opened(path, fix, newline="") as file:
        reader = csv.reader(file, strict=True, delimiter=delimiter)
        try:
            cells = [name.strip() for name in next(reader, [])]
            with_name = [at for at, name in enumerate(cells) if name]
            header = [cells[at] for at in with_name]
            if not header:
                raise BadInputError("the first line names no columns", where=str(path), fix="Add a header line.")
            if len(set(header)) != len(header):
                raise BadInputError(
                    "the header names a column twice", where=f"{path}, line 1", fix="Rename one of them."
                )
            yield CsvRow(1, header)
            line = reader.line_num + 1  # a quoted field may span lines: the place of a row is its first line
            for values in reader:
                if values:
                    # Blank fields at the end of the header or of the row are trailing delimiters.
                    if len(values) <= with_name[-1] or any(value.strip() for value in values[len(cells) :]):
                        raise BadInputError(
                            f"{quantity(len(values), 'column')} where the header has {len(cells)}",
                            where=f"{path}, line {line}",
                            fix=delimiter_hint(header, delimiter, key)
                            or "Quote fields that hold commas, quotes or line breaks; give each row all columns.",
                        )
                    yield CsvRow(line, [values[at] for at in with_name])
                line = reader.line_num + 1
        except csv.Error as error:
            raise BadInputError(
                f"this is not CSV ({error})",
                where=f"{path}, line {reader.line_num}",
                fix="Check the quotes in this line.",
            ) from None


def default_delimiter(path: Path) -> str:
    """Returns the default delimiter of a file: a tab for a `.tsv` file, else a comma."""
    return "\t" if plain_suffix(path) == ".tsv" else ","


def delimiter_hint(header: list[str], delimiter: str, key: str | None) -> str:
    """Returns advice where another delimiter seems to separate the header, else an empty text."""
    line = delimiter.join(header)
    counts = {other: line.count(other) for other in _DELIMITERS if other != delimiter}
    likely = max(counts, key=lambda other: counts[other])
    if counts[likely] < len(header):
        return ""
    spelling = _DELIMITERS[likely]
    advice = (
        f'set {key} to "{spelling}"' if key else f'write "{_DELIMITERS.get(delimiter, delimiter)}" between the columns'
    )
    return f'The header looks separated by "{spelling}": {advice}.'


def text_lines(path: Path, *, fix: str, newline: str | None = None) -> Iterator[str]:
    r"""Yields the lines of a UTF-8 file without their ends, read as they are needed.

    Args:
        path: the file, plain or compressed.
        fix: what the user can do if it cannot be read.
        newline: what ends a line: any of \n, \r\n and \r by default, or exactly this.

    Raises:
        BadInputError: it cannot be read, or is not UTF-8.
    """
    with _opened(path, fix, newline=newline) as file:
        for line in file:
            yield line.rstrip("\n")


@contextlib.contextmanager
def _opened(path: Path, fix: str, *, newline: str | None) -> Iterator[TextIO]:
    try:
        with (
            readable(path, fix),
            open_plain(path) as plain,
            io.TextIOWrapper(plain, encoding="utf-8-sig", newline=newline) as file,
        ):
            yield file
    except UnicodeDecodeError:
        read_text(path, fix=fix)  # raises the error with the line
        raise


def read_bytes(path: Path, *, fix: str) -> bytes:
    """Reads the plain bytes of a file, which may be compressed.

    Raises:
        BadInputError: it cannot be read, or its compressed data is damaged.
    """
    with readable(path, fix), open_plain(path) as file:
        return file.read()


def read_text(path: Path, *, fix: str) -> str:
    """Reads a UTF-8 file, with or without a byte-order mark, plain or compressed.

    Raises:
        BadInputError: it cannot be read (`fix` says what to do), or is not UTF-8.
    """
    data = read_bytes(path, fix=fix).removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        form = foreign_format(data)
        what = "not UTF-8 text" if form is None else f"not UTF-8 text: this is {form}"
        raise BadInputError(
            what, where=f"{path}, line {line}", fix="Save the file as UTF-8 text, in the format of its suffix."
        ) from None


def read_parquet(path: Path, *, fix: str) -> pa.Table:
    """Reads a Parquet file.

    Raises:
        BadInputError: it is missing (`fix` says what to do) or damaged.
    """
    with opened_parquet(path, fix=fix) as file:
        return file.read()


def parquet_files(folder: Path) -> list[Path]:
    """Returns the Parquet files of a folder and its subfolders, in the order of their names, without hidden ones.

    Those are the files that end in .parquet and those that begin as Parquet, whatever their name; of a folder without
    any, such as a dataset of Arrow files, the list is empty.

    Raises:
        BadInputError: a file cannot be read, or there are tables of other forms beside, which would be left out.
    """
    parts = [(path, path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()]
    shown = sorted((name.as_posix(), path) for path, name in parts if not any(part[0] in "._" for part in name.parts))
    fix = "Make the file readable, or move it elsewhere."
    files = [path for _, path in shown if plain_suffix(path) == ".parquet" or begins_as_parquet(path, fix=fix)]
    others = [name for name, path in shown if plain_suffix(path) in _OTHER_TABLES and path not in files]
    if files and others:
        raise BadInputError(
            f"the folder holds Parquet files and other tables ({quantity(len(others), 'file')}, first {others[0]})",
            where=str(folder),
            fix="Move the others elsewhere, or name one file.",
        )
    return files


def begins_as_parquet(path: Path, *, fix: str) -> bool:
    """Returns whether a file is Parquet by its first bytes, also within a compressed file.

    Raises:
        BadInputError: it cannot be read; `fix` says what to do.
    """
    with readable(path, fix), open_plain(path) as file:
        return file.read(4) == b"PAR1"


@contextlib.contextmanager
def opened_parquet(path: Path, *, fix: str) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file for reading in batches; one that is compressed as a whole is read into memory.

    Raises:
        BadInputError: it is missing (`fix` says what to do) or damaged.
    """
    with readable(path, fix):
        require_regular(path)
    with readable_arrow(path, fix):
        with path.open("rb") as file:
            plain = file.read(4) == b"PAR1"
        opened = path if plain else pa.BufferReader(read_bytes(path, fix=fix))
        with pq.ParquetFile(opened) as parquet:
            yield parquet


@contextlib.contextmanager
def readable_arrow(path: Path, fix: str, kind: str = "Parquet") -> Iterator[None]:
    """Turns an error of pyarrow about a file into one message for the user.

    Raises:
        BadInputError: the file is missing (`fix` says what to do) or damaged.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise _unreadable(path, error, fix) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last one: about the name of a column
        raise BadInputError(
            f"this is not a readable {kind} file ({type(error).__name__})", where=str(path), fix="Write the file again."
        ) from None


def is_folder(path: Path) -> bool:
    """Returns whether a path is a folder; False also for names that are too long, where `Path.is_dir` raises."""
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False


def digest(path: Path, *, fix: str) -> str:
    """Returns the sha256 of a file.

    Raises:
        BadInputError: it cannot be read.
    """
    with readable(path, fix):
        require_regular(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def readable(path: Path, fix: str) -> Iterator[None]:
    """Turns an error from opening or decompressing a file into one message for the user.

    Raises:
        BadInputError: the file cannot be read (`fix` says what to do), or its compressed data is damaged.
    """
    try:
        yield
    except CORRUPT as error:
        raise _damaged(path, error) from None
    except OSError as error:
        raise _unreadable(path, error, fix) from None


def _damaged(path: Path, error: Exception) -> BadInputError:
    return BadInputError(
        f"the compressed data is damaged ({type(error).__name__})", where=str(path), fix="Compress the file again."
    )


def _unreadable(path: Path, error: OSError, fix: str) -> BadInputError:
    if error.errno is None and not isinstance(error, FileNotFoundError | PermissionError | NotAFileError):
        return _damaged(path, error)  # bz2 and pyarrow's zstd
    # pyarrow's errors often lack a number, and their text repeats the path.
    reason = "No such file or directory" if isinstance(error, FileNotFoundError) else error.strerror
    what = f"cannot be read ({reason or type(error).__name__})"
    return BadInputError(what, where=shortened(str(path), 300), fix=fix)
