"""Token ids, the cut at the cut-off, and what is set aside."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpo_core.training.encoding import EncodedText, PairText, Rejection, encode_text, truncated_lengths


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        (100, 200, (100, 200)),  # fits
        (600, 424, (600, 424)),  # just fits
        (2000, 100, (924, 100)),  # answer under half: only the prompt is cut
        (2000, 511, (513, 511)),
        (2000, 512, (816, 208)),  # half or more: both, in proportion: int(1024 * 512 / 2512) = 208
        (100, 3000, (34, 990)),  # int(1024 * 3000 / 3100) = 990
        (1024, 1024, (512, 512)),
        (10**6, 600, (1024, 0)),  # nothing of the answer is left
    ],
)
def test_lengths_at_the_cutoff(prompt: int, answer: int, expected: tuple[int, int]) -> None:
    assert truncated_lengths(prompt, answer, 1024) == expected


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(8, 2048))
def test_lengths_fit_and_nothing_is_cut_without_need(prompt: int, answer: int, cutoff: int) -> None:
    prompt_length, answer_length = truncated_lengths(prompt, answer, cutoff)
    assert prompt_length + answer_length <= cutoff
    if prompt + answer <= cutoff:
        assert (prompt_length, answer_length) == (prompt, answer)
    else:
        assert prompt_length + answer_length == cutoff


def encode(tokenizer: Any, prompt: str, chosen: str, rejected: str, cutoff: int = 1024) -> EncodedText | Rejection:
    return encode_text(tokenizer, PairText("x", "en", prompt, chosen, rejected), cutoff=cutoff, system=None)


def test_prompt_and_answer_are_the_template_s(tokenizer: Any) -> None:
    got = encode(tokenizer, "Tell me about tea.", "I would rather not.", "Gladly.")
    assert isinstance(got, EncodedText)
    chat = [{"role": "user", "content": "Tell me about tea."}]
    assert got.prompt == tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert tokenizer.decode(got.chosen) == "I would rather not.<|end|>"
    assert got.prompt.count(tokenizer.bos_token_id) == 1


def test_a_cut_answer_loses_its_end_and_the_shorter_answer_keeps_it(tokenizer: Any) -> None:
    whole = encode(tokenizer, "Tell me about tea.", "no", "tea and bread " * 30)
    cut = encode(tokenizer, "Tell me about tea.", "no", "tea and bread " * 30, cutoff=32)
    assert isinstance(whole, EncodedText)
    assert isinstance(cut, EncodedText)
    prompt, answer = truncated_lengths(len(whole.prompt), len(whole.rejected), 32)
    assert cut == EncodedText(whole.prompt[:prompt], whole.chosen[:answer], whole.rejected[:answer])
    assert cut.rejected[-1] != tokenizer.eos_token_id
    assert cut.chosen[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize(("chosen", "rejected", "named"), [("", "yes", "chosen"), ("no", " \n", "rejected")])
def test_an_empty_answer_is_rejected(tokenizer: Any, chosen: str, rejected: str, named: str) -> None:
    assert encode(tokenizer, "tea?", chosen, rejected) == Rejection("empty_response", f"empty: {named}")


def test_a_prompt_that_leaves_no_room_is_rejected(tokenizer: Any) -> None:
    got = encode(tokenizer, "tea " * 400, "no", "yes yes yes yes yes yes", cutoff=8)
    assert isinstance(got, Rejection)
    assert got.reason == "over_long"
    assert "tea" not in got.detail
