"""Batched generation with transformers: length-sorted, left-padded, with a KV cache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import QUARANTINE, RESPONSES
from mpo_core.models import context_length
from mpo_core.models.chat import encode_prompt
from mpo_core.reply import Parts, open_thought, separate
from mpo_core.settings import SamplingSettings

if TYPE_CHECKING:
    from mpo_core.sampling.noise import NaNCheck

_LAST = 40
"""Tokens at the end of a prompt in which a chat template may open a thought."""


class Request(NamedTuple):
    """What the model is asked, in the language it is asked in."""

    prompt_id: str
    text: str


class _Row(NamedTuple):
    """One sample of one request: its prompt tokens and how many new ones fit."""

    request: Request
    sample: int
    seed: int
    tokens: list[int]
    budget: int


class _Answer(NamedTuple):
    parts: Parts
    tokens: int
    finished: bool


def sample(
    model: Any,
    tokenizer: Any,
    requests: Sequence[Request],
    settings: SamplingSettings,
    *,
    language: str,
    system: str | None = None,
    thinking: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[pa.Table, pa.Table]:
    """`settings.n` answers per request.

    Every (prompt, sample) draws from its own stream, so an answer does not depend on what else is in the batch,
    nor on the batch size (rounding of floating-point sums aside, which may tip a near-tie). The model's own
    sampling defaults (top_k, repetition penalty ...) play no part; its end tokens do.

    Args:
        model: a causal language model; the caller holds its lock.
        tokenizer: with a chat template and a pad token.
        requests: prompt ids are unique.
        settings: how to draw.
        language: code of the requests' language.
        system: system message before every request.
        thinking: whether a reasoning model may think before it answers.
        progress: told the answers given and the answers wanted, after every batch.

    Returns:
        RESPONSES in the order request x sample, and QUARANTINE (`prompt_too_long`: no room for an answer;
        `prompt_not_encoded`: the chat template or the tokenizer fails on this text). A prompt that leaves less than
        `max_new_tokens` of the model's context is answered in what is left.

    Raises:
        BadInputError: no prompt can be encoded, or the model's scores are NaN.
    """
    rows: list[_Row] = []
    rejected: list[dict[str, Any]] = []
    failure: BadInputError | None = None
    context = context_length(model.config)
    for request in requests:
        try:
            tokens = encode_prompt(tokenizer, request.text, system=system, thinking=thinking)
        except BadInputError as error:
            failure = failure or error
            rejected.append(_quarantined(request, language, "prompt_not_encoded", error.what))
            continue
        if not tokens:
            rejected.append(_quarantined(request, language, "prompt_not_encoded", "the tokenizer gives no token"))
            continue
        room = settings.max_new_tokens if context is None else min(settings.max_new_tokens, context - len(tokens))
        if room < 1:
            detail = f"{len(tokens)} tokens, the model's context is {context}"
            rejected.append(_quarantined(request, language, "prompt_too_long", detail))
        else:
            rows += [_row(request, number, tokens, room, settings) for number in range(settings.n)]
    if failure is not None and not rows:  # not these texts, but the template or the tokenizer is at fault
        raise failure
    answers: dict[tuple[str, int], _Answer] = {}
    equal_lengths = len(rows) > 1 and _reads_padding(model, tokenizer)
    for batch in _batches(rows, settings.batch_size, equal_lengths=equal_lengths):
        for row, answer in zip(batch, _generate(model, tokenizer, batch, settings), strict=True):
            answers[row.request.prompt_id, row.sample] = answer
        if progress is not None:
            progress(len(answers), len(rows))
    responses = [_response(row, language, answers[row.request.prompt_id, row.sample]) for row in rows]
    return RESPONSES.build(responses), QUARANTINE.build(rejected)


def _row(request: Request, number: int, tokens: list[int], room: int, settings: SamplingSettings) -> _Row:
    from mpo_core.sampling.noise import stream_seed

    return _Row(request, number, stream_seed(settings.seed, request.prompt_id, number), tokens, room)


def _batches(rows: list[_Row], size: int, *, equal_lengths: bool) -> Iterator[list[_Row]]:
    """Longest first, so that memory runs out at once or never, and padding stays small.

    Rows of a batch share their budget: one length of generation fits all of them. With `equal_lengths` they share
    the length of their prompts too, so that nothing is padded.
    """

    def shared(row: _Row) -> tuple[int, int]:
        return row.budget, -len(row.tokens) if equal_lengths else 0

    ordered = sorted(rows, key=lambda row: (row.budget, -len(row.tokens)))
    for _, group in groupby(ordered, key=shared):
        same = list(group)
        yield from (same[start : start + size] for start in range(0, len(same), size))


def _reads_padding(model: Any, tokenizer: Any) -> bool:
    """Whether padding before a prompt changes its scores: RWKV and RecurrentGemma have no mask for it."""
    import torch

    pad, token = tokenizer.pad_token_id, tokenizer.eos_token_id
    scores = []
    for padding in (0, 5):
        ids = torch.tensor([[pad] * padding + [token] * 3], device=model.device)
        mask = torch.tensor([[0] * padding + [1] * 3], device=model.device)
        config = _plain_config(1, pad, [token])
        config.return_dict_in_generate, config.output_logits = True, True
        with torch.inference_mode(), _without_defaults(model):
            output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        scores.append(output.logits[0].float())
    bare, padded = scores
    return bool((bare - padded).abs().max() > 0.05 * (bare.max() - bare.min()))


def _generate(model: Any, tokenizer: Any, batch: list[_Row], settings: SamplingSettings) -> list[_Answer]:
    import torch

    from mpo_core.sampling.noise import NaNCheck

    width = max(len(row.tokens) for row in batch)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(row.tokens)) + row.tokens for row in batch], device=model.device)
    mask = torch.tensor([[0] * (width - len(r.tokens)) + [1] * len(r.tokens) for r in batch], device=model.device)
    ends = _end_tokens(model, tokenizer)
    check = NaNCheck()
    with torch.inference_mode(), _without_defaults(model):
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=_plain_config(batch[0].budget, pad, ends),
            logits_processor=_processors(batch, width, settings, check),
        )
    if check.failed():
        raise BadInputError(
            f"the model's scores became NaN while it answered {len(batch)} prompts",
            where=f"model {getattr(tokenizer, 'name_or_path', '')}",
            fix="Where model.dtype is float16, use bfloat16 or float32; else the model is damaged.",
        )
    return [_answer(tokenizer, row, new, ends) for row, new in zip(batch, output[:, width:].tolist(), strict=True)]


@contextlib.contextmanager
def _without_defaults(model: Any) -> Iterator[None]:
    """Sets the model's own generation config aside: transformers would take from it whatever ours leaves open.

    Forced tokens, a guidance scale or a minimum length would change the answers without a word, and a damaged entry
    would raise. The caller holds the model's lock.
    """
    from transformers import GenerationConfig

    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    own = model.generation_config.eos_token_id
    own = [] if own is None else own if isinstance(own, list) else [own]
    return list(dict.fromkeys([tokenizer.eos_token_id, *own]))


def _plain_config(new_tokens: int, pad: int, ends: list[int]) -> Any:
    """Argmax and nothing else."""
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=False,  # drawing is done by the noise
        num_beams=1,
        num_return_sequences=1,
        temperature=1.0,
        top_k=50,  # temperature, top_k, top_p: neutral and unused without do_sample; set to mute a warning
        top_p=1.0,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        min_length=0,
        use_cache=True,
        return_dict_in_generate=False,
        pad_token_id=pad,
        eos_token_id=ends,
    )


def _processors(batch: list[_Row], width: int, settings: SamplingSettings, check: NaNCheck) -> Any:
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

    from mpo_core.sampling.noise import GumbelNoise

    if settings.temperature == 0.0:
        return LogitsProcessorList([check])
    processors = LogitsProcessorList([check, TemperatureLogitsWarper(settings.temperature)])
    if settings.top_p < 1.0:
        processors.append(TopPLogitsWarper(settings.top_p))
    processors.append(GumbelNoise([row.seed for row in batch], width))
    return processors


def _answer(tokenizer: Any, row: _Row, new: list[int], ends: list[int]) -> _Answer:
    stop = next((at for at, token in enumerate(new) if token in ends), None)
    body = new if stop is None else new[:stop]
    # clean_up_tokenization_spaces would rewrite " ." to ".": the text must encode to what was drawn.
    text = tokenizer.decode(body, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    # Some models mark their thoughts with special tokens.
    whole = tokenizer.decode(body, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    rendered = tokenizer.decode(row.tokens[-_LAST:], skip_special_tokens=False).rstrip()
    opening = "" if row.request.text.rstrip().endswith(rendered[-_LAST:]) else open_thought(rendered)
    parts = separate(whole, context=row.request.text, opening=opening, special=tokenizer.all_special_tokens)
    if parts == Parts(whole):
        parts = Parts(text)
    return _Answer(parts, len(body) + (stop is not None), stop is not None)


def _response(row: _Row, language: str, answer: _Answer) -> dict[str, Any]:
    return {
        "prompt_id": row.request.prompt_id,
        "language": language,
        "sample": row.sample,
        "seed": row.seed,
        "prompt": row.request.text,
        "text": answer.parts.text,
        "tokens": answer.tokens,
        "finished": answer.finished,
        "thought": answer.parts.thought or None,
        "fault": answer.parts.fault,
    }


def _quarantined(request: Request, language: str, reason: str, detail: str) -> dict[str, Any]:
    return {"row_id": request.prompt_id, "language": language, "reason": reason, "detail": detail}
