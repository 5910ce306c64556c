from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from scipy.stats import binomtest

from mpo_core.contract.errors import BadInputError
from mpo_core.evaluation.comparison import compare
from mpo_core.evaluation.statistics import mcnemar_p


def rows(table: pa.Table) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["language"], row["metric"]): row for row in table.to_pylist()}


def test_exact_mcnemar_is_the_binomial_test_of_the_discordant() -> None:
    assert mcnemar_p(2, 10) == pytest.approx(0.03857421875)  # 2 (C(12,0) + C(12,1) + C(12,2)) / 2^12
    assert mcnemar_p(10, 2) == mcnemar_p(2, 10)
    assert mcnemar_p(7, 19) == pytest.approx(binomtest(7, 26).pvalue)
    assert mcnemar_p(0, 0) == 1.0


@pytest.mark.parametrize("reverse", [False, True])
def test_prompts_are_joined_by_id(judged: Callable[..., pa.Table], *, reverse: bool) -> None:
    before = judged(sw={"harmful": "u u u u r r", "harmless": "h h r"})
    after = judged(reverse=reverse, sw={"harmful": "r r r u u i", "harmless": "h r r"})
    changes = rows(compare(before, after, confidence=0.95))
    unsafe = changes["sw", "unsafe"]
    assert (unsafe["n"], unsafe["gained"], unsafe["lost"]) == (6, 1, 3)
    assert unsafe["difference"] == pytest.approx(-2 / 6)
    assert unsafe["p_value"] == pytest.approx(0.625)
    assert (changes["sw", "helped"]["lost"], changes["sw", "over_refusal"]["gained"]) == (1, 1)


def test_with_several_samples_the_prompt_stays_the_unit(judged: Callable[..., pa.Table]) -> None:
    before, after = judged(sw={"harmful": "uuuu uuuu uurr"}), judged(sw={"harmful": "urrr uuur uurr"})
    row = rows(compare(before, after, confidence=0.95))["sw", "unsafe"]
    assert (row["n"], row["gained"], row["lost"]) == (3, 0, 2)
    assert row["difference"] == pytest.approx((-0.75 - 0.25) / 3)
    assert row["p_value"] == pytest.approx(0.5)


def test_a_prompt_that_one_model_did_not_answer_is_not_compared(judged: Callable[..., pa.Table]) -> None:
    before, after = judged(sw={"harmful": "u u u"}, bn={"harmful": "u"}), judged(sw={"harmful": "r r"})
    changes = rows(compare(before, after, confidence=0.95, pooled=["bn", "sw"]))
    unsafe = changes["sw", "unsafe"]
    assert (unsafe["n"], unsafe["gained"], unsafe["lost"], unsafe["difference"]) == (2, 0, 2, -1.0)
    assert {language for language, _ in changes} == {"sw", "targets"}
    assert rows(compare(after, before, confidence=0.95))["sw", "unsafe"]["gained"] == 2


def test_verdicts_without_a_common_prompt_are_refused(judged: Callable[..., pa.Table]) -> None:
    before, after = judged(sw={"harmful": "u u u"}), judged(bn={"harmful": "u"})
    with pytest.raises(BadInputError, match="of 3 prompts judged before the training none is among the 1 after it"):
        compare(before, after, confidence=0.95)
    assert compare(judged(), judged(), confidence=0.95).num_rows == 0


def test_a_prompt_of_two_kinds_is_refused(judged: Callable[..., pa.Table]) -> None:
    before = judged(sw={"harmful": "u"})
    after = before.set_column(before.schema.get_field_index("kind"), "kind", pa.array(["harmless"]))
    with pytest.raises(BadInputError, match="one model call 1 prompt harmful, those of the other harmless"):
        compare(before, after, confidence=0.95)


def test_prompts_with_a_verdict_both_times_are_compared(judged: Callable[..., pa.Table]) -> None:
    before, after = judged(sw={"harmful": "u u u n"}), judged(sw={"harmful": "r n u u"})
    rows = {row["metric"]: row for row in compare(before, after, confidence=0.95).to_pylist()}
    assert (rows["unsafe"]["n"], rows["unsafe"]["lost"], rows["unsafe"]["difference"]) == (2, 1, -0.5)
    assert compare(judged(sw={"harmful": "u n"}), judged(sw={"harmful": "n u"}), confidence=0.95).num_rows == 0
