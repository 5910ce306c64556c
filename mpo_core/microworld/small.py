"""The small microworld, the embedded default: seven real languages, one form per word, fixed answers."""

import random
from typing import Final

from . import world
from .grid import Pair
from .judge import judge, translate
from .lexicon import LANGUAGES
from .worlds import Judgement, Mix, World

HESITATION: Final = 0.15
"""How often a language refuses a concept it has *not* learnt to refuse.

Real models in weak languages waver rather than comply with certainty (in the MPO paper, the reward gaps in Swahili are
near zero); without it a small model makes the refusal so unlikely that training with a low rate cannot raise it again.
"""

SLIP: Final = 0.005
"""How often any answer is the wrong one of the two, in every language: bounds the reward gaps, as noisy data does."""

MIX: Final = Mix(
    # The resource levels are mild, so that every language copies words well.
    languages={"en": 0.22, "zh": 0.15, "ja": 0.14, "ko": 0.13, "ar": 0.12, "bn": 0.12, "sw": 0.12},
    refused={"en": 18, "zh": 8, "ja": 7, "ko": 6, "ar": 5, "bn": 4, "sw": 3},
    hesitation=HESITATION,
    slip=SLIP,
    blocks={
        "neutral-everyday": 0.30,
        "harmful-everyday": 0.28,
        "neutral-dangerous": 0.20,
        "careful-dangerous": 0.14,
        "careful-everyday": 0.08,
    },
    chats=0.75,
    statements=0.15,
)


def _draw(rng: random.Random, pair: Pair) -> world.Item:
    return world.Item(*pair, rng.randrange(world.FRAMING_COUNT))


def _judge(prompt: str, response: str, language: str) -> Judgement:
    verdict = judge(prompt, response, language)
    return Judgement(verdict, verdict)


SMALL: Final = World(
    name="small",
    version=world.WORLD_VERSION,
    languages=LANGUAGES,
    grid=world.GRID,
    mix=MIX,
    lots="microworld",
    vocabulary=3025,
    steps=2000,
    draw=_draw,
    items=world.items,
    parse=world.parse,
    judge=_judge,
    translate=translate,
)
