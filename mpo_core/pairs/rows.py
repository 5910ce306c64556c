"""The rows of a file of pairs, whatever its form: one bad row is an entry with its reason, never an error."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mpo_core.compression import plain_suffix
from mpo_core.errors import BadInputError
from mpo_core.files import opened_parquet, read_text
from mpo_core.pairs.gates import Row
from mpo_core.pairs.labels import read_labels
from mpo_core.pairs.turns import BadRowError, side_texts
from mpo_core.reply import separate

_NAMES = ("prompt", "chosen", "rejected")
_MEND = "Name a file of pairs."
_WANTED = "Give the official MPO JSON, JSON lines or Parquet. See docs/your-model.md."


class ReadRow(NamedTuple):
    """One row of a file: its number from 0, its six texts with the columns of PAIRS it brings, or what is wrong."""

    number: int
    row: Row
    fault: tuple[str, str] | None = None
    table: bool = False
    """Whether the file is Parquet, in which a row of ours has its id."""


def read_pairs(path: Path) -> Iterator[ReadRow]:
    """Reads a file of pairs row by row: the official MPO JSON, JSON lines or Parquet, texts or lists of messages.

    Raises:
        BadInputError: the file is missing, damaged, or holds no list of rows.
    """
    table = plain_suffix(path) == ".parquet" or _starts_as_parquet(path)
    for number, item in enumerate(_parquet_items(path) if table else _json_items(path)):
        try:
            yield ReadRow(number, _row(item), table=table)
        except BadRowError as error:
            yield ReadRow(number, {}, (error.reason, error.detail), table)


def _starts_as_parquet(path: Path) -> bool:
    """Whether a file without the suffix is Parquet all the same; what cannot be opened is reported by its reader."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(4) == b"PAR1"
    return False


def _parquet_items(path: Path) -> Iterator[Any]:
    with opened_parquet(path, mend=_MEND) as file:
        for batch in file.iter_batches(batch_size=1024):
            try:
                yield from batch.to_pylist()
            except UnicodeDecodeError:  # one bad row must not cost the others
                for at in range(batch.num_rows):
                    try:
                        yield from batch.slice(at, 1).to_pylist()
                    except UnicodeDecodeError:
                        yield BadRowError("broken_unicode", "a column is not UTF-8")


def _json_items(path: Path) -> list[Any]:
    text = read_text(path, mend=_MEND)
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        items: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not lines or not lines[0].lstrip().startswith("{") or isinstance(_line_item(lines[0], 1), BadRowError):
            where = f"{path}, line {getattr(error, 'lineno', 1)}"
            raise BadInputError("this is not JSON", where=where, mend=_WANTED) from None
        return [_line_item(line, number) for number, line in enumerate(lines, start=1)]
    if isinstance(items, dict) and any(key.startswith(("source_", "target_")) for key in items):
        items = [items]
    if not isinstance(items, list) or not items:
        raise BadInputError("a non-empty list of pairs is wanted", where=str(path), mend=_WANTED)
    return items


def _line_item(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return BadRowError("not_json", f"line {number} (blank lines not counted)")


def _row(item: Any) -> Row:
    """The six texts of a row under the names of PAIRS, and what else it brings of that table."""
    if isinstance(item, BadRowError):
        raise item
    if not isinstance(item, dict):
        raise BadRowError("not_an_object", f"a {type(item).__name__}")
    if "source_chosen" not in item and "chosen" in item:
        raise BadRowError("one_language", "prompt, chosen and rejected lack the prefixes source_ and target_")
    # Our export for TRL has the target under TRL's own names.
    prefixes = {"source": "source_", "target": "" if "target_chosen" not in item and "chosen" in item else "target_"}
    row: Row = {}
    for side, prefix in prefixes.items():
        prompt, *answers = side_texts(item, prefix)
        row[f"{side}_prompt"] = prompt
        for name, answer in zip(_NAMES[1:], answers, strict=True):
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
