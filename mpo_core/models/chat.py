"""Turns requests and answers into token ids, in the same way for training and inference.

The text of a request or an answer is data: control tokens inside it are encoded as
plain text, so that it cannot open a turn.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpo_core.contract.errors import BadInputError
from mpo_core.models.templates import render
from mpo_core.reply import closing_of_open_thought

_BARRED = re.compile(r"<[|｜].*[|｜]>", re.DOTALL)
_PUNCTUATED = re.compile(r"\S*[^\w\s]\S*", re.DOTALL)
_INSIDE_A_TURN = re.compile(r"</?\w*(?:think|thought|reason|tool|function)\w*>", re.IGNORECASE)


def encode_prompt(tokenizer: Any, prompt: str, *, system: str | None = None, thinking: bool = False) -> list[int]:
    """Returns a prompt's token ids: the conversation in the chat template, up to and including the assistant's header.

    If the model may not think, the template gets `enable_thinking=false`, and a thought that it opens nevertheless is
    ended at once.

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

    The filled template is tokenised as a whole. Only if a control token would be read in one of the texts are the texts
    encoded apart from the template, with that token as several plain ones.

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
    request = messages[-1]["content"].rstrip()
    if thinking or (request and text.rstrip().endswith(request)):  # a mark in the request opens none
        return text
    return text + closing_of_open_thought(text)


def encode_response(tokenizer: Any, response: str) -> list[int]:
    """Returns an answer's token ids, with the end-of-turn token last; no token covers both prompt and answer."""
    return [*encode_data(tokenizer, response), tokenizer.eos_token_id]


def encode_data(tokenizer: Any, text: str) -> list[int]:
    """Returns a text's token ids alone; control tokens in it are read as plain text."""
    control = has_control_token(tokenizer, text)
    return _encode_as_data(tokenizer, text) if control else _encode(tokenizer, text)


def end_of_turn(tokenizer: Any) -> int | None:
    """Returns the control token with which the chat template ends the last answer; None if it ends it with none.

    It may be another token than the tokenizer's end token: of a model that was trained on a template of its own, or by
    a tool that left the end token of the base model in place.
    """
    return _end_of_turn(tokenizer, len(tokenizer), str(tokenizer.chat_template))


@functools.lru_cache(maxsize=8)
def _end_of_turn(tokenizer: Any, size: int, template: str) -> int | None:
    del size, template  # parts of the key
    question, answer = "\ue000q\ue001", "\ue000a\ue001"
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    try:
        # Without the header of another answer: gpt-oss ends the last answer with another token than those before it.
        _, behind = render(tokenizer, turns, arguments={"add_generation_prompt": False}).rsplit(answer, 1)
        first = _encode(tokenizer, behind.lstrip())[:1]
    except BadInputError:  # a template for one turn
        return None
    return first[0] if first and first[0] in _control_tokens(tokenizer) else None


def _encode_as_data(tokenizer: Any, text: str) -> list[int]:
    """Returns the token ids of a text, none of which is a control token.

    A tokenizer can be told to split special tokens, but finds others that were added all the same; Unigram and
    word-level models find special ones too, in their vocabulary. Then each is encoded in two parts. A text that only
    becomes a control token as the tokenizer normalises it, such as one in full-width letters, is cut in half until it
    does not.
    """
    ids = _encode(tokenizer, text, split=True)
    control = _control_tokens(tokenizer)
    if not control.keys() & set(ids):
        return ids
    if len(text) == 1:
        return [] if tokenizer.unk_token_id is None else [tokenizer.unk_token_id]
    present = sorted((re.escape(mark) for mark in control.values() if mark in text), key=len, reverse=True)
    parts = [part for part in re.split(f"({'|'.join(present)})", text) if part] if present else [text]
    if parts == [text]:
        cut = 1 if present else len(text) // 2
        parts = [text[:cut], text[cut:]]
    return [number for part in parts for number in _encode_as_data(tokenizer, part)]


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
    """Returns whether the tokenizer would read a control token in a text, which could open or end a turn."""
    control = _control_tokens(tokenizer)
    return any(mark in text for mark in control.values()) or bool(control.keys() & set(_encode(tokenizer, text)))


def _control_tokens(tokenizer: Any) -> Mapping[int, str]:
    """Returns the tokens that could open or end a turn, by number: all special ones, and others that frame turns.

    The token for unknown text is none, since it can stand for any.
    """
    return _marks(tokenizer, len(tokenizer), str(tokenizer.chat_template))


@functools.lru_cache(maxsize=8)
def _marks(tokenizer: Any, size: int, template: str) -> Mapping[int, str]:
    del size  # a part of the key: tokens may be added to a tokenizer
    return {
        number: token.content
        for number, token in tokenizer.added_tokens_decoder.items()
        if (token.special or _frames_turns(token.content, template)) and number != tokenizer.unk_token_id
    }


def _frames_turns(mark: str, template: str) -> bool:
    """Returns whether a token that is not special frames turns: one like `<|im_start|>`, or one of the template.

    Marks with bars always count. Words that were added for a language do not, nor do marks of thoughts and tools such
    as `<think>`, which stand inside a turn.
    """
    if _BARRED.fullmatch(mark):
        return True
    return mark in template and bool(_PUNCTUATED.fullmatch(mark)) and not _INSIDE_A_TURN.fullmatch(mark)
