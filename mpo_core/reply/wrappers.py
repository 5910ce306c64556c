"""What a chat model puts around a translation that it was to give alone."""

from __future__ import annotations

import ast
import json
import re
from typing import Any, NamedTuple

from mpo_core.languages import LANGUAGES
from mpo_core.reply import words
from mpo_core.reply.thoughts import separate

UNSEPARATED = "unseparated_reply"
"""The reason where more came back than a translation, and nobody can say which part of it is the translation."""
_TAG_NAMES = "translation|translated_text|translated|target|answer|final_answer|output|response|result|text|solution"
_TAG = re.compile(rf"<({_TAG_NAMES})(?:\s[^<>\n]*)?>(.*?)</\1\s*>", re.DOTALL | re.IGNORECASE)
_LOOSE_TAG = re.compile(rf"</?(?:{_TAG_NAMES})\s*>", re.IGNORECASE)
_FENCED = re.compile(r"(?:^|\n)[ \t]*(`{3,}|~{3,})[^\n]*\n(.*?)\n?[ \t]*\1[ \t]*(?=\n|\Z)", re.DOTALL)
_FENCE = re.compile(r"`{3,}|~{3,}")
_KEYS: tuple[str, ...] = (
    *("translation", "translated_text", "translatedtext", "translated", "target_text", "target", "text", "output"),
    *("answer", "result", "response", "content", "final_answer"),
)
_QUOTES = {
    '"': '"', "'": "'", "“": "”", "‘": "’", "„": "“”", "«": "»", "‹": "›", "「": "」", "『": "』", "”": "”",
    "《": "》", "〈": "〉", "`": "`", "*": "*", "_": "_", "〝": "〟", "＂": "＂",
}  # fmt: skip
_MARKUP = "*_`"
_COLON = re.compile(r"[:：]\**")
_MOST_PREAMBLE = 160
"""Characters of the longest preamble that is taken for one."""
_DEPTH = 6
"""Layers of wrapping that are taken off."""
_LONGEST = 10_000
"""Characters, beyond ten times the source's, of the longest reply that is searched for a translation."""
_STOPS = re.compile(r"[.!?…。！？।؟۔]+(?=\s|\Z|[^\x00-\x7f])|[。！？]")


class Unwrapped(NamedTuple):
    """A translation, or the reason why none can be taken from the reply."""

    text: str
    fault: str | None = None


def unwrap_translation(reply: str, source: str, target: str = "") -> Unwrapped:
    """Takes a translation out of a chat model's reply.

    What the source has itself (quotes, a fence, JSON, a note, a tag) belongs to the translation and stays. A reply
    with more lines than its source, or with marks of a thought left in it, is no translation.

    Args:
        reply: the whole reply.
        source: the text that was to be translated.
        target: code of the language wanted, where it is known.
    """
    parts = separate(reply, context=source)
    if parts.fault is not None:
        return Unwrapped("", parts.fault)
    text = parts.text.strip()
    if len(text) > _LONGEST + 10 * len(source):
        return Unwrapped("", UNSEPARATED)
    for _ in range(_DEPTH):
        before = text
        text = _without_tags(text, source).strip()
        text = _without_fence(text, source).strip()
        text = _without_json(text, source, target).strip()
        text = _without_frame(text, source, target).strip()
        text = _without_quotes(text, source).strip()
        if text == before:
            break
    return Unwrapped("", UNSEPARATED) if _is_more(text, parts.text, source) else Unwrapped(text)


def _is_more(text: str, reply: str, source: str) -> bool:
    """Whether more than a translation is left, or nothing of a reply that said something."""
    if _structured(text) and not _structured(source):
        return True
    if _FENCE.search(text) and not _FENCE.search(source):
        return True
    return _lines(text) > max(1, _lines(source)) or (not text and bool(reply.strip()))


def _lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


def _without_tags(text: str, source: str) -> str:
    """The inside of a tag that names the translation: ours around the text, or the model's own."""
    found = [match for match in _TAG.finditer(text) if f"<{match.group(1).casefold()}" not in source.casefold()]
    if found:
        return found[-1].group(2)
    loose = _LOOSE_TAG.search(text)
    return text if loose is None or loose.group().casefold() in source.casefold() else _LOOSE_TAG.sub("", text)


def _without_fence(text: str, source: str) -> str:
    if _FENCE.search(source):
        return text
    found = list(_FENCED.finditer(text))
    if len(found) == 1:
        return found[0].group(2)
    inline = re.fullmatch(r"(`{3,})(.*?)\1", text, re.DOTALL)
    return inline.group(2) if inline else text


def _structured(text: str) -> bool:
    return re.match(r"\s*(?:\{\s*[\"'“]|\[\s*[\"'{“])", text) is not None


def _without_json(text: str, source: str, target: str) -> str:
    """The translation in a JSON object, list or string."""
    if not _structured(text) or _structured(source):
        return text
    value = _named(_parsed(text), source, target)
    return text if value is None else value


def _parsed(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return None


def _named(value: Any, source: str, target: str, depth: int = 0) -> str | None:
    """The one text in a parsed value that is the translation; None if that is not plain."""
    if isinstance(value, str) or depth > _DEPTH:
        return value if isinstance(value, str) else None
    if isinstance(value, list):
        return _named(value[0], source, target, depth + 1) if len(value) == 1 else None
    if not isinstance(value, dict):
        return None
    lower = {str(key).casefold().replace(" ", "_").replace("-", "_"): inner for key, inner in value.items()}
    name = LANGUAGES[target].name.casefold() if target in LANGUAGES else ""
    for key in (target, name, *_KEYS):
        if key in lower and not (key in {"text", "content"} and lower[key] == source):
            return _named(lower[key], source, target, depth + 1)
    others = [inner for inner in lower.values() if inner != source]
    return _named(others[0], source, target, depth + 1) if len(others) == 1 else None


def _without_frame(text: str, source: str, target: str) -> str:
    """The text without the preamble before it and the notes after it."""
    if _structured(text):
        return text
    lines = [line for line in text.splitlines() if not _repeats(line, source)] or text.splitlines()
    return _without_notes(_without_preamble("\n".join(lines).strip(), source), source, target)


def _repeats(line: str, source: str) -> bool:
    """Whether a line shows the source again, with or without a label such as `English:`."""
    plain = line.strip().strip("*_\"“”'` ")
    label, _, rest = plain.partition(":")
    known = label.strip(" *").casefold() in words.SOURCE_LABELS
    wanted = source.strip().casefold()
    return _lines(source) == 1 and bool(rest) and known and rest.strip(" *\"“”'").casefold() == wanted.strip("\"“”'")


def _without_preamble(text: str, source: str) -> str:
    if words.OPENER.match(source) or words.ABOUT_TRANSLATION.search(source[:_MOST_PREAMBLE]):
        return text
    opener = words.OPENER.match(text)
    colon = _COLON.search(text, 0, _MOST_PREAMBLE)
    if colon is not None and "\n" not in text[: colon.start()] and text[colon.end() :].strip():
        head, rest = text[: colon.start()], text[colon.end() :].lstrip(" \t*_")
        about = words.ABOUT_TRANSLATION.search(head) or opener or _is_language(head)
        if rest.startswith("\n") and (about or words.HERE.match(head)):
            return rest
        if about and not _COLON.search(source, 0, _MOST_PREAMBLE):
            return rest
    first, _, rest = text.partition("\n")
    if rest.strip() and len(first) <= _MOST_PREAMBLE and (opener or words.ABOUT_TRANSLATION.search(first)):
        return rest
    # "Sure! …" on the translation's own line: a sentence more than the source has.
    if opener and opener.group().rstrip()[-1:] in {"!", "！", ".", "。"} and _stops(text) > _stops(source):
        return text[opener.end() :]
    return text


def _stops(text: str) -> int:
    return len(_STOPS.findall(text))


def _is_language(head: str) -> bool:
    """Whether a label is a language's name alone, as in `Swahili:`."""
    plain = head.strip(' *_#-"“”[]()').casefold()
    plain = re.sub(r"^(?:in|into|en|auf|kwa)\s+|\s+(?:text|version)$", "", plain)
    return plain in words.LANGUAGE_NAMES or plain in {entry.name.casefold() for entry in LANGUAGES.values()}


def _without_notes(text: str, source: str, target: str) -> str:
    if words.NOTE.search("\n" + source):
        return text
    note = words.NOTE.search(text, 1)
    if note is not None and text[: note.start()].strip():
        return text[: note.start()]
    inline = None if source.rstrip()[-1:] in set(")]）】") else words.BRACKETED_NOTE.search(text)
    if inline is None and target != "en":
        inline = words.ENGLISH_NOTE.search(text)
    return text[: inline.start()] if inline is not None and text[: inline.start()].strip() else text


def _without_quotes(text: str, source: str) -> str:
    """The text without one pair of quotes or emphasis marks around the whole of it."""
    plain = source.strip()
    width = 2 if text[:2] in {"**", "__"} else 1
    opening, closing, inner = text[:width], text[-width:], text[width:-width]
    ends = _QUOTES.get(opening[:1])
    if ends is None or closing[:1] not in ends or len(text) <= 2 * width or not inner.strip():
        return text
    if opening[0] in _MARKUP:
        return inner if opening[0] not in plain and inner.count(opening) == 0 else text
    if plain[:1] in _QUOTES and plain[:1] not in _MARKUP:  # the source is quoted, or begins with a quotation
        return text
    apart = opening in inner or closing in inner
    # Apostrophes within words are no quotes.
    if opening in {"'", "‘"}:
        apart = bool(re.search(rf"(?<!\w)[{opening}{closing}]|[{opening}{closing}](?!\w)", inner))
    return text if apart else inner
