"""Finds out whether a prompt is harmful or harmless by the words of a column, and never guesses."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mpo_core.contract.errors import BadInputError, is_name, quantity
from mpo_core.contract.prompts import Kind
from mpo_core.files.messages import Fault, Unreadable, none_for_nan
from mpo_core.files.records import Record, Records
from mpo_core.languages.harm_words import (
    FALSE,
    HARM_NOUNS,
    HARMFUL,
    HARMLESS,
    NOT,
    TRUE,
    canonical_label,
    kind_of_label,
    kind_of_words,
    words_of,
)

if TYPE_CHECKING:
    from mpo_core.prompts.columns import ColumnSource

# Words in a column's name that say nothing of the direction; `is_prompt_harmful` is `harmful`.
_FILLER = {"is", "was", "the", "a", "prompt", "request", "query", "question", "instruction", "user", "input", "text"}
_FILLER |= {"label", "labels", "flag", "gt", "human"}
_RESPONSE = {"response", "answer", "completion", "output", "reply", "generation", "continuation", "refusal"}
_RESPONSE |= {"chosen", "rejected", "assistant", "model", "bot", "chatbot", "gpt", "llm"}
_SHOWN = 20
_PLAIN = re.compile(r"[\w.+-]+")


def read_kinds(records: Records, rows: Sequence[Record], source: ColumnSource, *, key: str) -> list[Kind | Fault]:
    """Returns the kind of each row; a row whose label is missing is rejected.

    Raises:
        BadInputError: a label is neither a known word nor in `kind_map`; the message has the map to complete.
    """
    if source.kind is not None:
        return [source.kind] * len(rows)
    column = str(source.kind_column)
    kinds: list[Kind | Fault] = []
    unknown: list[int] = []
    labels = [_label(row, column) for row in rows]
    for number, label in enumerate(labels):
        kind: Kind | Fault | None = label if isinstance(label, Fault) else _kind(label, column, source, records)
        if kind is None and label == "":
            kind = Fault("no_kind", f"column {column!r} is empty")
        if kind is None:
            unknown.append(number)
        else:
            kinds.append(kind)
    if unknown:
        raise _unknown(column, rows, labels, unknown, source, records, key)
    return kinds


def _label(row: Record, column: str) -> str | Fault:
    if row.fault is not None:
        return row.fault
    value = none_for_nan(row.values.get(column))
    if isinstance(value, Unreadable):
        return Fault(value.reason, f"column {column!r} cannot be read")
    if value is None:
        return ""
    if isinstance(value, str) and isinstance(text := row.text(column), Fault):
        return text
    if isinstance(value, list | dict):
        return Fault("no_kind", f"column {column!r} holds a {type(value).__name__}, not a label")
    return canonical_label(value)


def _kind(label: str, column: str, source: ColumnSource, records: Records) -> Kind | None:
    """Returns the kind of a label by `kind_map`, else by its word, else by the column's name; None if none says it."""
    mapped = _mapped(label, source.kind_map, records.class_names.get(column, []))
    if mapped is not None:
        return mapped
    if labels_a_response(column):
        return None
    if label in TRUE | FALSE:
        direction = column_direction(column)
        opposite: dict[Kind, Kind] = {"harmful": "harmless", "harmless": "harmful"}
        return direction if direction is None or label in TRUE else opposite[direction]
    return kind_of_label(label)


def _mapped(label: str, kind_map: Mapping[str, Kind], names: Sequence[str]) -> Kind | None:
    if label in kind_map:
        return kind_map[label]
    # In YAML `yes`, `no` and `true` are truth values: a map of truth values holds for every spelling of them.
    for spellings in (TRUE, FALSE):
        if label in spellings:
            return next((kind for key, kind in kind_map.items() if key in spellings), None)
    index = next((str(at) for at, name in enumerate(names) if canonical_label(name) == label), None)
    return None if index is None else kind_map.get(index)


def column_direction(column: str) -> Kind | None:
    """Returns whether *true* in a column of this name means harmful or harmless; None if the name does not say it.

    `is_safe`, `benign`, `notToxic` and `prompt_harmful` say it; `label`, `flagged` and `is_safe_answer` do not.
    """
    if labels_a_response(column):
        return None
    return kind_of_words([part for part in words_of(column) if part not in _FILLER], HARMFUL | HARM_NOUNS)


def labels_a_response(column: str) -> bool:
    """Returns whether a column by its name labels an answer, and so does not say whether the prompt is harmful."""
    plurals = {"replies": "reply"}
    return any(plurals.get(name, name.removesuffix("s")) in _RESPONSE for name in words_of(column))


def _unknown(
    column: str,
    rows: Sequence[Record],
    labels: Sequence[str | Fault],
    unknown: Sequence[int],
    source: ColumnSource,
    records: Records,
    key: str,
) -> BadInputError:
    truths = all(labels[number] in TRUE | FALSE for number in unknown)
    if labels_a_response(column):
        reason = f"column {column!r} by its name labels an answer, and does not say whether the prompt is harmful"
    elif truths:
        reason = f"column {column!r} does not say whether the prompt is harmful: true and false may mean either"
    else:
        reason = f"column {column!r} does not say whether the prompt is harmful"
    counts: Counter[str] = Counter(label for label in labels if isinstance(label, str) and label)
    spellings: dict[str, str] = {}
    for row, label in zip(rows, labels, strict=True):
        if isinstance(label, str) and label and label not in spellings:
            spellings[label] = _spelling(row.values.get(column), label)
    examples = [label for label in counts if _showable(label, counts)][:_SHOWN]
    entries = [
        f"{spellings[label]}: {_kind(label, column, source, records) or 'harmful|harmless'}" for label in examples
    ]
    hidden = len(counts) - len(examples)
    more = f" ({quantity(hidden, 'more value')}, not shown because of possible text)" if hidden else ""
    fix = f"Add to {key}: kind_map: {{{', '.join(entries)}}}{more}, choose harmful or harmless for each value. "
    if not examples:
        fix = "Is this the column of the kind? If so, name each of its values in kind_map. "
    known = "Known: harmful/harmless, unsafe/safe and the like; true/false in a column with a name such as is_safe; "
    return BadInputError(reason, where=rows[unknown[0]].where, fix=f"{fix}{known}or set `kind` for the whole source.")


def _showable(label: str, counts: Mapping[str, int]) -> bool:
    """Returns whether a value is certainly a label: a wrong column may hold prompts, which must not be shown."""
    words = label.replace("_", " ").split()
    known = HARMFUL | HARMLESS | NOT | TRUE | FALSE | {"very", "partly", "prompt", "response", "request", "is"}
    if is_name(label) or known.issuperset(words):
        return True
    repeated = counts[label] > 1 and len(counts) <= _SHOWN
    return repeated and label.isascii() and len(label) <= 40 and len(words) <= 4  # noqa: PLR2004


def _spelling(value: object, label: str) -> str:
    """Writes a label as a key of YAML."""
    text = value.strip() if isinstance(value, str) else label
    return text if _PLAIN.fullmatch(text) and text.lower() not in {"null", "~"} else json.dumps(text)
