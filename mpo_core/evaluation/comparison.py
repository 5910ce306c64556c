"""Compares two models on the same prompts: what changed, by how much, and whether chance explains it."""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.errors import BadInputError, quantity
from mpo_core.contract.metric import ANSWERS, TARGETS, Metric
from mpo_core.contract.tables import COMPARISONS
from mpo_core.evaluation.shares import Share, prompt_shares, share_languages
from mpo_core.evaluation.statistics import change_interval, holm, mcnemar_p, smallest_change


def compare(
    before: pa.Table,
    after: pa.Table,
    *,
    confidence: float,
    benchmark: str = HELD_OUT,
    measured: Sequence[Metric] = ANSWERS,
    pooled: Sequence[str] = (),
) -> pa.Table:
    """Computes by how much every metric changed in each language, and the p-value of the change, prompt by prompt.

    `gained` counts the prompts of which a larger share of answers meets the metric after than before, `lost` those
    with a smaller share. With one answer a prompt these are McNemar's discordant pairs. With several, the same
    exact binomial test is the sign test over prompts: the prompt stays the unit.

    Args:
        before: table VERDICTS of the first model.
        after: table VERDICTS of the second, on the same prompts.
        confidence: level of the intervals, such as 0.95; tests are at the level of the rest.
        benchmark: value of the column `benchmark`.
        measured: the metrics to compare.
        pooled: languages whose answers also count together, in rows of language `targets`.

    Returns:
        Table COMPARISONS.

    Raises:
        BadInputError: a prompt was judged on one side only, or is harmful on one side and
            harmless on the other.
    """
    _same_prompts(before, after)
    rows = []
    for language in share_languages(before, pooled):
        first, second = (prompt_shares(verdicts, language, measured, pooled) for verdicts in (before, after))
        rows += [
            {"benchmark": benchmark, "language": language, "metric": metric}
            | paired_row(shares, second[metric], confidence)
            for metric, shares in first.items()
            # The judge may have given no verdict at all.
            if not shares.keys().isdisjoint(second.get(metric, {}))
        ]
    for metric in measured:
        family = [row for row in rows if row["metric"] == metric.name and row["language"] != TARGETS]
        for row, adjusted in zip(family, holm([row["p_value"] for row in family]), strict=True):
            row["p_holm"] = adjusted
    return COMPARISONS.build(rows)


def paired_row(before: dict[str, Share], after: dict[str, Share], confidence: float) -> dict[str, Any]:
    """Returns the figures of COMPARISONS of one metric, from the shares of the same prompts before and after."""
    changes = [after[prompt].share - share.share for prompt, share in before.items() if prompt in after]
    gained, lost = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    low, high = change_interval(changes, confidence)
    return {
        "n": len(changes),
        "gained": gained,
        "lost": lost,
        "difference": math.fsum(changes) / len(changes),
        "difference_low": low,
        "difference_high": high,
        "p_value": mcnemar_p(gained, lost),
        "detectable": smallest_change(len(changes), min(gained, lost) / len(changes), alpha=1 - confidence),
    }


def _same_prompts(before: pa.Table, after: pa.Table) -> None:
    keys = ["language", "prompt_id", "kind"]
    first, second = (verdicts.select(keys).group_by(keys).aggregate([]) for verdicts in (before, after))
    only_before, only_after = (
        side.join(other, keys, join_type="left anti").num_rows for side, other in ((first, second), (second, first))
    )
    if only_before or only_after:
        raise BadInputError(
            f"judged only before the training: {quantity(only_before, 'prompt')}, only after it: {only_after}, of "
            f"{first.num_rows + only_after} by language, id and kind",
            where="comparison before/after",
            fix="Judge both models on the same prompts.",
        )
