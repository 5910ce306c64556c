"""The analysis of reward gap against ASR, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mpo_core.contract.analysis import ANALYSES, AnalysedRun
from mpo_core.contract.tables import METRICS
from mpo_core.evaluation.statistics import spearman


def clusters(languages, *, slope, seed=1):
    generator = np.random.default_rng(seed)
    gaps = generator.normal(size=(languages, 2))
    asr = np.clip(0.5 + slope * gaps + 0.1 * generator.normal(size=(languages, 2)), 0.0, 1.0)
    return [list(zip(*rows, strict=True)) for rows in zip(gaps.tolist(), asr.tolist(), strict=True)]


@pytest.mark.parametrize("slope", [-0.3, 0.0, 0.3])
def test_the_coefficient_is_that_of_scipy_ties_included(slope):
    points = clusters(7, slope=slope)
    result = spearman(points)
    expected = stats.spearmanr(*zip(*(point for cluster in points for point in cluster), strict=True))
    assert result.rho == pytest.approx(expected.statistic, abs=1e-12)
    assert result.low <= result.rho <= result.high


def test_the_interval_draws_whole_languages():
    # Each language is one point twice: 14 points, and no more evidence than 7.
    single = [cluster[:1] for cluster in clusters(7, slope=-0.3)]
    doubled = [cluster * 2 for cluster in single]
    assert spearman(doubled) == pytest.approx(spearman(single))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    # No relation between independent points: the truth is 0.
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(20):
        result = spearman([[tuple(point)] for point in generator.normal(size=(20, 2)).tolist()])
        hits += result.low <= 0.0 <= result.high
    assert 16 <= hits <= 20


def test_too_few_or_equal_points_give_no_coefficient():
    assert spearman(clusters(3, slope=-0.3)) is None
    assert spearman([[(float(number), 0.0)] for number in range(6)]) is None
    assert spearman([]) is None


def run_with(values):
    rows = [
        {"benchmark": "held_out", "model": model, "language": code, "metric": metric, "count": None, "n": 10}
        | {"value": value, "low": value, "high": value}
        for code, by_model in values.items()
        for model, gap, asr in by_model
        for metric, value in (("reward_gap", gap), ("unsafe", asr))
    ]
    rows += [{**row, "benchmark": "other", "value": 1.0} for row in rows]
    return AnalysedRun("r", "en", ["sw", "zh", "ko"], METRICS.build(rows))


def test_the_findings_hold_the_runs_own_figures():
    codes = ("en", "sw", "zh", "ko")
    values = {
        code: [("before", number * 0.1, 0.9 - number * 0.1), ("after", 1 + number * 0.1, 0.3 - number * 0.1)]
        for number, code in enumerate(codes)
    }
    findings = ANALYSES.parse({"analysis": "gap_vs_asr"}).analyse(run_with(values))
    rows = findings.table.to_pylist()
    assert {(row["language"], row["model"], row["reward_gap"], row["asr"]) for row in rows} == {
        (code, model, gap, asr) for code, by_model in values.items() for model, gap, asr in by_model
    }
    assert "over 4 languages, before and after: −1.00 (95 % interval −1.00 to −1.00" in findings.supports
    assert "as the method assumes" in findings.supports
    assert "<svg" in findings.picture


def test_a_run_without_gaps_has_no_findings():
    assert ANALYSES.parse({"analysis": "gap_vs_asr"}).analyse(run_with({})) is None
