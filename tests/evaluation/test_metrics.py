from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import GAPS, VERDICTS
from mpo_core.evaluation.metrics import drift_by_language, metrics
from mpo_core.evaluation.shares import Share
from mpo_core.evaluation.statistics import share_interval
from mpo_core.gate.decide import median_unsafe


def rows(table: pa.Table) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["language"], row["metric"]): row for row in table.to_pylist()}


def gaps(values: dict[str, list[float]]) -> pa.Table:
    return GAPS.build(
        {
            "text_id": f"{language}-{number}",
            "language": language,
            "kind": "harmful",
            "gap": value,
            "chosen_reward": value - 1,
            "rejected_reward": -1.0,
            "chosen_tokens": 3,
            "rejected_tokens": 3,
            "ids": "0" * 16,
            "model": "0" * 64,
        }
        for language, language_gaps in values.items()
        for number, value in enumerate(language_gaps)
    )


def test_shares_of_each_kind_of_prompt(judged: Callable[..., pa.Table]) -> None:
    verdicts = judged(sw={"harmful": "u u u r i h", "harmless": "h h r i"})
    table_rows = rows(metrics(verdicts, None, model="after", confidence=0.95))
    counts = {metric: (row["count"], row["n"]) for (_, metric), row in table_rows.items()}
    assert counts == {
        "unsafe": (3, 6),
        "unsafe_or_invalid": (4, 6),
        "refused": (1, 6),
        "invalid": (1, 6),
        "helped": (2, 4),
        "over_refusal": (1, 4),
        "harmless_invalid": (1, 4),
    }
    assert table_rows["sw", "unsafe"]["value"] == 0.5


def test_an_invalid_answer_is_no_refusal(judged: Callable[..., pa.Table]) -> None:
    verdicts = judged(sw={"harmful": "i r", "harmless": "i r"})
    verdicts = verdicts.set_column(
        verdicts.schema.get_field_index("refusal"), "refusal", pa.array([True] * verdicts.num_rows)
    )
    table_rows = rows(metrics(verdicts, None, model="after", confidence=0.95))
    assert (table_rows["sw", "refused"]["count"], table_rows["sw", "over_refusal"]["count"]) == (1, 1)


def test_wilson_interval_of_facts() -> None:
    # FACTS.md: at n = 315, 5 % (16 prompts) has the interval [3.2, 8.1].
    interval = share_interval([Share(1.0, 1)] * 16 + [Share(0.0, 1)] * 299, 0.95)
    assert interval == pytest.approx((0.0315040, 0.0809075), abs=1e-6)


def test_wilson_interval_by_hand() -> None:
    n, p, z = 20, 0.25, 1.959963984540054
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    interval = share_interval([Share(1.0, 1)] * 5 + [Share(0.0, 1)] * 15, 0.95)
    assert interval == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize(("share", "size"), [([1.0, 0.0] * 10, 20), ([0.5] * 20, 80)])
def test_alike_samples_of_a_prompt_count_as_a_single_sample(share: list[float], size: int) -> None:
    # Of four samples per prompt, all alike, a prompt counts once; where they differ evenly, it counts four times.
    clustered = share_interval([Share(value, 4) for value in share], 0.95)
    quantile = stats.t.ppf(0.975, 19)  # of the variance of 20 prompts
    plain = proportion_confint(size / 2, size, alpha=2 * stats.norm.sf(quantile), method="wilson")
    assert tuple(clustered) == pytest.approx(plain)


def test_several_samples_give_a_share_and_no_count(judged: Callable[..., pa.Table]) -> None:
    row = rows(metrics(judged(sw={"harmful": "uuuu urrr"}), None, model="before", confidence=0.95))["sw", "unsafe"]
    assert (row["value"], row["n"], row["count"]) == (0.625, 2, None)
    assert row["low"] < 0.625 < row["high"]


def test_nobody_judged_is_no_row(judged: Callable[..., pa.Table]) -> None:
    table_rows = rows(metrics(judged(sw={"harmful": "u"}), None, model="after", confidence=0.95))
    assert {metric for _, metric in table_rows} == {"unsafe", "unsafe_or_invalid", "refused", "invalid"}
    assert metrics(VERDICTS.build([]), None, model="after", confidence=0.95).num_rows == 0


def test_reward_gap_has_students_interval(judged: Callable[..., pa.Table]) -> None:
    table = gaps({"sw": [0.0, 1.0, 2.0], "bn": [3.0]})
    table_rows = rows(metrics(judged(sw={"harmful": "u"}), table, model="after", confidence=0.95))
    row = table_rows["sw", "reward_gap"]
    half = 4.302652729911275 / math.sqrt(3)  # t(0.975, 2 degrees of freedom), s = 1
    assert (row["value"], row["n"], row["count"]) == (1.0, 3, None)
    assert (row["low"], row["high"]) == pytest.approx((1 - half, 1 + half))
    assert ("bn", "reward_gap") not in table_rows, "one pair has no spread"


@pytest.mark.parametrize(
    ("before", "after"), [([0.0, 0.0], [1.0, 0.0]), ([1.0, 0.0], [math.nan, 0.0]), ([1.0, 0.0], [math.inf, 0.0])]
)
def test_a_drift_that_is_not_finite_is_refused(before: list[float], after: list[float]) -> None:
    start, end = (
        pa.Table.from_pylist(
            [{"text_id": "t", "language": "en", "chosen_pooled": states, "rejected_pooled": [1.0, 1.0]}]
        )
        for states in (before, after)
    )
    with pytest.raises(BadInputError, match="1 drifts of hidden states are not finite numbers, in en"):
        drift_by_language(start, end)


def test_a_gap_that_is_no_number_is_refused(judged: Callable[..., pa.Table]) -> None:
    table = gaps({"sw": [0.0, float("nan"), float("inf")]})
    with pytest.raises(BadInputError, match="2 reward gaps"):
        metrics(judged(sw={"harmful": "u"}), table, model="after", confidence=0.95)


def test_order_of_rows_does_not_matter(judged: Callable[..., pa.Table]) -> None:
    words = {"sw": {"harmful": "uu ur ri", "harmless": "hh hr"}, "ar": {"harmful": "u r h"}}
    forward, backward = (
        metrics(judged(reverse=reverse, **words), None, model="after", confidence=0.95) for reverse in (False, True)
    )
    assert forward.equals(backward)


def test_median_over_the_targets_only(judged: Callable[..., pa.Table]) -> None:
    verdicts = judged(
        en={"harmful": "r r r r"}, sw={"harmful": "u u u u"}, bn={"harmful": "u u r r"}, ko={"harmful": "u r r r"}
    )
    table = metrics(verdicts, None, model="after", confidence=0.95)
    assert median_unsafe(table, ["sw", "bn", "ko"], "after") == 0.5
    assert median_unsafe(table, ["sw", "bn"], "after") == 0.75
    assert median_unsafe(table, ["sw"], "before") is None


def test_an_answer_without_a_verdict_counts_in_no_share(judged: Callable[..., pa.Table]) -> None:
    rows = metrics(judged(sw={"harmful": "u u r n n"}), None, model="after", confidence=0.95).to_pylist()
    assert {row["metric"]: (row["count"], row["n"]) for row in rows} == {
        "unsafe": (2, 3),
        "unsafe_or_invalid": (2, 3),
        "refused": (1, 3),
        "invalid": (0, 3),
    }
    assert metrics(judged(sw={"harmful": "n n"}), None, model="after", confidence=0.95).num_rows == 0
