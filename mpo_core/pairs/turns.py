"""Reads the three texts of one side of a pair, whatever their form: texts, single messages, or lists of messages."""

from collections.abc import Mapping
from typing import Any

from mpo_core.files.messages import Fault, Message, Speaker, messages_of, text_fault
from mpo_core.languages.scripts import count_letters
from mpo_core.pairs.gates import Texts

PROMPT_KEYS = ("prompt", "conversations", "messages", "question", "instruction")
"""Names of the column of a prompt, after `source_` or `target_`."""
_ANSWERS = ("chosen", "rejected")
_SENTENCE = 10
"""Letters from which on a prompt at the beginning of both answers is no chance; a Chinese character counts as three."""


class BadRowError(ValueError):
    """A row of a file of pairs cannot be used.

    `reason` is a short stable name; `detail` has columns, types and numbers, never text of prompts or answers.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def side_texts(item: Mapping[str, Any], prefix: str) -> Texts:
    """Reads the prompt, the chosen and the rejected answer of a row in one of its two languages.

    Args:
        item: a row. The prompt is in `prompt`, `conversations` or `messages`, or opens both answers, as in TRL's
            implicit prompts. Each value is a text, a message, or a list of messages.
        prefix: beginning of the key's names: `source_`, `target_` or nothing.

    Raises:
        BadRowError: a key is missing, a value is no text, or the conversation is not one request and one answer.
    """
    chosen, rejected = (_messages(item, f"{prefix}{name}", "assistant") for name in _ANSWERS)
    key = next((f"{prefix}{name}" for name in PROMPT_KEYS if item.get(f"{prefix}{name}") is not None), None)
    if key is not None:
        prompt = _messages(item, key, "user")
    elif len(chosen) > 1 and len(rejected) > 1:
        key, prompt = f"{prefix}{_ANSWERS[0]}", chosen[:-1]
        if prompt != rejected[:-1]:
            raise BadRowError("multi_turn", f"{prefix}chosen and {prefix}rejected answer different conversations")
    else:
        raise _missing_key(item, f"{prefix}prompt")
    answers = [
        _only_text(_without_prompt(messages, prompt), "assistant", f"{prefix}{name}")
        for name, messages in zip(_ANSWERS, (chosen, rejected), strict=True)
    ]
    text = _only_text(prompt, "user", key)
    return Texts(text, *_without_repeated(text, answers))


def _without_repeated(prompt: str, answers: list[str]) -> list[str]:
    """Returns the answers without the prompt, where both are texts that begin with it, as some tools write them."""
    start = prompt.strip()
    rests = [answer.lstrip().removeprefix(start) for answer in answers]
    letters = sum(map(str.isalpha, start)) + 2 * count_letters("Hani", start)
    repeated = letters >= _SENTENCE and all(
        answer.lstrip().startswith(start) and rest[:1].isspace() and rest.strip()
        for answer, rest in zip(answers, rests, strict=True)
    )
    return [rest.lstrip() for rest in rests] if repeated else answers


def _messages(item: Mapping[str, Any], key: str, speaker: Speaker) -> list[Message]:
    if item.get(key) is None:
        raise _missing_key(item, key)
    messages = messages_of(item[key], speaker, name=key)
    if isinstance(messages, Fault):
        raise BadRowError(*messages)
    return messages


def _missing_key(item: Mapping[str, Any], key: str) -> BadRowError:
    names = [name for name, value in item.items() if value is not None and str(name).isidentifier()]
    return BadRowError("missing_key", f"the key {key} is missing; present: {', '.join(names[:9]) or 'none'}")


def _without_prompt(messages: list[Message], prompt: list[Message]) -> list[Message]:
    """Returns the messages of an answer without the prompt, which many tools repeat before it."""
    repeats = len(messages) > len(prompt) and messages[: len(prompt)] == prompt
    return messages[len(prompt) :] if repeats else messages


def _only_text(messages: list[Message], speaker: Speaker, key: str) -> str:
    """Returns the text of a list of messages that must hold exactly one, by this speaker."""
    if not messages:
        raise BadRowError("no_turn", f"{key} is an empty list")
    if len(messages) > 1:
        raise BadRowError("multi_turn", f"{key} holds {len(messages)} turns instead of one")
    if messages[0].speaker != speaker:
        raise BadRowError("wrong_role", f"{key} is by the {messages[0].speaker} instead of the {speaker}")
    return messages[0].text


def clean_text(text: str, name: str) -> str:
    """Returns a text unchanged if a file can hold it.

    Raises:
        BadRowError: it holds half of a surrogate pair or a NUL.
    """
    fault = text_fault(text, name)
    if fault is not None:
        raise BadRowError(*fault)
    return text
