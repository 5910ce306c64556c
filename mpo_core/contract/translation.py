"""What a translation engine is: it turns texts into translations, or into reasons why there is none."""

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
    """One translated text; or None and the reason, such as `no_translation`, `timed_out` or `error_page`."""

    text: str | None
    reason: str = ""


class Engine(Protocol):
    """Anything that translates whole texts; a memory knows only some of them."""

    @property
    def name(self) -> str:
        """Name of the engine, as the table TRANSLATIONS records it."""

    @property
    def masks(self) -> bool:
        """Whether the engine protects code, URLs, measures and the like, so that they come back unchanged."""

    def check(self, source: str, target: str) -> None:
        """Checks that the engine can translate from the source language into the target language.

        Raises:
            UnknownLanguageError: it cannot.
        """

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Reply]:
        """Translates texts; returns one reply per text, in order.

        Raises:
            UnknownLanguageError: it does not know one of the languages.
            BadInputError: the service rejects the engine's key, or a model cannot be loaded.
            EngineDownError: it does not answer any more; with the replies until then.
        """

    def judge(self, texts: Sequence[str], source: str, target: str, *, refused: bool) -> None:
        """Notes whether the gates rejected its translations of these texts; a later attempt requests those again.

        Args:
            texts: the texts that were translated.
            source: code of their language.
            target: code of the translations' language.
            refused: whether a gate rejected the translations.
        """


class UnknownLanguageError(BadInputError):
    """An error: the engine does not know one of the languages, but another engine may."""


class EngineDownError(RuntimeError):
    """An engine or a backend does not answer at all: its quota is spent, or request after request fails.

    Args:
        engine: its name.
        reason: what happened last.
        replies: the replies until then by text or piece, with the reasons where there is no translation.
        refusal: if it refuses every request, the error for the user, with the server's message.
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
    """A machine translator: it translates short pieces of text, with language codes of its own."""

    @property
    def name(self) -> str:
        """Name of the engine."""

    @property
    def identity(self) -> str:
        """Service or model, and version. Replies are stored under it, and used again only for the same identity."""

    @property
    def limit(self) -> int | None:
        """Maximum length of a piece in characters; None if the service has no limit."""

    def code(self, language: str) -> str | None:
        """Returns its own code for a language, or None if it does not know the language."""

    def check(self, source: str, target: str) -> None:
        """Checks that it translates from one language into the other, given as codes of its own.

        Raises:
            UnknownLanguageError: it knows both, but not this direction.
        """

    def translate(self, pieces: Sequence[str], source: str, target: str, keep: Keep) -> dict[str, Reply]:
        """Translates pieces; returns a reply by piece, and calls `keep` with each piece and translation as it comes.

        Raises:
            EngineDownError: it does not answer any more; with the replies until then.
            BadInputError: the service rejects its key, or the model cannot be loaded.
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
    def open(self, machine: Callable[[Backend], Engine]) -> Engine:
        """Returns the engine, ready to translate.

        Args:
            machine: makes an engine of a machine translator, whose answers are stored and used again.

        Raises:
            BadInputError: a file or a model is missing or malformed.
        """

    @abc.abstractmethod
    def identity(self) -> str:
        """Returns what the answers depend on beside the settings, such as the digest of a file or of a model.

        Raises:
            BadInputError: a file or a model is missing or cannot be read.
        """

    def require_key(self) -> None:
        """Checks that the key of a service is set; it is called before the first request.

        Raises:
            BadInputError: the key is missing or malformed.
        """

    def files(self) -> list[Path]:
        """Returns the files that the engine reads, which no command may write over."""
        return []


class RemoteSource(TranslationEngine):
    """Settings of every engine that is an online service or a server."""

    url: Url | None = Field(None, json_schema_extra=OPERATIONAL)
    """Address of the server, http or https. User name, password and query in it are sent, but never shown or
    stored. Default: the service's own address."""
    version: str = ""
    """Version of the service, in your own words. Change it when the service changes: everything is then translated
    again. Default: empty."""
    requests_per_second: float | None = Field(None, gt=0.0, json_schema_extra=OPERATIONAL)
    """Maximum number of requests per second that this process sends; HTTP 429 lowers it for a while. Default: no
    limit."""
    characters_per_second: float | None = Field(None, gt=0.0, json_schema_extra=OPERATIONAL)
    """Maximum number of characters per second that this process sends. Default: no limit."""
    concurrency: int = Field(8, ge=1, json_schema_extra=OPERATIONAL)
    """Maximum number of requests in flight at the same time. Default: 8."""
    timeout: float = Field(30.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """Seconds that the service has for a whole reply; after them the request fails. Default: 30."""
    retries: int = Field(5, ge=0, json_schema_extra=OPERATIONAL)
    """How often a failed request is tried again, after a longer wait each time. Default: 5."""


ENGINES: ExtensionPoint[TranslationEngine] = ExtensionPoint(
    TranslationEngine,  # type: ignore[type-abstract]  # python/mypy#4717
    tag="engine",
    package="mpo_core.translation.engines",
    group="mpo.translation_engines",
)
