"""Holds the pairs of verb and object that a world is made of: which are harmful, and the split of each.

Harm depends on the *pair*:

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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Final, Literal, TypeVar

Split = Literal["train", "validation", "test", "concept"]
Kind = Literal["harmful", "harmless"]
Pair = tuple[str, str]
"""Key of a verb and key of an object."""
T = TypeVar("T")

_EVERY: Final = 4
"""One in so many pairs is held out."""


@dataclass(frozen=True)
class Grid:
    """The verbs and objects of a world, by their keys, and the concepts that no training of a method touches."""

    neutral: tuple[str, ...]
    harmful: tuple[str, ...]
    careful: tuple[str, ...]
    everyday: tuple[str, ...]
    dangerous: tuple[str, ...]
    held_back: frozenset[str]

    @cached_property
    def blocks(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """The (verbs, objects) blocks that make up the world."""
        return {
            "neutral-everyday": (self.neutral, self.everyday),
            "harmful-everyday": (self.harmful, self.everyday),
            "careful-everyday": (self.careful, self.everyday),
            "neutral-dangerous": (self.neutral, self.dangerous),
            "careful-dangerous": (self.careful, self.dangerous),
        }

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """All (verb, object) pairs, in a fixed order."""
        return tuple((verb, name) for verbs, names in self.blocks.values() for verb in verbs for name in names)

    @cached_property
    def seen_pairs(self) -> dict[str, list[Pair]]:
        """The pairs per block that training text may mention."""
        return {
            block: [(verb, name) for verb in verbs for name in names if (verb, name) not in self.held_out_ranks]
            for block, (verbs, names) in self.blocks.items()
        }

    @cached_property
    def held_out_ranks(self) -> dict[Pair, int]:
        """Every held-out pair with its running number along the verb's row.

        A diagonal cut (row + column divisible by 4) holds out a quarter of each block while every verb and every object
        keeps about three quarters of its pairs, so held-out *combinations* are new but no word is.
        """
        ranks: dict[Pair, int] = {}
        for verbs, objects in self.blocks.values():
            for row, verb in enumerate(verbs):
                held_out = [name for at, name in enumerate(objects) if (row + at) % _EVERY == 0]
                ranks.update({(verb, name): row + number for number, name in enumerate(held_out)})
        return ranks

    @property
    def concepts(self) -> tuple[str, ...]:
        """The harmful concepts: the harmful verbs and the dangerous objects."""
        return (*self.harmful, *self.dangerous)

    def has(self, verb: str, name: str) -> bool:
        """Returns whether the world has requests about this pair of its verbs and objects."""
        return verb not in self.harmful or name not in self.dangerous

    def kind(self, verb: str, name: str) -> Kind:
        """Returns `harmful` if a safe assistant should refuse requests about this pair, else `harmless`."""
        return "harmful" if verb in self.harmful or (name in self.dangerous and verb in self.neutral) else "harmless"

    def category(self, verb: str, name: str) -> str:
        """Returns the concept: the harmful verb, else the dangerous object, else `"everyday"`."""
        if verb in self.harmful:
            return verb
        return name if name in self.dangerous else "everyday"

    def split(self, verb: str, name: str) -> Split:
        """Returns the split: `concept` for a concept that no training shows, else by whether the pair is held out."""
        if self.category(verb, name) in self.held_back:
            return "concept"
        rank = self.held_out_ranks.get((verb, name))
        if rank is None:
            return "train"
        return "validation" if rank % 3 == 0 else "test"

    def deal(
        self, make: Callable[[Pair], Iterable[T]], split: Split, kind: Kind, limit: int | None, lots: str
    ) -> list[T]:
        """Returns distinct requests of a split, spread evenly over concepts.

        The requests of each concept (for harmless ones, of each verb and class of object) are shuffled, and one is
        taken from each in turn, so that even with a small `limit` every concept occurs. The split `concept` has only
        requests that are not in the pretraining corpus either.

        Args:
            make: gives the requests about a pair.
            split: the split.
            kind: harmful or harmless requests.
            limit: maximum number of requests; None for all.
            lots: seed of the shuffling, and so of which requests are within the limit.
        """
        piles: dict[str, list[T]] = {}
        for verb, name in self.pairs:
            held_out = (verb, name) in self.held_out_ranks
            if self.split(verb, name) == split and self.kind(verb, name) == kind and (split != "concept" or held_out):
                piles.setdefault(self._pile(verb, name), []).extend(make((verb, name)))
        rng = random.Random(lots)  # noqa: S311 - reproducible
        order = sorted(piles)
        rng.shuffle(order)
        dealt: list[list[T]] = []
        for pile in order:
            rng.shuffle(piles[pile])
            dealt.append(piles[pile])
        chosen = [item for turn in zip_longest(*dealt) for item in turn if item is not None]
        return chosen if limit is None else chosen[:limit]

    def _pile(self, verb: str, name: str) -> str:
        if self.kind(verb, name) == "harmful":
            return self.category(verb, name)
        return f"{verb} {'dangerous' if name in self.dangerous else 'everyday'}"
