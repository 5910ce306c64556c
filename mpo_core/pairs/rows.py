"""Reads the rows of a file of pairs in any form; a bad row becomes an entry with a reason, never an error."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mpo_core.contract.errors import BadInputError
from mpo_core.files.compression import plain_suffix
from mpo_core.files.json_values import json_items
from mpo_core.files.messages import Unreadable
from mpo_core.files.read import read_text
from mpo_core.files.records import Form, open_records
from mpo_core.pairs.gates import Row
from mpo_core.pairs.labels import LABELS, read_labels
from mpo_core.pairs.turns import BadRowError, side_texts
from mpo_core.reply import separate

_ANSWERS = ("chosen", "rejected")
_FIX = "Name a file of pairs."
_FORMS = "Give the official MPO JSON, JSON lines or Parquet. See docs/your-model.md."


class ReadRow(NamedTuple):
    """One row of a file: its number from 0, and its six texts and labels, or the reason why it cannot be used."""

    number: int
    row: Row
    fault: tuple[str, str] | None = None
    table: bool = False
    """Whether the file is Parquet or Arrow, in which rows of ours have ids."""


def read_pairs(path: Path) -> Iterator[ReadRow]:
    """Reads a file of pairs row by row: the official MPO JSON, JSON lines, Parquet or Arrow; texts or messages.

    Raises:
        BadInputError: the file is missing, damaged, or holds no list of rows.
    """
    form: Form = "arrow" if plain_suffix(path) == ".arrow" else "parquet"
    table = plain_suffix(path) in {".parquet", ".arrow"} or _starts_as_parquet(path)
    items = (record.values for record in open_records(path, form, fix=_FIX).rows) if table else _json_items(path)
    for number, item in enumerate(items):
        try:
            yield ReadRow(number, _row(item), table=table)
        except BadRowError as error:
            yield ReadRow(number, {}, (error.reason, error.detail), table)


def _starts_as_parquet(path: Path) -> bool:
    """Returns whether a file is Parquet by its first bytes; its reader reports a file that cannot be opened."""
    with contextlib.suppress(OSError, ValueError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(4) == b"PAR1"
    return False


def _json_items(path: Path) -> Iterator[Any]:
    text = read_text(path, fix=_FIX)
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and not text.lstrip().startswith("[") and isinstance(_line_item(lines[0], 1), dict):
        yield from (_line_item(line, number) for number, line in enumerate(lines, start=1))
        return
    number = None
    for number, item in enumerate(json_items(path, fix=_FIX, forms=_FORMS)):
        if number == 0 and not text.lstrip().startswith("[") and not _has_sides(item.value):
            raise BadInputError("the file holds no list of pairs", where=str(path), fix=_FORMS)
        yield BadRowError("not_json", f"{item.place} is nested too deeply") if item.too_deep else item.value
    if number is None:
        raise BadInputError("the file holds no list of pairs", where=str(path), fix=_FORMS)


def _has_sides(value: object) -> bool:
    return isinstance(value, dict) and any(key.startswith(("source_", "target_")) for key in value)


def _line_item(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return BadRowError("not_json", f"line {number} (blank lines not counted) is not JSON")


def _row(item: Any) -> Row:
    """Returns the six texts and the labels of a row under the names of PAIRS."""
    if isinstance(item, BadRowError):
        raise item
    if not isinstance(item, dict):
        raise BadRowError("not_an_object", f"the row is a {type(item).__name__}, not an object")
    if "source_chosen" not in item and "chosen" in item:
        raise BadRowError("one_language", "prompt, chosen and rejected lack the prefixes source_ and target_")
    for name in LABELS:
        if isinstance(value := item.get(name), Unreadable):
            raise BadRowError(value.reason, f"{name} cannot be read")
    # Our export for TRL has the target's texts under TRL's own names.
    prefixes = {"source": "source_", "target": "" if "target_chosen" not in item and "chosen" in item else "target_"}
    row: Row = {}
    for side, prefix in prefixes.items():
        prompt, *answers = side_texts(item, prefix)
        row[f"{side}_prompt"] = prompt
        for name, answer in zip(_ANSWERS, answers, strict=True):
            row[f"{side}_{name}"] = _without_thoughts(answer, prompt, f"{prefix}{name}")
    return row | read_labels(item)


def _without_thoughts(answer: str, prompt: str, column: str) -> str:
    """Returns an answer without the thoughts of a reasoning model, which are no part of it.

    Raises:
        BadRowError: the thoughts never end, or nothing follows them.
    """
    parts = separate(answer, context=prompt)
    if parts.fault is not None:
        raise BadRowError(parts.fault, f"{column} holds thoughts and no answer")
    return parts.text
