"""The analyses that train or read hidden states: their variants, tables and sentences, on made-up figures."""

from __future__ import annotations

import csv
from xml.dom import minidom

import numpy as np
import pytest
from scipy import stats

from mpo_core.contract.analysis import ANALYSES, AnalysedRun, Study
from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.contract.tables import METHOD_RUNS, METRICS, PROMPT_STATES
from mpo_core.display.svg import shortened_svg
from mpo_core.evaluation.analyses.hidden_states import States, probe_accuracy
from mpo_core.evaluation.studies import Trainings, study_figures
from mpo_core.reporting import write_analysis
from mpo_core.settings.profiles import load_config

TARGETS = ("sw", "zh")
STUDIES = [name for name, kind in ANALYSES.implementations.items() if issubclass(kind, Study)]


def runs(values):
    return METHOD_RUNS.build(
        {"method": variant, "flipped": 0.0, "seed": seed, "figure": figure, "value": value}
        for (variant, figure), of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    )


def analysed(**parts):
    return AnalysedRun("run", "en", TARGETS, METRICS.build([]), **parts)


def made_up(study):
    names = ["base", *(variant.name for variant in study.variants(TARGETS))]
    figures = [
        "target_unsafe",
        "target_helped",
        "dominant_kl",
        *(f"{m}/{c}" for m in ("unsafe", "helped", "reward_gap") for c in TARGETS),
    ]
    generator = np.random.default_rng(1)
    return runs({(name, figure): generator.uniform(0.1, 0.2, 3).tolist() for name in names for figure in figures})


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_table_picture_and_sentences(name):
    study = ANALYSES.parse({"analysis": name})
    findings = study.analyse(analysed(trainings=made_up(study)))
    assert findings.picture.startswith("<svg")
    assert findings.supports
    assert "3 seeds" in findings.limits or "each kind: 3" in findings.limits
    assert findings.table.num_rows >= 2
    assert study.analyse(analysed()) is None


def test_the_files_of_a_study_are_a_table_a_picture_and_a_page(tmp_path):
    study = ANALYSES.parse({"analysis": "noise"})
    paths, _ = write_analysis(study, analysed(trainings=made_up(study)), ArtifactStore(str(tmp_path)), "runs/x")
    assert minidom.parse(str(tmp_path / paths.picture)).documentElement.tagName == "svg"  # noqa: S318 - our own file
    table = list(csv.DictReader((tmp_path / paths.table).open()))
    assert [row["variant"] for row in table] == [
        "base",
        "no faults",
        *(f"{n} % {kind}" for kind in ("swapped", "untranslated") for n in (20, 40)),
    ]
    assert "What they do not support." in (tmp_path / paths.page).read_text()


@pytest.mark.parametrize("name", STUDIES)
def test_every_variant_can_be_trained_with_the_profile_of_studies(name):
    from flows.study import _settings

    training = load_config(None, []).training
    variants = ANALYSES.parse({"analysis": name}).variants(TARGETS)
    keys = [(_settings(training, v, 0).key(), v.share, v.swapped, v.untranslated, v.without) for v in variants]
    assert len(set(keys)) == len({variant.name for variant in variants}) == len(variants) > 1
    assert _settings(training, variants[0], 5).seed == training.seed + 5


def test_a_change_is_paired_by_seed_as_in_scipy():
    before, after = [0.2, 0.4, 0.9], [0.1, 0.35, 0.7]
    trainings = Trainings(runs({("base", "target_unsafe"): before, ("x", "target_unsafe"): after}))
    change, interval = trainings.change("x", "base", "target_unsafe")
    expected = stats.ttest_rel(after, before).confidence_interval()
    assert change == pytest.approx(np.mean(after) - np.mean(before))
    assert interval == pytest.approx(tuple(expected))
    assert trainings.interval("base", "target_unsafe").high == 1.0  # a share is not larger


def test_figures_by_language_and_of_plain_text():
    row = {"model": "after", "count": None, "n": 2, "low": 0.0, "high": 1.0}
    table = METRICS.build(
        [
            {**row, "benchmark": "held_out", "language": "sw", "metric": "unsafe", "value": 0.25},
            {**row, "benchmark": "held_out", "language": "zh", "metric": "unsafe", "value": 0.75},
            {**row, "benchmark": "parallel_text", "language": "zh", "metric": "bits_per_byte", "value": 0.5},
            {**row, "benchmark": "parallel_text", "language": "en", "metric": "bits_per_byte", "value": 9.0},
        ]
    )
    figures = study_figures(table, dominant="en", targets=TARGETS)
    assert (figures["unsafe/sw"], figures["unsafe/zh"], figures["target_unsafe"]) == (0.25, 0.75, 0.5)
    assert figures["target_bits_per_byte"] == 0.5


def clouds(shift, *, n=60, width=8, seed=0, folds=None):
    generator = np.random.default_rng(seed)
    harmful = np.arange(n) % 2 == 0
    states = generator.normal(size=(n, width)) + np.where(harmful[:, None], shift, -shift)
    return States(states, harmful, np.arange(n) // 2 % 5 if folds is None else folds)


def test_a_probe_tells_what_can_be_told_and_guesses_what_cannot():
    assert probe_accuracy(clouds(2.0), clouds(2.0)) == 1.0
    # More dimensions than prompts: without held-out folds, a probe would tell all of them.
    noise = clouds(0.0, width=200)
    assert 0.25 < probe_accuracy(noise, noise) < 0.75


def test_a_probe_of_one_language_is_tested_on_another():
    assert probe_accuracy(clouds(2.0), clouds(2.0, seed=1)) == 1.0
    assert probe_accuracy(clouds(2.0), clouds(-2.0, seed=1)) == 0.0


def test_the_probe_is_the_minimum_of_its_loss():
    from scipy.optimize import approx_fprime

    from mpo_core.evaluation.analyses.hidden_states import _fitted

    cloud = clouds(0.3)
    probe = _fitted(cloud.states, cloud.harmful)
    x, sign = (cloud.states - probe.mean) / probe.spread, np.where(cloud.harmful, 1, -1)

    def loss(w):
        return np.log1p(np.exp(-sign * (x @ w[:-1] + w[-1]))).sum() + 0.5 * (w[:-1] ** 2).sum()

    assert np.abs(approx_fprime(np.append(probe.weights, probe.bias), loss)).max() < 0.02


def states(shifts):
    rows = []
    for code, shift in shifts.items():
        cloud = clouds(shift, n=80)
        rows += [
            {"prompt_id": f"p{n}", "language": code, "kind": "harmful" if harmful else "harmless", "state": state}
            for n, (state, harmful) in enumerate(zip(cloud.states.tolist(), cloud.harmful, strict=True))
        ]
    return PROMPT_STATES.build(rows)


def test_hidden_states_by_language_before_and_after():
    analysis = ANALYSES.parse({"analysis": "hidden_states"})
    parts = {"before": states({"en": 2.0, "sw": 0.0}), "after": states({"en": 2.0, "sw": 2.0})}
    findings = analysis.analyse(analysed(states=parts))
    rows = {(row["language"], row["model"]): row for row in findings.table.to_pylist()}
    assert list(rows) == [("en", "before"), ("en", "after"), ("sw", "before"), ("sw", "after")]
    assert rows["sw", "before"]["accuracy"] < 0.8 < rows["sw", "after"]["accuracy"] == 1.0
    assert rows["sw", "after"]["dominant_probe"] == 1.0
    assert "Swahili" in findings.picture
    assert analysis.analyse(analysed()) is None
    few = {name: table.slice(0, 6) for name, table in parts.items()}
    assert analysis.analyse(analysed(states=few)) is None


def test_shorter_svgs_cut_coordinates_and_no_figures():
    points = '<use x="1.23456" style="fill: red"/>\n<use x="7" style="fill: red"/>\n'
    svg = f'<svg aria-label="0.0042"><text x="0.98765">0.0042</text><g clip-path="url(#a)">\n{points}</g></svg>'
    assert shortened_svg(svg) == (
        '<svg aria-label="0.0042"><text x="0.98">0.0042</text>'
        '<g clip-path="url(#a)" style="fill: red">\n<use x="1.23"/>\n<use x="7"/>\n</g></svg>'
    )
    assert "blue" in shortened_svg(svg.replace('7" style="fill: red', '7" style="fill: blue'))


def test_retention_says_how_far_the_dominant_language_moved():
    study = ANALYSES.parse({"analysis": "retention"})
    values = {"base": None, "mean": [2e-5, 3e-5, 4e-5], "last token": [3e-5, 4e-5, 5e-5], "KL": [1e-5, 2e-5, 3e-5]}
    figures = {(name, "target_unsafe"): [0.5, 0.4, 0.3] for name in [*values, "no retention"]}
    with_kl = figures | {(name, "dominant_kl"): of_seeds for name, of_seeds in values.items() if of_seeds}
    findings = study.analyse(analysed(trainings=runs(with_kl)))
    assert "mean 3e−05, last token 4e−05 (+1e−05, +1e−05 to +1e−05) and KL 2e−05 (−1e−05" in findings.supports
    assert "KL KL, dominant language 2e-05" in findings.picture
    assert "nats per token" not in study.analyse(analysed(trainings=runs(figures))).supports
