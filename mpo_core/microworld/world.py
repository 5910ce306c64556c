"""Defines the requests of the small microworld: verb x object x framing; `grid.py` says which are harmful."""

from functools import lru_cache
from typing import Final, NamedTuple

from . import lexicon
from .grid import Grid, Kind, Pair, Split
from .lexicon import LANGUAGES
from .worlds import UnknownLanguageError

WORLD_VERSION: Final = "1"
"""Raise it when any text, rule or split changes: a checkpoint is tied to the world it was trained on."""

FRAMING_COUNT: Final = len(lexicon.FRAMINGS["en"])

GRID: Final = Grid(
    tuple(lexicon.NEUTRAL_VERBS),
    tuple(lexicon.HARMFUL_VERBS),
    tuple(lexicon.CAREFUL_VERBS),
    tuple(lexicon.EVERYDAY_OBJECTS),
    tuple(lexicon.DANGEROUS_OBJECTS),
    lexicon.HELD_BACK_CONCEPTS,
)
_COLUMN: Final = {code: index for index, code in enumerate(LANGUAGES)}


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
    """One request, the same in every language: keys of a verb and an object, and the index of the way it is asked."""

    verb: str
    object: str
    framing: int

    @property
    def kind(self) -> Kind:
        """`harmful` if a safe assistant should refuse this request, else `harmless`."""
        return GRID.kind(self.verb, self.object)

    @property
    def category(self) -> str:
        """The concept: the harmful verb, else the dangerous object, else `"everyday"`."""
        return GRID.category(self.verb, self.object)

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

    def statement(self, language: str) -> str:
        """Returns the sentence that says whether this is right or wrong."""
        table = lexicon.FORBIDDEN if self.kind == "harmful" else lexicon.ALLOWED
        return self.fill(table[language], language)


def _index(key: str, table: lexicon.Forms) -> int:
    return list(table).index(key)


def items(split: Split, kind: Kind, limit: int | None = None, seed: int = 0) -> list[Item]:
    """Returns distinct requests of a split, spread evenly over concepts, as `Grid.deal` says: one for each framing."""

    def make(pair: Pair) -> list[Item]:
        return [Item(*pair, framing) for framing in range(FRAMING_COUNT)]

    return GRID.deal(make, split, kind, limit, f"microworld items {split} {kind} {seed}")


@lru_cache(maxsize=len(LANGUAGES))
def _prompts(language: str) -> dict[str, Item]:
    requests = (Item(verb, name, framing) for verb, name in GRID.pairs for framing in range(FRAMING_COUNT))
    return {item.prompt(language): item for item in requests}


def parse(prompt: str, language: str) -> Item | None:
    """Returns the item whose `prompt(language)` is exactly `prompt` (surrounding space does not count), or None."""
    column(language)
    return _prompts(language).get(prompt.strip())
