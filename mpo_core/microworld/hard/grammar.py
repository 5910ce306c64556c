"""Writes the sentences of the hard world in any of its languages, and reads them back exactly."""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from . import lexicon, tongues
from .tongues import LANGUAGES

FRAMING: Final = "framing"
_SLOT: Final = r"(?P<\1>[^\\s.,?]+)"
_BREAK: Final = re.compile(r"(?<=[.?])\s+")


class Filled(NamedTuple):
    """A sentence of the world, the same in every language: kind, number, and what is in its slots."""

    kind: str
    """`framing`, or a key of `lexicon.SENTENCES`."""
    number: int
    verb: str | None = None
    verb_form: int = 0
    object: str | None = None
    object_form: int = 0

    def write(self, language: str) -> str:
        """Returns the sentence in a language."""
        text = _templates(language)[self.kind][self.number]
        if self.verb is not None:
            text = text.replace("{v}", tongues.form(lexicon.VERBS[self.verb][self.verb_form], language, "v"))
        if self.object is not None:
            text = text.replace("{o}", tongues.form(lexicon.OBJECTS[self.object][self.object_form], language, "o"))
        return text


def read(text: str, language: str) -> Filled | None:
    """Returns the sentence that `write` writes as exactly this text in this language; None if there is none."""
    grammar = _grammar(language)
    if (fixed := grammar.fixed.get(text)) is not None:
        return fixed
    for pattern, sentence in grammar.patterns:
        match = pattern.fullmatch(text)
        words = {} if match is None else match.groupdict()
        verb, name = grammar.verbs.get(words.get("v", "")), grammar.objects.get(words.get("o", ""))
        if match is None or ("v" in words and verb is None) or ("o" in words and name is None):
            continue
        filled = sentence if verb is None else sentence._replace(verb=verb[0], verb_form=verb[1])
        return filled if name is None else filled._replace(object=name[0], object_form=name[1])
    return None


def read_sentences(text: str, language: str) -> list[Filled | None]:
    """Reads each sentence of a text that has no framing of two sentences."""
    return [read(part, language) for part in _BREAK.split(text)] if text else []


@lru_cache(maxsize=len(LANGUAGES))
def fillers(language: str) -> tuple[str, ...]:
    """Returns what may stand before a request in a language; the first is empty."""
    return tuple(tongues.sentence(filler, language) for filler in lexicon.FILLERS)


class _Grammar(NamedTuple):
    fixed: dict[str, Filled]
    patterns: list[tuple[re.Pattern[str], Filled]]
    verbs: dict[str, tuple[str, int]]
    objects: dict[str, tuple[str, int]]


@lru_cache(maxsize=len(LANGUAGES))
def _templates(language: str) -> dict[str, tuple[str, ...]]:
    kinds = {FRAMING: lexicon.FRAMINGS, **lexicon.SENTENCES}
    return {kind: tuple(tongues.sentence(text, language) for text in texts) for kind, texts in kinds.items()}


@lru_cache(maxsize=len(LANGUAGES))
def _grammar(language: str) -> _Grammar:
    fixed: dict[str, Filled] = {}
    patterns = []
    for kind, texts in _templates(language).items():
        for number, text in enumerate(texts):
            if "{" not in text:
                fixed[text] = Filled(kind, number)
                continue
            pattern = re.sub(r"\\\{([vo])\\\}", _SLOT, re.escape(text))
            patterns.append((re.compile(pattern), Filled(kind, number)))
    return _Grammar(fixed, patterns, _forms(lexicon.VERBS, language, "v"), _forms(lexicon.OBJECTS, language, "o"))


def _forms(table: lexicon.Forms, language: str, slot: tongues.Slot) -> dict[str, tuple[str, int]]:
    return {
        tongues.form(form, language, slot): (key, number)
        for key, forms in table.items()
        for number, form in enumerate(forms)
    }
