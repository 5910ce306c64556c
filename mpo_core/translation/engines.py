"""The protocol of an engine, and the engines that the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mpo_core.files import digest
from mpo_core.settings import TranslationSettings, TranslationSource
from mpo_core.translation.memory import MemoryEngine
from mpo_core.translation.microworld import MicroworldEngine


class Engine(Protocol):
    """Something that translates; it may know some texts only."""

    @property
    def name(self) -> str:
        """Name in the table of translations."""

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """One translation per text, in order; None for a text that the engine does not know.

        Raises:
            BadInputError: the engine cannot work with this pair of languages at all.
        """


def build_engines(settings: TranslationSettings) -> list[Engine]:
    """The engines in the order in which they are asked.

    Raises:
        BadInputError: a memory file is missing or malformed.
    """
    return [_build(source) for source in settings.engines]


def _build(source: TranslationSource) -> Engine:
    if source.engine == "microworld":
        return MicroworldEngine()
    return MemoryEngine(Path(str(source.path)), columns=source.columns)


def fingerprint(settings: TranslationSettings) -> list[str]:
    """One digest per engine of what it reads: the file's sha256, the microworld's version.

    Raises:
        BadInputError: a memory file is missing or cannot be read.
    """
    return [_digest(source) for source in settings.engines]


def _digest(source: TranslationSource) -> str:
    if source.engine == "microworld":
        from mpo_core.microworld import WORLD_VERSION

        return f"microworld:{WORLD_VERSION}"
    return f"memory:{digest(Path(str(source.path)), mend='Check translation.engines[].path.')}"
