"""Looks translations up in a translation memory: a file of the user's with the same texts in several languages."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import langcodes
from langcodes.tag_parser import LanguageTagError

from mpo_core.contract.errors import BadInputError, column_names
from mpo_core.contract.translation import NO_TRANSLATION, Reply, UnknownLanguageError
from mpo_core.files.compression import plain_suffix
from mpo_core.files.records import form_of, open_records, says_its_form
from mpo_core.languages.defects import normalised
from mpo_core.languages.known import LANGUAGES, Language
from mpo_core.languages.tags import standard
from mpo_core.translation.tmx import read_units

FIX = "Check the memory's path (translation.engines[].path, or --engine memory=FILE)."
_LONG = {"source_language", "source", "language", "text"}
_Columns = dict[str, list[str | None]]
_log = logging.getLogger(__name__)


class _File(NamedTuple):
    """The columns of a memory by name; the last `further` rows are more variants of units in the rows before them."""

    columns: _Columns
    further: int = 0


class Units(NamedTuple):
    """Counts of a memory's units: with a text in the source language, in the target language, and in both."""

    source: int
    target: int
    both: int


class MemoryEngine:
    """An engine that looks texts up in a file, by exact match (after `normalised`).

    If the memory holds a text twice, its first translation that is not empty is used. The column of a language has
    its code as name; those of its regional variants (`en-GB`, `en_US`) count as well, in the file's order.

    Args:
        path: a table (CSV, JSON, Parquet, Arrow) with one column per language, or TMX; plain or compressed.
        columns: column by language, where its name is not the language's code; in TMX its `xml:lang`.
        delimiter: of CSV; by default a comma, or a tab in a `.tsv` file.

    Raises:
        BadInputError: the file is missing or malformed, or lacks a column that is named.
    """

    name = "memory"
    masks = False

    def __init__(self, path: Path, *, columns: Mapping[str, str] | None = None, delimiter: str | None = None) -> None:
        self.path = path
        self._columns = dict(columns or {})
        self._table, self._further = _read_tmx(path) if plain_suffix(path) == ".tmx" else _read_table(path, delimiter)
        self._known: dict[tuple[str, str], dict[str, str]] = {}
        for code in self._columns:
            self._rows(code)

    def check(self, source: str, target: str) -> None:
        """Checks that the translation memory contains both languages."""
        self._rows(source)
        self._rows(target)

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Reply]:
        """Looks texts up: no translation where the memory lacks a text, an empty one where it lacks its translation."""
        known = self._between(source, target)
        replies = (known.get(normalised(text)) for text in texts)
        return [Reply(None, NO_TRANSLATION) if text is None else Reply(text) for text in replies]

    def judge(self, texts: Sequence[str], source: str, target: str, *, refused: bool) -> None:
        """Does nothing: the user's file stays as it is."""

    def units(self, source: str, target: str) -> Units:
        """Counts the units of the file that have a text in one of the two languages, and in both.

        Raises:
            UnknownLanguageError: the memory has no column of one of the languages.
        """
        rows = list(zip(self._rows(source), self._rows(target), strict=True))
        rows = rows[: len(rows) - self._further]
        return Units(sum(bool(a) for a, _ in rows), sum(bool(b) for _, b in rows), sum(bool(a and b) for a, b in rows))

    def _between(self, source: str, target: str) -> dict[str, str]:
        if (source, target) not in self._known:
            known: dict[str, str] = {}
            for texts, translations in zip(self._rows(source), self._rows(target), strict=True):
                for text in texts:
                    if not known.get(normalised(text)):
                        known[normalised(text)] = translations[0] if translations else ""
            units = self.units(source, target)
            _log.info(
                "memory %s: %d units in %s, %d in %s, %d in both",
                self.path, units.source, source, units.target, target, units.both,
            )  # fmt: skip
            self._known[source, target] = known  # assigned when complete, since other threads read it
        return self._known[source, target]

    def _rows(self, code: str) -> list[list[str]]:
        """Returns the texts of a language in each unit, the best variant first."""
        column = self._columns.get(code, code)
        names = columns_of(column, list(self._table), only=code in self._columns)
        if not names:
            raise UnknownLanguageError(
                f"no column {column!r} for language {code!r}",
                where=str(self.path),
                fix=f"Columns present: {column_names(self._table)}. "
                "Name the right one in translation.engines[].columns, or remove the language.",
            )
        rows = zip(*(self._table[name] for name in names), strict=True)
        return [[text.strip() for text in row if text and text.strip()] for row in rows]


def columns_of(code: str, names: Sequence[str], *, only: bool = False) -> list[str]:
    """Returns the columns of a language among those of a file, the best first.

    First comes the column with exactly this name, else one that differs in case or hyphens only, else one named by
    its three-letter code or its English name; then the columns of its regions, such as `en-GB` and `en_us`.

    Args:
        code: code of the language, or the column's name.
        names: the file's columns.
        only: whether the user named this column, so that no column of another name is used.
    """
    plain_names = {name: name.strip().replace("_", "-").casefold() for name in names}
    wanted_name = code.replace("_", "-").casefold()
    exact = [name for name in names if name == code] or [name for name in names if plain_names[name] == wanted_name]
    if only or code not in LANGUAGES:
        return exact[:1]
    entry = LANGUAGES[code]
    if not exact:
        names_of_language = {standard(code).casefold(), entry.name.casefold()}
        exact = [
            name for name in names if {plain_names[name], standard(plain_names[name]).casefold()} & names_of_language
        ]
    return [*exact, *(name for name in names if name not in exact and _is_region(plain_names[name], entry))]


def _is_region(tag: str, entry: Language) -> bool:
    """Returns whether a tag is a region's variant of a language in the same script: `en-GB`, not `zh-TW` for `zh`."""
    try:
        variety, known = langcodes.Language.get(tag), langcodes.Language.get(entry.code)
    except LanguageTagError:
        return False
    same = standard(variety.to_tag()).split("-")[0] == standard(entry.code).split("-")[0]
    return same and variety.maximize().script in {entry.script, known.maximize().script}


def _read_table(path: Path, delimiter: str | None) -> _File:
    """Reads a table with a column per language, or with a row per translation, as `mpo translate` writes it.

    Columns without a text (ids, flags) are no languages. A value that is no text, or cannot be read, is ignored.
    """
    form = form_of(path) if says_its_form(path) else "csv"
    records = open_records(path, form, fix=FIX, delimiter=delimiter, key="translation.engines[].delimiter")
    rows = [
        {name: text for name in record.values if isinstance(text := record.text(name), str)} for record in records.rows
    ]
    names = dict.fromkeys(itertools.chain(records.columns or (), *rows))
    if set(names) >= _LONG:
        return _File(_pivoted([row for row in rows if row.keys() >= _LONG]))
    texts = [name for name in names if not rows or any(row.get(name) for row in rows)]
    if records.hint and len(texts) <= 1:
        raise BadInputError("the header has a single column", where=str(path), fix=records.hint)
    return _File({name: [row.get(name) for row in rows] for name in texts})


def _pivoted(rows: list[dict[str, str]]) -> _Columns:
    units: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        unit = units.setdefault((row["source_language"], row["source"]), {row["source_language"]: row["source"]})
        unit[row["language"]] = row["text"]
    tags = dict.fromkeys(tag for unit in units.values() for tag in unit)
    return {tag: [unit.get(tag) for unit in units.values()] for tag in tags}


def _read_tmx(path: Path) -> _File:
    """Reads a TMX file; each language tag in it becomes a column of the same name."""
    units = list(read_units(path, fix=FIX))
    if not units:
        raise BadInputError(
            "the file holds no translation unit (<tu>)", where=str(path), fix="Give a TMX file with translation units."
        )
    further = [reading for unit in units for reading in unit[1:]]
    readings = [*(unit[0] for unit in units), *further]
    tags = dict.fromkeys(tag for reading in readings for tag in reading)
    return _File({tag: [reading.get(tag) for reading in readings] for tag in tags}, len(further))
