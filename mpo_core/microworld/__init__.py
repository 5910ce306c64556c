"""The embedded default of the pipeline: a small seven-language world with its own model, judge and translations.

Example::

    from mpo_core import microworld

    item = microworld.items("test", "harmful", limit=1)[0]
    prompt = item.prompt("sw")
    microworld.judge(prompt, item.refusal("sw"), "sw")  # "refused"
"""

from .judge import Verdict, judge, translate
from .lexicon import LANGUAGES
from .recipe import build, checkpoint_dir
from .world import WORLD_VERSION, Item, Kind, Split, UnknownLanguageError, items, parse

__all__ = [
    "LANGUAGES",
    "WORLD_VERSION",
    "Item",
    "Kind",
    "Split",
    "UnknownLanguageError",
    "Verdict",
    "build",
    "checkpoint_dir",
    "items",
    "judge",
    "parse",
    "translate",
]
