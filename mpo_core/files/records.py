"""Reads the user's tables row by row: CSV, JSON, Parquet and Arrow, plain or compressed."""

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from mpo_core.contract.errors import BadInputError, column_names, shortened
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
"""The form of a file by its suffix, in upper or lower case; one of `compression.SUFFIXES` may follow it."""
_BATCH = 1024
# Errors about a value that Python cannot hold. UnicodeDecodeError is a ValueError, an unknown time zone a KeyError.
_UNREADABLE = (ValueError, OverflowError, KeyError, pa.ArrowException)


class Record(NamedTuple):
    """One row: its number from 0, its place for messages, and its values or the fault for which it has none."""

    row: int
    where: str
    values: Mapping[str, Any]
    fault: Fault | None = None

    def text(self, column: str, speaker: Speaker = "user") -> str | Fault:
        """Returns the text in a column, empty where there is none; or the fault that rejects the row. See `text_of`."""
        if self.fault is not None:
            return self.fault
        return text_of(self.values.get(column), speaker, name=f"column {column!r}")


class Records(NamedTuple):
    """A table whose rows are read as they are needed."""

    where: str
    columns: Sequence[str] | None
    """Names of the columns in the table's order; None for JSON, where each row has its own."""
    rows: Iterable[Record]
    class_names: Mapping[str, list[str]] = {}
    """Names of the classes, for columns that are a ClassLabel of `datasets`; the rows already hold names."""
    hint: str = ""
    """Advice for the message about a missing column, such as that the delimiter seems to be another one."""


def form_of(path: Path, accepted: Iterable[Form] | None = None) -> Form:
    """Returns the form of a file by its name.

    Raises:
        BadInputError: the suffix is unknown, or its form is not in `accepted`.
    """
    form = _form_by_name(path)
    choices = set(FORMS.values() if accepted is None else accepted)
    if form not in choices:
        endings = ", ".join(suffix for suffix, known in FORMS.items() if known in choices)
        raise BadInputError(
            "unknown kind of file",
            where=str(path),
            fix=f"Give one of {endings}; or one of these compressed ({', '.join(SUFFIXES)}).",
        )
    return form


def says_its_form(path: Path) -> bool:
    """Returns whether a file's name has a suffix of a known form."""
    return _form_by_name(path) is not None


def _form_by_name(path: Path) -> Form | None:
    return FORMS.get(plain_suffix(path))


def open_records(
    path: Path, form: Form, *, fix: str, delimiter: str | None = None, key: str | None = None, only: str | None = None
) -> Records:
    """Opens a table of the user's, whose rows are read as they are needed.

    Args:
        path: the file; of Parquet also a folder.
        form: its form by the settings. A suffix of the same family, such as `.jsonl` for JSON, is followed instead.
        fix: what the user can do if the file cannot be read at all.
        delimiter: delimiter of CSV; see `files.csv_rows`.
        key: name of the setting for the delimiter, for messages; None if there is none.
        only: the one column that is needed, so that others need not be read; None for all columns.

    Raises:
        BadInputError: the file is missing or malformed, which may show only while the rows are read.
    """
    form_by_name = _form_by_name(path)
    if form_by_name is not None and _family(form_by_name) != _family(form):
        raise BadInputError(
            f"the file's name says {form_by_name}, the settings say {form}",
            where=str(path),
            fix="Change the setting or rename the file.",
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


def _csv(path: Path, fix: str, delimiter: str | None, key: str | None) -> Records:
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
        return Record(number, where, {}, Fault("unreadable_row", f"{item.place} is nested too deeply to be read"))
    if not isinstance(item.value, dict):
        kind = type(item.value).__name__
        return Record(
            number, where, {}, Fault("no_object", f"this {item.place.split()[0]} is a JSON {kind}, not an object")
        )
    return Record(number, where, item.value)


def _arrow_file(path: Path, form: Form, fix: str, only: str | None) -> Records:
    if files.is_folder(path):
        paths = files.parquet_files(path)
        if not paths:
            raise BadInputError("the folder holds no Parquet file", where=str(path), fix="Name a folder of such files.")
        return _together(str(path), [_arrow_file(file, "parquet", fix, only) for file in paths])
    if form == "arrow":
        table = read_arrow(path, fix=fix)
        return arrow_records(str(path), table.schema, table.to_batches())
    with files.opened_parquet(path, fix=fix) as file:
        schema = file.schema_arrow
        columns = None if only is None or only not in schema.names else [only]
    return arrow_records(str(path), schema, _parquet_batches(path, fix, columns))


def _together(where: str, parts: Sequence[Records]) -> Records:
    """Joins tables, each with the columns and types of its own: Arrow would cast them all to those of the first."""
    rows = (record for part in parts for record in part.rows)
    return Records(
        where,
        list(dict.fromkeys(column for part in parts for column in part.columns or ())),
        (record._replace(row=number) for number, record in enumerate(rows)),
        {column: names for part in reversed(parts) for column, names in part.class_names.items()},
    )


def _parquet_batches(path: Path, fix: str, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    with files.opened_parquet(path, fix=fix) as file:
        yield from file.iter_batches(batch_size=_BATCH, columns=columns)


def arrow_records(where: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Records:
    """Makes records of Arrow's batches, with the names of the classes in place of the numbers of a ClassLabel.

    Raises:
        BadInputError: two columns have the same name.
    """
    names = list(schema.names)
    if len(set(names)) != len(names):
        first, second = next((names.index(name), at) for at, name in enumerate(names) if names.index(name) < at)
        raise BadInputError(
            f"two columns have the same name, columns {first + 1} and {second + 1}",
            where=where,
            fix="Rename or remove one of them.",
        )
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
    """Returns the names of the classes of every ClassLabel column, which `datasets` writes into a schema."""
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


def require_columns(records: Records, columns: Sequence[str], required: Mapping[str, str | None]) -> None:
    """Checks that a table has every required column, given by settings key; None stands for no column.

    Raises:
        BadInputError: a column is missing; the message names those that are present.
    """
    for key, column in required.items():
        if column is not None and column not in columns:
            raise BadInputError(
                f"no column {shortened(column)!r} ({key})",
                where=records.where,
                fix=records.hint or f"Columns present: {column_names(columns)}. Set {key} to one of them.",
            )
