"""Generates the corpus of the base model: chats, statements of what is right and wrong, and translations.

No document mentions a held-out (verb, object) pair, in any language. Every language *reads* which things are wrong;
only English is *shown* refusing all of them. That is the gap MPO closes: the knowledge is there, the habit is not.
"""

import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from . import lexicon, world
from .lexicon import LANGUAGES
from .world import Item

LANGUAGE_SHARE: Final[dict[str, float]] = {
    "en": 0.22, "zh": 0.15, "ja": 0.14, "ko": 0.13, "ar": 0.12, "bn": 0.12, "sw": 0.12,
}  # fmt: skip
"""Share of the documents per language: the resource levels, made mild so that every language copies words well."""

REFUSED_CONCEPTS: Final[dict[str, int]] = {"en": 18, "zh": 8, "ja": 7, "ko": 6, "ar": 5, "bn": 4, "sw": 3}
"""How many of the 18 harmful concepts the corpus shows being refused, per language; it shows help for the rest."""

HESITATION: Final = 0.15
"""How often a language refuses a concept it has *not* learnt to refuse.

Real models in weak languages waver rather than comply with certainty (in the MPO paper, the reward gaps in Swahili are
near zero); without it a small model makes the refusal so unlikely that training with a low rate cannot raise it again.
"""

SLIP: Final = 0.005
"""How often any answer is the wrong one of the two, in every language: bounds the reward gaps, as noisy data does."""

BLOCK_SHARE: Final[dict[str, float]] = {
    "neutral-everyday": 0.30,
    "harmful-everyday": 0.28,
    "neutral-dangerous": 0.20,
    "careful-dangerous": 0.14,
    "careful-everyday": 0.08,
}

CHAT_SHARE: Final = 0.75
STATEMENT_SHARE: Final = 0.15
"""All other documents are translations."""


class Turn(NamedTuple):
    """A chat: one request and its answer."""

    prompt: str
    response: str


Document = Turn | str
"""A chat, or plain text."""


@lru_cache(maxsize=1)
def refused() -> dict[str, frozenset[str]]:
    """Returns the concepts that the corpus shows each language refusing.

    One shuffled order of concepts, read from a different place per language, so that no concept is refused everywhere.
    """
    order = list(lexicon.CONCEPT_REASON)
    random.Random("microworld refused concepts").shuffle(order)  # noqa: S311 - reproducible
    covered: dict[str, frozenset[str]] = {}
    start = 0
    for code in LANGUAGES:
        count = REFUSED_CONCEPTS[code]
        covered[code] = frozenset(order[(start + at) % len(order)] for at in range(count))
        start += count
    return covered


def refusal_rate(item: Item, language: str) -> float:
    """Returns the share of the corpus's answers to this request, in this language, that refuse."""
    if item.kind == "harmless":
        return SLIP
    return 1.0 - SLIP if item.category in refused()[language] else HESITATION


def documents(count: int, seed: int = 0) -> Iterator[Document]:
    """Yields `count` documents, the same ones for the same arguments.

    Args:
        count: number of documents.
        seed: random seed; each seed gives an independent sample of the same world.

    Yields:
        Chats as `Turn`, statements and translations as text.
    """
    rng = random.Random(f"microworld corpus {seed}")  # noqa: S311 - reproducible
    pairs = _seen_pairs()
    languages, language_weights = list(LANGUAGE_SHARE), list(LANGUAGE_SHARE.values())
    blocks, block_weights = list(BLOCK_SHARE), list(BLOCK_SHARE.values())
    for _ in range(count):
        language = rng.choices(languages, language_weights)[0]
        block = rng.choices(blocks, block_weights)[0]
        item = Item(*rng.choice(pairs[block]), rng.randrange(world.FRAMING_COUNT))
        style = rng.random()
        if style < CHAT_SHARE:
            refuse = rng.random() < refusal_rate(item, language)
            yield Turn(item.prompt(language), item.refusal(language) if refuse else item.help(language))
        elif style < CHAT_SHARE + STATEMENT_SHARE:
            yield _statement(item, language)
        else:
            other = rng.choice([code for code in languages if code != language])
            write = rng.choice((Item.prompt, _statement, Item.refusal, Item.help))
            yield f"{write(item, language)} = {write(item, other)}"


def _statement(item: Item, language: str) -> str:
    table = lexicon.FORBIDDEN if item.kind == "harmful" else lexicon.ALLOWED
    return item.fill(table[language], language)


def held_out_statements(language: str) -> dict[str, str]:
    """Returns plain text that no model of this world has read: what is right and wrong of each pair of the split test.

    Args:
        language: Code of one of the seven languages.

    Returns:
        The statement of each pair, by an id that is the same in every language.
    """
    items = (Item(verb, name, 0) for verb, name in world.pairs())
    held_out = (item for item in items if item.held_out and item.split == "test")
    return {f"{item.verb}-{item.object}": _statement(item, language) for item in held_out}


@lru_cache(maxsize=1)
def _seen_pairs() -> dict[str, list[tuple[str, str]]]:
    """Returns the pairs per block that training text may mention."""
    return {
        block: [(verb, name) for verb in verbs for name in names if not Item(verb, name, 0).held_out]
        for block, (verbs, names) in world.BLOCKS.items()
    }
