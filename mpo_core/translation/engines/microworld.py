"""The embedded world as an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from mpo_core.contract.translation import (
    NO_TRANSLATION,
    Backend,
    Engine,
    Reply,
    TranslationEngine,
    UnknownLanguageError,
)


class MicroworldSource(TranslationEngine):
    """The embedded world, which knows its own sentences."""

    engine: Literal["microworld"]
    """`microworld`."""

    def open(self, machine: Callable[[Backend], Engine], *, with_key: bool = True) -> Engine:
        """Returns the engine."""
        del machine, with_key  # its answers are its own, and it needs no key
        return MicroworldEngine()

    def identity(self) -> str:
        """Returns the version of the world."""
        from mpo_core.microworld import WORLD_VERSION

        return f"microworld:{WORLD_VERSION}"


class MicroworldEngine:
    """Looks sentences of the microworld up; knows nothing else."""

    name = "microworld"
    masks = True

    def check(self, source: str, target: str) -> None:
        """Passes if the world speaks both languages.

        Raises:
            UnknownLanguageError: it does not.
        """
        from mpo_core import microworld

        for code in (source, target):
            if code not in microworld.LANGUAGES:
                raise UnknownLanguageError(
                    f"the microworld does not speak {code!r}",
                    where="translation.engines",
                    fix=f"Choose languages from {', '.join(microworld.LANGUAGES)}, or name another engine.",
                )

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Reply]:
        """One translation per text; outside the microworld none."""
        from mpo_core import microworld

        self.check(source, target)
        translations = (microworld.translate(text, source, target) for text in texts)
        return [Reply(None, NO_TRANSLATION) if text is None else Reply(text) for text in translations]

    def judge(self, texts: Sequence[str], source: str, target: str, *, refused: bool) -> None:
        """Nothing to learn: it is exact."""
