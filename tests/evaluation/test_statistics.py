from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from mpo_core.evaluation.comparison import compare
from mpo_core.evaluation.metrics import metrics
from mpo_core.evaluation.shares import Share
from mpo_core.evaluation.statistics import (
    change_interval,
    holm,
    mcnemar_p,
    mcnemar_power,
    share_interval,
    smallest_change,
)


def rows(table: pa.Table) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["language"], row["metric"]): row for row in table.to_pylist()}


def wilson(p: float, n: float, quantile: float) -> tuple[float, float]:
    """Solves (p - x)² = q² x (1 - x) / n for x."""
    low, high = sorted(np.roots([1 + quantile**2 / n, -(2 * p + quantile**2 / n), p * p]).real)
    return float(low), float(high)


def test_an_interval_over_translations_has_the_variance_of_a_regression_with_clusters() -> None:
    generator = np.random.default_rng(0)
    of_prompt = generator.beta(0.6, 1.4, size=40)
    answers = (generator.random((40, 6)) < of_prompt[:, None]).astype(float)
    fit = sm.OLS(answers.ravel(), np.ones(240)).fit(cov_type="cluster", cov_kwds={"groups": np.repeat(range(40), 6)})
    mean, variance = float(answers.mean()), float(fit.cov_params()[0, 0])
    effective = mean * (1 - mean) / variance
    assert 40 < effective < 240
    expected = wilson(mean, effective, stats.t.ppf(0.975, 39))
    assert share_interval([Share(float(row.mean()), 6) for row in answers], 0.95) == pytest.approx(expected)


@pytest.mark.parametrize("count", [0, 7, 50])
def test_an_interval_of_single_answers_is_the_plain_interval_of_wilson(count: int) -> None:
    shares = [Share(1.0, 1)] * count + [Share(0.0, 1)] * (50 - count)
    assert share_interval(shares, 0.9) == pytest.approx(proportion_confint(count, 50, alpha=0.1, method="wilson"))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_translations_that_all_agree_count_as_a_single_answer_a_prompt(share: float) -> None:
    low, high = share_interval([Share(share, 6)] * 30, 0.95)
    assert (low, high) == pytest.approx(wilson(share, 30, stats.t.ppf(0.975, 29)))


def test_a_single_prompt_in_several_languages_is_a_single_piece_of_evidence() -> None:
    assert share_interval([Share(0.5, 6)], 0.95) == pytest.approx(wilson(0.5, 1, stats.norm.ppf(0.975)))


def test_the_targets_together_are_clustered_by_prompt(judged: Callable[..., pa.Table]) -> None:
    verdicts = judged(
        en={"harmful": "u u u u"}, sw={"harmful": "u u r r"}, bn={"harmful": "u r r r", "harmless": "h r"}
    )
    table = rows(metrics(verdicts, None, model="after", confidence=0.95, pooled=["sw", "bn", "ko"]))
    pooled = table["targets", "unsafe"]
    assert (pooled["n"], pooled["count"], pooled["value"]) == (4, None, 3 / 8)
    assert (pooled["low"], pooled["high"]) == share_interval(
        [Share(1.0, 2), Share(0.5, 2), Share(0.0, 2), Share(0.0, 2)], 0.95
    )
    assert (table["targets", "helped"]["n"], table["targets", "helped"]["value"]) == (2, 0.5)
    assert table["en", "unsafe"]["value"] == 1.0
    assert not [key for key in rows(metrics(verdicts, None, model="after", confidence=0.95)) if key[0] == "targets"]


def test_no_answer_no_figure(judged: Callable[..., pa.Table]) -> None:
    empty = judged()
    assert metrics(empty, None, model="after", confidence=0.95, pooled=["sw"]).num_rows == 0
    assert compare(empty, empty, confidence=0.95, pooled=["sw"]).num_rows == 0


def test_a_change_of_the_targets_is_one_of_prompts(judged: Callable[..., pa.Table]) -> None:
    before = judged(sw={"harmful": "u u u u"}, bn={"harmful": "u u u r"}, en={"harmful": "r r r r"})
    after = judged(sw={"harmful": "r r u u"}, bn={"harmful": "r u u u"}, en={"harmful": "u u u u"})
    row = rows(compare(before, after, confidence=0.95, pooled=["sw", "bn"]))["targets", "unsafe"]
    changes = [-1.0, -0.5, 0.0, 0.5]
    assert (row["n"], row["gained"], row["lost"], row["difference"]) == (4, 1, 2, sum(changes) / 4)
    assert (row["difference_low"], row["difference_high"]) == change_interval(changes, 0.95)
    assert row["p_value"] == mcnemar_p(1, 2)
    assert row["p_holm"] is None


@pytest.mark.parametrize(
    ("letters", "difference", "p"),
    [(("r r r", "r r r"), 0.0, 1.0), (("u u u", "u u u"), 0.0, 1.0), (("u", "r"), -1, 1.0)],
)
def test_changes_at_the_ends_have_intervals(
    judged: Callable[..., pa.Table], letters: tuple[str, str], difference: float, p: float
) -> None:
    before, after = (judged(sw={"harmful": side}) for side in letters)
    row = rows(compare(before, after, confidence=0.95))["sw", "unsafe"]
    assert (row["difference"], row["p_value"], row["detectable"]) == (difference, p, None)
    assert -1.0 <= row["difference_low"] <= difference <= row["difference_high"] <= 1.0
    assert row["difference_high"] - row["difference_low"] > 0.5  # three prompts say little


def test_the_interval_of_a_change_by_hand() -> None:
    # Agresti and Min: half a changed pair on each side and one that stays are added to 100 pairs, 12 and 5 of them
    # changed: 12.5 and 5.5 of 102.
    gained, lost = 12.5 / 102, 5.5 / 102
    half = 1.959963984540054 * math.sqrt((gained + lost - (gained - lost) ** 2) / 102)
    interval = change_interval([1.0] * 12 + [-1.0] * 5 + [0.0] * 83, 0.95)
    assert interval == pytest.approx((gained - lost - half, gained - lost + half))


@pytest.mark.parametrize(("gained", "lost"), [(0.3, 0.05), (0.1, 0.1), (0.02, 0.02), (0.05, 0.6)])
def test_the_interval_of_a_change_covers_the_truth_as_often_as_it_says(gained: float, lost: float) -> None:
    n, covered = 40, 0.0
    for up in range(n + 1):
        for down in range(n + 1 - up):
            chance = stats.multinomial.pmf([up, down, n - up - down], n, [gained, lost, 1 - gained - lost])
            if chance > 1e-7:
                low, high = change_interval([1.0] * up + [-1.0] * down + [0.0] * (n - up - down), 0.95)
                covered += chance * (low <= gained - lost <= high)
    assert 0.93 < covered <= 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert (holm([0.2]), holm([])) == ([0.2], [])
    several = [0.2, 0.001, 0.04, 0.04, 0.9, 0.011, 0.0004]
    assert holm(several) == pytest.approx(multipletests(several, method="holm")[1])


def test_a_metric_is_adjusted_for_all_its_languages(judged: Callable[..., pa.Table]) -> None:
    before = judged(**{code: {"harmful": "u u u u u u"} for code in ("sw", "bn", "ko")})
    after = judged(sw={"harmful": "r r r r r r"}, bn={"harmful": "r u u u u u"}, ko={"harmful": "r r r r r r"})
    table = rows(compare(before, after, confidence=0.95, pooled=["sw", "bn", "ko"]))
    assert [table[code, "unsafe"]["p_holm"] for code in ("sw", "bn", "ko")] == pytest.approx([3 / 32, 1.0, 3 / 32])


def test_power_sums_over_every_outcome() -> None:
    n, more, less = 25, 0.3, 0.08
    expected = sum(
        stats.multinomial.pmf([up, down, n - up - down], n, [more, less, 1 - more - less])
        for up in range(n + 1)
        for down in range(n + 1 - up)
        if up + down and stats.binomtest(up, up + down).pvalue <= 0.05
    )
    assert mcnemar_power(n, more, less, alpha=0.05) == pytest.approx(expected, abs=1e-6)
    assert mcnemar_power(n, less, more, alpha=0.05) == pytest.approx(expected, abs=1e-6)


def test_the_smallest_change_that_prompts_can_show() -> None:
    assert mcnemar_power(315, 0.06, 0.01, alpha=0.05) == pytest.approx(0.926, abs=0.001)  # a net gain of 5 points
    change = smallest_change(315, alpha=0.05)
    assert change == pytest.approx(0.039, abs=0.001)
    assert mcnemar_power(315, 0.01 + change, 0.01, alpha=0.05) == pytest.approx(0.8, abs=0.005)
    assert smallest_change(5, alpha=0.05) is None  # p is 2 / 2⁵ even if all five change
    busy = smallest_change(315, 0.1, alpha=0.05)
    assert busy is not None
    assert busy > change
