"""Finds the flaws that machine translation and sampling leave in a text: counts or scores them, and never fixes them.

A flaw that the source text has as well is no flaw of the translation.
"""

import html
import re
import unicodedata

import regex

_WINDOW = 12
"""Length of a window in `repeated_share`, in characters: natural text hardly repeats so much, in any script."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_EMPHASIS = re.compile(r"\*{2,}|_{2,}|`+")
_BOLD = ("**", "__")
_ITEM = re.compile(r"^[ \t]*(?:#{1,6}(?=\s)|[-*+•](?=\s)|\||>)", re.MULTILINE)
_ENDINGS = regex.compile(r"[\p{Sentence_Terminal}…:;：；།༎]")
"""Characters that may end a sentence, in any script; Unicode does not list Tibetan's, so they are added here."""
_CLOSERS = "\"'”’»)]}）】」』*_`"
INVISIBLE = "\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
"""Characters without a width that services put around a text. Those that join letters are not in the list."""
_ERROR_PAGE = re.compile(
    r"<!doctype html|<html|error\s+\d{3}\s*\(|\b(?:500 internal server error|502 bad gateway|503 service unavailable"
    r"|504 gateway time-?out|429 too many requests)\b|that[’']s an error|unusual traffic from your|mymemory warning"
    r"|query length limit exceeded|invalid (?:source|target) language|please select two distinct languages",
    re.IGNORECASE,
)


def normalised(text: str) -> str:
    """Returns the form in which texts are compared: Unicode NFC, each run of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def folded(text: str) -> str:
    """Returns the form in which two prompts are the same: apart from case, white space and Unicode form."""
    return normalised(text).casefold()


def damaged(text: str, *, like: str = "") -> bool:
    """Returns whether a text has half of a surrogate pair, or a NUL or U+FFFD that its source, `like`, lacks."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        return True
    return any(char in text and char not in like for char in "\x00\ufffd")


def without_cut_character(text: str) -> str:
    """Returns a text that was cut at a number of tokens without the marks (U+FFFD) of a character that was cut too."""
    return text.rstrip("\ufffd")


def same_text(source: str, translation: str) -> bool:
    """Returns whether a translation is its source again, apart from case, white space and HTML entities.

    A text without letters (a number, a formula) is rightly the same in every language.
    """
    a, b = (normalised(html.unescape(text)).casefold() for text in (source, translation))
    return a == b and any(map(str.isalpha, source))


def repeated_share(text: str) -> float:
    """Returns the share (0 to 1) of windows of 12 characters that repeat an earlier one, white space collapsed."""
    flat = " ".join(text.split())
    windows = [flat[at : at + _WINDOW] for at in range(len(flat) - _WINDOW + 1)]
    return 1.0 - len(set(windows)) / len(windows) if windows else 0.0


def entities(text: str) -> int:
    """Counts the HTML entities in a text, such as `&#39;`; a plain `&`, or a name that HTML does not know, is none."""
    return sum(html.unescape(entity.group()) != entity.group() for entity in _ENTITY.finditer(text))


def entities_left(source: str, translation: str) -> int:
    """Counts the HTML entities that a translation has beyond those of its source."""
    return max(0, entities(translation) - entities(source))


def markup_lost(source: str, translation: str) -> int:
    """Counts the Markdown marks that differ: emphasis, code, headings, list items, quotes and table rows."""
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
    """Returns whether a text's emphasis is broken: three or more asterisks in a row, or an odd number of bold marks."""
    runs = [run for line in text.splitlines() if line.strip(" *-_") for run in re.findall(r"\*{2,}", line)]
    return any(len(run) > len("**") for run in runs) or len(runs) % 2 == 1


def lines_lost(source: str, translation: str) -> int:
    """Returns by how many lines, blank ones not counted, a translation differs from its source."""
    return abs(count_lines(source) - count_lines(translation))


def count_lines(text: str) -> int:
    """Counts the lines that are not blank."""
    return sum(bool(line.strip()) for line in text.splitlines())


def error_page(source: str, translation: str) -> bool:
    """Returns whether a service answered with an error page or a notice instead of a translation."""
    return bool(_ERROR_PAGE.search(translation)) and not _ERROR_PAGE.search(source)


def ending_lost(source: str, translation: str) -> bool:
    """Returns whether the source ends with a complete sentence and the translation does not."""
    return _ended(source) and not _ended(translation)


def _ended(text: str) -> bool:
    return _ENDINGS.match(text.rstrip().rstrip(_CLOSERS).rstrip()[-1:]) is not None
