"""Reads tables of the user's row by row: CSV, JSON, Parquet and Arrow, plain or compressed."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from mpo_core.contract.errors import BadInputError, shortened
from mpo_core.files import read as files
from mpo_core.files.arrow import read_arrow
from mpo_core.files.compression import SUFFIXES, plain_suffix
from mpo_core.files.json_values import JsonValue, json_items, json_lines
from mpo_core.files.messages import Fault, Speaker, Unreadable, text_of

Form = Literal["csv", "json", "jsonl", "parquet", "arrow", "txt"]
FORMS: dict[str, Form] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "txt",
}
"""The form of a file by the end of its name, in any case; one of `compression.SUFFIXES` may follow."""
_BATCH = 1024
_MOST_COLUMNS = 30  # that a message names
# What a value raises that Python cannot hold. UnicodeDecodeError is a ValueError, an unknown time zone a KeyError.
_UNREADABLE = (ValueError, OverflowError, KeyError, pa.ArrowException)


class Record(NamedTuple):
    """One row: its number from 0, its place for messages, its values; or the fault of a row that has none."""

    row: int
    where: str
    values: Mapping[str, Any]
    fault: Fault | None = None

    def text(self, column: str, speaker: Speaker = "user") -> str | Fault:
        """Returns the text in a column, empty where there is none; or why the row is to be rejected. See `text_of`."""
        if self.fault is not None:
            return self.fault
        return text_of(self.values.get(column), speaker, name=f"column {column!r}")


class Records(NamedTuple):
    """The rows of a table, read as they are needed."""

    where: str
    columns: Sequence[str] | None
    """In the table's order; None where only the rows know (JSON)."""
    rows: Iterable[Record]
    class_names: Mapping[str, list[str]] = {}
    """Of columns that are a ClassLabel of `datasets`, the names; the values are names already."""
    hint: str = ""
    """What to say where a column is missing, such as that the delimiter looks like another one."""


def form_of(path: Path, accepted: Iterable[Form] | None = None) -> Form:
    """Returns the form of a file by its name.

    Raises:
        BadInputError: the name ends in none that is known, or in none of `accepted`.
    """
    form = _form_by_name(path)
    wanted = set(FORMS.values() if accepted is None else accepted)
    if form not in wanted:
        endings = ", ".join(suffix for suffix, known in FORMS.items() if known in wanted)
        raise BadInputError(
            "unknown kind of file",
            where=str(path),
            fix=f"Give one of {endings}; or one of these compressed ({', '.join(SUFFIXES)}).",
        )
    return form


def says_its_form(path: Path) -> bool:
    """Returns whether a file's name says its form."""
    return _form_by_name(path) is not None


def _form_by_name(path: Path) -> Form | None:
    return FORMS.get(plain_suffix(path))


def open_records(
    path: Path, form: Form, *, fix: str, delimiter: str | None = None, key: str = "delimiter", only: str | None = None
) -> Records:
    """Opens a table of the user's.

    Args:
        path: the file; of Parquet also a folder.
        form: what the settings call it. A name that says more, such as `.json` where JSON lines are meant, wins.
        fix: what to do where it cannot be read at all.
        delimiter: of CSV; see `files.csv_rows`.
        key: the setting of the delimiter.
        only: the one column that is needed; others may be left out.

    Raises:
        BadInputError: at once or while the rows are read: the file is missing or malformed.
    """
    form_by_name = _form_by_name(path)
    if form_by_name is not None and _family(form_by_name) != _family(form):
        raise BadInputError(
            f"the file's name says {form_by_name}, the settings say {form}", where=str(path), fix="Make them agree."
        )
    form = form_by_name or form
    if form == "csv":
        return _csv(path, fix, delimiter, key)
    if form in {"json", "jsonl"}:
        values = json_items(path, fix=fix) if form == "json" else json_lines(path, fix=fix)
        return Records(str(path), None, (_object(n, path, value) for n, value in enumerate(values)))
    if form == "txt":
        lines = enumerate(files.text_lines(path, fix=fix))
        return Records(str(path), None, (Record(n, f"{path}, line {n + 1}", {only or "text": t}) for n, t in lines))
    return _arrow_file(path, form, fix, only)


def _family(form: Form) -> str:
    return {"jsonl": "json", "arrow": "parquet"}.get(form, form)


def _csv(path: Path, fix: str, delimiter: str | None, key: str) -> Records:
    rows = files.csv_rows(path, fix=fix, delimiter=delimiter, key=key)
    header = next(rows).values
    records = (
        Record(n, f"{path}, line {row.line}", dict(zip(header, row.values, strict=True))) for n, row in enumerate(rows)
    )
    hint = files.delimiter_hint(header, delimiter or files.default_delimiter(path), key)
    return Records(str(path), header, records, hint=hint)


def _object(number: int, path: Path, item: JsonValue) -> Record:
    where = f"{path}, {item.place}"
    if item.too_deep:
        return Record(number, where, {}, Fault("unreadable_row", f"{item.place} is nested too deeply"))
    if not isinstance(item.value, dict):
        kind = type(item.value).__name__
        return Record(number, where, {}, Fault("no_object", f"this {item.place.split()[0]} is a JSON {kind}"))
    return Record(number, where, item.value)


def _arrow_file(path: Path, form: Form, fix: str, only: str | None) -> Records:
    if files.is_folder(path):
        return arrow_records(str(path), (table := files.read_parquet(path, fix=fix)).schema, table.to_batches())
    if form == "arrow":
        table = read_arrow(path, fix=fix)
        return arrow_records(str(path), table.schema, table.to_batches())
    with files.opened_parquet(path, fix=fix) as file:
        schema = file.schema_arrow
        columns = None if only is None or only not in schema.names else [only]
    return arrow_records(str(path), schema, _parquet_batches(path, fix, columns))


def _parquet_batches(path: Path, fix: str, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    with files.opened_parquet(path, fix=fix) as file:
        yield from file.iter_batches(batch_size=_BATCH, columns=columns)


def arrow_records(where: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Records:
    """Makes records out of Arrow's batches; a ClassLabel of `datasets` gives its names.

    Raises:
        BadInputError: two columns have the same name.
    """
    names = list(schema.names)
    if len(set(names)) != len(names):
        raise BadInputError("a column stands twice", where=where, fix="Rename one.")
    labels = _class_names(schema)
    numbers = itertools.count()
    rows = (
        Record(number := next(numbers), f"{where}, row {number}", _with_labels(values, labels))
        for batch in batches
        for part in _parts(batch)
        for values in _values(part)
    )
    return Records(where, names, rows, labels)


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    return (batch.slice(start, _BATCH) for start in range(0, batch.num_rows, _BATCH))


def _values(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except _UNREADABLE:
        names = batch.schema.names
        return [{n: _value(batch.column(n), row) for n in names} for row in range(batch.num_rows)]
    return rows


def _value(column: pa.Array, row: int) -> Any:
    try:
        return column[row].as_py()
    except UnicodeDecodeError:
        return Unreadable("broken_unicode")
    except _UNREADABLE:
        return Unreadable("unreadable_value")


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Returns the names of every ClassLabel, from what `datasets` writes into a schema."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    return {}


def _with_labels(values: dict[str, Any], labels: Mapping[str, list[str]]) -> dict[str, Any]:
    for column, names in labels.items():
        value = values.get(column)
        if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
            at = int(value)  # -1 stands for a missing label
            values[column] = names[at] if 0 <= at < len(names) else None if at == -1 else Unreadable("no_such_class")
    return values


def require_columns(records: Records, columns: Sequence[str], wanted: Mapping[str, str | None]) -> None:
    """Refuses a table that lacks a column.

    Args:
        records: the table.
        columns: the columns that it has.
        wanted: column by settings key; None where the settings name none.

    Raises:
        BadInputError: a column is missing; the columns present are named.
    """
    for key, column in wanted.items():
        if column is not None and column not in columns:
            raise BadInputError(
                f"no column {shortened(column)!r} ({key})",
                where=records.where,
                fix=records.hint or f"Columns present: {_listed(columns)}. Set {key} to one of them.",
            )


def _listed(columns: Sequence[str]) -> str:
    """Returns the names of a table's columns as a message shows them: a file's author chose them, and their number."""
    more = f" and {len(columns) - _MOST_COLUMNS} more" if len(columns) > _MOST_COLUMNS else ""
    return (", ".join(shortened(name) for name in columns[:_MOST_COLUMNS]) or "none") + more
