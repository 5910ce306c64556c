"""Turns requests and answers into token ids, in the same way for training and inference.

The text of a request or an answer is data: control tokens inside it are encoded as
plain text, so that it cannot open a turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from mpo_core.contract.errors import BadInputError
from mpo_core.models.templates import render
from mpo_core.reply import closing_of_open_thought


def encode_prompt(tokenizer: Any, prompt: str, *, system: str | None = None, thinking: bool = False) -> list[int]:
    """Returns a prompt's token ids: the conversation in the chat template, up to and including the assistant's header.

    Args:
        tokenizer: with a chat template.
        prompt: the request.
        system: system message before it.
        thinking: whether the model may think before it answers. If not, the template gets `enable_thinking=false`, and
            a thought that it opens nevertheless is ended at once.

    Raises:
        BadInputError: the chat template or the tokenizer fails on this prompt.
    """
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})

    def rendered(contents: Sequence[str]) -> str:
        turns = [{**message, "content": content} for message, content in zip(messages, contents, strict=True)]
        return _rendered(tokenizer, turns, thinking=thinking)

    return encode_filled(tokenizer, [message["content"] for message in messages], rendered)


def encode_filled(tokenizer: Any, contents: Sequence[str], rendered: Callable[[Sequence[str]], str]) -> list[int]:
    """Returns the token ids of a template with texts filled in; control tokens in these texts are read as plain text.

    The filled template is tokenised as a whole. Only if one of the texts holds a control token are the texts encoded
    apart from the template, each control token in them as several plain tokens.

    Args:
        tokenizer: of any model.
        contents: the texts to fill in.
        rendered: fills such texts into the template.

    Raises:
        BadInputError: the tokenizer fails on the text, or `rendered` raises it.
    """
    if not any(has_control_token(tokenizer, content) for content in contents):
        return _encode(tokenizer, rendered(contents))
    marks = [f"\ue000{i}\ue001" for i in range(len(contents))]  # private use: in no control token
    ids: list[int] = []
    # A template may repeat a text, or give the system message after the request.
    for piece in re.split(f"({'|'.join(marks)})", rendered(marks)):
        if piece in marks:
            ids += _encode_as_data(tokenizer, contents[marks.index(piece)])
        else:
            ids += _encode(tokenizer, piece)
    return ids


def _rendered(tokenizer: Any, messages: list[dict[str, str]], *, thinking: bool) -> str:
    text = render(tokenizer, messages, thinking=thinking)
    if thinking or text.rstrip().endswith(messages[-1]["content"].rstrip()):  # a mark in the request opens none
        return text
    return text + closing_of_open_thought(text)


def encode_response(tokenizer: Any, response: str) -> list[int]:
    """Returns an answer's token ids, with the end-of-turn token last; no token covers both prompt and answer."""
    control = has_control_token(tokenizer, response)
    ids = _encode_as_data(tokenizer, response) if control else _encode(tokenizer, response)
    return [*ids, tokenizer.eos_token_id]


def _encode_as_data(tokenizer: Any, text: str) -> list[int]:
    """Returns the token ids of a text with control tokens, none of which is read as one.

    Unigram and word-level models have control tokens in their vocabulary, and find them there even if told to split
    them. Then each one is encoded in two parts.
    """
    ids = _encode(tokenizer, text, split=True)
    present = {number: token.content for number, token in _control_tokens(tokenizer) if token.content in text}
    if not present.keys() & set(ids):
        return ids
    longest_first = sorted(map(re.escape, present.values()), key=len, reverse=True)
    parts = re.split(f"({'|'.join(longest_first)})", text)
    halves = [half for part in parts for half in ((part[:1], part[1:]) if part in present.values() else (part,))]
    return [number for half in halves if half for number in _encode(tokenizer, half, split=True)]


def _encode(tokenizer: Any, text: str, *, split: bool = False) -> list[int]:
    # add_special_tokens=False: the template already has the BOS; never add a second one.
    try:
        ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=split)["input_ids"]
    except Exception as error:  # noqa: BLE001 - the tokenizer is the user's; the message is left out, it may quote the text
        raise BadInputError(
            f"the tokenizer cannot encode a text ({type(error).__name__})",
            where=f"model {getattr(tokenizer, 'name_or_path', '')}",
            fix="Save the tokenizer again, or check the prompts and answers for invalid characters.",
        ) from None
    return ids


def has_control_token(tokenizer: Any, text: str) -> bool:
    """Returns whether a text holds one of the tokenizer's special tokens, which could open or end a turn."""
    return any(token.content in text for _, token in _control_tokens(tokenizer))


def _control_tokens(tokenizer: Any) -> list[tuple[int, Any]]:
    return [(number, token) for number, token in tokenizer.added_tokens_decoder.items() if token.special]
