"""Compares training methods: the figures of each training, their means, and tests."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from mpo_core.contract.tables import METHOD_RUNS, METHODS
from mpo_core.evaluation.statistics import group_interval, holm, sign_flip_p
from mpo_core.languages.known import LANGUAGES

BASE = "base"
"""Name of the model before any training among the methods."""
SHARES = (
    "target_unsafe",
    "worst_unsafe",
    "low_unsafe",
    "target_refused",
    "target_helped",
    "low_helped",
    "target_broken",
    "left_out_unsafe",
    "left_out_helped",
    "left_out_broken",
    "dominant_refused",
    "dominant_helped",
)
"""Figures that lie between 0 and 1."""
_FEWEST_PAIRS = 6  # with fewer, the smallest p-value of the test is above 0.05


def method_figures(
    metrics: pa.Table, *, dominant: str, targets: Sequence[str], left_out: Sequence[str] = ()
) -> dict[str, float]:
    """Returns the main figures of one model's evaluation.

    Means over the target languages (`target_`), over those among them with few resources
    (`low_`), the highest of any target (`worst_unsafe`), the mean over the targets without training pairs
    (`left_out_`), and the dominant language alone.

    Args:
        metrics: table METRICS of one model.
        dominant: the dominant language.
        targets: the target languages with training pairs.
        left_out: those without.

    Returns:
        Value by figure, without figures that were not measured.
    """
    values_of = {(row["language"], row["metric"]): row["value"] for row in metrics.to_pylist()}
    low = [code for code in targets if code in LANGUAGES and LANGUAGES[code].resource == "low"]

    def mean(metric: str, languages: Sequence[str]) -> float | None:
        values = [values_of[code, metric] for code in languages if (code, metric) in values_of]
        return statistics.fmean(values) if values else None

    def broken(languages: Sequence[str]) -> float | None:
        shares = [mean(metric, languages) for metric in ("invalid", "harmless_invalid")]
        return None if None in shares else statistics.fmean(share for share in shares if share is not None)

    unsafe = [values_of[code, "unsafe"] for code in targets if (code, "unsafe") in values_of]
    figures = {
        "target_unsafe": mean("unsafe", targets),
        "worst_unsafe": max(unsafe, default=None),
        "low_unsafe": mean("unsafe", low),
        "target_refused": mean("refused", targets),
        "target_helped": mean("helped", targets),
        "low_helped": mean("helped", low),
        "target_broken": broken(targets),
        "left_out_unsafe": mean("unsafe", left_out),
        "left_out_helped": mean("helped", left_out),
        "left_out_broken": broken(left_out),
        "dominant_refused": mean("refused", [dominant]),
        "dominant_helped": mean("helped", [dominant]),
        "dominant_drift": mean("dominant_drift", [dominant]),
        "dominant_kl": mean("dominant_kl", [dominant]),
        "target_bits_per_byte": mean("bits_per_byte", targets),
    }
    return {name: value for name, value in figures.items() if value is not None}


def balanced(figures: dict[str, float]) -> float:
    """Returns one score for a search over settings: the mean of safety, help, and the dominant language's figures.

    Safety and help in the languages without training pairs count as much as those in the targets, if there are any. A
    model that refuses everything and one that helps with everything both score 0.5.
    """
    parts = [statistics.fmean([figures["dominant_refused"], figures["dominant_helped"]])]
    for group in ("target", "left_out"):
        if f"{group}_unsafe" in figures:
            safe = 1.0 - figures[f"{group}_unsafe"] - figures[f"{group}_broken"]
            parts += [safe, figures[f"{group}_helped"]]
    return statistics.fmean(parts)


def over_runs(runs: pa.Table, confidence: float) -> pa.Table:
    """Averages each figure over the seeds of each base model, then over base models, and tests it against one method.

    That method is the first in `runs` that is not `base`. Its figures and another method's are paired by base model and
    seed, and the p-values are adjusted for the number of methods (Holm). Intervals hold for these base models.

    Args:
        runs: table METHOD_RUNS.
        confidence: level of the intervals.

    Returns:
        METHODS, in the order of the methods in `runs`.
    """
    values: dict[_Figure, _Values] = {}
    for row in METHOD_RUNS.check(runs).to_pylist():
        of_figure = values.setdefault(_Figure(row["method"], row["flipped"], row["figure"]), {})
        of_figure[row["model"], row["seed"]] = row["value"]
    first = next((key.method for key in values if key.method != BASE), "")
    changes = {
        key: _by_model({run: value - other[run] for run, value in of_figure.items() if run in other})
        for key, of_figure in values.items()
        if key.method not in {BASE, first} and (other := values.get(key._replace(method=first)))
    }
    p_values = _adjusted(changes)
    return METHODS.build(
        {
            **key._asdict(),
            **_mean(_by_model(of_figure), confidence, share=key.figure in SHARES),
            **_change(changes.get(key, []), confidence),
            "p_value": p_values.get(key),
        }
        for key, of_figure in values.items()
    )


class _Figure(NamedTuple):
    method: str
    flipped: float
    figure: str


_Values = dict[tuple[str, int], float]  # by base model and seed


def _by_model(values: _Values) -> list[list[float]]:
    """Groups values by base model."""
    groups: dict[str, list[float]] = {}
    for (model, _), value in values.items():
        groups.setdefault(model, []).append(value)
    return list(groups.values())


def _mean(groups: list[list[float]], confidence: float, *, share: bool) -> dict[str, float | None]:
    low = high = None
    if any(len(group) > 1 for group in groups):
        low, high = group_interval(groups, confidence)
        if share:
            low, high = max(low, 0.0), min(high, 1.0)
    mean = statistics.fmean(map(statistics.fmean, groups))
    return {"n": sum(map(len, groups)), "models": len(groups), "mean": mean, "low": low, "high": high}


def _change(groups: list[list[float]], confidence: float) -> dict[str, float | None]:
    if not groups:
        return {}
    figures = _mean(groups, confidence, share=False)
    return {"change": figures["mean"], "change_low": figures["low"], "change_high": figures["high"]}


def _adjusted(changes: dict[_Figure, list[list[float]]]) -> dict[_Figure, float]:
    """Tests every change of enough pairs, and adjusts the p-values of each figure for the number of methods."""
    families: dict[_Figure, list[_Figure]] = {}
    for key in (key for key, groups in changes.items() if sum(map(len, groups)) >= _FEWEST_PAIRS):
        families.setdefault(key._replace(method=""), []).append(key)
    return {
        key: p_value
        for family in families.values()
        for key, p_value in zip(family, holm([sign_flip_p(changes[key]) for key in family]), strict=True)
    }
