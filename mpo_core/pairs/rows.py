"""Reads the rows of a file of pairs in any form; a bad row becomes an entry with a reason, never an error."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mpo_core.contract.errors import BadInputError
from mpo_core.files.compression import plain_suffix
from mpo_core.files.dataset import dataset_records
from mpo_core.files.json_values import json_items
from mpo_core.files.messages import Unreadable, none_for_nan
from mpo_core.files.read import begins_as_parquet, is_folder, parquet_files, read_text
from mpo_core.files.records import FORMS, Records, open_records
from mpo_core.pairs.gates import Row, Texts
from mpo_core.pairs.joined import Half, Joining, joined, read_half
from mpo_core.pairs.labels import LABELS, read_labels
from mpo_core.pairs.preferences import as_trl, is_preference
from mpo_core.pairs.turns import BadRowError, side_texts
from mpo_core.reply import separate, without_end

_ANSWERS = ("chosen", "rejected")
_FIX = "Name a file of pairs."
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_JOINING = Joining()
_FORMS = "Give the official MPO JSON, JSON lines or Parquet. See docs/your-model.md."


class ReadRow(NamedTuple):
    """One row of a file: its number from 0, and its six texts and labels, or the reason why it cannot be used."""

    number: int
    row: Row
    fault: tuple[str, str] | None = None
    table: bool = False
    """Whether the file is Parquet or Arrow, in which rows of ours have ids."""


def read_pairs(path: Path, joining: Joining = _JOINING) -> Iterator[ReadRow]:
    """Reads pairs row by row: the official MPO JSON, JSON lines, Parquet, Arrow, CSV or a dataset; texts or messages.

    Rows that hold one language each come last, joined by their ids.

    Raises:
        BadInputError: the file is missing, damaged, or holds no list of rows.
    """
    items, table = _items(path)
    halves: list[Half] = []
    for number, item in enumerate(items):
        try:
            row = _row(number, item, joining)
        except BadRowError as error:
            yield ReadRow(number, {}, (error.reason, error.detail), table)
            continue
        if isinstance(row, Half):
            halves.append(row)
        else:
            yield ReadRow(number, row, table=table)
    for number, pair in joined(halves, joining.dominant):
        if isinstance(pair, BadRowError):
            yield ReadRow(number, {}, (pair.reason, pair.detail))
        else:
            yield ReadRow(number, pair)


def _items(path: Path) -> tuple[Iterable[Any], bool]:
    """Returns the rows of a file or dataset, and whether they are Parquet or Arrow, in which rows of ours have ids."""
    suffix = plain_suffix(path)
    if is_folder(path) and not parquet_files(path):
        return _values(dataset_records(str(path), split="train")), False
    if _HUB_ID.fullmatch(str(path)) and suffix not in FORMS and not path.exists():
        return _values(dataset_records(str(path), split="train")), False
    if suffix in {".csv", ".tsv"}:
        return _values(open_records(path, "csv", fix=_FIX)), False
    if suffix == ".arrow":
        return _values(open_records(path, "arrow", fix=_FIX)), True
    if suffix == ".parquet" or is_folder(path) or begins_as_parquet(path, fix=_FIX):
        return _values(open_records(path, "parquet", fix=_FIX)), True
    return _json_items(path), False


def _values(records: Records) -> Iterator[Mapping[str, Any]]:
    return (record.values for record in records.rows)


def _json_items(path: Path) -> Iterator[Any]:
    text = read_text(path, fix=_FIX)
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and not text.lstrip().startswith("[") and isinstance(_line_item(lines[0], 1), dict):
        yield from (_line_item(line, number) for number, line in enumerate(lines, start=1))
        return
    number = None
    for number, item in enumerate(json_items(path, fix=_FIX, forms=_FORMS)):
        if number == 0 and not text.lstrip().startswith("[") and not _holds_answers(item.value):
            raise BadInputError("the file holds no list of pairs", where=str(path), fix=_FORMS)
        yield BadRowError("not_json", f"{item.place} is nested too deeply") if item.too_deep else item.value
    if number is None:
        raise BadInputError("the file holds no list of pairs", where=str(path), fix=_FORMS)


def _holds_answers(value: object) -> bool:
    return isinstance(value, dict) and (
        any(key.startswith(("source_", "target_")) for key in value) or is_preference(value)
    )


def _line_item(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return BadRowError("not_json", f"line {number} (blank lines not counted) is not JSON")


def _row(number: int, item: Any, joining: Joining) -> Row | Half:
    """Returns the six texts and the labels of a row under the names of PAIRS; or its half, if it holds one language."""
    if isinstance(item, BadRowError):
        raise item
    if not isinstance(item, dict):
        raise BadRowError("not_an_object", f"the row is a {type(item).__name__}, not an object")
    item = {name: none_for_nan(value) for name, value in item.items()}
    if is_preference(item):
        item = as_trl(item)
        return read_half(number, item, _texts(item, ""), read_labels(item), joining)
    for name in LABELS:
        if isinstance(value := item.get(name), Unreadable):
            raise BadRowError(value.reason, f"{name} cannot be read")
    # Our export for TRL has the target's texts under TRL's own names.
    prefixes = {"source": "source_", "target": "" if "target_chosen" not in item and "chosen" in item else "target_"}
    row = {
        f"{side}_{name}": text
        for side, prefix in prefixes.items()
        for name, text in _texts(item, prefix)._asdict().items()
    }
    return row | read_labels(item)


def _texts(item: Mapping[str, Any], prefix: str) -> Texts:
    """Returns the texts of a row in one of its languages, without thoughts and marks of turns' ends."""
    prompt, *answers = side_texts(item, prefix)
    return Texts(
        prompt,
        *(_without_thoughts(answer, prompt, f"{prefix}{name}") for name, answer in zip(_ANSWERS, answers, strict=True)),
    )


def _without_thoughts(answer: str, prompt: str, column: str) -> str:
    """Returns an answer without thoughts and the mark of its end; BadRowError if they never end or nothing follows."""
    parts = separate(answer, context=prompt)
    if parts.fault is not None:
        raise BadRowError(parts.fault, f"{column} holds thoughts and no answer")
    return without_end(parts.text, prompt)
