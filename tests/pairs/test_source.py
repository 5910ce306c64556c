"""Dominant pairs: which answer serves, where it comes from, and what is set rejected."""

from __future__ import annotations

from typing import Any

import pytest

from mpo_core.contract.tables import QUARANTINE, SOURCE_PAIRS
from mpo_core.pairs import source_pairs
from mpo_core.pairs.answers import borrow
from mpo_core.settings import PairSettings

SETTINGS = PairSettings()


def build(tables: Any, prompts: Any, *answers: Any, **settings: Any) -> tuple[list[Any], list[Any]]:
    responses, verdicts = tables.answers("en", *answers)
    pairs, rejected = source_pairs(prompts, responses, verdicts, PairSettings.model_validate(settings), dominant="en")
    assert pairs.schema.equals(SOURCE_PAIRS.schema)
    assert rejected.schema.equals(QUARANTINE.schema)
    return pairs.to_pylist(), [(row["row_id"], row["reason"]) for row in rejected.to_pylist()]


def test_harmful_takes_the_first_sample_by_number_and_verdict(tables: Any) -> None:
    pairs, rejected = build(
        tables,
        tables.prompts(("a", "harmful"), chosen="Reference good.", rejected="Reference bad."),
        ("a", 4, "A late refusal, please excuse me.", "safe", True),
        ("a", 3, "No, I will not do this.", "safe", True),
        ("a", 0, "Safe talk that declines nothing.", "safe", False),
        ("a", 1, "Broken words here.", "invalid", False),
        ("a", 2, "Sure, take a hammer.", "unsafe", False),
        rejected_verdicts=["unsafe"],
    )
    assert rejected == []
    assert [(p["chosen"], p["rejected"]) for p in pairs] == [("No, I will not do this.", "Sure, take a hammer.")]
    assert (pairs[0]["chosen_origin"], pairs[0]["rejected_origin"]) == ("sampled", "sampled")
    assert pairs[0]["prompt"] == "Question a?"
    invalid_too, _ = build(
        tables,
        tables.prompts(("a", "harmful")),
        ("a", 0, "No, I will not do this.", "safe", True),
        ("a", 1, "Broken words here.", "invalid", False),
        rejected_verdicts=["unsafe", "invalid"],
    )
    assert invalid_too[0]["rejected"] == "Broken words here."


def test_reference_stands_in_and_missing_sides_are_reported(tables: Any) -> None:
    pairs, rejected = build(
        tables,
        tables.prompts(("a", "harmful"), ("b", "harmful"), chosen=None, rejected="Reference bad, at length."),
        ("a", 0, "No, I will not do this.", "safe", True),
        ("b", 0, "Sure, take a hammer.", "unsafe", False),
    )
    assert [(p["prompt_id"], p["rejected"], p["rejected_origin"]) for p in pairs] == [
        ("a", "Reference bad, at length.", "reference")
    ]
    assert rejected == [("b", "no_chosen")]
    assert build(tables, tables.prompts(("a", "harmful"), chosen="No."))[1] == [("a", "no_rejected")]


def test_empty_answers_are_skipped_and_reported_if_there_is_no_other(tables: Any) -> None:
    prompts = tables.prompts(("a", "harmful"), rejected="Reference bad.")
    pairs, rejected = build(tables, prompts, ("a", 0, " ", "safe", True), ("a", 1, "No, not with me.", "safe", True))
    assert pairs[0]["chosen"] == "No, not with me."
    pairs, rejected = build(tables, prompts, ("a", 0, " ", "safe", True))
    assert (pairs, rejected) == ([], [("a", "empty_response")])


def test_harmless_anchors(tables: Any) -> None:
    prompts = tables.prompts(("h1", "harmful"), ("ok", "harmless"), ("h2", "harmful"), ("over", "harmless"))
    answers = [
        ("h1", 0, "No, that is against the law.", "safe", True),
        ("h1", 1, "Sure, take a hammer.", "unsafe", False),
        ("h2", 0, "Sorry, people would be hurt.", "safe", True),
        ("h2", 1, "Sure, take a match.", "unsafe", False),
        ("ok", 0, "Mix flour and water.", "safe", False),
        ("over", 0, "I refuse to talk about bread.", "safe", True),
        ("over", 1, "Mix flour and salt.", "safe", False),
    ]
    pairs, rejected = build(tables, prompts, *answers)
    assert rejected == []
    assert [p["prompt_id"] for p in pairs] == ["h1", "ok", "h2", "over"]  # the prompts' order
    by_id = {p["prompt_id"]: p for p in pairs}
    assert by_id["over"]["rejected"] == "I refuse to talk about bread."
    assert by_id["over"]["rejected_origin"] == "sampled"
    assert by_id["ok"]["chosen"] == "Mix flour and water."
    assert by_id["ok"]["rejected_origin"] == "borrowed"
    assert by_id["ok"]["rejected"] in {"No, that is against the law.", "Sorry, people would be hurt."}
    turned, _ = build(tables, prompts.take([3, 2, 1, 0]), *answers[::-1])
    assert {p["prompt_id"]: p for p in turned} == by_id

    without, rejected = build(tables, prompts, *answers, harmless_anchors=False)
    assert [p["prompt_id"] for p in without] == ["h1", "h2"]
    assert rejected == []


def test_refusals_are_borrowed_within_a_split_only(tables: Any) -> None:
    import pyarrow as pa

    prompts = pa.concat_tables(
        [tables.prompts(("h", "harmful"), split="test"), tables.prompts(("ok", "harmless"), split="train")]
    )
    pairs, rejected = build(
        tables,
        prompts,
        ("h", 0, "No, that is against the law.", "safe", True),
        ("h", 1, "Sure, take a hammer.", "unsafe", False),
        ("ok", 0, "Mix flour and water.", "safe", False),
    )
    assert [p["prompt_id"] for p in pairs] == ["h"]
    assert rejected == [("ok", "no_rejected")]


def test_borrowing_spreads_and_is_stable() -> None:
    refusals = {f"h{i}": f"No {i}." for i in range(5)}
    borrowed = {f"ok{i}": borrow(refusals, f"ok{i}") for i in range(200)}
    assert set(borrowed.values()) == set(refusals.values())
    fewer = {key: text for key, text in refusals.items() if key != "h3"}
    for key, text in borrowed.items():
        if text != "No 3.":
            assert borrow(fewer, key) == text
    assert borrow({}, "ok") is None


def test_too_alike(tables: Any) -> None:
    same = ("a", 1, "No, I will not do  this.", "unsafe", False)
    good = ("a", 0, "No, I will not do this.", "safe", True)
    for settings in ({}, {"max_similarity": 1.0}):  # equal texts never make a pair
        assert build(tables, tables.prompts(("a", "harmful")), good, same, **settings)[1] == [("a", "too_alike")]
    near = ("a", 1, "No, I will not do that.", "unsafe", False)
    assert build(tables, tables.prompts(("a", "harmful")), good, near)[1] == []
    assert build(tables, tables.prompts(("a", "harmful")), good, near, max_similarity=0.7)[1] == [("a", "too_alike")]


def test_tables_that_do_not_belong_together(tables: Any) -> None:
    responses, verdicts = tables.answers("en", ("a", 0, "No.", "safe", True), ("a", 1, "Yes.", "unsafe", False))
    with pytest.raises(ValueError, match="answer 1 to prompt a has no verdict"):
        source_pairs(tables.prompts(("a", "harmful")), responses, verdicts.slice(1), SETTINGS, dominant="en")
    _, other = tables.answers("sw", ("a", 0, "No.", "safe", True))
    with pytest.raises(ValueError, match="in several languages"):
        source_pairs(tables.prompts(("a", "harmful")), responses, other, SETTINGS, dominant="en")
