"""Which language a text is in: letters of a script, and a statistical identifier (py3langid)."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from mpo_core.languages import canonical

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
