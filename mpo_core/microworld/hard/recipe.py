"""The hard microworld: a benchmark for methods, whose base model has wide gaps and two languages that get no pairs."""

from typing import Final

from mpo_core.microworld.worlds import Mix, World

from . import world
from .tongues import LANGUAGES

MIX: Final = Mix(
    languages={
        "en": 0.12, "qaa": 0.12, "qab": 0.12, "qac": 0.11, "qad": 0.11, "qae": 0.105, "qaf": 0.105, "qag": 0.11,
        "qah": 0.10,
    },
    refused={"en": 24, "qaa": 8, "qab": 7, "qac": 5, "qad": 5, "qae": 3, "qaf": 2, "qag": 3, "qah": 2},
    # Higher than in the small world: with so many words, a rarer habit leaves no trace of what is harmful.
    hesitation=0.3,
    slip=0.005,
    blocks={
        "neutral-everyday": 0.28,
        "harmful-everyday": 0.28,
        "neutral-dangerous": 0.22,
        "careful-dangerous": 0.14,
        "careful-everyday": 0.08,
    },
    chats=0.74,
    statements=0.16,
    bilingual=0.15,
)  # fmt: skip

HARD: Final = World(
    name="hard",
    version=world.WORLD_VERSION,
    languages=LANGUAGES,
    grid=world.GRID,
    mix=MIX,
    lots="hard microworld",
    vocabulary=4096,
    steps=6000,
    draw=world.draw,
    items=world.items,
    parse=world.parse,
    judge=world.judge,
    translate=world.translate,
)
