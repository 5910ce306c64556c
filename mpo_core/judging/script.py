"""Is a text in the language it should be in? Script first, then a language identifier where there is enough text."""

from __future__ import annotations

from mpo_core.identify import HAN, KANA, LETTERS, count_letters, identify, keep_letters
from mpo_core.languages import language

_MIN_SHARE = 0.25
"""Least share of letters in the script: Latin names, code and brand names count a letter each, Han a word each."""
_MIN_LETTERS = 30
"""Letters below which the language identifier is not asked (a Han letter weighs three)."""
_CERTAIN = 0.9
"""Probability from which the identifier is believed. With 30 letters: none of MultiJail's 3,150 prompts is refused
in its own language; of the longer ones nearly all are refused in another."""
_KANA_FREE = 30
"""So many Han letters without a single kana are no Japanese."""


def language_fault(text: str, code: str) -> str | None:
    """`wrong_script`, `wrong_language`, or None; doubt is settled for the text.

    Raises:
        BadInputError: the language is not known.
    """
    script = language(code, where="judging").script
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
