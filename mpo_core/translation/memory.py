"""A translation memory: the user's file with one column per language."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from mpo_core import files
from mpo_core.errors import BadInputError

_MEND = "Check translation.engines[].path."


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
    table = files.read_parquet(path, mend=_MEND)
    # Other columns (ids, tags) may be of any type; they are no languages.
    texts = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    return {name: table.column(name).to_pylist() for name in texts}


def _read_csv(path: Path) -> dict[str, list[str | None]]:
    table = files.read_csv(path, mend=_MEND)
    return {name: [row.values[at] for row in table.rows] for at, name in enumerate(table.header)}
