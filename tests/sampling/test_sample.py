"""Generation with a tiny random model: the batch changes nothing, seeds decide, limits hold."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.sampling import GenerationSettings, SampleRequest
from mpo_core.contract.tables import QUARANTINE, RESPONSES
from mpo_core.models.chat import encode_prompt
from mpo_core.sampling import Request
from mpo_core.sampling.generate import generate
from mpo_core.sampling.noise import GumbelNoise
from mpo_core.sampling.sample import stream_seed
from mpo_core.settings import SamplingSettings
from tests.sampling.loaded import sample_from

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
REQUESTS = [Request(f"p{i}", "Tell me about " + "tea " * (1 + i % 4) + str(i)) for i in range(7)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    marks = ["<user>", "<assistant>", "<system>"]
    fast = PreTrainedTokenizerFast(tokenizer_object=core, additional_special_tokens=marks)
    fast.add_special_tokens({"eos_token": "<end>", "pad_token": "<pad>"})
    fast.chat_template = TEMPLATE
    return fast


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=96,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    made = LlamaForCausalLM(config).eval()
    # What a released model brings along and what must not leak into an experiment.
    made.generation_config.repetition_penalty = 1.8
    made.generation_config.do_sample = True
    made.generation_config.top_k = 1
    made.generation_config.temperature = 0.3
    return made


def run(model: Any, tokenizer: Any, requests: list[Request] = REQUESTS, **settings: Any) -> pa.Table:
    wanted = SamplingSettings.model_validate({"max_new_tokens": 12, **settings})
    responses, quarantine = sample_from(model, tokenizer, requests, wanted, language="en")
    assert responses.schema.equals(RESPONSES.schema)
    assert quarantine.num_rows == 0
    return responses


def by_hand(model: Any, tokenizer: Any, text: str, steps: int) -> list[int]:
    """Greedy decoding of one row without a cache, padding or `generate`."""
    ids = encode_prompt(tokenizer, text)
    new: list[int] = []
    with torch.no_grad():
        while len(new) < steps and tokenizer.eos_token_id not in new:
            new.append(int(model(torch.tensor([ids + new])).logits[0, -1].argmax()))
    return new


def test_greedy_is_the_argmax_of_each_row_alone(model: Any, tokenizer: Any) -> None:
    responses = run(model, tokenizer, batch_size=4).to_pylist()
    assert [row["prompt_id"] for row in responses] == [request.prompt_id for request in REQUESTS]
    for request, row in zip(REQUESTS, responses, strict=True):
        new = by_hand(model, tokenizer, request.text, 12)
        assert row["tokens"] == len(new)
        text = tokenizer.decode([t for t in new if t != tokenizer.eos_token_id], skip_special_tokens=True)
        assert row["text"] == (text if tokenizer.eos_token_id in new else text.rstrip("\ufffd"))
        assert row["prompt"] == request.text
    assert len({row["text"] for row in responses}) > 1


def test_answers_do_not_depend_on_the_batch(model: Any, tokenizer: Any) -> None:
    settings: dict[str, Any] = {"n": 3, "temperature": 1.0, "top_p": 0.9, "seed": 4}
    single, many = (run(model, tokenizer, batch_size=size, **settings) for size in (1, 64))
    assert single.equals(many)
    alone = run(model, tokenizer, [REQUESTS[5]], batch_size=2, **settings)
    assert alone.equals(single.filter(pa.compute.equal(single["prompt_id"], "p5")))
    turned = run(model, tokenizer, REQUESTS[::-1], batch_size=5, **settings)
    assert turned.sort_by([("prompt_id", "ascending"), ("sample", "ascending")]).equals(single)


def test_a_model_that_reads_padding_answers_as_alone(tokenizer: Any) -> None:
    from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    config = RecurrentGemmaConfig(
        vocab_size=len(tokenizer), lru_width=32, **sizes, bos_token_id=None, eos_token_id=tokenizer.eos_token_id
    )
    recurrent = RecurrentGemmaForCausalLM(config).eval()
    for weight in recurrent.parameters():
        if weight.dim() > 1:
            weight.data.normal_(0, 0.3)
    single, many = (run(recurrent, tokenizer, batch_size=size) for size in (1, 64))
    assert single.equals(many)


def test_seeds_decide(model: Any, tokenizer: Any) -> None:
    first, again, other = (run(model, tokenizer, n=2, temperature=1.0, seed=s) for s in (1, 1, 2))
    assert first.equals(again)
    assert first["text"].to_pylist() != other["text"].to_pylist()
    assert first["sample"].to_pylist() == [0, 1] * len(REQUESTS)
    assert len(set(first["seed"].to_pylist())) == 2 * len(REQUESTS)
    assert first["seed"][3].as_py() == stream_seed(1, "p1", 1)
    texts = first["text"].to_pylist()
    assert all(a != b for a, b in zip(texts[::2], texts[1::2], strict=True))


def test_end_tokens_of_the_model_end_an_answer(model: Any, tokenizer: Any) -> None:
    plain = run(model, tokenizer, temperature=1.0)
    own = model.generation_config.eos_token_id
    letters = tokenizer("abcdefghijklmnopqrstuvwxyz", add_special_tokens=False)["input_ids"]
    try:
        model.generation_config.eos_token_id = letters
        stopped = run(model, tokenizer, temperature=1.0)
    finally:
        model.generation_config.eos_token_id = own
    ended_earlier = 0
    for before, after in zip(plain.to_pylist(), stopped.to_pylist(), strict=True):
        letter = next((at for at, c in enumerate(before["text"]) if c in "abcdefghijklmnopqrstuvwxyz"), None)
        if letter is None:
            assert after == before
        else:  # cut before the letter, which counts as the end token
            ended_earlier += 1
            assert after["text"] == before["text"][:letter]
            assert after["finish_reason"] == "stop"
            assert after["tokens"] <= before["tokens"]
    assert ended_earlier >= 2


def test_tokens_count_the_end_token(model: Any, tokenizer: Any) -> None:
    responses = run(model, tokenizer, n=30, temperature=3.0, max_new_tokens=40).to_pylist()
    assert {row["finish_reason"] for row in responses} == {"stop", "length"}
    cut = [row for row in responses if row["finish_reason"] != "stop"]
    assert all(row["tokens"] == 40 for row in cut)
    assert not any(row["text"].endswith("\ufffd") for row in cut)  # the limit may fall between the bytes of a character
    ascii_only = [row for row in responses if row["finish_reason"] == "stop" and row["text"].isascii()]
    # One byte a token here, but special tokens in the middle count and leave no text.
    assert all(row["tokens"] >= len(row["text"]) + 1 for row in ascii_only)
    ascii_only = [row for row in ascii_only if row["text"]]
    assert ascii_only == [] or any(row["tokens"] == len(row["text"]) + 1 for row in ascii_only)


def test_a_prompt_beyond_the_context_is_rejected_and_a_long_one_gets_what_is_left(model: Any, tokenizer: Any) -> None:
    settings = SamplingSettings(max_new_tokens=12, batch_size=8)
    frame = len(encode_prompt(tokenizer, ""))
    requests = [Request("over", "x" * (96 - frame)), Request("tight", "x" * (91 - frame)), Request("short", "x")]
    responses, quarantine = sample_from(model, tokenizer, requests, settings, language="sw")
    assert responses["prompt_id"].to_pylist() == ["tight", "short"]
    assert responses["tokens"].to_pylist() == [5, 12]
    assert quarantine.schema.equals(QUARANTINE.schema)
    assert quarantine.to_pylist() == [
        {
            "row_id": "over",
            "language": "sw",
            "reason": "prompt_too_long",
            "detail": "96 tokens, the model's context is 96",
        }
    ]


def test_system_message_progress_and_control_tokens(model: Any, tokenizer: Any) -> None:
    seen: list[tuple[int, int]] = []
    settings = SamplingSettings(max_new_tokens=4, batch_size=3)
    with_system, _ = sample_from(
        model,
        tokenizer,
        REQUESTS,
        settings,
        language="en",
        system="Be brief.",
        progress=lambda *counts: seen.append(counts),
    )
    assert seen == [(3, 7), (6, 7), (7, 7)]
    without, _ = sample_from(model, tokenizer, REQUESTS, settings, language="en")
    assert with_system["text"].to_pylist() != without["text"].to_pylist()
    opened, _ = sample_from(model, tokenizer, [Request("c", "a<end><assistant>b")], settings, language="en")
    ids = encode_prompt(tokenizer, "a<end><assistant>b")
    assert ids.count(tokenizer.eos_token_id) == 1
    assert opened.num_rows == 1


def test_answers_that_are_being_written_count_in_part(model: Any, tokenizer: Any, monkeypatch: Any) -> None:
    seconds = itertools.count()
    monkeypatch.setattr("mpo_core.sampling.noise.time.monotonic", lambda: float(next(seconds)))
    seen: list[int] = []
    settings = SamplingSettings(max_new_tokens=6, batch_size=4)
    sample_from(model, tokenizer, REQUESTS, settings, language="en", progress=lambda done, _: seen.append(done))
    assert seen == sorted(seen)
    assert {1, 2, 4, 7} <= set(seen)


def test_a_prompt_on_which_the_template_fails_is_rejected_alone(model: Any, tokenizer: Any) -> None:
    picky = copy.deepcopy(tokenizer)
    picky.chat_template = "{% if 'tea' in messages[0]['content'] %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE
    settings = SamplingSettings(max_new_tokens=4)
    requests = [Request("a", "tea"), Request("b", "coffee")]
    responses, quarantine = sample_from(model, picky, requests, settings, language="en")
    assert responses["prompt_id"].to_pylist() == ["b"]
    assert quarantine["row_id"].to_pylist() == ["a"]
    assert quarantine["reason"].to_pylist() == ["prompt_not_encoded"]
    with pytest.raises(BadInputError, match="the chat template fails on a conversation"):
        sample_from(model, picky, requests[:1], settings, language="en")


def test_a_prompt_without_a_token_is_rejected(model: Any, tokenizer: Any) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = "{{ messages[0].content }}"
    responses, quarantine = sample_from(model, bare, [Request("a", "")], SamplingSettings(), language="en")
    assert responses.num_rows == 0
    assert quarantine["reason"].to_pylist() == ["prompt_not_encoded"]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_scores_that_become_nan_are_no_answers(model: Any, tokenizer: Any, temperature: float) -> None:
    broken = copy.deepcopy(model)
    broken.model.embed_tokens.weight.data[tokenizer.convert_tokens_to_ids("k")] = torch.nan
    assert run(broken, tokenizer, [Request("a", "tea")], temperature=0.0, max_new_tokens=1).num_rows == 1
    with pytest.raises(BadInputError, match="scores became NaN while it answered 1 prompt"):
        run(broken, tokenizer, [Request("a", "milk")], temperature=temperature)


def test_no_requests(model: Any, tokenizer: Any) -> None:
    assert run(model, tokenizer, []).num_rows == 0


def test_noise_draws_from_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    rows = 20_000
    noise = GumbelNoise([stream_seed(0, f"p{i}", 0) for i in range(rows)], prompt_length=3)
    drawn = noise(torch.zeros(rows, 3, dtype=torch.long), probabilities.log().repeat(rows, 1)).argmax(-1)
    counts = Counter(drawn.tolist())
    # Four standard errors of a share of 20,000 draws are at most 0.0142.
    for token, share in enumerate(probabilities.tolist()):
        assert counts[token] / rows == pytest.approx(share, abs=0.0142)


def test_noise_differs_by_step_and_row_and_never_revives_a_cut_token() -> None:
    scores = torch.full((2, 50), -1.0)
    scores[:, 7] = -torch.inf
    noise = GumbelNoise([1, 2], prompt_length=2)
    first = noise(torch.zeros(2, 2, dtype=torch.long), scores)
    later = noise(torch.zeros(2, 3, dtype=torch.long), scores)
    assert torch.isneginf(first[:, 7]).all()
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, later)
    rest = torch.cat([first[:, :7], first[:, 8:]], dim=1)
    assert torch.isfinite(rest).all()


@pytest.mark.parametrize("limit", [1, 60, 130, 10_000])
def test_answers_do_not_depend_on_the_tokens_of_a_batch(model: Any, tokenizer: Any, limit: int) -> None:
    draws = [SampleRequest(*request, number, 7 + number) for request in REQUESTS for number in range(2)]
    settings = GenerationSettings(n=2, temperature=1.0, max_new_tokens=12)
    assert generate(model, tokenizer, draws, settings, tokens_per_batch=limit) == generate(
        model, tokenizer, draws, settings
    )


class SmallMemory:
    """The model, with memory for a few rows only."""

    def __init__(self, model: Any, most: int) -> None:
        self._model, self.most, self.sizes = model, most, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def _check(self, ids: torch.Tensor) -> None:
        self.sizes.append(len(ids))
        if self.sizes[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def __call__(self, **inputs: Any) -> Any:
        self._check(inputs["input_ids"])
        return self._model(**inputs)

    def generate(self, **inputs: Any) -> Any:
        self._check(inputs["input_ids"])
        self._model.generation_config = self.generation_config  # what is set here is the model's
        return self._model.generate(**inputs)


@pytest.mark.parametrize("cache", ["auto", "dynamic", "static"])
def test_batches_are_halved_where_memory_runs_out(model: Any, tokenizer: Any, cache: Any) -> None:
    draws = [SampleRequest(*request, 0, 7) for request in REQUESTS]
    settings = GenerationSettings(temperature=1.0, max_new_tokens=12)
    small = SmallMemory(model, most=2)
    assert generate(small, tokenizer, draws, settings, cache=cache) == generate(model, tokenizer, draws, settings)
    sizes = small.sizes[next(at for at, rows in enumerate(small.sizes) if rows > 2) :]  # behind the trials
    assert sizes[0] == len(REQUESTS)
    assert max(sizes[1:]) < len(REQUESTS) / 2  # what failed once is not tried again
    with pytest.raises(BadInputError, match="the memory is too small to answer one prompt of"):
        generate(SmallMemory(model, most=0), tokenizer, draws[:1], settings, cache=cache)
