"""Greedy answers of each architecture: token for token those of the bare model, whatever the batch and its order."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pytest
import torch
from tokenizers import decoders

from mpo_core.contract.sampling import GenerationSettings, SampleRequest
from mpo_core.models.chat import encode_prompt, end_of_turn
from mpo_core.sampling.decode import fits
from mpo_core.sampling.generate import generate
from tests.architectures import CHATS, chat_tokenizer, tiny

STEPS, WINDOW = 12, 24
DRAWS = [SampleRequest(f"p{i}", "Tell me about " + "tea " * (1 + i % 4) + str(i), 0, i) for i in range(7)]
ORDERS = {"as given": DRAWS, "reversed": DRAWS[::-1], "every second": DRAWS[::2] + DRAWS[1::2]}


class Limits(NamedTuple):
    """The most rows and the most tokens of a batch."""

    rows: int | None
    tokens: int | None


LIMITS = [Limits(1, None), Limits(3, None), Limits(None, 250), Limits(None, None)]

FEW = [("as given", LIMITS[1]), ("reversed", LIMITS[3]), ("every second", LIMITS[2])]
CASES = {"auto": list(itertools.product(ORDERS, LIMITS)), "dynamic": FEW, "static": FEW}


class Greedy:
    """A tiny model, its tokenizer, and the answers that it gives without a cache, padding or `generate`."""

    def __init__(self, name: str) -> None:
        self.tokenizer = chat_tokenizer(name)
        ends = [self.tokenizer.convert_tokens_to_ids(mark) for mark in CHATS[name]["marks"]]
        self.tokenizer.backend_tokenizer.decoder = decoders.Fuse()  # a character per token: equal texts, equal tokens
        sizes = {"max_position_embeddings": 512, "initializer_range": 0.5, "tie_word_embeddings": False}
        sizes |= {"sliding_window": WINDOW} if name == "Gemma2" else {}
        self.model = tiny(name, len(self.tokenizer), eos_token_id=ends, pad_token_id=ends[0], **sizes)
        self.answers = {draw.prompt_id: self._answer(draw.text, ends) for draw in DRAWS}

    def _answer(self, text: str, ends: list[int]) -> tuple[str, int]:
        ids, new = encode_prompt(self.tokenizer, text), []
        with torch.no_grad():
            while len(new) < STEPS and not set(ends) & set(new):
                new.append(int(self.model(torch.tensor([ids + new])).logits[0, -1].argmax()))
        return self.tokenizer.decode(new, skip_special_tokens=True), len(new)


@pytest.fixture(scope="module", params=CHATS)
def world(request: pytest.FixtureRequest) -> Greedy:
    return Greedy(request.param)


@pytest.mark.parametrize("cache", CASES)
def test_greedy_answers_are_equal_token_for_token(world: Greedy, cache: Any) -> None:
    assert len(set(world.answers.values())) > 1
    assert fits(world.model)
    for order, limits in CASES[cache]:
        draws, settings = ORDERS[order], GenerationSettings(max_new_tokens=STEPS, batch_size=limits.rows)
        answers = generate(world.model, world.tokenizer, draws, settings, tokens_per_batch=limits.tokens, cache=cache)
        given = {draw.prompt_id: (answer.text, answer.tokens) for draw, answer in zip(draws, answers, strict=True)}
        assert given == world.answers, (order, limits)


def test_an_answer_ends_where_the_chat_template_ends_it_whatever_end_the_config_names() -> None:
    tokenizer = chat_tokenizer("Qwen2")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    tokenizer.eos_token = "<|endoftext|>"  # noqa: S105 - that of the base model
    assert end_of_turn(tokenizer) == end
    model = tiny("Qwen2", len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    model.lm_head = torch.nn.Linear(model.config.hidden_size, len(tokenizer))
    model.lm_head.bias.data[end] = 1e3
    (answer,) = generate(model, tokenizer, DRAWS[:1], GenerationSettings(max_new_tokens=STEPS))
    assert (answer.finish_reason, answer.tokens, answer.text) == ("stop", 1, "")
    model.generation_config.eos_token_id = [tokenizer.eos_token_id]  # a list is complete
    (answer,) = generate(model, tokenizer, DRAWS[:1], GenerationSettings(max_new_tokens=STEPS))
    assert (answer.finish_reason, answer.tokens) == ("length", STEPS)
    tokenizer.chat_template = "{% for m in messages %}Q: {{ m.content }}\nA:{% endfor %}"
    assert end_of_turn(tokenizer) is None
