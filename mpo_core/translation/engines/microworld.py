"""The embedded world as an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from mpo_core.contract.translation import Backend, Engine, TranslationEngine


class MicroworldSource(TranslationEngine):
    """The embedded world, which knows its own sentences."""

    engine: Literal["microworld"]
    """`microworld`."""

    def open(self, machine: Callable[[Backend], Engine], *, with_key: bool = True) -> Engine:
        """Returns the engine."""
        from mpo_core.translation.microworld import MicroworldEngine

        del machine, with_key  # its answers are its own, and it needs no key
        return MicroworldEngine()

    def identity(self) -> str:
        """Returns the version of the world."""
        from mpo_core.microworld import WORLD_VERSION

        return f"microworld:{WORLD_VERSION}"
