"""Phrases by which an answer declines, per language: those of its data file and those of its definition."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import NamedTuple

from mpo_core.languages.known import LANGUAGES, SHIPPED
from mpo_core.languages.tags import standard

# Arabic vowel signs and the stretching tatweel are written or left out at will.
_OPTIONAL = re.compile("[\u064b-\u0652\u0640]")


_WINDOW = 200
"""Characters from the start in which a phrase counts, for a language without a data file."""


class Lexicon(NamedTuple):
    """Phrases of one language, normalised; each counts within the first `window` characters."""

    window: int
    phrases: tuple[str, ...]


def normalised(text: str) -> str:
    """The form in which phrases are compared.

    NFKC, case folded, curly apostrophes straight, Arabic vowel signs and invisible characters gone, other
    punctuation and white space as single spaces.
    """
    text = _OPTIONAL.sub("", unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'"))
    characters = []
    for character in text:
        category = unicodedata.category(character)
        if character == "'" or category[0] not in "PZC":
            characters.append(character)
        elif category != "Cf":  # zero-width joiners and marks leave nothing behind
            characters.append(" ")
    return " ".join("".join(characters).split())


def lexicon(language: str) -> Lexicon | None:
    """The phrases of a language: those of its data file, and those that its definition brings; None if there are none.

    A variety in the same script, such as `ar-EG` or `swh`, has the phrases of its language.
    """
    entry = LANGUAGES.get(language)
    base = LANGUAGES.get(standard(language).split("-")[0])
    variety = entry is not None and base is not None and base.script == entry.script
    shipped = _entries().get(base.code if base is not None and variety else language)
    own = tuple(normalised(phrase) for phrase in entry.refusals) if entry is not None else ()
    if shipped is None:
        return Lexicon(_WINDOW, own) if own else None
    return shipped._replace(phrases=(*shipped.phrases, *own))


def is_refusal(text: str, language: str) -> bool:
    """Whether a text declines, as far as there are phrases of its language; without any, it does not."""
    entry = lexicon(language)
    return entry is not None and declines(text, entry)


def declines(text: str, entry: Lexicon) -> bool:
    """Whether a refusal phrase stands near the start of the text."""
    start = normalised(text)[: entry.window]
    return any(phrase in start for phrase in entry.phrases)


@cache
def _entries() -> dict[str, Lexicon]:
    return {
        code: Lexicon(shipped.refusal_window, tuple(normalised(phrase) for phrase in shipped.refusals))
        for code, shipped in SHIPPED.items()
    }
