"""A translation memory: the user's file with one column per language."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mpo_core.errors import BadInputError


def normalised(text: str) -> str:
    """The form in which texts are compared: Unicode NFC, runs of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


class MemoryEngine:
    """Translations from a CSV or Parquet file, found by exact text (after `normalised`).

    If the memory holds a text twice, its first translation that is not empty wins.

    Args:
        path: the file; `.parquet` or CSV, UTF-8 with or without a byte-order mark.
        columns: column of a language where it is not the language's code.

    Raises:
        BadInputError: the file is missing or malformed.
    """

    name = "memory"

    def __init__(self, path: Path, *, columns: Mapping[str, str] | None = None) -> None:
        self.path = path
        self._columns = dict(columns or {})
        self._table = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
        for code, column in self._columns.items():
            self._require(code, column)

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """One translation per text: None if the memory lacks the text, empty if it lacks the translation.

        Raises:
            BadInputError: the memory has no column of one of the languages.
        """
        known = self._between(source, target)
        return [known.get(normalised(text)) for text in texts]

    def _between(self, source: str, target: str) -> dict[str, str]:
        known: dict[str, str] = {}
        for text, translation in zip(self._column(source), self._column(target), strict=True):
            if text and text.strip() and not known.get(normalised(text)):
                known[normalised(text)] = (translation or "").strip()
        return known

    def _column(self, code: str) -> list[str | None]:
        column = self._columns.get(code, code)
        self._require(code, column)
        return self._table[column]

    def _require(self, code: str, column: str) -> None:
        if column not in self._table:
            raise BadInputError(
                f"no column {column!r} for language {code!r}",
                where=str(self.path),
                mend=f"Columns present: {', '.join(self._table) or 'none'}. "
                "Name it in translation.engines[].columns, or drop the language.",
            )


def _read_parquet(path: Path) -> dict[str, list[str | None]]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise BadInputError(
            f"this is no readable Parquet file ({type(error).__name__})", where=str(path), mend="Write it again."
        ) from None
    # Other columns (ids, tags) may be of any type; they are no languages.
    texts = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    return {name: table.column(name).to_pylist() for name in texts}


def _read_csv(path: Path) -> dict[str, list[str | None]]:
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        columns: dict[str, list[str | None]] = {name: [] for name in header}
        if len(columns) != len(header):
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
                for name, value in zip(header, values, strict=True):
                    columns[name].append(value)
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadInputError(
            f"this is not CSV ({error})", where=f"{path}, line {reader.line_num}", mend="Check the quotes."
        ) from None
    return columns


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInputError(
            f"cannot be read ({error.strerror or type(error).__name__})",
            where=str(path),
            mend="Check translation.engines[].path.",
        ) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInputError("not UTF-8 text", where=f"{path}, line {line}", mend="Save the file as UTF-8.") from None
