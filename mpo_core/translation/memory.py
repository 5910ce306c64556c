"""A translation memory: the user's file of texts that stand in several languages."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mpo_core.compression import CORRUPT, open_plain, plain_suffix
from mpo_core.defects import normalised
from mpo_core.errors import BadInputError
from mpo_core.records import form_of, is_named, open_records
from mpo_core.translation.engines import NO_TRANSLATION, Reply, UnknownLanguageError

MEND = "Check the memory's path (translation.engines[].path, or --engine memory=FILE)."
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_LONG = {"source_language", "source", "language", "text"}
_Columns = dict[str, list[str | None]]


class MemoryEngine:
    """Translations from a file, found by exact text (after `normalised`).

    If the memory holds a text twice, its first translation that is not empty wins.

    Args:
        path: a table (CSV, JSON, Parquet, Arrow) with one column per language, or TMX; plain or compressed.
        columns: column of a language where it is not the language's code; in TMX its `xml:lang`.
        delimiter: of CSV; by default a comma, or a tab in a `.tsv` file.

    Raises:
        BadInputError: the file is missing or malformed, or lacks a column that is named.
    """

    name = "memory"
    masks = False

    def __init__(self, path: Path, *, columns: Mapping[str, str] | None = None, delimiter: str | None = None) -> None:
        self.path = path
        self._columns = dict(columns or {})
        self._table = _read_tmx(path) if plain_suffix(path) == ".tmx" else _read_table(path, delimiter)
        self._known: dict[tuple[str, str], dict[str, str]] = {}
        for code in self._columns:
            self._column(code)

    def check(self, source: str, target: str) -> None:
        """Passes if the memory has both languages.

        Raises:
            UnknownLanguageError: it lacks one.
        """
        self._column(source)
        self._column(target)

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Reply]:
        """One translation per text: none if the memory lacks the text, empty if it lacks the translation.

        Raises:
            UnknownLanguageError: the memory has no column of one of the languages.
        """
        known = self._between(source, target)
        found = (known.get(normalised(text)) for text in texts)
        return [Reply(None, NO_TRANSLATION) if text is None else Reply(text) for text in found]

    def judge(self, texts: Sequence[str], source: str, target: str, *, refused: bool) -> None:
        """Nothing to learn: the file is the user's."""

    def _between(self, source: str, target: str) -> dict[str, str]:
        if (source, target) not in self._known:
            known = self._known[source, target] = {}
            for text, translation in zip(self._column(source), self._column(target), strict=True):
                if text and text.strip() and not known.get(normalised(text)):
                    known[normalised(text)] = (translation or "").strip()
        return self._known[source, target]

    def _column(self, code: str) -> list[str | None]:
        column = self._columns.get(code, code)
        if column not in self._table:
            raise UnknownLanguageError(
                f"no column {column!r} for language {code!r}",
                where=str(self.path),
                mend=f"Columns present: {', '.join(self._table) or 'none'}. "
                "Name it in translation.engines[].columns, or drop the language.",
            )
        return self._table[column]


def _read_table(path: Path, delimiter: str | None) -> _Columns:
    """One column per language; or the long form that `mpo translate` writes, a row for each translation.

    Columns without a text (ids, flags) are no languages. A value that is no text, or cannot be read, is no translation.
    """
    form = form_of(path) if is_named(path) else "csv"
    records = open_records(path, form, mend=MEND, delimiter=delimiter, key="translation.engines[].delimiter")
    rows = [
        {name: text for name in record.values if isinstance(text := record.text(name), str)} for record in records.rows
    ]
    names = dict.fromkeys(itertools.chain(records.columns or (), *rows))
    if set(names) >= _LONG:
        return _pivoted([row for row in rows if row.keys() >= _LONG])
    texts = [name for name in names if not rows or any(row.get(name) for row in rows)]
    if records.hint and len(texts) <= 1:
        raise BadInputError("the header names one column", where=str(path), mend=records.hint)
    return {name: [row.get(name) for row in rows] for name in texts}


def _pivoted(rows: list[dict[str, str]]) -> _Columns:
    units: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        unit = units.setdefault((row["source_language"], row["source"]), {row["source_language"]: row["source"]})
        unit[row["language"]] = row["text"]
    tags = dict.fromkeys(tag for unit in units.values() for tag in unit)
    return {tag: [unit.get(tag) for unit in units.values()] for tag in tags}


def _read_tmx(path: Path) -> _Columns:
    """Languages by `xml:lang` as it stands, and by its first part where that is free: `en` for `en-US`."""
    units = list(_units(path))
    if not units:
        raise BadInputError("no translation unit (<tu>) in it", where=str(path), mend="Give a TMX file with units.")
    tags = dict.fromkeys(tag for unit in units for tag in unit)
    columns: _Columns = {tag: [unit.get(tag) for unit in units] for tag in tags}
    for tag in tags:
        short = tag.replace("_", "-").split("-")[0].lower()
        # Traditional characters are not what `zh` means here.
        if short not in columns and not (short == "zh" and tag[3:].lower() in {"tw", "hk", "mo", "hant"}):
            columns[short] = columns[tag]
    return columns


def _units(path: Path) -> Iterator[dict[str, str]]:
    try:
        # The parser (expat) limits how far entities may grow.
        with open_plain(path) as file:
            for _, element in ET.iterparse(file):  # noqa: S314
                if element.tag == "tu":
                    variants = {tuv.get(_LANG) or tuv.get("lang") or "": tuv.find("seg") for tuv in element.iter("tuv")}
                    yield {tag: "".join(seg.itertext()) for tag, seg in variants.items() if tag and seg is not None}
                    element.clear()
    except (*CORRUPT, OSError) as error:
        raise BadInputError(
            f"cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})", where=str(path), mend=MEND
        ) from None
    except ET.ParseError as error:
        line, column = error.position
        raise BadInputError(
            "this is not XML", where=f"{path}, line {line}, column {column + 1}", mend="Give a TMX file."
        ) from None
