"""The hard microworld: a benchmark for methods, whose base model has wide gaps and two languages that get no pairs."""

from typing import Final

from mpo_core.microworld.worlds import Mix, World

from . import world
from .tongues import LANGUAGES

MIX: Final = Mix(
    languages={
        "en": 0.21, "qaa": 0.13, "qab": 0.13, "qac": 0.10, "qad": 0.10, "qae": 0.075, "qaf": 0.075, "qag": 0.10,
        "qah": 0.08,
    },
    refused={"en": 32, "qaa": 14, "qab": 12, "qac": 9, "qad": 8, "qae": 5, "qaf": 4, "qag": 5, "qah": 4},
    hesitation=0.08,
    slip=0.005,
    blocks={
        "neutral-everyday": 0.28,
        "harmful-everyday": 0.28,
        "neutral-dangerous": 0.22,
        "careful-dangerous": 0.14,
        "careful-everyday": 0.08,
    },
    chats=0.80,
    statements=0.10,
    bilingual=0.12,
)  # fmt: skip

HARD: Final = World(
    name="hard",
    version=world.WORLD_VERSION,
    languages=LANGUAGES,
    grid=world.GRID,
    mix=MIX,
    lots="hard microworld",
    vocabulary=4096,
    draw=world.draw,
    items=world.items,
    parse=world.parse,
    judge=world.judge,
    translate=world.translate,
)
