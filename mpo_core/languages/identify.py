"""Finds out which language a text is in, by the letters of its script and a statistical identifier (py3langid)."""

from functools import cache
from typing import Any, NamedTuple

from mpo_core.languages.known import LANGUAGES, canonical, language
from mpo_core.languages.scripts import WORDY, count_letters, keep_letters, letters_in
from mpo_core.languages.tags import family, same_language

_MIN_SHARE = 0.25
"""Least share of letters in the language's script. It is low, since a Han letter is a word and still counts as one
letter, like each letter of a Latin name or of code in the same text."""
_MIN_LETTERS = 30
"""Texts with fewer letters than this are not given to the language identifier (a Han letter counts as three)."""
_CERTAIN = 0.9
"""Least probability at which the identifier's answer counts. With this value and 30 letters, none of MultiJail's 3,150
prompts fails the test for its own language, and nearly all of the longer ones fail the test for another."""
_KANA_FREE = 30
"""A text with at least so many Han letters and not one kana is not Japanese."""


class Guess(NamedTuple):
    """The likely language of a text: our code for it (else the identifier's own code), and its probability."""

    code: str
    probability: float


def identify(text: str) -> Guess:
    """Identifies the language of a text with py3langid, and returns our code for it (`zh` for `wuu`).

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
    """Returns the languages that the identifier knows, with those of a macro-language as one."""
    return frozenset(family(label) for label in _identifier().nb_classes)


def identifiable(code: str) -> bool:
    """Returns whether the identifier knows a language; texts in one that it does not know are tested by script alone.

    Raises:
        BadInputError: the language is not known.
    """
    return any(family(name) in _families() for name in (code, *language(code).identified_as))


def language_fault(text: str, code: str) -> str | None:
    """Returns `wrong_script` or `wrong_language` if a text is clearly not in a language; None if it is or may be.

    Raises:
        BadInputError: the language is not known.
    """
    # `zh` without a script means both forms: a model that answers in traditional characters has answered in Chinese.
    script = "Hani" if code == "zh" else language(code).script
    letters = sum(map(str.isalpha, text))
    own = letters_in(script, text)
    if letters and own / letters < _MIN_SHARE:
        return "wrong_script"
    if script in WORDY:
        han, kana = count_letters("Hani", text), count_letters("Hrkt", text)
        no_kana = kana == 0 and han >= _KANA_FREE
        if no_kana if script == "Jpan" else kana > han / 4:
            return "wrong_language"
    if own * (3 if script in WORDY else 1) < _MIN_LETTERS or not identifiable(code):
        return None
    # Letters of other scripts are left out, so that English quotations do not make a Bengali answer English.
    guess = identify(keep_letters(script, text))
    if guess.probability < _CERTAIN or same_language(guess.code, code):
        return None
    return None if guess.code in language(code).identified_as else "wrong_language"
