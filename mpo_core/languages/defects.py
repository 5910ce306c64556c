"""Flaws that machine translation and sampling leave in a text: counted or scored, never fixed here.

Each takes what it needs of source and translation; an equal flaw in the source is no flaw of the translation.
"""

from __future__ import annotations

import html
import re
import unicodedata

import regex

_WINDOW = 12
"""Characters of a window in `repeated_share`: natural text hardly repeats so many in a row, in any script."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_EMPHASIS = re.compile(r"\*{2,}|_{2,}|`+")
_BOLD = ("**", "__")
_ITEM = re.compile(r"^[ \t]*(?:#{1,6}(?=\s)|[-*+•](?=\s)|\||>)", re.MULTILINE)
_ENDINGS = regex.compile(r"[\p{Sentence_Terminal}…:;：；།༎]")
"""What may end a sentence, in any script; Tibetan's marks are none to Unicode."""
_CLOSERS = "\"'”’»)]}）】」』*_`"
INVISIBLE = "\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
"""Characters without a width that services put around a text; those that join letters are not among them."""
_ERROR_PAGE = re.compile(
    r"<!doctype html|<html|error\s+\d{3}\s*\(|\b(?:500 internal server error|502 bad gateway|503 service unavailable"
    r"|504 gateway time-?out|429 too many requests)\b|that[’']s an error|unusual traffic from your|mymemory warning"
    r"|query length limit exceeded|invalid (?:source|target) language|please select two distinct languages",
    re.IGNORECASE,
)


def normalised(text: str) -> str:
    """The form in which texts are compared: Unicode NFC, runs of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def damaged(text: str, *, like: str = "") -> bool:
    """Whether a text has halves of characters, which no file takes; or NUL or U+FFFD, unless `like` has them too."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        return True
    return any(char in text and char not in like for char in "\x00\ufffd")


def same_text(source: str, translation: str) -> bool:
    """Whether the source came back: equal but for case, white space and HTML entities.

    A text without letters (a number, a formula) is rightly the same in every language.
    """
    a, b = (normalised(html.unescape(text)).casefold() for text in (source, translation))
    return a == b and any(map(str.isalpha, source))


def repeated_share(text: str) -> float:
    """Share of the text's windows of 12 characters (white space collapsed) that occurred before: 0 to 1."""
    flat = " ".join(text.split())
    windows = [flat[at : at + _WINDOW] for at in range(len(flat) - _WINDOW + 1)]
    return 1.0 - len(set(windows)) / len(windows) if windows else 0.0


def entities(text: str) -> int:
    """HTML entities in a text, such as `&#39;`; `&` alone, or a name that HTML does not know, is none."""
    return sum(html.unescape(entity.group()) != entity.group() for entity in _ENTITY.finditer(text))


def entities_left(source: str, translation: str) -> int:
    """How many more HTML entities the translation has than its source."""
    return max(0, entities(translation) - entities(source))


def markup_lost(source: str, translation: str) -> int:
    """Marks of Markdown that differ: emphasis and code marks by kind, headings, list items, quotes, table rows."""
    return sum(
        abs(len(a) - len(b)) if a != b else 0 for a, b in zip(_markup(source), _markup(translation), strict=True)
    )


def _markup(text: str) -> tuple[list[str], ...]:
    emphasis = _EMPHASIS.findall(text)
    bold = [mark for mark in emphasis if mark in _BOLD]
    code = [mark for mark in emphasis if "`" in mark]
    odd = [mark for mark in emphasis if mark not in _BOLD and "`" not in mark]
    return bold, code, odd, _ITEM.findall(text)


def broken_markup(text: str) -> bool:
    """Whether emphasis is broken: a run of three asterisks or more within a line, or bold marks that do not pair."""
    runs = [run for line in text.splitlines() if line.strip(" *-_") for run in re.findall(r"\*{2,}", line)]
    return any(len(run) > len("**") for run in runs) or len(runs) % 2 == 1


def lines_lost(source: str, translation: str) -> int:
    """How far the numbers of lines that are not blank are apart."""
    return abs(count_lines(source) - count_lines(translation))


def count_lines(text: str) -> int:
    """Counts the lines that are not blank."""
    return sum(bool(line.strip()) for line in text.splitlines())


def error_page(source: str, translation: str) -> bool:
    """Whether a server's error page or notice was given as the translation."""
    return bool(_ERROR_PAGE.search(translation)) and not _ERROR_PAGE.search(source)


def ending_lost(source: str, translation: str) -> bool:
    """Whether the source ends a sentence and the translation breaks off."""
    return _ended(source) and not _ended(translation)


def _ended(text: str) -> bool:
    return _ENDINGS.match(text.rstrip().rstrip(_CLOSERS).rstrip()[-1:]) is not None
