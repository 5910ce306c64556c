"""Generates answers in batches with transformers: prompts sorted by length, padded on the left, with a KV cache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from mpo_core.contract.errors import BadInputError, quantity
from mpo_core.contract.progress import Progress, ignore_progress
from mpo_core.contract.sampling import Answer, GenerationSettings, NoAnswer, SampleRequest
from mpo_core.languages.defects import without_cut_character
from mpo_core.models import context_length
from mpo_core.models.chat import encode_prompt, end_of_turn
from mpo_core.models.memory import halving
from mpo_core.reply import Parts, open_thought, separate
from mpo_core.sampling.decode import Decoder, Pick, fits, rows_that_fit

if TYPE_CHECKING:
    from mpo_core.sampling.noise import Heartbeat, NaNCheck

_LAST = 40
"""Tokens at the end of a prompt in which a chat template may open a thought."""
_TOKENS_ON_GPU, _TOKENS_ON_CPU = 65_536, 16_384
"""Tokens of a batch by default, see `tokens_per_batch`."""


class _Row(NamedTuple):
    """One request as a row of a batch: the tokens of its prompt, and how many new ones its answer may have."""

    request: SampleRequest
    tokens: list[int]
    budget: int

    @property
    def size(self) -> int:
        """Number of tokens of the prompt and of an answer of maximum length together."""
        return len(self.tokens) + self.budget


def generate(
    model: Any,
    tokenizer: Any,
    requests: Sequence[SampleRequest],
    settings: GenerationSettings,
    *,
    system: str | None = None,
    thinking: bool = False,
    tokens_per_batch: int | None = None,
    cache: Literal["auto", "dynamic", "static"] = "auto",
    progress: Progress = ignore_progress,
) -> list[Answer | NoAnswer]:
    """Generates an answer to every request; returns the answers in order, with a reason where there is none.

    Every request has its own random stream, so an answer depends neither on what else is in its batch nor on the batch
    size (except that rounding may decide a near-tie). The model's own sampling defaults, such as top_k, are not used;
    its end tokens are.

    Args:
        model: a causal language model; the caller holds its lock.
        tokenizer: with a chat template and a pad token.
        requests: prompts and seeds.
        settings: temperature, maximum length of an answer, and so on.
        system: system message before every prompt.
        thinking: whether a reasoning model may think before it answers.
        tokens_per_batch: maximum number of tokens in a batch: prompts, and answers of `max_new_tokens`. Default: 65536
            on a GPU, 16384 on a CPU.
        cache: how keys and values are kept, see `sampling.backend.cache`.
        progress: called with the answers so far and all rows, after every batch and once a second; answers that are
            being generated count in part.

    Returns:
        Answers in order, or why there is none (`prompt_too_long`: no room for an answer; `prompt_not_encoded`: the
        chat template or the tokenizer fails on this text). A prompt that leaves less than `max_new_tokens` of the
        model's context is answered in what is left.

    Raises:
        BadInputError: no prompt can be encoded, the model's scores are NaN, or the memory is too small for one prompt.
    """
    rows: list[_Row] = []
    replies: dict[SampleRequest, Answer | NoAnswer] = {}
    failure: BadInputError | None = None
    context = context_length(model.config)
    for text, group in groupby(requests, key=lambda request: request.text):
        same = list(group)
        try:
            tokens = encode_prompt(tokenizer, text, system=system, thinking=thinking)
        except BadInputError as error:
            failure = failure or error
            replies |= dict.fromkeys(same, NoAnswer("prompt_not_encoded", error.what))
            continue
        room = settings.max_new_tokens if context is None else min(settings.max_new_tokens, context - len(tokens))
        if not tokens:
            replies |= dict.fromkeys(same, NoAnswer("prompt_not_encoded", "the tokenizer gives no token"))
        elif room < 1:
            detail = f"{len(tokens)} tokens, the model's context is {context}"
            replies |= dict.fromkeys(same, NoAnswer("prompt_too_long", detail))
        else:
            rows += [_Row(request, tokens, room) for request in same]
    if failure is not None and not rows:  # the template or the tokenizer is at fault, not the prompts
        raise failure
    on_cpu = torch.device(model.device).type == "cpu"
    limit = tokens_per_batch or (_TOKENS_ON_CPU if on_cpu else _TOKENS_ON_GPU)
    static = bool(rows) and cache != "dynamic" and fits(model)
    coarse = static and (cache == "static" or not on_cpu)
    equal_lengths = not static and len(rows) > 1 and _reads_padding(model, tokenizer)
    answers: dict[SampleRequest, Answer] = {}
    batches = _batches(rows, settings.batch_size, limit, equal_lengths=equal_lengths, coarse=coarse)
    decoder = Decoder(model, [(len(batch), batch[0].size) for batch in batches], coarse=coarse) if static else None

    def generate_batch(batch: list[_Row]) -> list[Answer]:
        def beat(step: int) -> None:
            progress(len(answers) + len(batch) * step // batch[0].budget, len(rows))

        return _generate(model, tokenizer, batch, settings, beat, decoder)

    for batch, batch_answers in halving(batches, generate_batch, tokens=lambda row: row.size, too_small=_too_small):
        answers |= {row.request: answer for row, answer in zip(batch, batch_answers, strict=True)}
        progress(len(answers), len(rows))
    return [replies[request] if request in replies else answers[request] for request in requests]


def _batches(
    rows: list[_Row], max_rows: int | None, max_tokens: int, *, equal_lengths: bool, coarse: bool
) -> list[list[_Row]]:
    """Groups rows into batches, the longest first, so that memory runs out at once or never, and padding stays small.

    Rows of a batch have the same budget, so that generation ends for all of them at the same length. With
    `equal_lengths` their prompts have the same length too, so that nothing is padded. A single row may have more than
    `max_tokens`, padding included. `coarse` rounds the sizes of batches up to a few.
    """

    def shared(row: _Row) -> tuple[int, int]:
        return row.budget, -len(row.tokens) if equal_lengths else 0

    batches = []
    ordered = sorted(rows, key=lambda row: (row.budget, -len(row.tokens)))
    for _, group in groupby(ordered, key=shared):
        same = list(group)
        while same:
            fitting = rows_that_fit(max_tokens, same[0].size, coarse=coarse)
            size = fitting if max_rows is None else min(max_rows, fitting)
            batches.append(same[:size])
            same = same[size:]
    return batches


def _too_small(row: _Row) -> BadInputError:
    return BadInputError(
        f"the memory is too small to answer one prompt of {len(row.tokens)} tokens with {row.budget} more",
        where="model.device",
        fix="Lower sampling.max_new_tokens, use model.dtype=bfloat16, or free memory.",
    )


def _reads_padding(model: Any, tokenizer: Any) -> bool:
    """Returns whether padding before a prompt changes its scores, as in RWKV and RecurrentGemma, which have no mask."""
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


def _generate(
    model: Any,
    tokenizer: Any,
    batch: list[_Row],
    settings: GenerationSettings,
    beat: Callable[[int], None],
    decoder: Decoder | None,
) -> list[Answer]:
    from mpo_core.sampling.noise import Heartbeat, NaNCheck

    ends = _end_tokens(model, tokenizer)
    check = NaNCheck()
    width = 0 if decoder is not None else len(batch[0].tokens)
    heartbeat = Heartbeat(beat, width)
    if decoder is None:
        processors = _processors(batch, width, settings, check, heartbeat)
        new_tokens = _transformers_loop(model, tokenizer.pad_token_id, batch, ends, processors)
    else:

        def pick(rows: list[int]) -> Pick:
            processors = _processors([batch[row] for row in rows], width, settings, check, heartbeat)
            return lambda step, scores: processors(torch.empty(0, step), scores).argmax(-1)

        new_tokens = decoder.answer([tuple(row.tokens) for row in batch], batch[0].budget, ends, pick)
    if check.failed():
        raise BadInputError(
            f"the model's scores became NaN while it answered {quantity(len(batch), 'prompt')}",
            where=f"model {getattr(tokenizer, 'name_or_path', '')}",
            fix="Where model.dtype is float16, use bfloat16 or float32; else the model is damaged.",
        )
    return [_answer(tokenizer, row, new, ends) for row, new in zip(batch, new_tokens, strict=True)]


def _transformers_loop(model: Any, pad: int, batch: list[_Row], ends: list[int], processors: Any) -> list[list[int]]:
    width = len(batch[0].tokens)
    ids = torch.tensor([[pad] * (width - len(row.tokens)) + row.tokens for row in batch], device=model.device)
    mask = torch.tensor([[0] * (width - len(r.tokens)) + [1] * len(r.tokens) for r in batch], device=model.device)
    with torch.inference_mode(), _without_defaults(model):
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=_plain_config(batch[0].budget, pad, ends),
            logits_processor=processors,
        )
    new_tokens: list[list[int]] = output[:, width:].tolist()
    return new_tokens


@contextlib.contextmanager
def _without_defaults(model: Any) -> Iterator[None]:
    """Removes the model's own generation config while the context lasts, since transformers would fill ours up with it.

    Forced tokens, a guidance scale or a minimum length would change the answers silently, and a damaged entry
    would raise. The caller holds the model's lock.
    """
    from transformers import GenerationConfig

    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Returns the tokens that end an answer: the tokenizer's, and the model's own.

    Where its generation config has no list of them, the token with which the chat template ends an answer is one too:
    without it, a model whose config names another end would go on to write the next turns.
    """
    own = model.generation_config.eos_token_id
    if not isinstance(own, list):
        own = [end for end in (own, end_of_turn(tokenizer)) if end is not None]
    return list(dict.fromkeys([tokenizer.eos_token_id, *own]))


def _plain_config(new_tokens: int, pad: int, ends: list[int]) -> Any:
    """Returns a generation config that takes the token of the highest score at each step, and does nothing else."""
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=False,  # `GumbelNoise` samples
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


def _processors(
    batch: list[_Row], width: int, settings: GenerationSettings, check: NaNCheck, heartbeat: Heartbeat
) -> Any:
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

    from mpo_core.sampling.noise import GumbelNoise

    if settings.temperature == 0.0:
        return LogitsProcessorList([check, heartbeat])
    processors = LogitsProcessorList([check, heartbeat, TemperatureLogitsWarper(settings.temperature)])
    if settings.top_p < 1.0:
        processors.append(TopPLogitsWarper(settings.top_p))
    processors.append(GumbelNoise([row.request.seed for row in batch], width))
    return processors


def _answer(tokenizer: Any, row: _Row, new: list[int], ends: list[int]) -> Answer:
    stop = next((at for at, token in enumerate(new) if token in ends), None)
    body = new if stop is None else new[:stop]
    # clean_up_tokenization_spaces would rewrite " ." to ".": the text must encode to what was sampled.
    text = tokenizer.decode(body, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    # Some models mark their thoughts with special tokens.
    whole = tokenizer.decode(body, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if stop is None:
        text, whole = without_cut_character(text), without_cut_character(whole)
    rendered = tokenizer.decode(row.tokens[-_LAST:], skip_special_tokens=False).rstrip()
    opening = "" if row.request.text.rstrip().endswith(rendered[-_LAST:]) else open_thought(rendered)
    parts = separate(whole, context=row.request.text, opening=opening, special=tokenizer.all_special_tokens)
    if parts == Parts(whole):
        parts = Parts(text)
    return Answer(
        parts.text,
        "length" if stop is None else "stop",
        prompt_tokens=len(row.tokens),
        tokens=len(body) + (stop is not None),
        thought=parts.thought or None,
        fault=parts.fault,
    )
