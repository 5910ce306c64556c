"""Which languages a row of pairs is in, where the file does not say."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any, NamedTuple

from mpo_core.languages import LANGUAGES, canonical

_LETTERS = {
    "Latn": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    "Hans": "\u3400-\u4dbf\u4e00-\u9fff",
    "Jpan": "\u3041-\u30fa\u3400-\u4dbf\u4e00-\u9fff",
    "Hang": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "Arab": "\u0620-\u06d3",
    "Thai": "\u0e01-\u0e46",
    "Beng": "\u0985-\u09b9",
}
_CERTAIN = 0.95
"""Probability from which a prompt in Latin letters is believed to be in another language."""


class Guess(NamedTuple):
    """A language code of ours (or the identifier's own, where we have none) and its probability."""

    code: str
    probability: float


def identify(text: str) -> Guess:
    """The language of a text by py3langid, macro-languages mapped to ours."""
    code, probability = _identifier().classify(text)
    return Guess(canonical(code), float(probability))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def source_language(texts: tuple[str, str, str]) -> str:
    """The language of prompt, chosen and rejected by majority."""
    return _majority(texts) or identify("\n".join(texts)).code


def target_language(texts: tuple[str, str, str], source: str) -> str:
    """The language of a target's prompt, chosen and rejected by majority.

    Models answer in the dominant language now and then: where the majority is the source's language, a prompt in
    another language decides.
    """
    found = _majority(texts) or identify("\n".join(texts)).code
    if found == source:
        prompt = identify(texts[0])
        return prompt.code if prompt.code in LANGUAGES else source
    return found


def _majority(texts: tuple[str, str, str]) -> str | None:
    code, votes = Counter(identify(text).code for text in texts).most_common(1)[0]
    return code if votes > 1 else None


def left_untranslated(prompt: str, language: str) -> bool:
    """Whether a target prompt is plainly not in the target language.

    It has no letter of the language's own script; or, in Latin letters, which many languages share, the identifier
    is certain of another one.
    """
    script = LANGUAGES[language].script
    if any(map(str.isalpha, prompt)) and re.search(f"[{_LETTERS[script]}]", prompt) is None:
        return True
    guess = identify(prompt)
    return script == "Latn" and guess.code != language and guess.code in LANGUAGES and guess.probability >= _CERTAIN
