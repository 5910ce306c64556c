"""What every reader gives: columns, and rows that know where they came from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mpo_core.errors import BadInputError


class Record(NamedTuple):
    """One row of a source: its number from 0, its place for error messages, and its values."""

    row: int
    where: str
    values: Mapping[str, Any]


class Records(NamedTuple):
    """All rows of a source; `columns` in the source's order."""

    where: str
    columns: Sequence[str]
    rows: Sequence[Record]


def require_columns(records: Records, wanted: Mapping[str, str | None]) -> None:
    """Refuses a source that lacks a column.

    Args:
        records: what was read.
        wanted: column by settings key; None where the settings name none.

    Raises:
        BadInputError: a column is missing; the columns present are named.
    """
    for key, column in wanted.items():
        if column is not None and column not in records.columns:
            raise BadInputError(
                f"no column {column!r} ({key})",
                where=records.where,
                mend=f"Columns present: {', '.join(records.columns) or 'none'}. Set {key} to one of them.",
            )


def require_unique_ids(records: Records) -> None:
    """Refuses repeated values of a column called `id`: whoever wrote them relies on them.

    Raises:
        BadInputError: ids repeat; the first three are named with their places.
    """
    if "id" not in records.columns:
        return
    places: dict[str, list[str]] = defaultdict(list)
    for record in records.rows:
        value = record.values.get("id")
        if value is not None and str(value).strip():
            places[str(value)].append(record.where.removeprefix(f"{records.where}, "))
    repeated = {value: found for value, found in places.items() if len(found) > 1}
    if repeated:
        named = "; ".join(f"{value[:40]!r} at {', '.join(found[:3])}" for value, found in list(repeated.items())[:3])
        raise BadInputError(
            f"{len(repeated)} ids repeat in column 'id': {named}",
            where=records.where,
            mend="Make the ids unique or rename the column.",
        )


def text_value(record: Record, column: str | None) -> str | None:
    """The text in `column`; None if there is no such column, or nothing but white space in it.

    Raises:
        BadInputError: the value is no text, or no valid Unicode.
    """
    value = None if column is None else record.values.get(column)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadInputError(
            f"column {column!r} holds a {type(value).__name__}, not text",
            where=record.where,
            mend="Name a text column.",
        )
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON may carry half of a surrogate pair
        raise BadInputError(
            f"column {column!r} holds broken Unicode (a lone surrogate)", where=record.where, mend="Mend the row."
        ) from None
    return value if value.strip() else None
