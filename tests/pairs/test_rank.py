"""Sampled answers in the order of their rewards."""

from __future__ import annotations

from typing import Any

from mpo_core.contract.tables import GAPS, RESPONSES
from mpo_core.pairs import answer_pairs, ranked

TEXTS = {"p": ["a", "bb", "ccc", " ", "eeeee"], "q": ["f"]}
REWARDS = {"a": -3.0, "bb": -1.0, "ccc": -2.0, "eeeee": -1.0, "f": -9.0}


def responses() -> Any:
    same = {"language": "sw", "seed": 0, "prompt": "?"}
    return RESPONSES.build(
        same | {"prompt_id": key, "sample": number, "text": text}
        for key, texts in TEXTS.items()
        for number, text in enumerate(texts)
    )


def rewards(left_out: str = "") -> Any:
    figures = {"language": "sw", "kind": "harmful", "gap": 0.0, "chosen_tokens": 1, "rejected_tokens": 1}
    return GAPS.build(
        figures
        | {"text_id": key, "ids": "", "model": "", "chosen_reward": REWARDS[a["text"]]}
        | {"rejected_reward": REWARDS[b["text"]]}
        for key, a, b in answer_pairs(responses())
        if left_out not in (a["text"], b["text"])
    )


def order(table: Any) -> list[tuple[str, int, str]]:
    return [(row["prompt_id"], row["sample"], row["text"]) for row in table.to_pylist()]


def test_every_answer_with_text_is_measured_once_or_with_itself() -> None:
    twos = [(key, a["text"], b["text"]) for key, a, b in answer_pairs(responses())]
    assert twos == [("p/0/1", "a", "bb"), ("p/2/4", "ccc", "eeeee"), ("q/0/0", "f", "f")]


def test_the_likeliest_answer_comes_first_and_ties_stay_in_their_order() -> None:
    texts = [("p", 0, "bb"), ("p", 1, "eeeee"), ("p", 2, "ccc"), ("p", 3, "a"), ("p", 4, " "), ("q", 0, "f")]
    assert order(ranked(responses(), rewards())) == texts


def test_answers_without_a_reward_come_last() -> None:
    texts = [("p", 0, "eeeee"), ("p", 1, "ccc"), ("p", 2, "a"), ("p", 3, "bb"), ("p", 4, " "), ("q", 0, "f")]
    assert order(ranked(responses(), rewards(left_out="bb"))) == texts
