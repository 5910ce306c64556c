"""The engine `microworld`: translates the sentences of the embedded world exactly."""

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
    """The microworld, mpo's built-in toy world: translates its own sentences exactly, and nothing else."""

    engine: Literal["microworld"]
    """Name of the engine: `microworld`."""

    def open(self, machine: Callable[[Backend], Engine]) -> Engine:
        """Returns the engine."""
        del machine  # it is no machine translator
        return MicroworldEngine()

    def identity(self) -> str:
        """Returns the version of the world."""
        from mpo_core.microworld import WORLD_VERSION

        return f"microworld:{WORLD_VERSION}"


class MicroworldEngine:
    """An engine that looks sentences of the microworld up, and translates nothing else."""

    name = "microworld"
    masks = True

    def check(self, source: str, target: str) -> None:
        """Checks that the microworld has both languages.

        Raises:
            UnknownLanguageError: it does not.
        """
        from mpo_core import microworld

        for code in (source, target):
            if code not in microworld.LANGUAGES:
                raise UnknownLanguageError(
                    f"the engine `microworld` does not speak {code!r}: it knows only the built-in toy languages",
                    where="translation.engines",
                    fix=f"Choose languages from {', '.join(microworld.LANGUAGES)}, or name another engine.",
                )

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Reply]:
        """Translates the texts of the microworld; every other text gets no translation."""
        from mpo_core import microworld

        self.check(source, target)
        translations = (microworld.translate(text, source, target) for text in texts)
        return [Reply(None, NO_TRANSLATION) if text is None else Reply(text) for text in translations]

    def judge(self, texts: Sequence[str], source: str, target: str, *, refused: bool) -> None:
        """Does nothing: the translations are exact."""
