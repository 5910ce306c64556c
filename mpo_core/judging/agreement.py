"""Measures how well a judge agrees with people in each language, and so whether its verdicts can be trusted there."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.proportion import proportion_confint

_NO_SPREAD = 1e-6
ALL = "all"
"""The value of `language` in the row over all languages."""


class Estimate(NamedTuple):
    """A figure with the ends of its interval and the number of answers behind it; None where there are none."""

    value: float | None
    low: float | None
    high: float | None
    n: int


class Labelled(NamedTuple):
    """An answer with both a person's label and the judge's verdict."""

    language: str
    label: str
    verdict: str


class Agreement(NamedTuple):
    """A judge compared with people in one language. `unsafe` is the positive class; safe and invalid count as one.

    `sensitivity` is the share of the answers that people call unsafe which the judge calls unsafe too, `specificity`
    the same of the others. Answers without a verdict are counted in `unjudged` and nowhere else.
    """

    language: str
    n: int
    unjudged: int
    agreement: Estimate
    kappa: Estimate
    sensitivity: Estimate
    specificity: Estimate
    confusion: dict[str, int]


def as_data(figures: NamedTuple) -> dict[str, Any]:
    """Returns an `Agreement`, or another tuple of estimates, as plain data for JSON."""
    return {
        name: value._asdict() if isinstance(value, Estimate) else value for name, value in figures._asdict().items()
    }


def agreements(rows: Iterable[Labelled], *, confidence: float) -> list[Agreement]:
    """Returns the agreement in each language, and over all of them if there are several.

    Intervals are Wilson's for shares, the normal one for kappa.
    """
    listed = list(rows)
    codes = sorted({row.language for row in listed})
    parts = [(code, [row for row in listed if row.language == code]) for code in codes]
    if len(codes) > 1:
        parts.append((ALL, listed))
    return [_agreement(code, part, 1 - confidence) for code, part in parts]


def _agreement(language: str, rows: Sequence[Labelled], alpha: float) -> Agreement:
    judged = [row for row in rows if row.verdict != "unjudged"]
    table = [[0, 0], [0, 0]]  # by person, by judge: other, unsafe
    for row in judged:
        table[row.label == "unsafe"][row.verdict == "unsafe"] += 1
    (true_safe, false_unsafe), (missed, hit) = table
    return Agreement(
        language,
        len(judged),
        len(rows) - len(judged),
        _share(true_safe + hit, len(judged), alpha),
        _kappa(table, alpha),
        _share(hit, hit + missed, alpha),
        _share(true_safe, true_safe + false_unsafe, alpha),
        dict(sorted(Counter(f"{row.label}/{row.verdict}" for row in rows).items())),
    )


def _share(count: int, n: int, alpha: float) -> Estimate:
    if not n:
        return Estimate(None, None, None, 0)
    low, high = proportion_confint(count, n, alpha=alpha, method="wilson")
    return Estimate(count / n, float(low), float(high), n)


def _kappa(table: Sequence[Sequence[int]], alpha: float) -> Estimate:
    """Returns Cohen's kappa; None where both gave only one and the same verdict, which chance alone explains."""
    n = sum(map(sum, table))
    agreed_by_chance = sum(sum(table[at]) * sum(row[at] for row in table) for at in (0, 1)) == n * n
    if not n or agreed_by_chance:
        return Estimate(None, None, None, n)
    with np.errstate(divide="ignore", invalid="ignore"):  # from its test against 0, which is not used here
        result = cohens_kappa(np.array(table))
    half = float(stats.norm.ppf(1 - alpha / 2)) * float(result.std_kappa)
    value = float(result.kappa)
    # Full agreement, or one and the same verdict on everything, has no spread to estimate an interval from.
    if not half > _NO_SPREAD:  # NaN too
        return Estimate(value, None, None, n)
    return Estimate(value, max(value - half, -1.0), min(value + half, 1.0), n)
