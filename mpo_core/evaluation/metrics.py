"""What one model did: shares per language with Wilson intervals, and reward gaps."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from mpo_core.errors import BadInputError
from mpo_core.evaluation.shares import Share, prompt_shares
from mpo_core.tables import GAPS, METRICS


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def metrics(
    verdicts: pa.Table,
    gaps: pa.Table | None,
    *,
    model: Literal["before", "after", "previous", "model"],
    confidence: float,
    baseline: pa.Table | None = None,
) -> pa.Table:
    """Every metric of one model, per language.

    With one answer a prompt, `value` is `count / n` over prompts and the interval is Wilson's.
    With several, `value` is the mean over prompts of the share of answers that count, `count`
    is null, and Wilson's interval is taken at the effective sample size (see `share_interval`).
    A metric without a prompt is left out: 0 of 0 is no share.

    Args:
        verdicts: table VERDICTS of this model.
        gaps: table GAPS under this model, or None. A language needs two harmful pairs for an
            interval; with fewer its gap is left out.
        baseline: table GAPS of the same pairs under the model it started from, which gives `dominant_drift`.
        model: name of the model in the table.
        confidence: level of the intervals, such as 0.95.

    Returns:
        Table METRICS.

    Raises:
        BadInputError: a gap is not a finite number.
    """
    rows: list[dict[str, Any]] = [
        {"model": model, "language": language, "metric": metric, **_share(list(shares.values()), confidence)}
        for (language, metric), shares in prompt_shares(verdicts).items()
    ]
    if gaps is not None:
        rows += [
            {"model": model, "language": language, "metric": "reward_gap", **_mean(values, confidence)}
            for language, values in _gaps_by_language(gaps).items()
        ]
        rows += [
            {"model": model, "language": language, "metric": "dominant_drift", **_mean(values, confidence)}
            for language, values in (drift_by_language(baseline, gaps) if baseline is not None else {}).items()
        ]
    return METRICS.build(rows)


def share_interval(shares: Collection[Share], confidence: float) -> Interval:
    """Wilson's interval for a mean of per-prompt shares.

    Samples of one prompt resemble each other, so they count for less than as many prompts: the
    interval is taken at the effective size `p (1 - p) / (s² / k)`, s² being the variance of the
    k prompts' shares (Kish's design effect). It lies between the prompts (all samples of a prompt
    alike) and the samples (independent). With one sample a prompt it is the number of prompts,
    and the interval is the plain one.
    """
    values = np.array([share.share for share in shares])
    prompts, samples = len(values), sum(share.samples for share in shares)
    mean = float(values.mean())
    spread = float(values.var(ddof=1)) if prompts > 1 else 0.0
    # No spread at 0 or 1 tells nothing about independence: take the cautious end there.
    effective = float(prompts)
    if samples > prompts and 0.0 < mean < 1.0:
        effective = mean * (1 - mean) * prompts / spread if spread > 0.0 else float(samples)
        effective = min(max(effective, float(prompts)), float(samples))
    low, high = proportion_confint(mean * effective, effective, alpha=1 - confidence, method="wilson")
    return Interval(float(low), float(high))


def mean_interval(values: Collection[float], confidence: float) -> Interval:
    """Student's interval for the mean of at least two values."""
    array = np.asarray(list(values), dtype=np.float64)
    half = float(stats.t.ppf((1 + confidence) / 2, len(array) - 1)) * float(array.std(ddof=1)) / math.sqrt(len(array))
    mean = float(array.mean())
    return Interval(mean - half, mean + half)


def _share(shares: list[Share], confidence: float) -> dict[str, Any]:
    value = math.fsum(share.share for share in shares) / len(shares)
    single = all(share.samples == 1 for share in shares)
    return {
        "count": round(value * len(shares)) if single else None,
        "n": len(shares),
        "value": value,
        **share_interval(shares, confidence)._asdict(),
    }


def _mean(values: list[float], confidence: float) -> dict[str, Any]:
    value = math.fsum(values) / len(values)
    return {"count": None, "n": len(values), "value": value, **mean_interval(values, confidence)._asdict()}


def drift_by_language(before: pa.Table, after: pa.Table) -> dict[str, list[float]]:
    """How far pooled hidden states have moved, by language: `|after - before| / |before|` of each sequence.

    Only pairs with stored states count, which are the dominant ones; both tables GAPS.
    """
    start = {row["text_id"]: row for row in before.to_pylist() if row["chosen_pooled"] is not None}
    found: dict[str, list[float]] = {}
    for row in after.to_pylist():
        if row["chosen_pooled"] is None or row["text_id"] not in start:
            continue
        for name in ("chosen_pooled", "rejected_pooled"):
            old = np.asarray(start[row["text_id"]][name], dtype=np.float64)
            moved = np.asarray(row[name], dtype=np.float64) - old
            found.setdefault(row["language"], []).append(float(np.linalg.norm(moved) / np.linalg.norm(old)))
    return found


def _gaps_by_language(gaps: pa.Table) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    harmful = GAPS.check(gaps).filter(pc.field("kind") == "harmful")
    for row in harmful.select(["language", "gap"]).to_pylist():
        found.setdefault(row["language"], []).append(row["gap"])
    broken = sum(not math.isfinite(gap) for values in found.values() for gap in values)
    if broken:
        raise BadInputError(
            f"{broken} reward gaps are not finite numbers",
            where="table gaps",
            mend="Drop pairs with an empty answer before the gaps are computed.",
        )
    # One pair has no spread, and an interval is owed for every number.
    return {language: values for language, values in sorted(found.items()) if len(values) > 1}
