"""Makes the languages of the hard world: every word, word order and ending but the English ones is constructed.

A word is drawn from the syllables of its language, by a seed; sentences are the English ones, word by word, in the
order of the language. No real language is meant, and no native speaker is needed: a text can be read back exactly.
"""

import random
import re
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from . import lexicon

Order = Literal["as English", "verb last", "object first", "reversed"]
Slot = Literal["v", "o"]
"""The slot of a sentence: for its verb or for its object."""


class Tongue(NamedTuple):
    """How a language is made: letters, order of words, endings of verbs and objects, and words that it lacks."""

    consonants: str
    vowels: str
    order: Order
    verb_ending: bool
    object_ending: bool
    lacks: frozenset[str]


_ARTICLES: Final = frozenset({"the", "a"})
_SMALL_WORDS: Final = _ARTICLES | {"to", "do", "is", "am", "of"}
TONGUES: Final[dict[str, Tongue]] = {
    "qaa": Tongue("bdfglmnprstv", "aeiou", "as English", verb_ending=True, object_ending=False, lacks=_ARTICLES),
    "qab": Tongue("бвгдзклмнпрст", "аеиоу", "verb last", verb_ending=False, object_ending=True, lacks=_ARTICLES),
    "qac": Tongue("βγδζκλμνπρστ", "αειου", "object first", verb_ending=True, object_ending=True, lacks=_SMALL_WORDS),
    "qad": Tongue("բգդզկլմնպրստ", "աեիոը", "verb last", verb_ending=True, object_ending=False, lacks=_SMALL_WORDS),
    "qae": Tongue("ბგდზკლმნპრსტ", "აეიოუ", "reversed", verb_ending=False, object_ending=True, lacks=_ARTICLES),
    "qaf": Tongue("chjkmnpqtwxyz", "aeiou", "reversed", verb_ending=True, object_ending=True, lacks=_SMALL_WORDS),
    "qag": Tongue("жйлмнпрсфхчш", "эюяыо", "object first", verb_ending=False, object_ending=False, lacks=_ARTICLES),
    "qah": Tongue("θλμνξπρσφχψ", "άέήίώ", "verb last", verb_ending=True, object_ending=True, lacks=_ARTICLES),
}
LANGUAGES: Final = ("en", *TONGUES)
"""Language codes, the dominant language first; `qaa` to `qtz` belong to no real language (ISO 639-2)."""

_PIECE: Final = re.compile(r"\{[vo]\}|\w+|[.,?]")


def sentence(english: str, language: str) -> str:
    """Returns an English sentence in a language; its slots `{v}` and `{o}` stay."""
    if language == "en" or not english:
        return english
    clauses: list[str] = []
    pieces: list[str] = []
    for piece in _PIECE.findall(english):
        if piece not in {".", ",", "?"}:
            pieces.append(piece)
            continue
        ordered = _ordered(pieces, TONGUES[language])
        clauses.append(
            " ".join(piece if piece[0] == "{" else _words(language)[piece.lower()] for piece in ordered) + piece
        )
        pieces = []
    return " ".join(clauses)


def form(english: str, language: str, slot: Slot) -> str:
    """Returns a form of a verb (`v`) or object (`o`) in a language, with its ending."""
    if language == "en":
        return english
    tongue = TONGUES[language]
    ending = tongue.verb_ending if slot == "v" else tongue.object_ending
    return _words(language)[f"{slot} {english}"] + (_words(language)[f"ending {slot}"] if ending else "")


def _ordered(pieces: list[str], tongue: Tongue) -> list[str]:
    pieces = [piece for piece in pieces if piece.lower() not in tongue.lacks]
    if tongue.order == "reversed":
        return pieces[::-1]
    if "{v}" in pieces and tongue.order == "verb last":
        return [*(piece for piece in pieces if piece != "{v}"), "{v}"]
    if "{v}" in pieces and tongue.order == "object first":
        rest = [piece for piece in pieces if piece != "{o}"]
        return [*rest[: rest.index("{v}")], "{o}", *rest[rest.index("{v}") :]]
    return pieces


@lru_cache(maxsize=len(TONGUES))
def _words(language: str) -> dict[str, str]:
    """Returns every word of a language by its key: a word of the sentences, or a form of a verb or an object."""
    tongue = TONGUES[language]
    rng = random.Random(f"hard microworld {language}")  # noqa: S311 - reproducible
    texts = " ".join(
        (*lexicon.FRAMINGS, *lexicon.FILLERS, *(text for kind in lexicon.SENTENCES.values() for text in kind))
    )
    small = sorted({piece.lower() for piece in _PIECE.findall(texts) if piece[0].isalpha()})
    slots = [
        f"{slot} {form}"
        for slot, table in (("v", lexicon.VERBS), ("o", lexicon.OBJECTS))
        for pair in table.values()
        for form in pair
    ]
    syllables = [consonant + vowel for consonant in tongue.consonants for vowel in tongue.vowels]
    words: dict[str, str] = {}
    taken: set[str] = set()
    for key in (*small, *slots):
        drawn = ""
        while not drawn or drawn in taken:
            drawn = "".join(rng.choices(syllables, k=2 if key in small else rng.choice((2, 3))))
        words[key] = drawn
        taken.add(drawn)
    return words | {f"ending {slot}": rng.choice(tongue.consonants) for slot in ("v", "o")}
