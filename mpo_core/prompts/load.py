"""Reads all sources into one table of prompts, and a quarantine of the rows that were rejected."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PROMPTS, QUARANTINE, prompt_id
from mpo_core.files.messages import Fault, Unreadable
from mpo_core.files.records import Record, Records, open_records, require_columns
from mpo_core.prompts.hub import read_dataset
from mpo_core.prompts.kinds import read_kinds
from mpo_core.settings import PromptSettings, PromptSource

Row = dict[str, Any]


class _Source(NamedTuple):
    """A source with its place in the settings and a name that no other source has."""

    number: int
    name: str
    settings: PromptSource

    @property
    def key(self) -> str:
        return f"prompts.sources.{self.number}"

    @property
    def where(self) -> str:
        return f"{self.key} ({self.name})"


def count_kinds(prompts: pa.Table) -> dict[str, dict[str, int]]:
    """Counts the prompts of each kind in a table of PROMPTS, by source, in the table's order."""
    counts: dict[str, Counter[str]] = {}
    for source, kind in zip(prompts["source"].to_pylist(), prompts["kind"].to_pylist(), strict=True):
        counts.setdefault(source, Counter())[kind] += 1
    return {source: {kind: kinds[kind] for kind in ("harmful", "harmless")} for source, kinds in counts.items()}


def load_prompts(settings: PromptSettings, *, dominant: str, seed: int) -> tuple[pa.Table, pa.Table]:
    """Reads every source.

    Of equal texts the first stays (`duplicate_prompt`); a text that is harmful here and harmless there is
    rejected altogether (`conflicting_kind`). A source's `limit` then draws among what is left, in the source's order.

    Args:
        settings: the sources and the shares of the splits.
        dominant: code of the prompts' language.
        seed: of the draw under `limit`.

    Returns:
        PROMPTS in the order of the sources, and QUARANTINE.

    Raises:
        BadInputError: a source is missing, malformed or empty, or lacks a column.
    """
    rejected_rows: list[Row] = []
    sources = _with_names(settings.sources)
    candidates = {source.name: _read(source, rejected_rows, dominant=dominant, seed=seed) for source in sources}
    unique = _without_duplicates([row for rows in candidates.values() for row in rows], rejected_rows, dominant)
    rows = [row for source in sources for row in _drawn(source, unique, seed)]
    for row in rows:
        row["split"] = row["split"] or _dealt(row["prompt_id"], settings)
    return PROMPTS.build(rows), QUARANTINE.build(rejected_rows)


def _with_names(sources: Iterable[PromptSource]) -> list[_Source]:
    used: Counter[str] = Counter()
    sources_with_names = []
    for number, source in enumerate(sources):
        if source.source == "microworld":
            name = f"microworld-{source.split}-{source.kind}"
        else:
            name = str(source.path) if source.source == "dataset" else Path(str(source.path)).name
        used[name] += 1
        sources_with_names.append(_Source(number, name if used[name] == 1 else f"{name}#{used[name]}", source))
    return sources_with_names


def _read(source: _Source, rejected_rows: list[Row], *, dominant: str, seed: int) -> list[Row]:
    if source.settings.source == "microworld":
        return _microworld_rows(source, dominant=dominant, seed=seed)
    settings = source.settings
    records = _open(source)
    rows = list(records.rows)
    if not rows:
        raise BadInputError("no rows", where=records.where, fix="Give a source with at least one prompt.")
    _require_columns(records, rows, settings)
    require_unique_ids(records, rows)
    # A row of which it cannot be said whether it matches is rejected, not left out.
    blocked = {r.row: fault for r in rows if (fault := _blocked(r, settings.where)) is not None}
    chosen = [r for r in rows if r.row in blocked or all(_matches(r, n, v, records) for n, v in settings.where.items())]
    if not chosen:
        raise BadInputError(f"none of {len(rows)} rows matches", where=records.where, fix="Check `where`.")
    kinds = read_kinds(records, chosen, settings, key=source.key)
    prompts: list[Row] = []
    faults: list[tuple[Record, Fault]] = []
    for record, kind in zip(chosen, kinds, strict=True):
        fault = blocked.get(record.row) or (kind if isinstance(kind, Fault) else None)
        row = fault or _row(record, str(kind), source, dominant)
        if isinstance(row, Fault):
            faults.append((record, row))
            rejected_rows.append(_quarantine_row(f"{source.name}/{record.row}", dominant, *row))
        else:
            prompts.append(row)
    if not prompts:
        raise _all_rejected(records, faults)
    return prompts


def _open(source: _Source) -> Records:
    settings = source.settings
    if settings.source == "dataset":
        return read_dataset(settings)
    assert settings.source != "microworld"  # noqa: S101 - it has no records
    return open_records(
        Path(str(settings.path)),
        settings.source,
        fix="Check prompts.sources[].path.",
        delimiter=settings.delimiter,
        key=f"{source.key}.delimiter",
    )


def _require_columns(records: Records, rows: list[Record], settings: PromptSource) -> None:
    columns = records.columns
    if columns is None:
        columns = list(dict.fromkeys(name for row in rows for name in row.values))
        if not columns:
            raise _all_rejected(records, [(row, row.fault) for row in rows if row.fault])
    keys = ("text_column", "kind_column", "category_column", "chosen_column", "rejected_column")
    wanted = {key: getattr(settings, key) for key in keys}
    require_columns(records, columns, wanted | {f"where.{column}": column for column in settings.where})


def _all_rejected(records: Records, faults: list[tuple[Record, Fault]]) -> BadInputError:
    if not faults or all(fault.reason == "empty_text" for _, fault in faults):
        return BadInputError(f"all {len(faults)} texts are empty", where=records.where, fix="Check text_column.")
    record, fault = next((record, fault) for record, fault in faults if fault.reason != "empty_text")
    others = f"; all {len(faults)} rows are rejected" if len(faults) > 1 else ""
    return BadInputError(f"{fault.detail}{others}", where=record.where, fix="Fix the rows, or name other columns.")


def require_unique_ids(records: Records, rows: Iterable[Record]) -> None:
    """Refuses repeated values of a column called `id`: whoever wrote them relies on them.

    Raises:
        BadInputError: ids repeat; the first three are named with their places.
    """
    places: dict[str, list[str]] = defaultdict(list)
    for record in rows:
        value = record.values.get("id")
        if value is not None and str(value).strip():
            places[str(value)].append(record.where.removeprefix(f"{records.where}, "))
    repeated = {value: rows for value, rows in places.items() if len(rows) > 1}
    if repeated:
        examples = "; ".join(f"{value[:40]!r} at {', '.join(rows[:3])}" for value, rows in list(repeated.items())[:3])
        raise BadInputError(
            f"{len(repeated)} ids repeat in column 'id': {examples}",
            where=records.where,
            fix="Make the ids unique or rename the column.",
        )


def _blocked(record: Record, where: Iterable[str]) -> Fault | None:
    values = (record.values.get(column) for column in where)
    unreadable = next((value for value in values if isinstance(value, Unreadable)), None)
    return record.fault if unreadable is None else Fault(unreadable.reason, "a column of `where` cannot be read")


def _matches(record: Record, column: str, wanted: object, records: Records) -> bool:
    """Returns whether a value is the wanted one; in a CSV file everything is text, so `true` must match "True"."""
    value, names = record.values.get(column), records.class_names.get(column)
    if names is not None and isinstance(wanted, int) and not isinstance(wanted, bool) and str(wanted) not in names:
        return value is not None and 0 <= wanted < len(names) and names[wanted] == value
    if isinstance(value, str) and not isinstance(wanted, str):
        return value.strip().lower() == str(wanted).lower()
    return bool(value == wanted)


def _row(record: Record, kind: str, source: _Source, dominant: str) -> Row | Fault:
    settings = source.settings
    text = record.text(settings.text_column)
    if not isinstance(text, Fault) and not text.strip():
        return Fault("empty_text", "no text in this row")
    category = _category(record, settings.category_column)
    chosen = record.text(settings.chosen_column, "assistant") if settings.chosen_column else ""
    rejected = record.text(settings.rejected_column, "assistant") if settings.rejected_column else ""
    for value in (text, category, chosen, rejected):
        if isinstance(value, Fault):
            return value
    return {
        "prompt_id": prompt_id(dominant, str(text)),
        "text": text,
        "kind": kind,
        "split": settings.split,
        "category": category,
        "source": source.name,
        "row": record.row,
        "chosen": _or_none(chosen),
        "rejected": _or_none(rejected),
    }


def _or_none(text: str | Fault) -> str | None:
    return text if isinstance(text, str) and text.strip() else None


def _category(record: Record, column: str | None) -> str | Fault | None:
    value = record.values.get(column) if column else None
    if isinstance(value, str | Unreadable):
        return record.text(str(column))
    try:
        return None if value is None else str(value)  # a list or flags by name, as BeaverTails has them, too
    except (RecursionError, ValueError):
        return Fault("unreadable_value", f"column {column!r} cannot be read")


def _microworld_rows(source: _Source, *, dominant: str, seed: int) -> list[Row]:
    from mpo_core import microworld

    settings = source.settings
    if dominant not in microworld.LANGUAGES:
        raise BadInputError(
            f"the microworld does not speak {dominant!r}",
            where=source.where,
            fix=f"Choose languages.dominant from {', '.join(microworld.LANGUAGES)}.",
        )
    assert settings.kind is not None  # noqa: S101 - the settings ask for both
    assert settings.split is not None  # noqa: S101
    rows = []
    for number, item in enumerate(microworld.items(settings.split, settings.kind, limit=settings.limit, seed=seed)):
        refusal, answer = item.refusal(dominant), item.help(dominant)
        chosen, rejected = (refusal, answer) if item.kind == "harmful" else (answer, refusal)
        text = item.prompt(dominant)
        rows.append(
            {
                "prompt_id": prompt_id(dominant, text),
                "text": text,
                "kind": item.kind,
                "split": settings.split,
                "category": item.category,
                "source": source.name,
                "row": number,
                "chosen": chosen,
                "rejected": rejected,
            }
        )
    return rows


def _without_duplicates(rows: list[Row], rejected_rows: list[Row], dominant: str) -> list[Row]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["prompt_id"]].append(row)
    unique = []
    for row in rows:
        same = groups[row["prompt_id"]]
        row_id = f"{row['source']}/{row['row']}"
        if len({other["kind"] for other in same}) > 1:
            detail = f"{len(same)} rows of the same text differ in kind, first {same[0]['source']}/{same[0]['row']}"
            rejected_rows.append(_quarantine_row(row_id, dominant, "conflicting_kind", detail))
        elif row is not same[0]:
            detail = f"same text as {same[0]['source']}/{same[0]['row']}"
            rejected_rows.append(_quarantine_row(row_id, dominant, "duplicate_prompt", detail))
        else:
            unique.append(row)
    return unique


def _drawn(source: _Source, unique: list[Row], seed: int) -> list[Row]:
    rows = [row for row in unique if row["source"] == source.name]
    limit = source.settings.limit
    if limit is None or len(rows) <= limit:
        return rows
    lots = {row["prompt_id"]: hashlib.sha256(f"{seed}\x00{row['prompt_id']}".encode()).digest() for row in rows}
    drawn = set(sorted(lots, key=lots.__getitem__)[:limit])
    return [row for row in rows if row["prompt_id"] in drawn]


def _dealt(identifier: str, settings: PromptSettings) -> str:
    """Returns the split of a prompt, by its id alone: a prompt added elsewhere never moves another."""
    lot = int(hashlib.sha256(f"split\x00{identifier}".encode()).hexdigest()[:12], 16) / 16**12
    if lot < settings.test:
        return "test"
    return "validation" if lot < settings.test + settings.validation else "train"


def _quarantine_row(row_id: str, language: str, reason: str, detail: str) -> Row:
    return {"row_id": row_id, "language": language, "reason": reason, "detail": detail}
