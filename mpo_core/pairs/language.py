"""Identifies the languages of a row of pairs, where the file does not name them."""

from collections import Counter

from mpo_core.languages.identify import identify
from mpo_core.languages.known import LANGUAGES
from mpo_core.languages.scripts import count_letters
from mpo_core.languages.tags import same_language

_CERTAIN = 0.95
"""Least probability at which a prompt in Latin letters counts as in another language."""


def source_language(texts: tuple[str, str, str]) -> str:
    """Returns the language of prompt, chosen and rejected by majority."""
    return _majority(texts) or identify("\n".join(texts)).code


def target_language(texts: tuple[str, str, str], source: str) -> str:
    """Returns the language of a target's prompt, chosen and rejected by majority.

    Models sometimes answer in the dominant language: if the majority is the source's language and the prompt is in
    another one, the prompt decides.
    """
    code = _majority(texts) or identify("\n".join(texts)).code
    if code == source:
        prompt = identify(texts[0])
        return prompt.code if prompt.code in LANGUAGES else source
    return code


def _majority(texts: tuple[str, str, str]) -> str | None:
    code, votes = Counter(identify(text).code for text in texts).most_common(1)[0]
    return code if votes > 1 else None


def left_untranslated(prompt: str, language: str) -> bool:
    """Returns whether a target prompt is plainly not in the target language.

    That is so if it has no letter of the language's script; or, for Latin letters, which many languages share, if the
    identifier is certain of another language.
    """
    script = LANGUAGES[language].script
    if any(map(str.isalpha, prompt)) and not count_letters(script, prompt):
        return True
    guess = identify(prompt)
    other = guess.code in LANGUAGES and not same_language(guess.code, language)
    return script == "Latn" and other and guess.probability >= _CERTAIN
