"""Texts out of one row of a file of pairs: plain strings, single turns, or lists of messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_ROLES = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
    "developer": "system",
}
"""Who speaks, by the names of ShareGPT, OpenAI, TRL and their kin."""
PROMPT_KEYS = ("prompt", "conversations", "messages")
"""What the column of a prompt may be called, after `source_` or `target_`."""


class BadRowError(ValueError):
    """A row of a file of pairs cannot be used.

    Args:
        reason: short stable name of what is wrong.
        detail: columns, types and numbers that explain it; never text of prompts or answers.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Turn(NamedTuple):
    """One message: who speaks (user, assistant or system), and the text."""

    role: str
    text: str


def side_texts(item: Mapping[str, Any], prefix: str) -> tuple[str, str, str]:
    """Reads the prompt, the chosen and the rejected answer of one side of a row.

    Args:
        item: a row. The prompt is in `prompt`, `conversations` or `messages`, or opens both answers, as in TRL's
            implicit prompts. Each value is a text, a turn, or a list of turns.
        prefix: what stands before these names: `source_`, `target_` or nothing.

    Raises:
        BadRowError: a key is missing, a value is no text, or the conversation is not one request and one answer.
    """
    answers = [_turns(_required(item, f"{prefix}{name}"), f"{prefix}{name}", "assistant") for name in _ANSWERS]
    key = next((f"{prefix}{name}" for name in PROMPT_KEYS if item.get(f"{prefix}{name}") is not None), None)
    if key is not None:
        asked = _turns(item[key], key, "user")
    elif all(len(turns) > 1 for turns in answers):
        key, asked = f"{prefix}{_ANSWERS[0]}", answers[0][:-1]
        if asked != answers[1][:-1]:
            raise BadRowError("multi_turn", f"{prefix}chosen and {prefix}rejected answer different conversations")
    else:
        raise _missing(item, f"{prefix}prompt")
    prompt = _only(asked, "user", key)
    chosen, rejected = (
        _only(_without_prompt(turns, asked), "assistant", f"{prefix}{name}")
        for name, turns in zip(_ANSWERS, answers, strict=True)
    )
    return prompt, chosen, rejected


_ANSWERS = ("chosen", "rejected")


def _required(item: Mapping[str, Any], key: str) -> Any:
    if item.get(key) is None:
        raise _missing(item, key)
    return item[key]


def _missing(item: Mapping[str, Any], key: str) -> BadRowError:
    names = [name for name, value in item.items() if value is not None and str(name).isidentifier()]
    return BadRowError("missing_key", f"no {key} among the keys {', '.join(names[:9]) or '(none)'}")


def _without_prompt(turns: list[Turn], asked: list[Turn]) -> list[Turn]:
    """The turns of an answer; many tools repeat the prompt before it."""
    return turns[len(asked) :] if len(turns) > len(asked) and turns[: len(asked)] == asked else turns


def _turns(value: Any, column: str, speaker: str) -> list[Turn]:
    """The turns of a value; a plain text is one of `speaker`."""
    if isinstance(value, str):
        return [Turn(speaker, clean_text(value, column))]
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise BadRowError("not_text", f"{column} holds a {type(value).__name__}")
    return [_turn(turn, column) for turn in value]


def _turn(turn: Any, column: str) -> Turn:
    if not isinstance(turn, dict):
        raise BadRowError("not_text", f"{column} holds a list of {type(turn).__name__}, not of messages")
    speaker = turn["role"] if turn.get("role") is not None else turn.get("from")
    role = _ROLES.get(speaker.strip().lower()) if isinstance(speaker, str) else None
    if role is None:
        raise BadRowError("wrong_role", f"{column}: the speaker is neither user nor assistant")
    text = turn["content"] if turn.get("content") is not None else turn.get("value")
    if isinstance(text, list) and text:  # OpenAI's parts of a message
        parts = [part.get("text") if isinstance(part, dict) else part for part in text]
        texts = [part for part in parts if isinstance(part, str)]
        text = "".join(texts) if len(texts) == len(parts) else None
    if not isinstance(text, str):
        raise BadRowError("not_text", f"{column}: a message without text")
    return Turn(role, clean_text(text, column))


def _only(turns: list[Turn], role: str, column: str) -> str:
    """The text of the one turn that is wanted here."""
    if any(turn.role == "system" for turn in turns):
        raise BadRowError("system_turn", f"{column}: pairs carry no system message; set model.system instead")
    if not turns:
        raise BadRowError("no_turn", f"{column} is an empty list")
    if len(turns) > 1:
        raise BadRowError("multi_turn", f"{column} holds {len(turns)} turns, one is wanted")
    if turns[0].role != role:
        raise BadRowError("wrong_role", f"{column} is spoken by the {turns[0].role}, wanted: the {role}")
    return turns[0].text


def clean_text(text: str, column: str) -> str:
    """The text as it is.

    Raises:
        BadRowError: it holds half of a surrogate pair, which no codec takes, or a NUL, which is no text.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRowError("broken_unicode", f"{column} holds a lone surrogate") from None
    if "\0" in text:
        raise BadRowError("nul_character", f"{column} holds {text.count(chr(0))} NUL characters")
    return text
