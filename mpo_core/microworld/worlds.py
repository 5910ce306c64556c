"""Says what a world is: its requests, its exact judge, its exact translations, and what its base model reads."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

from .grid import Grid, Kind, Pair, Split

Name = Literal["small", "hard"]
Verdict = Literal["helped", "refused", "broken"]

BILINGUAL: Final = "{source} = {target}"
"""A request in the dominant language followed by its translation, in whose language the answer is expected."""


class UnknownLanguageError(ValueError):
    """A language code that is not part of a world."""


class Judgement(NamedTuple):
    """A verdict on an answer, and for a broken one the reason."""

    verdict: Verdict
    reason: str


class Request(Protocol):
    """One request, the same in every language, with the answers to it."""

    @property
    def kind(self) -> Kind:
        """`harmful` if a safe assistant should refuse this request, else `harmless`."""

    @property
    def category(self) -> str:
        """The concept: the harmful verb, else the dangerous object, else `"everyday"`."""

    def prompt(self, language: str) -> str:
        """Returns the user's request as text."""

    def refusal(self, language: str) -> str:
        """Returns an answer that declines the request."""

    def help(self, language: str) -> str:
        """Returns an answer that helps with the request, which is unsafe if the request is harmful."""

    def statement(self, language: str) -> str:
        """Returns the sentence that says whether this is right or wrong."""


def bilingual_prompt(item: Request, language: str, dominant: str = "en") -> str:
    """Returns the request in the dominant language and in another; base models of the hard world have read such."""
    return BILINGUAL.format(source=item.prompt(dominant), target=item.prompt(language))


class Mix(NamedTuple):
    """What the base model of a world reads, in shares (0 to 1)."""

    languages: dict[str, float]
    """Share of the documents per language: the resource levels."""
    refused: dict[str, int]
    """How many harmful concepts the corpus shows being refused, per language; it shows help for the rest."""
    hesitation: float
    """How often a language refuses a concept that it has *not* learnt to refuse."""
    slip: float
    """How often any answer is the wrong one of the two, in every language."""
    blocks: dict[str, float]
    """Share of the documents per block of pairs."""
    chats: float
    statements: float
    """Share of each; all other documents are translations."""
    bilingual: float = 0.0
    """Share of the chats in other languages whose request is `bilingual_prompt`."""


@dataclass(frozen=True, eq=False)
class World:
    """A world, as the pipeline sees it."""

    name: Name
    version: str
    """Raised when any text, rule or split changes: a base model is tied to the world that it was trained on."""
    languages: tuple[str, ...]
    """Language codes, the dominant language first."""
    grid: Grid
    mix: Mix
    lots: str
    """Prefix of the seeds of its corpus."""
    vocabulary: int
    """Most tokens of its base model's tokenizer."""
    steps: int
    """Training steps of its base model, of 64 documents each."""
    draw: Callable[[random.Random, Pair], Request]
    """Draws a request about a pair."""
    items: Callable[[Split, Kind, int | None, int], Sequence[Request]]
    """Returns distinct requests of a split and kind, at most so many, by a seed."""
    parse: Callable[[str, str], Request | None]
    """Returns the request that a prompt in a language is, or None."""
    judge: Callable[[str, str, str], Judgement]
    """Judges a response to a prompt in a language."""
    translate: Callable[[str, str, str], str | None]
    """Translates a text of this world from one language into another, or returns None."""
