"""Reduces verdicts to one number per prompt and metric, the unit of every statistic here.

With several samples a prompt's number is the share of its samples that count, so that the
prompt, and not the sample, stays the unit: samples of one prompt are not independent evidence.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from mpo_core.contract.judge import Verdict
from mpo_core.contract.metric import TARGETS, Metric
from mpo_core.contract.tables import VERDICTS


class Share(NamedTuple):
    """The share of the `samples` answers to one prompt, in one language, that meet a metric."""

    share: float
    samples: int


def share_languages(verdicts: pa.Table, pooled: Collection[str] = ()) -> list[str]:
    """Returns the languages with a verdict that counts, sorted; `targets` is one if any of `pooled` is there."""
    languages = set(_counted(verdicts)["language"].unique().to_pylist())
    return sorted(languages | ({TARGETS} if languages & set(pooled) else set()))


def prompt_shares(
    verdicts: pa.Table, language: str, metrics: Sequence[Metric], pooled: Collection[str] = ()
) -> dict[str, dict[str, Share]]:
    """Returns the shares in one language by metric, each by prompt id; a metric sees the prompts of its own kind.

    Prompt ids are in sorted order, metrics in that of `metrics`. The answers to one prompt in all languages of `pooled`
    together make its share in the language `targets`. One language at a time keeps the memory small.

    Args:
        verdicts: table VERDICTS.
        language: the language, or `targets`.
        metrics: the metrics; those that do not count answers have no shares.
        pooled: the languages that are pooled.
    """
    codes = list(pooled) if language == TARGETS else [language]
    table = _counted(VERDICTS.check(verdicts)).filter(pc.field("language").isin(codes))
    answers = {kind: _by_prompt(table, kind) for kind in {metric.kind for metric in metrics}}
    return {
        metric.name: {prompt: _share(counts, metric.counts) for prompt, counts in answers[metric.kind].items()}
        for metric in metrics
        if metric.counts is not None and answers[metric.kind]
    }


def _share(counts: dict[Verdict, int], meets: Callable[[Verdict], bool]) -> Share:
    samples = sum(counts.values())
    return Share(sum(count for verdict, count in counts.items() if meets(verdict)) / samples, samples)


def _counted(verdicts: pa.Table) -> pa.Table:
    columns = verdicts.select(["language", "kind", "prompt_id", "verdict", "refusal", "reason"])
    return columns.filter(pc.field("verdict") != "unjudged")  # counts in no share


def _by_prompt(table: pa.Table, kind: str) -> dict[str, dict[Verdict, int]]:
    """Counts the answers to each prompt of a kind by their verdict, sorted by prompt."""
    names = ["prompt_id", "verdict", "refusal", "reason"]
    counts = table.filter(pc.field("kind") == kind).group_by(names).aggregate([([], "count_all")]).sort_by("prompt_id")
    answers: dict[str, dict[Verdict, int]] = {}
    for prompt, *verdict, count in zip(*(column.to_pylist() for column in counts.itercolumns()), strict=True):
        answers.setdefault(prompt, {})[Verdict(*verdict)] = count
    return answers
