"""Which language a text is in: letters of a script, and a statistical identifier (py3langid)."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from mpo_core.languages import canonical, language

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Chinese characters, which Chinese and Japanese share; as a character class, like all of these."""
KANA = "\u3041-\u3096\u30a1-\u30fa\u31f0-\u31ff\uff66-\uff9d"
"""Letters that only Japanese has."""
LETTERS = {
    "Latn": "A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff",
    "Hans": HAN,
    "Jpan": HAN + KANA,
    "Hang": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "Arab": "\u0620-\u064a\u066e-\u06d3\u06fa-\u06ff\u0750-\u077f",
    "Thai": "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46",
    "Beng": "\u0980-\u09b9\u09dc-\u09e1\u09f0\u09f1",
}
"""Letters of each script of `languages.LANGUAGES`."""

_MIN_SHARE = 0.25
"""Least share of letters in the script: Latin names, code and brand names count a letter each, Han a word each."""
_MIN_LETTERS = 30
"""Letters below which the language identifier is not asked (a Han letter weighs three)."""
_CERTAIN = 0.9
"""Probability from which the identifier is believed. With 30 letters: none of MultiJail's 3,150 prompts is refused
in its own language; of the longer ones nearly all are refused in another."""
_KANA_FREE = 30
"""So many Han letters without a single kana are no Japanese."""


class Guess(NamedTuple):
    """A language code of ours (or the identifier's own, where we have none) and its probability."""

    code: str
    probability: float


def identify(text: str) -> Guess:
    """The language of a text by py3langid, macro-languages mapped to ours (`wuu` is `zh`)."""
    code, probability = _identifier().classify(text)
    return Guess(canonical(code), float(probability))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def count_letters(letters: str, text: str) -> int:
    """How many characters of the text are of a class such as `LETTERS["Arab"]`."""
    return len(re.findall(f"[{letters}]", text))


def keep_letters(letters: str, text: str) -> str:
    """The text with a space for each letter outside the class; what is no letter stays."""
    own = re.compile(f"[{letters}]")
    return "".join(c if own.match(c) or not c.isalpha() else " " for c in text)


def language_fault(text: str, code: str) -> str | None:
    """`wrong_script`, `wrong_language`, or None; doubt is settled for the text.

    Raises:
        BadInputError: the language is not known.
    """
    script = language(code).script
    letters = sum(map(str.isalpha, text))
    own = count_letters(LETTERS[script], text)
    if letters and own / letters < _MIN_SHARE:
        return "wrong_script"
    han, kana = count_letters(HAN, text), count_letters(KANA, text)
    if (script == "Hans" and kana > han / 4) or (script == "Jpan" and kana == 0 and han >= _KANA_FREE):
        return "wrong_language"
    if own * (3 if script in ("Hans", "Jpan") else 1) < _MIN_LETTERS:
        return None
    # Without other scripts' letters: quoted English must not make a Bengali answer English.
    guess = identify(keep_letters(LETTERS[script], text))
    return "wrong_language" if guess.code != code and guess.probability >= _CERTAIN else None
