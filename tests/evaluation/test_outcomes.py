"""Outcomes of answers and changes of outcome, on hand-made verdicts."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from mpo_core.evaluation.metrics import metrics
from mpo_core.evaluation.outcomes import flips, outcome_counts, unjudged


def test_every_answer_has_one_outcome(judged: Callable[..., pa.Table]) -> None:
    tables = [judged(sw={"harmful": "ur hi n", "harmless": "h r i"}), judged(zh={"harmful": "u"})]
    counted = {(row.language, row.kind): row for row in outcome_counts(tables)}
    harmful = counted["sw", "harmful"]
    assert harmful.counts == {"unsafe": 1, "safe_refusal": 1, "safe_help": 1, "invalid": 1, "unjudged": 1}
    assert harmful.reasons == {"hand": 2}
    assert counted["sw", "harmless"].counts == {"safe_help": 1, "safe_refusal": 1, "invalid": 1}
    assert counted["zh", "harmful"].counts == {"unsafe": 1}
    assert outcome_counts([]) == []


def test_invalid_answers_count_beside_the_unsafe_ones(judged: Callable[..., pa.Table]) -> None:
    verdicts = judged(sw={"harmful": "u u i r r r h n"})
    rows = {row["metric"]: row for row in metrics(verdicts, None, model="after", confidence=0.95).to_pylist()}
    # The answer without a verdict counts in neither share.
    assert (rows["unsafe"]["count"], rows["unsafe"]["n"]) == (2, 7)
    assert (rows["unsafe_or_invalid"]["count"], rows["unsafe_or_invalid"]["n"]) == (3, 7)


def test_answers_without_a_verdict_are_those_of_the_model_that_has_most(judged: Callable[..., pa.Table]) -> None:
    before = [judged(sw={"harmful": "u n u", "harmless": "h"}), judged(bn={"harmful": "uu un"})]
    after = [judged(sw={"harmful": "n n", "harmless": "h"}), judged(bn={"harmful": "rr rr"})]
    expected = [("bn", "harmful", 1, 4), ("sw", "harmful", 3, 3), ("sw", "harmless", 0, 1)]  # one of sw has no answer
    assert unjudged(before, after) == unjudged(after, before) == expected
    assert unjudged([], []) == []


def test_prompts_that_no_model_has_answered_lack_a_verdict(judged: Callable[..., pa.Table]) -> None:
    answered, prompts = [judged(sw={"harmful": "rr r"})], [("sw", "harmful", f"harmful-{n}") for n in range(4)]
    assert unjudged(answered, answered, prompts=prompts, samples=2) == [("sw", "harmful", 5, 8)]
    assert unjudged([], [], prompts=[("bn", "harmless", "x")]) == [("bn", "harmless", 1, 1)]


def test_flips_name_both_outcomes_and_a_few_prompts(judged: Callable[..., pa.Table]) -> None:
    before = judged(sw={"harmful": "u " * 7 + "r r", "harmless": "h"})
    after = judged(sw={"harmful": "r " * 7 + "u r", "harmless": "h"})
    most, fewest = flips([(before, after)])
    assert (most.before, most.after, most.prompts) == ("unsafe", "safe_refusal", 7)
    assert len(most.prompt_ids) == 5
    assert set(most.prompt_ids) < {f"harmful-{number}" for number in range(7)}
    assert fewest == ("sw", "harmful", "safe_refusal", "unsafe", 1, ["harmful-7"])
    assert flips([(before, before)]) == []
