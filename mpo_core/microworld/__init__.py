"""The embedded default of the pipeline: a small seven-language world with its own model, judge and translations.

Example::

    from mpo_core import microworld

    item = microworld.items("test", "harmful", limit=1)[0]
    prompt = item.prompt("sw")
    microworld.judge(prompt, item.refusal("sw"), "sw")  # "refused"
"""

from .grid import Kind, Split
from .judge import judge, translate
from .lexicon import LANGUAGES
from .recipe import build, checkpoint_dir
from .small import SMALL
from .world import WORLD_VERSION, Item, items, parse
from .worlds import Name, UnknownLanguageError, Verdict, World


def world_of(name: Name) -> World:
    """Returns a world by its name."""
    if name == "small":
        return SMALL
    from .hard.recipe import HARD

    return HARD
