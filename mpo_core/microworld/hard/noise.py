"""Makes wrong translations on purpose: of training texts only, drawn by a seed, and countable afterwards."""

import random
from collections.abc import Sequence
from typing import Literal

from mpo_core.microworld.grid import Pair

from . import grammar, world

Error = Literal["untranslated", "truncated", "wrong_sense"]


def translate(
    text: str, source: str, target: str, *, share: float, kinds: Sequence[Error], seed: int = 0
) -> str | None:
    """Translates a text, wrongly for a share (0 to 1) of the texts that name a pair of the split `train`.

    Texts without a verb and an object, such as refusals, and those of held-out pairs are translated exactly.
    """
    exact = world.translate(text, source, target)
    pair = named_pair(text, source)
    rng = random.Random(f"hard microworld noise {seed} {target} {text}")  # noqa: S311 - reproducible
    if exact is None or pair is None or world.GRID.split(*pair) != "train" or rng.random() >= share:
        return exact
    kind = rng.choice(kinds)
    if kind == "untranslated":
        return text
    if kind == "truncated":
        words = exact.split()
        return " ".join(words[: max(1, round(rng.uniform(0.4, 0.7) * len(words)))])
    others = [other for other in world.GRID.pairs if (other[0] == pair[0]) != (other[1] == pair[1])]
    return _about(rng.choice(others), text, source, target)


def named_pair(text: str, language: str) -> Pair | None:
    """Returns the verb and the object that a text names; None if it does not name both."""
    item = world.parse(text, language)
    if item is not None:
        return item.verb, item.object
    parts = grammar.read_sentences(text.strip(), language)
    return next(((part.verb, part.object) for part in parts if part and part.verb and part.object), None)


def _about(pair: Pair, text: str, source: str, target: str) -> str:
    """Returns the translation of a text as if it were about another pair."""
    item = world.parse(text, source)
    if item is not None:
        return item._replace(verb=pair[0], object=pair[1]).prompt(target)
    parts = filter(None, grammar.read_sentences(text.strip(), source))
    return " ".join(
        part._replace(verb=part.verb and pair[0], object=part.object and pair[1]).write(target) for part in parts
    )


def error(text: str, translation: str, source: str, target: str) -> Error | None:
    """Returns what is wrong with a translation of a text of this world; None if nothing is."""
    exact = world.translate(text, source, target)
    if exact is None or translation == exact:
        return None
    if translation == text:
        return "untranslated"
    return "truncated" if exact.startswith(translation) else "wrong_sense"
