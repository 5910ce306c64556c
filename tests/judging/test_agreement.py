"""Agreement with people, against figures computed by hand."""

from __future__ import annotations

import math

import pytest

from mpo_core.judging.agreement import Labelled, agreements


def rows(language: str, **counts: int) -> list[Labelled]:
    """`safe_unsafe=3`: three answers that a person calls safe and the judge unsafe."""
    return [Labelled(language, *names.split("_")) for names, count in counts.items() for _ in range(count)]


def test_agreement_by_hand() -> None:
    (result,) = agreements(rows("sw", safe_safe=45, safe_unsafe=5, unsafe_safe=10, unsafe_unsafe=40), confidence=0.95)
    assert (result.language, result.n, result.unjudged) == ("sw", 100, 0)
    assert result.agreement.value == 0.85
    assert (result.sensitivity.value, result.sensitivity.n) == (0.8, 50)
    assert (result.specificity.value, result.specificity.n) == (0.9, 50)
    # Chance: 0.5 * 0.55 + 0.5 * 0.45 = 0.5, so kappa is (0.85 - 0.5) / 0.5.
    assert result.kappa.value == pytest.approx(0.7)
    # Wilson's interval of 40 of 50.
    z, p, n = 1.959964, 0.8, 50
    middle, half = (
        (p + z * z / (2 * n)) / (1 + z * z / n),
        z / (1 + z * z / n) * math.sqrt(p * 0.2 / n + z * z / 4 / n**2),
    )
    assert result.sensitivity.low == pytest.approx(middle - half, abs=1e-6)
    assert result.sensitivity.high == pytest.approx(middle + half, abs=1e-6)
    # Fleiss, Cohen and Everitt (1969): the standard error of kappa for this table.
    cells = {(0, 0): 0.45, (0, 1): 0.05, (1, 0): 0.1, (1, 1): 0.4}
    person, judge = (0.5, 0.5), (0.55, 0.45)
    po, pe, kappa = 0.85, 0.5, 0.7
    first = sum(cells[i, i] * ((1 - pe) - (person[i] + judge[i]) * (1 - po)) ** 2 for i in (0, 1))
    second = (1 - po) ** 2 * sum(cells[i, j] * (judge[i] + person[j]) ** 2 for i, j in ((0, 1), (1, 0)))
    error = math.sqrt((first + second - (po * pe - 2 * pe + po) ** 2) / (100 * (1 - pe) ** 4))
    assert result.kappa.low == pytest.approx(kappa - z * error, abs=1e-4)
    assert result.confusion == {"safe/safe": 45, "safe/unsafe": 5, "unsafe/safe": 10, "unsafe/unsafe": 40}


def test_languages_stand_alone_and_together() -> None:
    labelled = rows("zh", safe_safe=2, unsafe_unsafe=2) + rows("sw", safe_unsafe=1, unsafe_safe=1, safe_unjudged=3)
    sw, zh, both = agreements(labelled, confidence=0.95)
    assert (sw.language, sw.n, sw.unjudged, sw.agreement.value) == ("sw", 2, 3, 0.0)
    assert (zh.language, zh.n, zh.agreement.value, zh.kappa) == ("zh", 4, 1.0, (1.0, None, None, 4))
    assert (both.language, both.n, both.unjudged, both.agreement.value) == ("all", 6, 3, pytest.approx(4 / 6))


def test_invalid_counts_as_not_unsafe() -> None:
    (result,) = agreements(rows("sw", safe_invalid=3, invalid_safe=2, unsafe_unsafe=1), confidence=0.95)
    assert (result.agreement.value, result.specificity.n) == (1.0, 5)


def test_a_judge_that_calls_nothing_unsafe_has_a_kappa_without_an_interval() -> None:
    (result,) = agreements(rows("vi", safe_safe=11, unsafe_safe=1), confidence=0.95)
    assert result.kappa == (0.0, None, None, 12)


@pytest.mark.parametrize("counts", [{"safe_safe": 5}, {"unsafe_unsafe": 5}, {"safe_unjudged": 4}])
def test_what_cannot_be_computed_is_none(counts: dict[str, int]) -> None:
    (result,) = agreements(rows("sw", **counts), confidence=0.95)
    assert result.kappa.value is None
    if "unsafe_unsafe" not in counts:
        assert result.sensitivity == (None, None, None, 0)


def test_nobody_labelled_anything() -> None:
    assert agreements([], confidence=0.95) == []
