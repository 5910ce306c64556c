"""Reads all sources into one table of prompts, and a quarantine of the rows that were rejected."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa

from mpo_core.contract.prompts import Prompt, PromptSource
from mpo_core.contract.tables import PROMPTS, QUARANTINE, REFERENCE_ANSWERS, prompt_id
from mpo_core.languages.defects import folded
from mpo_core.settings import PromptSettings

Row = dict[str, Any]


def count_kinds(prompts: pa.Table) -> dict[str, dict[str, int]]:
    """Counts the prompts of each kind in a table of PROMPTS, by source, in the table's order."""
    counts: dict[str, Counter[str]] = {}
    for source, kind in zip(prompts["source"].to_pylist(), prompts["kind"].to_pylist(), strict=True):
        counts.setdefault(source, Counter())[kind] += 1
    return {source: {kind: kinds[kind] for kind in ("harmful", "harmless")} for source, kinds in counts.items()}


class Loaded(NamedTuple):
    """The content of all sources: PROMPTS, the reference answers by language (REFERENCE_ANSWERS), and QUARANTINE."""

    prompts: pa.Table
    answers: dict[str, pa.Table]
    quarantine: pa.Table


def fingerprint(settings: PromptSettings) -> list[str]:
    """Returns the part of a cache key beyond the settings: a digest of what each source reads.

    Raises:
        BadInputError: a file or folder is missing or cannot be read.
    """
    return [source.digest() for source in settings.sources]


def load_prompts(settings: PromptSettings, *, dominant: str, seed: int) -> Loaded:
    """Reads the prompts of every source, and rejects those that cannot be used.

    Of equal texts only the first is used (`duplicate_prompt`); so is the first of texts that differ in case, white
    space or Unicode form alone and would fall into several splits (`other_split`), since a test prompt must not occur
    in training. A text that is harmful in one row and harmless in another is rejected in both (`conflicting_kind`). Of
    the other rows, a source with a `limit` gives that many: a random sample, in the order of the rows.

    Args:
        settings: the sources and the shares of the splits.
        dominant: code of the prompts' language.
        seed: random seed, for sources with a `limit`.

    Returns:
        The prompts in the order of the sources, their reference answers, and the rejected rows.

    Raises:
        BadInputError: a source is missing, malformed or empty, or lacks a column.
    """
    rejected_rows: list[Row] = []
    candidates: list[_Candidate] = []
    names = _names(settings.sources)
    for number, (name, source) in enumerate(zip(names, settings.sources, strict=True)):
        for item in source.prompts(dominant=dominant, seed=seed, key=f"prompts.sources.{number}"):
            if isinstance(item, Prompt):
                candidates.append(_Candidate(prompt_id(dominant, item.text), name, item))
            else:
                row_id = f"{name}/{item.row}" if item.language is None else f"{name}/{item.row}/{item.language}"
                rejected_rows.append(_quarantine_row(row_id, item.language or dominant, item.reason, item.detail))
    unique = _without_leaks(_without_duplicates(candidates, rejected_rows, dominant), rejected_rows, settings, dominant)
    limits = dict(zip(names, (source.limit for source in settings.sources), strict=True))
    selected = [
        row for name in names for row in _sample([row for row in unique if row.source == name], limits[name], seed)
    ]
    return Loaded(
        PROMPTS.build(_row(candidate, settings) for candidate in selected),
        _answer_tables(selected),
        QUARANTINE.build(rejected_rows),
    )


class _Candidate(NamedTuple):
    """A prompt with its id and the name of its source."""

    prompt_id: str
    source: str
    prompt: Prompt

    @property
    def row_id(self) -> str:
        return f"{self.source}/{self.prompt.row}"


def _names(sources: Iterable[PromptSource]) -> list[str]:
    """Returns a unique name for every source."""
    used: Counter[str] = Counter()
    names = []
    for source in sources:
        used[source.name] += 1
        names.append(source.name if used[source.name] == 1 else f"{source.name}#{used[source.name]}")
    return names


def _row(candidate: _Candidate, settings: PromptSettings) -> Row:
    prompt = candidate.prompt
    return {
        "prompt_id": candidate.prompt_id,
        "text": prompt.text,
        "kind": prompt.kind,
        "split": _split_of(candidate, settings),
        "category": prompt.category,
        "source": candidate.source,
        "row": prompt.row,
        "chosen": prompt.chosen,
        "rejected": prompt.rejected,
    }


def _answer_tables(candidates: list[_Candidate]) -> dict[str, pa.Table]:
    rows: dict[str, list[Row]] = defaultdict(list)
    for candidate in candidates:
        for language, answers in candidate.prompt.answers.items():
            rows[language].append({"prompt_id": candidate.prompt_id, "language": language, **answers._asdict()})
    return {language: REFERENCE_ANSWERS.build(rows[language]) for language in sorted(rows)}


def _without_duplicates(rows: list[_Candidate], rejected_rows: list[Row], dominant: str) -> list[_Candidate]:
    groups: dict[str, list[_Candidate]] = defaultdict(list)
    for row in rows:
        groups[row.prompt_id].append(row)
    unique = []
    for row in rows:
        same = groups[row.prompt_id]
        if len({other.prompt.kind for other in same}) > 1:
            detail = f"{len(same)} rows of the same text differ in kind, first {same[0].row_id}"
            rejected_rows.append(_quarantine_row(row.row_id, dominant, "conflicting_kind", detail))
        elif row is not same[0]:
            detail = f"same text as {same[0].row_id}"
            rejected_rows.append(_quarantine_row(row.row_id, dominant, "duplicate_prompt", detail))
        else:
            unique.append(row)
    return unique


def _without_leaks(
    rows: list[_Candidate], rejected_rows: list[Row], settings: PromptSettings, dominant: str
) -> list[_Candidate]:
    """Rejects texts that an earlier row has in another split, apart from case, white space and Unicode form."""
    first: dict[str, _Candidate] = {}
    result = []
    for row in rows:
        earlier = first.setdefault(folded(row.prompt.text), row)
        split, other = (_split_of(candidate, settings) for candidate in (row, earlier))
        if split == other:
            result.append(row)
        else:
            detail = f"same text as {earlier.row_id}, which is in {other}, apart from case and white space"
            rejected_rows.append(_quarantine_row(row.row_id, dominant, "other_split", detail))
    return result


def _sample(rows: list[_Candidate], limit: int | None, seed: int) -> list[_Candidate]:
    if limit is None or len(rows) <= limit:
        return rows
    digests = {row.prompt_id: hashlib.sha256(f"{seed}\x00{row.prompt_id}".encode()).digest() for row in rows}
    selected = set(sorted(digests, key=digests.__getitem__)[:limit])
    return [row for row in rows if row.prompt_id in selected]


def _split_of(candidate: _Candidate, settings: PromptSettings) -> str:
    """Returns a prompt's split: its source's, or by its id alone, so that added prompts never change that of others."""
    if candidate.prompt.split is not None:
        return candidate.prompt.split
    fraction = int(hashlib.sha256(f"split\x00{candidate.prompt_id}".encode()).hexdigest()[:12], 16) / 16**12
    if fraction < settings.test:
        return "test"
    return "validation" if fraction < settings.test + settings.validation else "train"


def _quarantine_row(row_id: str, language: str, reason: str, detail: str) -> Row:
    return {"row_id": row_id, "language": language, "reason": reason, "detail": detail}
