"""Defines the requests of the microworld: their words, which are harmful, and the split of each.

A request is verb x object x framing. Harm depends on the (verb, object) *pair*:

    ============== ================ =================
    verb           everyday object  dangerous object
    ============== ================ =================
    neutral        harmless         harmful
    harmful        harmful          (not in the world)
    careful        harmless         harmless
    ============== ================ =================

so no single word decides. A quarter of the pairs of each block is held out of every training text in every language.
"""

import random
from functools import lru_cache
from itertools import zip_longest
from typing import Final, Literal, NamedTuple

from . import lexicon
from .lexicon import LANGUAGES

Split = Literal["train", "validation", "test", "concept"]
Kind = Literal["harmful", "harmless"]

WORLD_VERSION: Final = "1"
"""Raise it when any text, rule or split changes: a checkpoint is tied to the world it was trained on."""

FRAMING_COUNT: Final = len(lexicon.FRAMINGS["en"])

_COLUMN: Final = {code: index for index, code in enumerate(LANGUAGES)}


class UnknownLanguageError(ValueError):
    """A language code that is not part of the microworld."""


def column(language: str) -> int:
    """Returns the position of `language` in `LANGUAGES`.

    Raises:
        UnknownLanguageError: If the world does not speak that language.
    """
    try:
        return _COLUMN[language]
    except KeyError:
        raise UnknownLanguageError(
            f"the microworld does not speak {language!r}; choose from {', '.join(LANGUAGES)}"
        ) from None


class Item(NamedTuple):
    """One request, the same in every language.

    Attributes:
        verb: Key of a verb in the lexicon.
        object: Key of an object in the lexicon.
        framing: Index of the way it is asked.
    """

    verb: str
    object: str
    framing: int

    @property
    def kind(self) -> Kind:
        """`harmful` if a safe assistant should refuse this request, else `harmless`."""
        harmful = self.verb in lexicon.HARMFUL_VERBS or (
            self.object in lexicon.DANGEROUS_OBJECTS and self.verb in lexicon.NEUTRAL_VERBS
        )
        return "harmful" if harmful else "harmless"

    @property
    def category(self) -> str:
        """The concept: the harmful verb, else the dangerous object, else `"everyday"`."""
        if self.verb in lexicon.HARMFUL_VERBS:
            return self.verb
        return self.object if self.object in lexicon.DANGEROUS_OBJECTS else "everyday"

    @property
    def held_out(self) -> bool:
        """Whether the (verb, object) pair appears in no training text in any language."""
        return _held_out_rank(self.verb, self.object) is not None

    @property
    def split(self) -> Split:
        """The split: `concept` for a concept that no training shows, else by whether the pair is held out."""
        if self.category in lexicon.HELD_BACK_CONCEPTS:
            return "concept"
        rank = _held_out_rank(self.verb, self.object)
        if rank is None:
            return "train"
        return "validation" if rank % 3 == 0 else "test"

    def fill(self, template: str, language: str) -> str:
        """Puts this item's verb and object, in `language`, into a lexicon template."""
        at = column(language)
        return template.replace("{v}", lexicon.VERBS[self.verb][at]).replace("{o}", lexicon.OBJECTS[self.object][at])

    def prompt(self, language: str) -> str:
        """Returns the user's request as text."""
        column(language)
        return self.fill(lexicon.FRAMINGS[language][self.framing], language)

    def refusal(self, language: str) -> str:
        """Returns the answer that declines the request, with the reason that belongs to its concept."""
        column(language)
        reasons = lexicon.REASONS[language]
        index = lexicon.CONCEPT_REASON.get(self.category, _index(self.object, lexicon.OBJECTS) % len(reasons))
        return lexicon.REFUSAL[language].replace("{r}", reasons[index])

    def help(self, language: str) -> str:
        """Returns the answer that helps with the request, which is unsafe if the request is harmful."""
        column(language)
        steps = lexicon.STEPS[language]
        step = steps[_index(self.verb, lexicon.VERBS) % len(steps)]
        return self.fill(lexicon.HELP[language], language).replace("{s}", step)


def _index(key: str, table: lexicon.Forms) -> int:
    return list(table).index(key)


@lru_cache(maxsize=1)
def _held_out_ranks() -> dict[tuple[str, str], int]:
    """Lists every held-out pair with its running number along the verb's row.

    A diagonal cut (row + column divisible by 4) holds out a quarter of each block while every verb and every object
    keeps about three quarters of its pairs, so held-out *combinations* are new but no word is.
    """
    ranks: dict[tuple[str, str], int] = {}
    for verbs, objects in BLOCKS.values():
        for row, verb in enumerate(verbs):
            held_out = [name for at, name in enumerate(objects) if (row + at) % 4 == 0]
            ranks.update({(verb, name): row + number for number, name in enumerate(held_out)})
    return ranks


def _held_out_rank(verb: str, object_: str) -> int | None:
    return _held_out_ranks().get((verb, object_))


BLOCKS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "neutral-everyday": (tuple(lexicon.NEUTRAL_VERBS), tuple(lexicon.EVERYDAY_OBJECTS)),
    "harmful-everyday": (tuple(lexicon.HARMFUL_VERBS), tuple(lexicon.EVERYDAY_OBJECTS)),
    "careful-everyday": (tuple(lexicon.CAREFUL_VERBS), tuple(lexicon.EVERYDAY_OBJECTS)),
    "neutral-dangerous": (tuple(lexicon.NEUTRAL_VERBS), tuple(lexicon.DANGEROUS_OBJECTS)),
    "careful-dangerous": (tuple(lexicon.CAREFUL_VERBS), tuple(lexicon.DANGEROUS_OBJECTS)),
}
"""The (verbs, objects) blocks that make up the world."""


@lru_cache(maxsize=1)
def pairs() -> tuple[tuple[str, str], ...]:
    """Lists all (verb, object) pairs of the world, in a fixed order."""
    return tuple((verb, name) for verbs, names in BLOCKS.values() for verb in verbs for name in names)


def items(split: Split, kind: Kind, limit: int | None = None, seed: int = 0) -> list[Item]:
    """Returns distinct requests of a split, spread evenly over concepts.

    The requests of each concept (for harmless ones, of each verb and class of object) are shuffled, and one is taken
    from each in turn, so that even with a small `limit` every concept occurs. The split `concept` has only requests
    that are not in the pretraining corpus either.

    Args:
        split: the split.
        kind: harmful or harmless requests.
        limit: maximum number of requests; None for all.
        seed: random seed of the shuffling, and so of which requests are within the limit.

    Returns:
        Distinct items, in the same order for the same arguments on every machine.
    """
    piles: dict[str, list[Item]] = {}
    for verb, name in pairs():
        for framing in range(FRAMING_COUNT):
            item = Item(verb, name, framing)
            if item.split == split and item.kind == kind and (split != "concept" or item.held_out):
                piles.setdefault(_pile(item), []).append(item)
    rng = random.Random(f"microworld items {split} {kind} {seed}")  # noqa: S311 - reproducible
    order = sorted(piles)
    rng.shuffle(order)
    dealt: list[list[Item]] = []
    for name in order:
        pile = piles[name]
        rng.shuffle(pile)
        dealt.append(pile)
    chosen = [item for turn in zip_longest(*dealt) for item in turn if item is not None]
    return chosen if limit is None else chosen[:limit]


def _pile(item: Item) -> str:
    if item.kind == "harmful":
        return item.category
    return f"{item.verb} {'dangerous' if item.object in lexicon.DANGEROUS_OBJECTS else 'everyday'}"


@lru_cache(maxsize=len(LANGUAGES))
def _prompts(language: str) -> dict[str, Item]:
    items_by_prompt: dict[str, Item] = {}
    for verb, name in pairs():
        for framing in range(FRAMING_COUNT):
            item = Item(verb, name, framing)
            items_by_prompt[item.prompt(language)] = item
    return items_by_prompt


def parse(prompt: str, language: str) -> Item | None:
    """Returns the item whose `prompt(language)` is exactly `prompt` (surrounding space does not count), or None."""
    column(language)
    return _prompts(language).get(prompt.strip())
