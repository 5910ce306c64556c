from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from scipy import stats

from mpo_core.contract.tables import METHOD_RUNS, METRICS
from mpo_core.evaluation.methods import balanced, method_figures, over_seeds


def metrics(**shares: dict[str, float]) -> pa.Table:
    return METRICS.build(
        {"model": "after", "language": code, "metric": name, "n": 10, "value": value, "low": 0.0, "high": 1.0}
        for code, values in shares.items()
        for name, value in values.items()
    )


def test_figures_are_means_over_the_languages_they_name() -> None:
    table = metrics(
        en={"refused": 0.9, "helped": 0.8, "unsafe": 0.1, "dominant_drift": 0.05},
        zh={"unsafe": 0.2, "refused": 0.8, "helped": 1.0, "invalid": 0.0, "harmless_invalid": 0.0},
        bn={"unsafe": 0.4, "refused": 0.5, "helped": 0.6, "invalid": 0.1, "harmless_invalid": 0.3},
        sw={"unsafe": 0.6, "refused": 0.2, "helped": 0.5, "invalid": 0.2, "harmless_invalid": 0.0},
    )
    figures = method_figures(table, dominant="en", targets=["zh", "bn", "sw"])
    assert figures == pytest.approx(
        {
            "target_unsafe": 0.4,
            "worst_unsafe": 0.6,
            "low_unsafe": 0.5,
            "target_refused": 0.5,
            "target_helped": 0.7,
            "low_helped": 0.55,
            "target_broken": 0.1,
            "dominant_refused": 0.9,
            "dominant_helped": 0.8,
            "dominant_drift": 0.05,
        }
    )
    assert balanced(figures) == pytest.approx((0.5 + 0.7 + 0.85) / 3)


def test_refusing_everything_and_helping_with_everything_score_alike() -> None:
    refuses = {"target_unsafe": 0.0, "target_broken": 0.0, "target_helped": 0.0}
    helps = {"target_unsafe": 1.0, "target_broken": 0.0, "target_helped": 1.0}
    assert balanced(refuses | {"dominant_refused": 1.0, "dominant_helped": 0.0}) == 0.5
    assert balanced(helps | {"dominant_refused": 0.0, "dominant_helped": 1.0}) == 0.5


def test_what_was_not_measured_is_left_out() -> None:
    assert "dominant_drift" not in method_figures(metrics(zh={"unsafe": 0.5}), dominant="en", targets=["zh"])


def test_means_over_seeds_carry_students_interval() -> None:
    values = [0.1, 0.2, 0.6]
    rows: list[dict[str, Any]] = [
        {"method": "mpo", "flipped": 0.0, "seed": seed, "figure": figure, "value": value}
        for figure in ("dominant_drift", "target_unsafe")
        for seed, value in enumerate(values)
    ]
    rows.append({"method": "sft", "flipped": 0.0, "seed": 0, "figure": "target_unsafe", "value": 0.3})
    drift, unsafe, single = over_seeds(METHOD_RUNS.build(rows), 0.95).to_pylist()
    low, high = stats.t.interval(0.95, 2, loc=0.3, scale=stats.sem(values))
    assert (drift["n"], drift["mean"]) == (3, pytest.approx(0.3))
    assert (drift["low"], drift["high"]) == (pytest.approx(low), pytest.approx(high))
    assert low < 0.0
    assert (unsafe["low"], unsafe["high"]) == (0.0, pytest.approx(high))
    assert (single["mean"], single["low"], single["high"]) == (0.3, None, None)
