"""Lists of chat messages where a text is expected: the one text of one speaker, or the reason why there is none.

Known are the messages of OpenAI and TRL, `{"role": "user", "content": "…"}`, with text parts too, and those of
ShareGPT, `{"from": "human", "value": "…"}`; as lists, as the JSON or Python text of a list, or alone.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

Speaker = Literal["user", "assistant"]
_SPEAKERS = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
}
_SHAPES = (("role", "content"), ("from", "value"))
_WRITTEN = re.compile(r"""\s*\[\s*\{\s*["'](role|content|from|value)["']\s*:""")
_OTHER_CONTENT = ("tool_calls", "function_call", "audio", "images", "reasoning_content", "thinking")


class Fault(NamedTuple):
    """Why a row is rejected: a short stable reason, and a sentence that shows none of its text."""

    reason: str
    detail: str


class _Message(NamedTuple):
    speaker: str
    text: str


def text_of(value: object, speaker: Speaker = "user", *, name: str = "the text") -> str | Fault:
    """The text of a value: the value itself, or what `speaker` says where it is a list of messages.

    A conversation must have one user turn, and one answer where the answer is asked for; the answer that follows a
    user's turn is no part of the prompt. Nothing is left out in silence: further turns, a system message, pictures
    and calls of tools are faults.

    Args:
        value: text, a list of messages, or anything else.
        speaker: whose text is wanted.
        name: what the value is, for the fault's detail, such as "column 'prompt'".

    Returns:
        The text, which may be empty where the value is empty or null; or the fault.
    """
    messages = _messages(value)
    if isinstance(messages, Fault):
        return Fault(messages.reason, f"{name}: {messages.detail}")
    text: object = value
    if messages is not None:
        said = _said(messages, speaker)
        if isinstance(said, Fault):
            return Fault(said.reason, f"{name}: {said.detail}")
        text = said
    if text is None:
        return ""
    if not isinstance(text, str):
        return Fault("not_text", f"{name} holds a {type(text).__name__}, not text")
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON may carry half of a surrogate pair
        return Fault("broken_unicode", f"{name} holds broken Unicode (a lone surrogate)")
    return text


def _said(messages: Sequence[_Message], speaker: Speaker) -> str | Fault:
    spoken = [message for message in messages if message.speaker != "system" or message.text.strip()]
    speakers = [message.speaker for message in spoken]
    if "system" in speakers:
        return Fault("system_message", "a system message; put it into model.system and out of the messages")
    strange = next((one for one in speakers if one not in _SPEAKERS.values()), None)
    if strange is not None:
        return Fault("unknown_speaker", "a message of neither user nor assistant")
    if speakers.count("user") > 1 or speakers.count("assistant") > 1 or speakers == ["assistant", "user"]:
        return Fault("multi_turn", f"{len(spoken)} turns; one turn of the user is supported")
    if not spoken:
        return ""
    if speaker not in speakers:
        return Fault("no_turn", f"no turn of the {speaker}")
    return spoken[speakers.index(speaker)].text


def _messages(value: object) -> list[_Message] | Fault | None:
    """The messages that a value stands for; None where it is no list of messages."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, Mapping):
        value = _unzipped(value)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return None
    shape = next((keys for keys in _SHAPES if any(isinstance(m, Mapping) and keys[0] in m for m in value)), None)
    if shape is None:
        return [] if isinstance(value, list) and not value else None
    found: list[_Message] = []
    for item in value:
        message = _message(item, *shape)
        if isinstance(message, Fault):
            return message
        found.append(message)
    return found


def _parsed(text: str) -> object:
    """A list of messages that a CSV field holds as text; the text itself where it holds none."""
    if not _WRITTEN.match(text):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def _unzipped(value: Mapping[Any, Any]) -> object:
    """The list in `{"messages": […]}`, of columns of messages (older Parquet), or of one message; else the value."""
    if len(value) == 1 and next(iter(value)) in {"messages", "conversations", "conversation"}:
        return next(iter(value.values()))
    for who, what in _SHAPES:
        if who in value and what in value:
            speakers, texts = value[who], value[what]
            if isinstance(speakers, list) and isinstance(texts, list) and len(speakers) == len(texts):
                return [{who: a, what: b} for a, b in zip(speakers, texts, strict=True)]
            return [value]
    return value


def _message(item: object, who: str, what: str) -> _Message | Fault:
    if not isinstance(item, Mapping) or not isinstance(item.get(who), str):
        return Fault("not_text", "a message without a speaker")
    if any(item.get(key) for key in _OTHER_CONTENT):
        return Fault("not_text", "a message with more than text, such as a call of a tool")
    content = item.get(what)
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        if not all(isinstance(part, str) for part in parts):
            return Fault("not_text", "a message with more than text, such as a picture")
        content = "".join(map(str, parts))
    if content is None:
        content = ""
    if not isinstance(content, str):
        return Fault("not_text", f"a message whose content is a {type(content).__name__}")
    name = item[who].strip().lower()
    return _Message(_SPEAKERS.get(name, name), content)
