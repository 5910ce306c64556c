"""Reads the text of one speaker from a list of chat messages where a text is expected, or says why there is none.

The known messages are those of OpenAI and TRL, `{"role": "user", "content": "…"}`, also with text parts, and those of
ShareGPT, `{"from": "human", "value": "…"}`; as a list, as the JSON or Python text of a list, or a single message.
"""

import ast
import json
import math
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
"""The speaker, by its names in ShareGPT, OpenAI, TRL and similar formats."""
_SPEAKER_KEYS = ("role", "from", "speaker")
_TEXT_KEYS = ("content", "value", "text", "parts")
_LIST_KEYS = {"messages", "conversations", "conversation"}
_OTHER_CONTENT = ("tool_calls", "function_call", "audio", "images", "reasoning_content", "thinking")
# The start of a text that holds messages; and a key that only messages have, if other keys come first.
_LIST_START = re.compile(r"""\s*(array\()?\[\s*\{\s*["'](role|content|from|value|speaker)["']\s*:""", re.IGNORECASE)
_OBJECT_START = re.compile(r"""\s*((array\()?\[\s*)?\{\s*["']""")
_SPEAKER = re.compile(rf"""["']({"|".join(_SPEAKER_KEYS)})["']\s*:\s*["']({"|".join(_SPEAKERS)})["']""", re.IGNORECASE)


class Fault(NamedTuple):
    """Why a row is rejected: a short stable reason, and a sentence that quotes none of its text."""

    reason: str
    detail: str


class Unreadable(NamedTuple):
    """Stands for a value that cannot be read, such as bytes that are not UTF-8."""

    reason: str


class Message(NamedTuple):
    """One message: who speaks (user, assistant or system), and the text."""

    speaker: str
    text: str


def none_for_nan(value: object) -> object:
    """Returns a value, or None for NaN, which stands for a missing value where tools fill the gaps of a column."""
    return None if isinstance(value, float) and math.isnan(value) else value


def text_of(value: object, speaker: Speaker = "user", *, name: str = "the text") -> str | Fault:
    """Returns the text of a value (the value itself, or in a list of messages the one by `speaker`), or what is wrong.

    A conversation must have one turn of the user, and one answer if `speaker` is the assistant; an answer after the
    user's turn is not part of the prompt. For further turns, a system message, pictures and tool calls it returns a
    `Fault`, so that the caller rejects the row and drops nothing silently.

    Returns:
        The text, which is empty where the value is empty or null; or a `Fault` with the reason.
    """
    messages = messages_of(value, speaker, name=name)
    if isinstance(messages, Fault):
        return messages
    speakers = [message.speaker for message in messages]
    if speakers.count("user") > 1 or speakers.count("assistant") > 1 or speakers == ["assistant", "user"]:
        return Fault("multi_turn", f"{name}: {len(messages)} turns; only one turn of the user is supported")
    if not messages:
        return ""
    if speaker not in speakers:
        return Fault("no_turn", f"{name}: no turn of the {speaker}")
    return messages[speakers.index(speaker)].text


def messages_of(value: object, speaker: Speaker, *, name: str) -> list[Message] | Fault:
    """Returns a value's messages of user and assistant, or the fault; a plain text is a message of `speaker`."""
    if isinstance(value, Unreadable):
        return Fault(value.reason, f"{name} cannot be read")
    if none_for_nan(value) is None:
        return []
    messages = _messages(value)
    if isinstance(messages, Fault):
        return Fault(messages.reason, f"{name}: {messages.detail}")
    if messages is None:
        if not isinstance(value, str):
            return Fault("not_text", f"{name} holds a {type(value).__name__}, not text")
        messages = [Message(speaker, value)]
    messages = [message for message in messages if message.speaker != "system" or message.text.strip()]
    if any(message.speaker == "system" for message in messages):
        detail = f"{name}: a system message; move it to the setting model.system"
        return Fault("system_message", detail)
    return next((fault for m in messages if (fault := text_fault(m.text, name)) is not None), messages)


def text_fault(text: str, name: str) -> Fault | None:
    """Returns the fault of a text that no file can hold: half of a surrogate pair, or a NUL; None without one."""
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON may carry half of a surrogate pair
        return Fault("broken_unicode", f"{name} holds broken Unicode (a lone surrogate)")
    if "\0" in text:
        return Fault("nul_character", f"{name} holds {text.count(chr(0))} NUL characters")
    return None


def _messages(value: object) -> list[Message] | Fault | None:
    """Returns the messages that a value holds; None where it holds no list of messages."""
    if isinstance(value, str):
        return _messages_in_text(value)
    if isinstance(value, Mapping):
        value = _as_list(value)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return None
    if not any(isinstance(item, Mapping) and _first_key(item, _SPEAKER_KEYS) for item in value):
        return [] if isinstance(value, list) and not value else None
    messages: list[Message] = []
    for item in value:
        message = _message(item)
        if isinstance(message, Fault):
            return message
        messages.append(message)
    return messages


def _messages_in_text(text: str) -> list[Message] | Fault | None:
    """Returns the messages that a text holds, such as a CSV field; None where it is a plain text."""
    starts_as_list = _LIST_START.match(text) is not None
    if not starts_as_list and not (_OBJECT_START.match(text) and _SPEAKER.search(text)):
        return None
    messages: list[Message] | Fault | None = None
    for parse in (json.loads, ast.literal_eval):
        try:
            messages = _messages(parse(text))
            break
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    if messages is None and (starts_as_list or text.lstrip().startswith(("[", "array("))):
        # NumPy writes lists without commas, which cannot be split reliably.
        return Fault("unreadable_messages", "the messages have an unknown form; write them as JSON")
    return messages


def _as_list(value: Mapping[Any, Any]) -> object:
    """Returns the list in `{"messages": […]}`, of columns of messages (older Parquet), or of one message."""
    if len(value) == 1 and next(iter(value)) in _LIST_KEYS:
        return next(iter(value.values()))
    speaker_key, text_key = _first_key(value, _SPEAKER_KEYS), _first_key(value, _TEXT_KEYS)
    if speaker_key is None:
        return value
    speakers, texts = value[speaker_key], value.get(text_key)
    if isinstance(speakers, list) and isinstance(texts, list) and len(speakers) == len(texts):
        return [{"role": a, "content": b} for a, b in zip(speakers, texts, strict=True)]
    return [value]


def _message(item: object) -> Message | Fault:
    speaker_key = _first_key(item, _SPEAKER_KEYS) if isinstance(item, Mapping) else None
    if not isinstance(item, Mapping) or speaker_key is None or not isinstance(item[speaker_key], str):
        return Fault("unknown_speaker", "a message without a speaker")
    speaker = _SPEAKERS.get(item[speaker_key].strip().lower())
    if speaker is None:
        return Fault("unknown_speaker", "a message by someone other than user and assistant")
    if any(item.get(key) for key in _OTHER_CONTENT):
        return Fault("not_text", "a message with more than text, such as a tool call")
    text = item.get(_first_key(item, _TEXT_KEYS))
    if isinstance(text, list) and text:
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in text]
        if not all(isinstance(part, str) for part in parts):
            return Fault("not_text", "a message with more than text, such as a picture")
        text = "".join(map(str, parts))
    if not isinstance(text, str):
        return Fault("not_text", "a message without text")
    return Message(speaker, text)


def _first_key(item: Mapping[Any, Any], keys: Sequence[str]) -> str | None:
    """Returns the first of some keys with a value; None if none has one."""
    return next((key for key in keys if item.get(key) is not None), None)
