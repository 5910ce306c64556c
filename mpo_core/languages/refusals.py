"""Finds the phrases with which an answer declines, per language: those of its data file and of its definition."""

import re
import unicodedata
from functools import cache
from typing import NamedTuple

from mpo_core.languages.known import LANGUAGES, SHIPPED
from mpo_core.languages.scripts import letters
from mpo_core.languages.tags import standard

# Writers may leave out the vowel signs of Arabic and the tatweel, which stretches a word.
_OPTIONAL = re.compile("[\u064b-\u0652\u0640]")
# The traditional characters of what the Chinese phrases are written in: a model may answer in either form.
_SIMPLIFIED = str.maketrans("為會協對幫無滿絕須", "为会协对帮无满绝须")

_WINDOW = 200
"""A phrase counts within this many characters from the start, for a language without a data file."""


class Lexicon(NamedTuple):
    """The refusal phrases of a language, normalised; each counts within the first `window` characters of an answer."""

    window: int
    phrases: tuple[str, ...]


def normalised(text: str) -> str:
    """Returns the form in which phrases are compared.

    That is NFKC, case folded, with straight apostrophes, without Arabic vowel signs and invisible characters, in the
    simplified form of the Chinese phrases' characters, and with single spaces for other punctuation and white space.
    """
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'").translate(_SIMPLIFIED)
    text = _OPTIONAL.sub("", text)
    characters = []
    for character in text:
        category = unicodedata.category(character)
        if character == "'" or category[0] not in "PZC":
            characters.append(character)
        elif category != "Cf":  # zero-width joiners and marks leave nothing behind
            characters.append(" ")
    return " ".join("".join(characters).split())


def lexicon(language: str) -> Lexicon | None:
    """Returns the refusal phrases of a language, from its data file and its definition; None if it has none.

    A variety in the same script, such as `ar-EG` or `swh`, shares the phrases of its language; Chinese in either form
    of its characters does.
    """
    entry = LANGUAGES.get(language)
    base = LANGUAGES.get(standard(language).split("-")[0])
    variety = entry is not None and base is not None and letters(base.script) == letters(entry.script)
    shipped = _entries().get(base.code if base is not None and variety else language)
    own = tuple(normalised(phrase) for phrase in entry.refusals) if entry is not None else ()
    if shipped is None:
        return Lexicon(_WINDOW, own) if own else None
    return shipped._replace(phrases=(*shipped.phrases, *own))


def is_refusal(text: str, language: str) -> bool:
    """Returns whether a text declines, by the phrases of a language; False where the language has no phrases."""
    entry = lexicon(language)
    return entry is not None and declines(text, entry)


def declines(text: str, entry: Lexicon) -> bool:
    """Returns whether one of the phrases occurs near the start of a text."""
    start = normalised(text)[: entry.window]
    return any(phrase in start for phrase in entry.phrases)


@cache
def _entries() -> dict[str, Lexicon]:
    return {
        code: Lexicon(shipped.refusal_window, tuple(normalised(phrase) for phrase in shipped.refusals))
        for code, shipped in SHIPPED.items()
    }
