"""A server's own words about an error: shortened, printable, without what it echoes of the request."""

import html
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from mpo_core.contract.redact import redact

_LONGEST = 200
_LOOKED_AT = 4000
_KEYS = (
    "error",
    "message",
    "detail",
    "error_description",
    "error_msg",
    "errorMessage",
    "title",
    "msg",
    "errors",
    "choices",
)
_WINDOW, _WINDOW_OF_DENSE = 12, 5
"""Characters in a row that count as echoed; scripts such as Chinese say more with fewer."""
_LEAST = 3
"""Shorter texts than this are not looked for."""


def server_words(body: bytes, *, hidden: Iterable[str]) -> str:
    """Returns what the server says in an error's body, or an empty text, without what it repeats of `hidden` texts."""
    text = body[: _LOOKED_AT * 4].decode("utf-8", errors="replace")
    try:
        message = _message(json.loads(body))
    except (ValueError, RecursionError):
        message = _of_page(text)
    plain = _unescaped(message[:_LOOKED_AT])
    for secret in hidden:
        plain = _without(plain, _unescaped(secret))
    plain = redact("".join(char if char.isprintable() else " " for char in plain))
    plain = " ".join(plain.split())
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1].rstrip() + "…"


def _message(value: Any) -> str:
    """Finds the message in an error's data; never takes an `input`, in which servers repeat the request."""
    for _ in range(8):
        if isinstance(value, list):
            value = value[0] if value else ""
        elif isinstance(value, dict):
            if isinstance(value.get("loc"), list) and isinstance(value.get("msg"), str):  # FastAPI
                return f"{'.'.join(map(str, value['loc']))}: {value['msg']}"
            value = next((value[key] for key in _KEYS if value.get(key)), "")
        else:
            break
    return value if isinstance(value, str) else ""


def _of_page(text: str) -> str:
    if not re.search(r"<(?:!doctype|html|head|body|title|h1)", text, re.IGNORECASE):
        return text
    title = re.search(r"<title[^>]*>([^<]*)</title>", text, re.IGNORECASE)
    return title.group(1) if title else re.sub(r"<[^>]*>", " ", text)


def _unescaped(text: str) -> str:
    """Removes the escapes of JSON, HTML and URLs from a text, up to three layers of them."""
    for _ in range(3):
        plain = re.sub(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))", lambda m: chr(int(m[1] or m[2], 16)), text)
        plain = re.sub(r"\\+([\"'/\\])", r"\1", re.sub(r"\\+[nrt]", " ", plain))
        plain = html.unescape(plain)
        plain = unquote(plain) if "%" in plain else plain
        if plain == text:
            break
        text = plain
    return " ".join(text.split())


def _without(text: str, secret: str) -> str:
    """Replaces by `…` every run of letters and digits in a text that also occurs in the secret."""
    at, letters = _letters(text)
    hidden = _letters(secret)[1]
    if len(hidden) < _LEAST:
        return text
    echoed = [False] * len(text)
    longest = min(len(hidden), _WINDOW)
    for size in {longest, min(longest, _WINDOW_OF_DENSE)}:
        windows = {hidden[start : start + size] for start in range(len(hidden) - size + 1)}
        for start in range(len(letters) - size + 1):
            window = letters[start : start + size]
            if window in windows and (size == longest or not window.isascii()):
                first, last = at[start], at[start + size - 1]
                echoed[first : last + 1] = [True] * (last + 1 - first)
    return re.sub("\x00+", "…", "".join("\x00" if hide else char for char, hide in zip(text, echoed, strict=True)))


def _letters(text: str) -> tuple[list[int], str]:
    """Returns the positions of the letters and digits in a text, and these characters in lower case."""
    at = [number for number, char in enumerate(text) if char.isalnum()]
    return at, "".join(text[number].lower()[:1] for number in at)
