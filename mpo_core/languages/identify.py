"""Which language a text is in: letters of a script, and a statistical identifier (py3langid)."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from mpo_core.languages.known import LANGUAGES, canonical, language
from mpo_core.languages.scripts import WORDY, count_letters, keep_letters, letters_in
from mpo_core.languages.tags import family, same_language

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
    """Identifies the language of a text by py3langid; macro-languages are mapped to ours (`wuu` is `zh`).

    Of several known codes of one language, such as `zh` and `zh-TW`, it is the one whose script the text is in.
    """
    identified, probability = _identifier().classify(text)
    code = canonical(identified)
    varieties = [code, *(known for known in LANGUAGES if known != code and same_language(known, code))]
    if len(varieties) > 1:
        code = max(varieties, key=lambda known: known in LANGUAGES and letters_in(LANGUAGES[known].script, text))
    return Guess(code, float(probability))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _families() -> frozenset[str]:
    """The languages that the identifier knows, macro-languages as one."""
    return frozenset(family(label) for label in _identifier().nb_classes)


def identifiable(code: str) -> bool:
    """Whether the identifier knows the language; the texts of one that it does not are judged by their script alone.

    Raises:
        BadInputError: the language is not known.
    """
    return any(family(name) in _families() for name in (code, *language(code).identified_as))


def language_fault(text: str, code: str) -> str | None:
    """`wrong_script`, `wrong_language`, or None; doubt is settled for the text.

    Raises:
        BadInputError: the language is not known.
    """
    # Plain `zh` says nothing about the characters: a model that answers in traditional ones has answered in Chinese.
    script = "Hani" if code == "zh" else language(code).script
    letters = sum(map(str.isalpha, text))
    own = letters_in(script, text)
    if letters and own / letters < _MIN_SHARE:
        return "wrong_script"
    if script in WORDY:
        han, kana = count_letters("Hani", text), count_letters("Hrkt", text)
        without = kana == 0 and han >= _KANA_FREE
        if without if script == "Jpan" else kana > han / 4:
            return "wrong_language"
    if own * (3 if script in WORDY else 1) < _MIN_LETTERS or not identifiable(code):
        return None
    # Without other scripts' letters: quoted English must not make a Bengali answer English.
    guess = identify(keep_letters(script, text))
    if guess.probability < _CERTAIN or same_language(guess.code, code):
        return None
    return None if guess.code in language(code).identified_as else "wrong_language"
