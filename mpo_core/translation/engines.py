"""What an engine is: whole texts in, a translation or a reason for each out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from mpo_core.errors import BadInputError

NO_TRANSLATION = "no_translation"
"""The reason where an engine does not know a text."""


class Reply(NamedTuple):
    """A translation; or None and the reason, such as `no_translation`, `timed_out` or `error_page`."""

    text: str | None
    reason: str = ""


class Engine(Protocol):
    """Something that translates; it may know some texts only."""

    @property
    def name(self) -> str:
        """Name in the table of translations."""

    @property
    def masks(self) -> bool:
        """Whether code, URLs, measures and the like come back as they went in."""

    def check(self, source: str, target: str) -> None:
        """Passes if the engine can translate between the two languages.

        Raises:
            UnknownLanguageError: it cannot.
        """

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Reply]:
        """One reply per text, in order.

        Raises:
            BadInputError: the engine's key is refused.
            EngineDownError: it answers nothing any more.
        """

    def judge(self, texts: Sequence[str], source: str, target: str, *, refused: bool) -> None:
        """Is told what became of its translations of these texts."""


class UnknownLanguageError(BadInputError):
    """The engine does not know one of the languages; another engine may."""


class EngineDownError(RuntimeError):
    """An engine does not answer at all: its quota is spent, or request after request fails.

    Args:
        engine: its name.
        reason: what happened last.
        replies: what it had given until then, one per text.
        refusal: where it refuses every request, the line for the user, with the server's own words.
    """

    def __init__(
        self,
        engine: str,
        reason: str,
        replies: list[Reply] | None = None,
        refusal: BadInputError | None = None,
    ) -> None:
        super().__init__(f"{engine}: {reason}")
        self.engine, self.reason, self.replies, self.refusal = engine, reason, replies or [], refusal
