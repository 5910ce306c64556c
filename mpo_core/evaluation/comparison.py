"""Compares two models on the same prompts: what changed, by how much, and whether chance explains it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from statsmodels.stats.contingency_tables import mcnemar

from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.metric import ANSWERS, Metric
from mpo_core.contract.tables import COMPARISONS
from mpo_core.evaluation.shares import Share, prompt_shares


def compare(
    before: pa.Table, after: pa.Table, *, benchmark: str = HELD_OUT, measured: Sequence[Metric] = ANSWERS
) -> pa.Table:
    """Computes the paired change of every metric, per language; prompts are joined by id.

    `gained` counts the prompts of which a larger share of answers meets the metric after than before, `lost` those
    with a smaller share. With one answer a prompt these are McNemar's discordant pairs. With several, the same
    exact binomial test is the sign test over prompts: the prompt stays the unit.

    Args:
        before: table VERDICTS of the first model.
        after: table VERDICTS of the second, on the same prompts.
        benchmark: value of the column `benchmark`.
        measured: the metrics to compare.

    Returns:
        Table COMPARISONS.

    Raises:
        BadInputError: a prompt was judged on one side only, or is harmful on one side and
            harmless on the other.
    """
    _same_prompts(before, after)
    first, second = prompt_shares(before, measured), prompt_shares(after, measured)
    return COMPARISONS.build(
        {"benchmark": benchmark, "language": language, "metric": metric, **_paired(shares, second[language, metric])}
        for (language, metric), shares in first.items()
        if not shares.keys().isdisjoint(
            second.get((language, metric), {})
        )  # the judge may have given no verdict at all
    )


def mcnemar_p(gained: int, lost: int) -> float:
    """Returns the exact two-sided p-value of McNemar's test; 1 where no prompt changed."""
    return float(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue) if gained + lost else 1.0


def _paired(before: dict[str, Share], after: dict[str, Share]) -> dict[str, Any]:
    changes = [after[prompt].share - share.share for prompt, share in before.items() if prompt in after]
    gained, lost = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    return {
        "n": len(changes),
        "gained": gained,
        "lost": lost,
        "difference": math.fsum(changes) / len(changes),
        "p_value": mcnemar_p(gained, lost),
    }


def _same_prompts(before: pa.Table, after: pa.Table) -> None:
    first, second = _prompt_keys(before), _prompt_keys(after)
    only_before, only_after = len(first - second), len(second - first)
    if only_before or only_after:
        raise BadInputError(
            f"{only_before} prompts were judged only before and {only_after} only after "
            f"(of {len(first | second)} by language, id and kind)",
            where="comparison before/after",
            fix="Judge both models on the same prompts.",
        )


def _prompt_keys(verdicts: pa.Table) -> set[tuple[str, str, str]]:
    columns = verdicts.select(["language", "prompt_id", "kind"]).to_pylist()
    return {(row["language"], row["prompt_id"], row["kind"]) for row in columns}
