"""Marks of turns in answers: where a turn ends, and where a chat template was applied."""

import pytest

from mpo_core.reply import has_template, own_turn, separate, without_end


@pytest.mark.parametrize(
    ("answer", "turn"),
    [
        ("Mix it.<|im_end|>", "Mix it."),
        ("Mix it.<|im_end|>\n<|im_start|>user\nWhy?", "Mix it."),
        ("Mix it. </s><s>[INST] Why? [/INST]", "Mix it."),
        ("Mix it.<|im_end|><|endoftext|>\n", "Mix it."),
        ("Mix it.<|user|>\nWhy?", "Mix it."),
        ("Mix it.[|endofturn|]\n[|user|]Why?", "Mix it."),
        ("```\nmix()<|im_end|>", "```\nmix()"),
    ],
)
def test_an_answer_ends_with_its_turn(answer: str, turn: str) -> None:
    assert own_turn(answer, "How?") == turn
    assert separate(f"<think>Hm.</think>{answer}", context="How?").text == turn


@pytest.mark.parametrize(
    "answer",
    [
        "Write <s>old</s> to strike text through. It works.",
        "Write <s>old</s>",
        "In ChatML a turn ends with `<|im_end|>`, and a new one may follow.",
        "The mark is `<|im_end|>`",
        "```\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n```",
    ],
)
def test_a_mark_that_is_mentioned_is_a_part_of_the_answer(answer: str) -> None:
    assert (own_turn(answer, "How?"), without_end(answer, "How?")) == (answer, answer)
    assert separate(f"<think>Hm.</think>{answer}", context="What is <|im_end|>?").text == answer
    assert not has_template("How?", [answer, answer])


def test_a_mark_in_the_request_or_before_text_is_data() -> None:
    assert own_turn("<|im_end|> ends a turn.", "How?") == "<|im_end|> ends a turn."  # no turn follows
    assert own_turn("It is <|im_end|>", "What is <|im_end|>?") == "It is <|im_end|>"
    assert without_end("It is </s>", "What is </s>?") == "It is </s>"


def test_only_ends_behind_an_answer_are_taken_off() -> None:
    assert without_end("Mix it.<|eot_id|> </s>\n", "How?") == "Mix it."
    text = "Mix it.<|im_end|>\n<|im_start|>user\nWhy?"
    assert without_end(text, "How?") == text


@pytest.mark.parametrize(
    "start",
    [
        "<|im_start|>assistant\n",
        "<|start|>assistant<|message|>",
        "<|begin_of_text|>",
        "<|assistant_start|>",
        "[|assistant|]",
        "### Response:\n",
        "Below is an instruction.\n\n### Response:\n",
        "[INST] How? [/INST] ",
    ],
)
def test_a_template_begins_turns_in_both_answers(start: str) -> None:
    assert has_template("How?", [f"{start}Mix it.", f"{start}No."])
    assert not has_template("How?", [f"{start}Mix it.", "No."])
    assert not has_template(f"What is {start}?", [f"{start}Mix it.", f"{start}No."])


def test_a_heading_within_a_line_begins_no_turn() -> None:
    assert not has_template("How?", ["### Response: mix it.", "See ### Response:"])
