"""The decoder with a static KV cache: few sizes, memory by the budget, and what does not fit is answered otherwise."""

from __future__ import annotations

import contextlib
import itertools
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mpo_core.contract.sampling import Answer, GenerationSettings, SampleRequest
from mpo_core.sampling import decode
from mpo_core.sampling.decode import Decoder, fits, padded, rows_that_fit
from mpo_core.sampling.generate import generate
from tests.architectures import ARCHITECTURES, UNPACKABLE, chat_tokenizer, tiny

NEW = 9


@pytest.fixture(scope="module", params=["Llama", "Gemma2"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny(request.param, initializer_range=0.5)


def prompt(length: int) -> tuple[int, ...]:
    return tuple(4 + (7 * at + length) % 90 for at in range(length))


def likeliest(rows: list[int]) -> decode.Pick:
    return lambda _, scores: scores.argmax(-1)


def alone(model: Any, tokens: tuple[int, ...], ends: list[int]) -> list[int]:
    """The likeliest continuation without a cache, up to an end token."""
    row = list(tokens)
    with torch.no_grad():
        while len(row) < len(tokens) + NEW and not set(row[len(tokens) :]) & set(ends):
            row.append(int(model(torch.tensor([row])).logits[0, -1].argmax()))
    return row[len(tokens) :]


@pytest.mark.parametrize("coarse", [False, True])
def test_rows_that_end_early_leave_and_change_no_other(model: Any, coarse: bool) -> None:
    lengths = [40, 33, 33, 20, 19, 12, 7, 5, 3, 3, 1]
    prompts = [prompt(length) for length in lengths]
    ends = sorted({alone(model, tokens, [])[at % NEW] for at, tokens in enumerate(prompts[:-2])})
    calls: list[list[int]] = []

    def pick(rows: list[int]) -> decode.Pick:
        calls.append(rows)
        return likeliest(rows)

    decoder = Decoder(model, [], coarse=coarse)
    for _ in range(2):  # the second batch finds the memory full of the first
        for tokens, new in zip(prompts, decoder.answer(prompts, NEW, ends, pick), strict=True):
            expected = alone(model, tokens, ends)
            assert new[: len(expected)] == expected
    assert calls[0] == list(range(len(prompts)))
    assert all(set(later) < set(earlier) for earlier, later in itertools.pairwise(calls[: len(calls) // 2]))
    assert len(calls) >= 4


def test_sizes_stay_few(model: Any) -> None:
    decoder = Decoder(model, [], coarse=True)
    for rows, longest in itertools.product(range(9, 17), range(10, 60, 7)):
        decoder.answer([prompt(longest), *[prompt(5)] * (rows - 1)], 2, [-1], likeliest)
    assert len(decoder.shapes) <= 4  # 10, 12, 14 and 16 rows of 128 slots
    assert {shape.slots for shape in decoder.shapes} == {128}
    exact = Decoder(model, [], coarse=False)
    exact.answer([prompt(10)] * 9, 2, [-1], likeliest)
    assert {(shape.rows, shape.slots) for shape in exact.shapes} == {(9, 12)}


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("tokens", [1, 900, 16_384, 65_536])
def test_a_batch_of_as_many_rows_as_fit_needs_no_more_memory(tokens: int, coarse: bool) -> None:
    for slots in (1, 100, 129, 300, 777, 3000):
        rows = rows_that_fit(tokens, slots, coarse=coarse)
        in_memory, wide = padded(rows, slots, coarse=coarse)
        assert in_memory == rows
        assert wide >= slots
        assert rows * wide <= tokens or rows == 1
        more = padded(rows + 1, slots, coarse=coarse)
        assert more[0] * more[1] > tokens


def test_memory_follows_the_budget(monkeypatch: Any) -> None:
    sizes: list[int] = []
    allocate = Decoder._allocate
    monkeypatch.setattr(Decoder, "_allocate", lambda self, tokens: (sizes.append(tokens), allocate(self, tokens))[1])
    tokenizer = chat_tokenizer("Llama")
    draws = [SampleRequest(f"p{at}", "tea " * (at % 3), 0, at) for at in range(40)]
    wide = tiny("Llama", len(tokenizer), eos_token_id=1, pad_token_id=0)
    for limit in (512, 2048):
        sizes.clear()
        generate(wide, tokenizer, draws, GenerationSettings(max_new_tokens=4), tokens_per_batch=limit, cache="static")
        assert limit // 2 <= max(sizes) <= limit


def test_a_model_that_cannot_use_it_is_answered_by_transformers(caplog: Any) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    tokenizer = chat_tokenizer("Llama")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
    mamba = MambaForCausalLM(MambaConfig(vocab_size=len(tokenizer), **sizes, eos_token_id=1, pad_token_id=0)).eval()
    decode._warn.cache_clear()
    settings, draws = GenerationSettings(max_new_tokens=4), [SampleRequest("a", "tea", 0, 1)]
    with caplog.at_level(logging.WARNING, "mpo_core.sampling.decode"):
        (answer,), (again,) = (generate(mamba, tokenizer, draws, settings, cache="static") for _ in range(2))
    assert isinstance(answer, Answer)
    assert answer == again
    (line,) = (record.getMessage() for record in caplog.records if record.name == "mpo_core.sampling.decode")
    assert line.startswith("MambaForCausalLM cannot use a static KV cache (")


@pytest.mark.parametrize("name", [*ARCHITECTURES, *UNPACKABLE])
def test_which_architectures_fit(name: str) -> None:
    assert fits(tiny(name))


def test_want_of_memory_is_not_taken_for_a_model_that_does_not_fit(monkeypatch: Any) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Decoder, "answer", full)
    assert fits(tiny("Llama"))


class Recorder:
    """Stands for `torch.cuda` where steps are recorded: what it records is computed anew at each replay."""

    def __init__(self, decoder: Decoder, fault: Exception | None = None) -> None:
        self._decoder, self._fault = decoder, fault
        self.recorded = self.replayed = 0

    def __call__(self) -> Recorder:
        return self

    def __enter__(self) -> None:
        if self._fault is not None:
            raise self._fault

    def __exit__(self, *_: object) -> None:
        self.recorded += 1

    def pool(self) -> None:
        return None

    def replay(self) -> None:
        self.replayed += 1
        _, scores = self._decoder._graphs.get(self._decoder._place.shape, (None, None))
        if scores is not None:
            scores.copy_(self._decoder._computed())


def on_fake_gpu(model: Any, monkeypatch: Any, fault: Exception | None = None) -> tuple[Decoder, Recorder]:
    decoder = Decoder(model, [], coarse=True)
    decoder._graphs = {}
    recorder = Recorder(decoder, fault)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", recorder)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **_: graph)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: SimpleNamespace(wait_stream=lambda _: None))
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    return decoder, recorder


def test_a_step_of_each_size_is_recorded_once_and_replayed_in_all_batches(model: Any, monkeypatch: Any) -> None:
    decoder, recorder = on_fake_gpu(model, monkeypatch)
    for lengths in ([30, 20, 4], [25, 25, 5], [9, 2]):
        prompts = [prompt(length) for length in lengths]
        assert decoder.answer(prompts, NEW, [-1], likeliest) == [alone(model, tokens, []) for tokens in prompts]
    assert recorder.recorded == len(decoder.shapes) == 2  # of 3 and of 2 rows
    assert recorder.replayed == 3 * (NEW - 1)
    # All write their scores into the same memory, that of the most rows.
    memories = {scores.untyped_storage().data_ptr() for _, scores in decoder._graphs.values()}
    assert memories == {decoder._shared_scores.data_ptr()}
    assert decoder._shared_scores.numel() == padded(3, 1, coarse=True)[0] * model.config.vocab_size


def test_where_a_step_cannot_be_recorded_it_is_computed(model: Any, monkeypatch: Any, caplog: Any) -> None:
    decoder, recorder = on_fake_gpu(model, monkeypatch, RuntimeError("not permitted while a stream is captured"))
    prompts = [prompt(12), prompt(5)]
    with caplog.at_level(logging.WARNING, "mpo_core.sampling.decode"):
        assert decoder.answer(prompts, NEW, [-1], likeliest) == [alone(model, tokens, []) for tokens in prompts]
    assert recorder.replayed == 0
    assert len(caplog.messages) == 1
    assert "cannot be recorded as a CUDA graph (not permitted" in caplog.messages[0]


def test_a_recording_with_other_scores_is_not_used(model: Any, monkeypatch: Any, caplog: Any) -> None:
    decoder, recorder = on_fake_gpu(model, monkeypatch)
    computed, calls = decoder._computed, itertools.count()
    monkeypatch.setattr(decoder, "_computed", lambda: computed() + 100.0 * (next(calls) == 1))
    prompts = [prompt(12), prompt(5)]
    assert decoder.answer(prompts, NEW, [-1], likeliest) == [alone(model, tokens, []) for tokens in prompts]
    assert recorder.replayed == 1
    assert "cannot be recorded as a CUDA graph (its scores differ)" in caplog.text


def test_too_small_a_memory_for_a_recording_frees_it(model: Any, monkeypatch: Any) -> None:
    decoder, _ = on_fake_gpu(model, monkeypatch, torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(torch.OutOfMemoryError):
        decoder.answer([prompt(12)], NEW, [-1], likeliest)
    assert not decoder._layers
