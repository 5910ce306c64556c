"""Computes the metrics of one model: shares per language with Wilson's intervals, reward gaps, and drift."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.metric import ANSWERS, DOMINANT_DRIFT, REWARD_GAP, Metric
from mpo_core.contract.tables import GAPS, METRICS
from mpo_core.evaluation.shares import Share, prompt_shares, share_languages
from mpo_core.evaluation.statistics import mean_interval, share_interval


def metrics(
    verdicts: pa.Table,
    gaps: pa.Table | None,
    *,
    model: str,
    confidence: float,
    baseline: pa.Table | None = None,
    benchmark: str = HELD_OUT,
    measured: Sequence[Metric] = ANSWERS,
    pooled: Sequence[str] = (),
) -> pa.Table:
    """Computes every metric of one model on one benchmark, per language.

    With one answer a prompt, `value` is `count / n` over prompts and the interval is Wilson's.
    With several, `value` is the mean over prompts of the share of answers that count, `count`
    is null, and Wilson's interval is taken at the effective sample size (see `share_interval`).
    A metric without prompts has no row, since 0 of 0 is not a share.

    Args:
        verdicts: table VERDICTS of this model.
        gaps: table GAPS of this model, or None. A language with fewer than two harmful pairs
            has no row, since an interval needs two.
        baseline: table GAPS of the same pairs under the model before training, from which
            `dominant_drift` is computed; None for no drift.
        model: value of the column `model`.
        confidence: level of the intervals, such as 0.95.
        benchmark: value of the column `benchmark`.
        measured: the metrics of the answers.
        pooled: languages whose answers also count together, in rows of language `targets`.

    Returns:
        Table METRICS.

    Raises:
        BadInputError: a gap or a hidden state is not a finite number.
    """
    name = {"benchmark": benchmark, "model": model}
    rows: list[dict[str, Any]] = [
        {**name, "language": language, "metric": metric, **_share(list(shares.values()), confidence)}
        for language in share_languages(verdicts, pooled)
        for metric, shares in prompt_shares(verdicts, language, measured, pooled).items()
    ]
    of_pairs = {}
    if gaps is not None:
        drift = drift_by_language(baseline, gaps) if baseline is not None else {}
        of_pairs = {REWARD_GAP.name: _gaps_by_language(gaps), DOMINANT_DRIFT.name: drift}
    rows += [
        {**name, "language": language, "metric": metric, **mean_row(values, confidence)}
        for metric, by_language in of_pairs.items()
        for language, values in by_language.items()
    ]
    return METRICS.build(rows)


def _share(shares: list[Share], confidence: float) -> dict[str, Any]:
    value = math.fsum(share.share for share in shares) / len(shares)
    single = all(share.samples == 1 for share in shares)
    return {
        "count": round(value * len(shares)) if single else None,
        "n": len(shares),
        "value": value,
        **share_interval(shares, confidence)._asdict(),
    }


def mean_row(values: list[float], confidence: float) -> dict[str, Any]:
    """Returns the figures of METRICS for a mean of at least two values, with Student's interval."""
    value = math.fsum(values) / len(values)
    return {"count": None, "n": len(values), "value": value, **mean_interval(values, confidence)._asdict()}


def drift_by_language(before: pa.Table, after: pa.Table) -> dict[str, list[float]]:
    """Computes how far pooled hidden states have moved, by language: `|after - before| / |before|` per sequence.

    Only pairs of table GAPS with stored states count, which are those of the dominant language.

    Raises:
        BadInputError: a hidden state is not finite, or is zero before training.
    """
    start = {row["text_id"]: row for row in before.to_pylist() if row["chosen_pooled"] is not None}
    drift: dict[str, list[float]] = {}
    for row in after.to_pylist():
        if row["chosen_pooled"] is None or row["text_id"] not in start:
            continue
        for name in ("chosen_pooled", "rejected_pooled"):
            old = np.asarray(start[row["text_id"]][name], dtype=np.float64)
            moved = np.asarray(row[name], dtype=np.float64) - old
            with np.errstate(divide="ignore", invalid="ignore"):
                distance = float(np.linalg.norm(moved) / np.linalg.norm(old))
            drift.setdefault(row["language"], []).append(distance)
    require_finite(drift, "drifts of hidden states")
    return drift


def _gaps_by_language(gaps: pa.Table) -> dict[str, list[float]]:
    by_language: dict[str, list[float]] = {}
    harmful = GAPS.check(gaps).filter(pc.field("kind") == "harmful")
    for row in harmful.select(["language", "gap"]).to_pylist():
        by_language.setdefault(row["language"], []).append(row["gap"])
    require_finite(by_language, "reward gaps")
    # Every figure has an interval, which cannot be computed from a single pair.
    return {language: values for language, values in sorted(by_language.items()) if len(values) > 1}


def require_finite(by_language: dict[str, list[float]], name: str) -> None:
    """Refuses figures that are not finite.

    Raises:
        BadInputError: at least one is NaN or infinite; names the languages.
    """
    counts = {code: sum(not math.isfinite(value) for value in values) for code, values in by_language.items()}
    broken = {code: count for code, count in counts.items() if count}
    if broken:
        raise BadInputError(
            f"{sum(broken.values())} {name} are not finite numbers, in {', '.join(broken)}",
            where="table gaps",
            fix="Check the model's weights for NaN and infinity, and the pairs for empty answers.",
        )
