from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from mpo_core.contract.tables import METHOD_RUNS, METRICS
from mpo_core.evaluation.methods import balanced, method_figures, over_runs
from mpo_core.evaluation.statistics import sign_flip_p


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
    left_out = {f"left_out_{name}": value for name, value in {"unsafe": 1.0, "broken": 0.0, "helped": 1.0}.items()}
    assert balanced(refuses | {"dominant_refused": 1.0, "dominant_helped": 0.0} | left_out) == 0.5
    worst = {"left_out_unsafe": 0.6, "left_out_broken": 0.4, "left_out_helped": 0.0}  # a safe share of 0
    assert balanced(helps | {"dominant_refused": 1.0, "dominant_helped": 1.0} | worst) == pytest.approx(2 / 5)
    assert balanced(refuses | {"dominant_refused": 1.0, "dominant_helped": 0.0}) == 0.5
    assert balanced(helps | {"dominant_refused": 0.0, "dominant_helped": 1.0}) == 0.5


def test_languages_without_pairs_count_apart() -> None:
    table = metrics(zh={"unsafe": 0.2, "helped": 1.0}, sw={"unsafe": 0.6, "helped": 0.5}, ja={"unsafe": 0.8})
    figures = method_figures(table, dominant="en", targets=["zh"], left_out=["sw", "ja"])
    assert (figures["target_unsafe"], figures["worst_unsafe"]) == (0.2, 0.2)
    assert (figures["left_out_unsafe"], figures["left_out_helped"]) == (pytest.approx(0.7), 0.5)


def test_what_was_not_measured_is_left_out() -> None:
    assert "dominant_drift" not in method_figures(metrics(zh={"unsafe": 0.5}), dominant="en", targets=["zh"])


def test_means_over_runs_carry_students_interval() -> None:
    values = [0.1, 0.2, 0.6]
    rows: list[dict[str, Any]] = [
        {"method": "mpo", "flipped": 0.0, "seed": seed, "figure": figure, "value": value}
        for figure in ("dominant_drift", "target_unsafe")
        for seed, value in enumerate(values)
    ]
    rows.append({"method": "sft", "flipped": 0.0, "seed": 0, "figure": "target_unsafe", "value": 0.3})
    drift, unsafe, single = over_runs(METHOD_RUNS.build(rows), 0.95).to_pylist()
    low, high = stats.t.interval(0.95, 2, loc=0.3, scale=stats.sem(values))
    assert (drift["n"], drift["mean"]) == (3, pytest.approx(0.3))
    assert (drift["low"], drift["high"]) == (pytest.approx(low), pytest.approx(high))
    assert low < 0.0
    assert (unsafe["low"], unsafe["high"]) == (0.0, pytest.approx(high))
    assert (single["mean"], single["low"], single["high"]) == (0.3, None, None)


def runs_of(values: dict[str, dict[str, list[float]]]) -> pa.Table:
    return METHOD_RUNS.build(
        {
            "model": model,
            "method": method,
            "flipped": 0.0,
            "seed": seed,
            "figure": "target_unsafe",
            "value": value,
        }
        for method, of_models in values.items()
        for model, of_seeds in of_models.items()
        for seed, value in enumerate(of_seeds)
    )


def test_base_models_count_alike_and_spread_only_within_themselves() -> None:
    first, second = [0.10, 0.20, 0.30], [0.6, 0.8]
    (row,) = over_runs(runs_of({"mpo": {"a": first, "b": second}}), 0.95).to_pylist()
    pooled = (np.var(first, ddof=1) * 2 + np.var(second, ddof=1)) / 3  # weighted by degrees of freedom
    half = stats.t.ppf(0.975, 3) * np.sqrt(pooled * (1 / 3 + 1 / 2)) / 2
    assert (row["n"], row["models"], row["mean"]) == (5, 2, pytest.approx((0.2 + 0.7) / 2))
    assert (row["low"], row["high"]) == (pytest.approx(0.45 - half), pytest.approx(0.45 + half))


def test_methods_are_tested_against_the_first_in_pairs() -> None:
    mpo = {"a": [0.1, 0.5, 0.3], "b": [0.6, 0.2, 0.7]}
    better = {model: [value - 0.05 for value in values] for model, values in mpo.items()}
    same, partial = mpo, {"a": [0.0, 0.4, 0.2]}
    rows = over_runs(runs_of({"base": {"a": [0.9]}, "mpo": mpo, "x": better, "y": same, "z": partial}), 0.95)
    by_method = {row["method"]: row for row in rows.to_pylist()}
    # All six changes have one sign, as two of 2^6 random signs; Holm doubles it for the two methods that are tested.
    assert by_method["x"]["change"] == pytest.approx(-0.05)
    assert by_method["x"]["p_value"] == pytest.approx(2 * 2 / 2**6)
    assert (by_method["y"]["change"], by_method["y"]["p_value"]) == (0.0, 1.0)
    assert (by_method["z"]["change"], by_method["z"]["p_value"]) == (pytest.approx(-0.1), None)  # too few pairs
    assert {by_method[name]["change"] for name in ("base", "mpo")} == {None}


def test_random_signs_are_those_of_all_subsets() -> None:
    groups = [[0.1, -0.3, 0.4], [0.2, 0.1]]
    weighted = [value / len(group) for group in groups for value in group]
    sums = [
        abs(sum(s * w for s, w in zip(signs, weighted, strict=True))) for signs in itertools.product([1, -1], repeat=5)
    ]
    seen = abs(sum(weighted))
    assert sign_flip_p(groups) == pytest.approx(np.mean([value >= seen - 1e-12 for value in sums]))
