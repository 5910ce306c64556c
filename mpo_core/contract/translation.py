"""What a translation engine is: whole texts in, a translation or a reason for each out; and its settings."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

from pydantic import Field

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.extensions import ExtensionPoint
from mpo_core.contract.settings import OPERATIONAL, Settings
from mpo_core.http.address import Url

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
    """An engine or a backend does not answer at all: its quota is spent, or request after request fails.

    Args:
        engine: its name.
        reason: what happened last.
        replies: what it had given until then, and why not the rest, by text or piece.
        refusal: where it refuses every request, the line for the user, with the server's own words.
    """

    def __init__(
        self,
        engine: str,
        reason: str,
        replies: dict[str, Reply] | None = None,
        refusal: BadInputError | None = None,
    ) -> None:
        super().__init__(f"{engine}: {reason}")
        self.engine, self.reason, self.replies, self.refusal = engine, reason, replies or {}, refusal


Keep = Callable[[str, str], None]


class Backend(Protocol):
    """A machine translator: short pieces of text, in the codes of its own."""

    @property
    def name(self) -> str:
        """Name of the engine."""

    @property
    def identity(self) -> str:
        """Whose answers these are: service or model, and version."""

    @property
    def limit(self) -> int | None:
        """Longest piece in characters."""

    def code(self, language: str) -> str | None:
        """Its own code for a language; None if it does not know it."""

    def check(self, source: str, target: str) -> None:
        """Passes if it translates between these codes of its own.

        Raises:
            UnknownLanguageError: it knows both, but not this direction.
        """

    def translate(self, pieces: Sequence[str], source: str, target: str, keep: Keep) -> dict[str, Reply]:
        """A reply by piece; `keep` is told each translation as it comes.

        Raises:
            EngineDownError: it does not answer any more; with the replies until then.
            BadInputError: its key is refused.
        """


class TranslationEngine(Settings, abc.ABC):
    """Base of every engine's settings; `engine: Literal["name"]` gives its name.

    An engine lives in a file of its own in `mpo_core/translation/engines/`, or in another package that names its
    class in the entry-point group `mpo.translation_engines`. The file is imported with the settings, so libraries
    are imported in `open`.
    """

    argument: ClassVar[tuple[str, str] | None] = None
    """The setting that `--engine NAME=VALUE` gives, and what the value is called: `("path", "FILE")`."""

    @abc.abstractmethod
    def open(self, machine: Callable[[Backend], Engine], *, with_key: bool = True) -> Engine:
        """Returns the engine, ready to translate.

        Args:
            machine: makes an engine of a machine translator, whose answers are stored and used again.
            with_key: whether a service's key must be set; an estimate, which sends nothing, does without.

        Raises:
            BadInputError: a file, a model or a key is missing or malformed.
        """

    @abc.abstractmethod
    def identity(self) -> str:
        """Returns what the answers depend on beside the settings, such as the digest of a file or of a model.

        Raises:
            BadInputError: a file or a model is missing or cannot be read.
        """

    def files(self) -> list[Path]:
        """Returns the files that the engine reads, which no command may write over."""
        return []


class RemoteSource(TranslationEngine):
    """Settings of every engine behind a network."""

    url: Url | None = Field(None, json_schema_extra=OPERATIONAL)
    """Address of the server, http or https. A user, a password and the query in it are used, but never shown or
    stored. Default: the service's own address."""
    version: str = ""
    """Of the service, as you name it: another one is asked anew, and its answers are kept apart."""
    requests_per_second: float | None = Field(None, gt=0.0, json_schema_extra=OPERATIONAL)
    """Limit of this process; lowered for a while by HTTP 429. Left out: none."""
    characters_per_second: float | None = Field(None, gt=0.0, json_schema_extra=OPERATIONAL)
    """Most characters per second that this process sends. Default: no limit."""
    concurrency: int = Field(8, ge=1, json_schema_extra=OPERATIONAL)
    """Requests that wait for their answer at the same time. Default: 8."""
    timeout: float = Field(30.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """Seconds after which a request that is not answered in full is given up. Default: 30."""
    retries: int = Field(5, ge=0, json_schema_extra=OPERATIONAL)
    """How often a failed request is tried again, after a longer wait each time. Default: 5."""


ENGINES: ExtensionPoint[TranslationEngine] = ExtensionPoint(
    TranslationEngine,  # type: ignore[type-abstract]  # python/mypy#4717
    tag="engine",
    package="mpo_core.translation.engines",
    group="mpo.translation_engines",
)
