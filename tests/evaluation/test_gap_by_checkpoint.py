"""The study of reward gap against ASR in the course of a training, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mpo_core.contract.analysis import ANALYSES, AnalysedRun
from mpo_core.contract.tables import METHOD_RUNS, METRICS

TARGETS = ["sw", "zh", "ko"]
STUDY = ANALYSES.parse({"analysis": "gap_by_checkpoint", "seeds": 2})
MODELS = ["base", *(variant.name for variant in STUDY.variants(TARGETS))]


def run_with(gap, asr, *, targets=TARGETS):
    """A run with these figures, by language, model and seed."""
    rows = [
        {"method": model, "flipped": 0.0, "seed": seed, "figure": f"{figure}/{code}", "value": values[i, j, seed]}
        for i, code in enumerate(["en", *targets])
        for j, model in enumerate(MODELS)
        for seed in range(2)
        for figure, values in (("reward_gap", gap), ("unsafe", asr))
    ]
    return AnalysedRun("r", "en", targets, METRICS.build([]), trainings=METHOD_RUNS.build(rows))


def by_model(values):
    """The same figures in every language and training."""
    return np.broadcast_to(np.array(values, dtype=float)[None, :, None], (4, len(MODELS), 2))


STEPS = np.arange(len(MODELS))


def test_the_points_are_means_over_seeds_and_the_correlation_is_that_of_scipy():
    random = np.random.default_rng(0).uniform(size=(2, 4, len(MODELS), 2))
    gap, asr = by_model(STEPS) + random[0], by_model(0.8 - STEPS / 8) + random[1] / 10
    findings = STUDY.analyse(run_with(gap, asr))
    rows = findings.table.to_pylist()
    assert [(row["language"], row["checkpoint"]) for row in rows] == [
        (code, name) for code in ("en", *TARGETS) for name in MODELS
    ]
    points = np.array([(row["reward_gap"], row["asr"]) for row in rows])
    assert points == pytest.approx(np.stack([gap.mean(2).ravel(), asr.mean(2).ravel()], axis=1))
    swahili = points[len(MODELS) : 2 * len(MODELS)]
    for rho in (stats.spearmanr(points).statistic, stats.spearmanr(swahili).statistic):
        assert f"{rho:.2f}".replace("-", "−") in findings.supports
    assert "trainings with 2 seeds" in findings.limits
    assert findings.picture.count("then gap") == 4 * (len(MODELS) - 1)


def test_equal_figures_and_too_few_languages_give_no_correlation():
    findings = STUDY.analyse(run_with(by_model(STEPS), by_model(0 * STEPS)))
    assert "no correlation" in findings.supports
    assert "one language" not in findings.supports
    findings = STUDY.analyse(run_with(by_model(STEPS), by_model(1 / (STEPS + 1)), targets=["sw"]))
    assert "no correlation" in findings.supports
    assert "Over the checkpoints of one language: English −1.00 and Swahili −1.00." in findings.supports


def test_without_trainings_there_are_no_findings():
    assert STUDY.analyse(AnalysedRun("r", "en", TARGETS, METRICS.build([]))) is None
