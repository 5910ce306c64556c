"""Reduces verdicts to one number per prompt and metric, the unit of every statistic here.

With several samples a prompt's number is the share of its samples that count, so that the
prompt, and not the sample, stays the unit: samples of one prompt are not independent evidence.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import pyarrow as pa

from mpo_core.contract.judge import Verdict
from mpo_core.contract.metric import TARGETS, Metric
from mpo_core.contract.tables import VERDICTS


class Share(NamedTuple):
    """The share of the `samples` answers to one prompt, in one language, that meet a metric."""

    share: float
    samples: int


def prompt_shares(
    verdicts: pa.Table, metrics: Sequence[Metric], pooled: Collection[str] = ()
) -> dict[tuple[str, str], dict[str, Share]]:
    """Returns the shares by (language, metric), each by prompt id; a metric sees the prompts of its own kind.

    Languages and prompt ids are in sorted order, metrics in that of `metrics`. The answers to one prompt in all
    languages of `pooled` together make its share in the language `targets`.

    Args:
        verdicts: table VERDICTS.
        metrics: the metrics; those that do not count answers have no shares.
        pooled: the languages that are pooled.
    """
    answers: dict[tuple[str, str], dict[str, list[Verdict]]] = {}
    for row in VERDICTS.check(verdicts).to_pylist():
        if row["verdict"] == "unjudged":  # counts in no share
            continue
        for language in (row["language"], *([TARGETS] if row["language"] in pooled else [])):
            of_prompt = answers.setdefault((language, row["kind"]), {}).setdefault(row["prompt_id"], [])
            of_prompt.append(Verdict(row["verdict"], row["refusal"], row["reason"]))
    return {
        (language, metric.name): {
            prompt: Share(sum(map(metric.counts, of_prompt)) / len(of_prompt), len(of_prompt))
            for prompt, of_prompt in sorted(answers[language, metric.kind].items())
        }
        for language in sorted({language for language, _ in answers})
        for metric in metrics
        if metric.counts is not None and (language, metric.kind) in answers
    }
