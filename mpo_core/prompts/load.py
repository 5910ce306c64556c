"""All sources into one table of prompts, and a quarantine of what was set aside."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mpo_core.errors import BadInputError
from mpo_core.prompts.files import read_csv, read_jsonl, read_parquet
from mpo_core.prompts.hub import read_dataset
from mpo_core.prompts.records import Record, Records, require_columns, require_unique_ids, text_value
from mpo_core.settings import PromptSettings, PromptSource
from mpo_core.tables import PROMPTS, QUARANTINE, prompt_id

_KINDS = {"harmful": "harmful", "unsafe": "harmful", "true": "harmful", "1": "harmful"} | {
    "harmless": "harmless",
    "safe": "harmless",
    "false": "harmless",
    "0": "harmless",
}
_READERS: dict[str, Callable[[Path], Records]] = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet}

Row = dict[str, Any]


class _Source(NamedTuple):
    """A source with its place in the settings and a name that no other source has."""

    number: int
    name: str
    settings: PromptSource

    @property
    def where(self) -> str:
        return f"prompts.sources.{self.number} ({self.name})"


def load_prompts(settings: PromptSettings, *, dominant: str, seed: int) -> tuple[pa.Table, pa.Table]:
    """Reads every source.

    Of equal texts the first stays (`duplicate_prompt`); a text that is harmful here and harmless there is set
    aside altogether (`conflicting_kind`). A source's `limit` then draws among what is left, in the source's order.

    Args:
        settings: the sources and the shares of the splits.
        dominant: code of the prompts' language.
        seed: of the draw under `limit`.

    Returns:
        PROMPTS in the order of the sources, and QUARANTINE.

    Raises:
        BadInputError: a source is missing, malformed or empty, or lacks a column.
    """
    aside: list[Row] = []
    sources = _named(settings.sources)
    candidates = {source.name: _read(source, aside, dominant=dominant, seed=seed) for source in sources}
    unique = _without_duplicates([row for rows in candidates.values() for row in rows], aside, dominant)
    rows = [row for source in sources for row in _drawn(source, unique, seed)]
    for row in rows:
        row["split"] = row["split"] or _dealt(row["prompt_id"], settings)
    return PROMPTS.build(rows), QUARANTINE.build(aside)


def _named(sources: Iterable[PromptSource]) -> list[_Source]:
    used: Counter[str] = Counter()
    named = []
    for number, source in enumerate(sources):
        if source.source == "microworld":
            name = f"microworld-{source.split}-{source.kind}"
        else:
            name = str(source.path) if source.source == "dataset" else Path(str(source.path)).name
        used[name] += 1
        named.append(_Source(number, name if used[name] == 1 else f"{name}#{used[name]}", source))
    return named


def _read(source: _Source, aside: list[Row], *, dominant: str, seed: int) -> list[Row]:
    if source.settings.source == "microworld":
        return _microworld_rows(source, dominant=dominant, seed=seed)
    settings = source.settings
    reader = _READERS.get(settings.source)
    records = read_dataset(settings) if reader is None else reader(Path(str(settings.path)))
    if not records.rows:
        raise BadInputError("no rows", where=records.where, mend="Give a source with at least one prompt.")
    named = ("text_column", "kind_column", "category_column", "chosen_column", "rejected_column")
    require_columns(records, {name: getattr(settings, name) for name in named})
    require_columns(records, {f"where.{column}": column for column in settings.where})
    require_unique_ids(records)
    rows = []
    asked = [r for r in records.rows if all(_equals(r.values.get(name), v) for name, v in settings.where.items())]
    for record in asked:
        row = _row(record, source, dominant)
        if row is None:
            aside.append(_set_aside(f"{source.name}/{record.row}", dominant, "empty_text", "no text in this row"))
        else:
            rows.append(row)
    if not asked:
        raise BadInputError(f"none of {len(records.rows)} rows matches", where=records.where, mend="Check `where`.")
    if not rows:
        raise BadInputError(f"all {len(asked)} texts are empty", where=records.where, mend="Check text_column.")
    return rows


def _equals(found: object, wanted: object) -> bool:
    """Whether a value is the one asked for; in a CSV file everything is text, so `true` must match "True"."""
    if isinstance(found, str) and not isinstance(wanted, str):
        return found.strip().lower() == str(wanted).lower()
    return bool(found == wanted)


def _row(record: Record, source: _Source, dominant: str) -> Row | None:
    settings = source.settings
    text = text_value(record, settings.text_column)
    if text is None:
        return None
    category = record.values.get(settings.category_column) if settings.category_column else None
    return {
        "prompt_id": prompt_id(dominant, text),
        "text": text,
        "kind": settings.kind or _kind(record, str(settings.kind_column)),
        "split": settings.split,
        "category": None if category is None else str(category),
        "source": source.name,
        "row": record.row,
        "chosen": text_value(record, settings.chosen_column),
        "rejected": text_value(record, settings.rejected_column),
    }


def _kind(record: Record, column: str) -> str:
    value = record.values.get(column)
    known = _KINDS.get(str(value).strip().lower())
    if known is None:
        # The value itself stays untold: a wrong column may hold harmful text.
        raise BadInputError(
            f"column {column!r} does not say whether the prompt is harmful",
            where=record.where,
            mend="Known: harmful/harmless, unsafe/safe, true/false, 1/0; or set `kind` for the whole source.",
        )
    return known


def _microworld_rows(source: _Source, *, dominant: str, seed: int) -> list[Row]:
    from mpo_core import microworld

    settings = source.settings
    if dominant not in microworld.LANGUAGES:
        raise BadInputError(
            f"the microworld does not speak {dominant!r}",
            where=source.where,
            mend=f"Choose languages.dominant from {', '.join(microworld.LANGUAGES)}.",
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


def _without_duplicates(rows: list[Row], aside: list[Row], dominant: str) -> list[Row]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["prompt_id"]].append(row)
    kept = []
    for row in rows:
        same = groups[row["prompt_id"]]
        row_id = f"{row['source']}/{row['row']}"
        if len({other["kind"] for other in same}) > 1:
            detail = f"{len(same)} rows of the same text differ in kind, first {same[0]['source']}/{same[0]['row']}"
            aside.append(_set_aside(row_id, dominant, "conflicting_kind", detail))
        elif row is not same[0]:
            detail = f"same text as {same[0]['source']}/{same[0]['row']}"
            aside.append(_set_aside(row_id, dominant, "duplicate_prompt", detail))
        else:
            kept.append(row)
    return kept


def _drawn(source: _Source, unique: list[Row], seed: int) -> list[Row]:
    rows = [row for row in unique if row["source"] == source.name]
    limit = source.settings.limit
    if limit is None or len(rows) <= limit:
        return rows
    lots = {row["prompt_id"]: hashlib.sha256(f"{seed}\x00{row['prompt_id']}".encode()).digest() for row in rows}
    drawn = set(sorted(lots, key=lots.__getitem__)[:limit])
    return [row for row in rows if row["prompt_id"] in drawn]


def _dealt(identifier: str, settings: PromptSettings) -> str:
    """The split of a prompt, by its id alone: a prompt added elsewhere never moves another."""
    lot = int(hashlib.sha256(f"split\x00{identifier}".encode()).hexdigest()[:12], 16) / 16**12
    if lot < settings.test:
        return "test"
    return "validation" if lot < settings.test + settings.validation else "train"


def _set_aside(row_id: str, language: str, reason: str, detail: str) -> Row:
    return {"row_id": row_id, "language": language, "reason": reason, "detail": detail}
