"""Reads preference rows that hold one language each, as TRL, LLaMA-Factory and others write them."""

import re
from collections.abc import Mapping
from typing import Any

from mpo_core.pairs.turns import BadRowError

_ANSWERS = ("chosen", "rejected")
_DIALOGUE = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_preference(item: Mapping[str, Any]) -> bool:
    """Returns whether a row holds a pair in one language: its answers have no prefix source_ or target_."""
    sided = any(item.get(f"{side}_{name}") is not None for side in ("source", "target") for name in _ANSWERS)
    return not sided and (item.get("chosen") is not None or _ranked(item.get("output")))


def as_trl(item: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a preference row under the names and in the forms of TRL; rows in other forms stay as they are.

    Alpaca: `instruction` and `input` become the prompt, a list `output` the chosen and the rejected answer. Dialogues
    in one text, "Human: …" and "Assistant: …" after blank lines, become messages.

    Raises:
        BadRowError: the row has a system message, or earlier turns.
    """
    row = dict(item)
    if str(row.get("system") or "").strip():
        raise BadRowError("system_message", "system: a system message; move it to the setting model.system")
    if row.get("history"):
        raise BadRowError("multi_turn", "history: earlier turns; only one turn of the user is supported")
    if _ranked(row.get("output")) and row.get("chosen") is None:
        row["chosen"], row["rejected"] = row["output"]
    if isinstance(row.get("instruction"), str) and row.get("prompt") is None:
        row["prompt"] = "\n".join(filter(None, (row["instruction"], row.get("input") or "")))
    if all(isinstance(row.get(name), str) and _DIALOGUE.match(row[name]) for name in _ANSWERS):
        row |= {name: _messages(row[name]) for name in _ANSWERS}
    return row


def _ranked(output: object) -> bool:
    return isinstance(output, list) and len(output) == len(_ANSWERS) and all(isinstance(text, str) for text in output)


def _messages(dialogue: str) -> list[dict[str, str]]:
    _, *parts = _DIALOGUE.split(dialogue)
    return [{"role": _ROLES[name], "content": text.strip()} for name, text in zip(parts[::2], parts[1::2], strict=True)]
