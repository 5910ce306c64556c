"""Is a text in the language it should be in? Script first, then a language identifier where there is enough text."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from mpo_core.languages import canonical, language

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_KANA = "\u3041-\u3096\u30a1-\u30fa\u31f0-\u31ff\uff66-\uff9d"
_SCRIPTS = {
    "Latn": "A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff",
    "Hans": _HAN,
    "Jpan": _HAN + _KANA,
    "Hang": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "Arab": "\u0620-\u064a\u066e-\u06d3\u06fa-\u06ff\u0750-\u077f",
    "Thai": "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46",
    "Beng": "\u0980-\u09b9\u09dc-\u09e1\u09f0\u09f1",
}

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
    own = _count(_SCRIPTS[script], text)
    if letters and own / letters < _MIN_SHARE:
        return "wrong_script"
    han, kana = _count(_HAN, text), _count(_KANA, text)
    if (script == "Hans" and kana > han / 4) or (script == "Jpan" and kana == 0 and han >= _KANA_FREE):
        return "wrong_language"
    if own * (3 if script in ("Hans", "Jpan") else 1) < _MIN_LETTERS:
        return None
    identified, probability = _identifier().classify(_only(_SCRIPTS[script], text))
    return "wrong_language" if canonical(identified) != code and probability >= _CERTAIN else None


def _count(characters: str, text: str) -> int:
    return len(re.findall(f"[{characters}]", text))


def _only(characters: str, text: str) -> str:
    """The text without other scripts' letters: quoted English must not make a Bengali answer English."""
    own = re.compile(f"[{characters}]")
    return "".join(c if own.match(c) or not c.isalpha() else " " for c in text)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
