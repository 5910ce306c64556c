"""Compares two models on the same prompts: what changed, by how much, and whether chance explains it."""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.errors import BadInputError, quantity
from mpo_core.contract.metric import ANSWERS, TARGETS, Metric
from mpo_core.contract.tables import COMPARISONS
from mpo_core.evaluation.shares import Share, prompt_shares, share_languages
from mpo_core.evaluation.statistics import add_holm, change_interval, mcnemar_p, smallest_change


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
        after: table VERDICTS of the second, on the same prompts. A prompt that one of the models gave no answer to, as
            where a server timed out, is not compared.
        confidence: level of the intervals, such as 0.95; tests are at the level of the rest.
        benchmark: value of the column `benchmark`.
        measured: the metrics to compare.
        pooled: languages whose answers also count together, in rows of language `targets`.

    Returns:
        Table COMPARISONS.

    Raises:
        BadInputError: no prompt was judged on both sides, or one is harmful on one side and harmless on the other.
    """
    _require_comparable(before, after)
    rows = []
    for language in share_languages(before, pooled):
        first, second = (prompt_shares(verdicts, language, measured, pooled) for verdicts in (before, after))
        rows += [
            {"benchmark": benchmark, "language": language, "metric": metric}
            | paired_row(shares, second[metric], confidence)
            for metric, shares in first.items()
            # A model may have given no answer, and the judge no verdict.
            if not shares.keys().isdisjoint(second.get(metric, {}))
        ]
    for metric in measured:
        add_holm([row for row in rows if row["metric"] == metric.name and row["language"] != TARGETS])
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


def _require_comparable(before: pa.Table, after: pa.Table) -> None:
    """Refuses verdicts of two models that have no prompt in common, or that call a prompt harmful and harmless."""
    keys = ["language", "prompt_id"]
    first, second = (side.select([*keys, "kind"]).group_by([*keys, "kind"]).aggregate([]) for side in (before, after))
    both = first.join(second, keys, join_type="inner", right_suffix="_after")
    differ = both.filter(pc.field("kind") != pc.field("kind_after")).num_rows
    if differ or (not both.num_rows and (first.num_rows or second.num_rows)):
        raise BadInputError(
            f"the verdicts of one model call {quantity(differ, 'prompt')} harmful, those of the other harmless"
            if differ
            else f"of {first.num_rows} prompts judged before the training none is among the {second.num_rows} after it",
            where="comparison before/after",
            fix="Judge both models on the same prompts.",
        )
