"""From a request to token ids, in one way for training and inference.

The text of a request or an answer is data: control tokens inside it are encoded as
plain text, so that it cannot open a turn.
"""

from __future__ import annotations

from typing import Any


def encode_prompt(tokenizer: Any, prompt: str, *, system: str | None = None) -> list[int]:
    """Token ids of the rendered conversation up to and including the assistant header.

    The rendering is tokenised as a whole, as `apply_chat_template` does; only if the text
    holds a control token is it cut out and encoded with special tokens split.
    """
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    if not any(_has_control_token(tokenizer, m["content"]) for m in messages):
        rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return _encode(tokenizer, rendered)
    marks = [f"\ue000{i}\ue001" for i in range(len(messages))]  # private use: in no control token
    hidden = [{**m, "content": mark} for m, mark in zip(messages, marks, strict=True)]
    rest = tokenizer.apply_chat_template(hidden, add_generation_prompt=True, tokenize=False)
    ids: list[int] = []
    for message, mark in zip(messages, marks, strict=True):
        before, rest = rest.split(mark, 1)
        ids += _encode(tokenizer, before) + _encode(tokenizer, message["content"], split=True)
    return ids + _encode(tokenizer, rest)


def encode_response(tokenizer: Any, response: str) -> list[int]:
    """Token ids of an answer, its end-of-turn token last; no merge across the prompt's end."""
    ids = _encode(tokenizer, response, split=_has_control_token(tokenizer, response))
    return [*ids, tokenizer.eos_token_id]


def _encode(tokenizer: Any, text: str, *, split: bool = False) -> list[int]:
    # add_special_tokens=False: the template already has the BOS; never add a second one.
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=split)["input_ids"]
    return ids


def _has_control_token(tokenizer: Any, text: str) -> bool:
    return any(token.content in text for token in tokenizer.added_tokens_decoder.values() if token.special)
