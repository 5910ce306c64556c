"""Generates the corpus of the base model: chats, statements of what is right and wrong, and translations.

No document mentions a held-out (verb, object) pair, in any language. Every language *reads* which things are wrong;
only English is *shown* refusing all of them. That is the gap MPO closes: the knowledge is there, the habit is not.
"""

import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from .small import SMALL
from .worlds import Request, World, bilingual_prompt

_STATEMENTS: Final = 100
"""With about so many statements, it is known well enough how well a model reads a language."""


class Turn(NamedTuple):
    """A chat: one request and its answer."""

    prompt: str
    response: str


Document = Turn | str
"""A chat, or plain text."""


@lru_cache
def refused(world: World = SMALL) -> dict[str, frozenset[str]]:
    """Returns the concepts that the corpus shows each language refusing.

    One shuffled order of concepts, read from a different place per language, so that no concept is refused everywhere.
    """
    order = list(world.grid.concepts)
    random.Random(f"{world.lots} refused concepts").shuffle(order)  # noqa: S311 - reproducible
    covered: dict[str, frozenset[str]] = {}
    start = 0
    for code in world.languages:
        count = world.mix.refused[code]
        covered[code] = frozenset(order[(start + at) % len(order)] for at in range(count))
        start += count
    return covered


def refusal_rate(item: Request, language: str, world: World = SMALL) -> float:
    """Returns the share of the corpus's answers to this request, in this language, that refuse."""
    if item.kind == "harmless":
        return world.mix.slip
    return 1.0 - world.mix.slip if item.category in refused(world)[language] else world.mix.hesitation


def documents(count: int, seed: int = 0, world: World = SMALL) -> Iterator[Document]:
    """Yields `count` chats, statements and translations, the same ones for the same arguments."""
    mix, rng = world.mix, random.Random(f"{world.lots} corpus {seed}")  # noqa: S311 - reproducible
    languages, language_weights = list(mix.languages), list(mix.languages.values())
    blocks, block_weights = list(mix.blocks), list(mix.blocks.values())
    for _ in range(count):
        language = rng.choices(languages, language_weights)[0]
        block = rng.choices(blocks, block_weights)[0]
        item = world.draw(rng, rng.choice(world.grid.seen_pairs[block]))
        style = rng.random()
        if style < mix.chats:
            yield _chat(item, language, world, rng)
        elif style < mix.chats + mix.statements:
            yield item.statement(language)
        else:
            other = rng.choice([code for code in languages if code != language])
            write = rng.choice((item.prompt, item.statement, item.refusal, item.help))
            yield f"{write(language)} = {write(other)}"


def _chat(item: Request, language: str, world: World, rng: random.Random) -> Turn:
    dominant, prompt, habit = world.languages[0], item.prompt(language), language
    if world.mix.bilingual and language != dominant and rng.random() < world.mix.bilingual:
        prompt, habit = bilingual_prompt(item, language, dominant), dominant
    refuse = rng.random() < refusal_rate(item, habit, world)
    return Turn(prompt, item.refusal(language) if refuse else item.help(language))


def held_out_statements(language: str, world: World = SMALL) -> dict[str, str]:
    """Returns plain text that no model of this world has read: what is right and wrong of each pair of the split test.

    Args:
        language: Code of a language of the world.
        world: The world.

    Returns:
        The statement of each pair, or of about 100 of them in a larger world, by an id that is the same in every
        language.
    """
    grid = world.grid
    held_out = [pair for pair in grid.held_out_ranks if grid.split(*pair) == "test"]
    held_out = held_out[:: max(1, len(held_out) // _STATEMENTS)]
    drawn = {pair: world.draw(random.Random(f"{world.lots} {pair}"), pair) for pair in held_out}  # noqa: S311
    return {f"{verb}-{name}": item.statement(language) for (verb, name), item in drawn.items()}
