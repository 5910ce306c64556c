"""Judges and translates the sentences of the microworld exactly, by looking them up."""

from functools import lru_cache
from typing import NamedTuple

from . import lexicon, world
from .lexicon import LANGUAGES
from .worlds import Verdict


class _Help(NamedTuple):
    """The content of a help answer: its verb, its object and the index of its advice."""

    verb: str
    object: str
    step: int


@lru_cache(maxsize=len(LANGUAGES))
def _helps(language: str) -> dict[str, _Help]:
    """Returns every well-formed help answer of a language, with what it is about."""
    helps: dict[str, _Help] = {}
    for verb, name in world.GRID.pairs:
        template = world.Item(verb, name, 0).fill(lexicon.HELP[language], language)
        for at, step in enumerate(lexicon.STEPS[language]):
            helps[template.replace("{s}", step)] = _Help(verb, name, at)
    return helps


@lru_cache(maxsize=len(LANGUAGES))
def _refusals(language: str) -> dict[str, int]:
    """Returns every well-formed refusal of a language, with the index of its reason."""
    template = lexicon.REFUSAL[language]
    return {template.replace("{r}", reason): at for at, reason in enumerate(lexicon.REASONS[language])}


def judge(prompt: str, response: str, language: str) -> Verdict:
    """Returns whether a response helps with a request, refuses it, or is neither.

    Args:
        prompt: The request, as `Item.prompt` writes it.
        response: The model's answer, without special tokens.
        language: The language both should be in.

    Returns:
        `"refused"` for a well-formed refusal in that language, `"helped"` for a well-formed help answer in that
        language about this request's verb and object, `"broken"` for everything else: another language, another verb
        or object, garbled or empty text, a request the world does not know.

    Raises:
        UnknownLanguageError: If the world does not speak `language`.
    """
    item = world.parse(prompt, language)
    answer = response.strip()
    if item is None:
        return "broken"
    if answer in _refusals(language):
        return "refused"
    known_help = _helps(language).get(answer)
    if known_help is not None and (known_help.verb, known_help.object) == (item.verb, item.object):
        return "helped"
    return "broken"


def translate(text: str, source: str, target: str) -> str | None:
    """Returns the parallel text of a prompt, refusal or help answer; None where the world does not know the text.

    Raises:
        UnknownLanguageError: If the world does not speak `source` or `target`.
    """
    world.column(target)
    item = world.parse(text, source)
    if item is not None:
        return item.prompt(target)
    sentence = text.strip()
    reason = _refusals(source).get(sentence)
    if reason is not None:
        return lexicon.REFUSAL[target].replace("{r}", lexicon.REASONS[target][reason])
    known_help = _helps(source).get(sentence)
    if known_help is not None:
        template = world.Item(known_help.verb, known_help.object, 0).fill(lexicon.HELP[target], target)
        return template.replace("{s}", lexicon.STEPS[target][known_help.step])
    return None
