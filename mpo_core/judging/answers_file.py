"""Reads a file of answers of any tool: prompts and answers as tables, and the labels that people gave."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mpo_core.contract.errors import BadInputError, is_name, quantity
from mpo_core.contract.tables import PROMPTS, QUARANTINE, RESPONSES, prompt_id
from mpo_core.files.messages import Fault, none_for_nan
from mpo_core.files.records import Record, Records, form_of, open_records, require_columns
from mpo_core.languages.harm_words import (
    FALSE,
    HARM_NOUNS,
    HARMFUL,
    HARMLESS,
    NOT,
    TRUE,
    canonical_label,
    kind_of_label,
    words_of,
)
from mpo_core.languages.known import named_language

_NOT_SAFE = NOT | HARMFUL | HARM_NOUNS
"""Words without which `safe` in the name of a column means that *true* is safe."""
_LABELS = {"harmful": "unsafe", "harmless": "safe"}
"""Label of an answer, by the kind that its word means."""


class Columns(NamedTuple):
    """Names of the columns in a file of answers; `language` and `kind` may be a value for all rows instead."""

    prompt: str
    response: str
    language: str
    kind: str
    labels: str | None = None


class Answer(NamedTuple):
    """A row that can be judged: the key of its verdict, its text, and a person's label where there is one."""

    row: int
    prompt_id: str
    language: str
    sample: int
    response: str
    label: str | None

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies the answer in its file."""
        return self.prompt_id, self.language, self.sample


class AnswersFile(NamedTuple):
    """What a file holds: PROMPTS, RESPONSES by language, the rows behind them, and the rejected rows (QUARANTINE)."""

    prompts: pa.Table
    responses: dict[str, pa.Table]
    rows: list[Answer]
    rejected: pa.Table


def read_answers(path: Path, columns: Columns) -> AnswersFile:
    """Reads a CSV, JSON, JSON lines, Parquet or Arrow file of answers.

    Raises:
        BadInputError: a column is missing, a label is unknown, or no row can be judged.
    """
    records = open_records(
        path, form_of(path, ("csv", "json", "jsonl", "parquet", "arrow")), fix="Name a file of answers."
    )
    rows = list(records.rows)
    names = list(records.columns or dict.fromkeys(name for row in rows for name in row.values))
    shared = _shared(columns, names)
    required = {f"--{key}": column for key, column in columns._asdict().items() if key not in shared}
    require_columns(records, names, required)
    labels = {} if columns.labels is None else labels_of(rows, columns.labels, records)
    return _tables(path, rows, columns, shared, labels)


def _shared(columns: Columns, names: Sequence[str]) -> dict[str, str]:
    """Returns the values that hold for all rows, by their name: `language`, `kind`, both or neither."""
    shared = {}
    language = named_language(columns.language)
    if columns.language not in names and language is not None:
        shared["language"] = language
    kind = columns.kind.strip().casefold()
    if columns.kind not in names and kind in _LABELS:  # another word, such as `safe`, may be a column that is missing
        shared["kind"] = kind
    return shared


def labels_of(rows: Sequence[Record], column: str, records: Records) -> dict[int, str]:
    """Returns the labels in a column by row number; a row without a label, or with `unjudged`, has no entry.

    Yes, true and 1 mean unsafe, but safe in a column whose name says so, such as `is_safe`.

    Raises:
        BadInputError: a label is unknown.
    """
    labels: dict[int, str] = {}
    unknown: Counter[str] = Counter()
    parts = set(words_of(column))
    true_is_safe = bool(parts & HARMLESS) and not parts & _NOT_SAFE
    for row in rows:
        value = none_for_nan(row.values.get(column))
        text = canonical_label(value)
        kind = kind_of_label(text)
        if text in TRUE | FALSE:
            labels[row.row] = "safe" if (text in TRUE) == true_is_safe else "unsafe"
        elif text == "invalid" or kind is not None:
            labels[row.row] = _LABELS.get(str(kind), text)
        elif text not in {"", "unjudged"}:
            unknown[repr(text) if is_name(text) else "a text that is not shown"] += 1
    if unknown:
        some = ", ".join(f"{label} ({count})" for label, count in unknown.most_common(3))
        raise BadInputError(
            f"{quantity(unknown.total(), 'unknown label')}: {some}",
            where=f"{records.where}, column {column!r}",
            fix="Write safe, unsafe or invalid (yes means unsafe, but safe in a column such as is_safe), or leave the "
            "field empty.",
        )
    return labels


def _tables(
    path: Path, rows: Sequence[Record], columns: Columns, shared: Mapping[str, str], labels: Mapping[int, str]
) -> AnswersFile:
    prompts: dict[str, dict[str, Any]] = {}
    responses: dict[str, list[dict[str, Any]]] = {}
    samples: Counter[tuple[str, str]] = Counter()
    answers: list[Answer] = []
    rejected: list[dict[str, Any]] = []
    for row in rows:
        fields = _fields(row, columns, shared)
        if isinstance(fields, Fault):
            rejected.append(
                {"row_id": str(row.row), "language": None, "reason": fields.reason, "detail": fields.detail}
            )
            continue
        prompt, response, language, kind = fields
        key = prompt_id(f"{language} {kind}", prompt)
        place = {"split": "test", "source": "file", "row": row.row}
        prompts.setdefault(key, {"prompt_id": key, "text": prompt, "kind": kind, **place})
        sample = samples[key, language]
        samples[key, language] += 1
        numbers = {"sample": sample, "seed": 0}
        responses.setdefault(language, []).append(
            {"prompt_id": key, "language": language, "prompt": prompt, "text": response, **numbers}
        )
        answers.append(Answer(row.row, key, language, sample, response, labels.get(row.row)))
    if not answers:
        reasons = Counter(row["reason"] for row in rejected)
        counted = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "the file holds no row"
        raise BadInputError(
            f"no answer can be judged ({counted})", where=str(path), fix="Fix the rows, or name other columns."
        )
    tables = {language: RESPONSES.build(of_language) for language, of_language in sorted(responses.items())}
    return AnswersFile(PROMPTS.build(prompts.values()), tables, answers, QUARANTINE.build(rejected))


def _fields(row: Record, columns: Columns, shared: Mapping[str, str]) -> tuple[str, str, str, str] | Fault:
    """Returns the prompt, response, language and kind of a row, or why it cannot be judged."""
    prompt, response = row.text(columns.prompt), row.text(columns.response, "assistant")
    for text in (prompt, response):
        if isinstance(text, Fault):
            return text
    if not str(prompt).strip():
        return Fault("no_prompt", f"column {columns.prompt!r} is empty")
    name, label = (none_for_nan(row.values.get(column)) or "" for column in (columns.language, columns.kind))
    language = shared.get("language") or named_language(name)
    if language is None:
        return Fault("unknown_language", f"{_quoted(name)} names no known language")
    kind = shared.get("kind") or kind_of_label(canonical_label(label))
    if kind is None:
        return Fault("unknown_kind", f"{_quoted(label)} is neither harmful nor harmless")
    return str(prompt), str(response), language, kind


def _quoted(value: object) -> str:
    """Returns a value in quotes if it is a name; another may be a prompt in the wrong column, and is not shown."""
    return repr(str(value)) if is_name(str(value)) else "an empty field" if value == "" else "a text"
