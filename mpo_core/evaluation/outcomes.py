"""Counts what the answers of a model are, and which prompts changed from one model to the other."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from mpo_core.contract.judge import Unjudged, outcome
from mpo_core.contract.tables import VERDICTS

_EXPLAINED = frozenset({"invalid", "unjudged"})
_MOST_IDS = 5


class Outcomes(NamedTuple):
    """How many answers to prompts of one kind in one language have which outcome.

    `counts` is by outcome; `reasons` says by which rule answers are invalid or unjudged.
    """

    language: str
    kind: str
    counts: dict[str, int]
    reasons: dict[str, int]


class Flip(NamedTuple):
    """How many prompts of one kind in one language went from one outcome to another, with a few of their ids."""

    language: str
    kind: str
    before: str
    after: str
    prompts: int
    prompt_ids: list[str]


def outcome_counts(verdicts: Iterable[pa.Table]) -> list[Outcomes]:
    """Counts the outcomes in tables VERDICTS of one model, unjudged answers too, by language and kind of prompt."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    reasons: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    names = ["language", "kind", "verdict", "refusal", "reason"]
    for table in verdicts:
        for row in table.group_by(names).aggregate([([], "count_all")]).to_pylist():
            key, name = (row["language"], row["kind"]), outcome(row["verdict"], refusal=row["refusal"])
            counts[key][name] += row["count_all"]
            if name in _EXPLAINED:
                reasons[key][row["reason"]] += row["count_all"]
    return [Outcomes(*key, dict(counts[key]), dict(reasons[key].most_common())) for key in sorted(counts)]


def unjudged(
    *models: Iterable[pa.Table], prompts: Iterable[tuple[str, str, str]] = (), samples: int = 1
) -> list[Unjudged]:
    """Counts the answers without a verdict by language and kind, those of the model that has most of them.

    The judge came to none, or the model gave no answer. Which answers these are is no accident: a filter stops the
    harmful ones, and a server times out at the long ones.

    Args:
        models: tables VERDICTS of each model, on the same prompts.
        prompts: language, kind and id of each prompt, also of those that no model has answered.
        samples: number of answers that were asked for each prompt.
    """
    judged: list[dict[tuple[str, str, str, int], bool]] = [
        {
            (row["language"], row["kind"], row["prompt_id"], row["sample"]): row["verdict"] != "unjudged"
            for table in tables
            for row in VERDICTS.check(table).to_pylist()
        }
        for tables in models
    ]
    answers = {(*prompt, sample) for prompt in prompts for sample in range(samples)}.union(*judged)
    n = Counter(answer[:2] for answer in answers)
    lacking = [Counter(answer[:2] for answer in answers if not of_model.get(answer)) for of_model in judged]
    return [
        Unjudged(language, kind, max(count[language, kind] for count in lacking), n[language, kind])
        for language, kind in sorted(n)
    ]


def flips(pairs: Iterable[tuple[pa.Table, pa.Table]]) -> list[Flip]:
    """Counts the prompts whose first answer has another outcome after than before (VERDICTS), commonest first."""
    changed: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for before, after in pairs:
        old, new = _first_outcomes(before), _first_outcomes(after)
        for key in old.keys() & new.keys():
            language, kind, prompt_id = key
            if old[key] != new[key]:
                changed[language, kind, old[key], new[key]].append(prompt_id)
    rows = [Flip(*key, len(ids), sorted(ids, key=_lot)[:_MOST_IDS]) for key, ids in changed.items()]
    return sorted(rows, key=lambda flip: (-flip.prompts, flip[:4]))


def _first_outcomes(verdicts: pa.Table) -> dict[tuple[str, str, str], str]:
    return {
        (row["language"], row["kind"], row["prompt_id"]): outcome(row["verdict"], refusal=row["refusal"])
        for row in VERDICTS.check(verdicts).to_pylist()
        if row["sample"] == 0
    }


def _lot(prompt_id: str) -> bytes:
    """Returns what prompts are drawn by: not their order, and not how well they were answered."""
    return hashlib.sha256(prompt_id.encode()).digest()
