"""What a prompt source is: its settings, the prompts that it brings, and the digest of what it reads."""

import abc
from collections.abc import Mapping
from typing import Literal, NamedTuple

from pydantic import Field

from mpo_core.contract.extensions import ExtensionPoint
from mpo_core.contract.settings import Settings

Kind = Literal["harmful", "harmless"]
Split = Literal["train", "validation", "test", "concept"]


class ReferenceAnswers(NamedTuple):
    """A good and a bad answer to a prompt in one language."""

    chosen: str
    rejected: str


class Prompt(NamedTuple):
    """One prompt that a source brings, in the dominant language."""

    row: int
    """Number of the row in the source, from 0."""
    text: str
    kind: Kind
    split: Split | None = None
    """Default: none, the prompt gets a split by its id."""
    category: str | None = None
    chosen: str | None = None
    """A good dominant answer, used where the model gives none."""
    rejected: str | None = None
    """A bad dominant answer, used where the model gives none."""
    answers: Mapping[str, ReferenceAnswers] = {}
    """Answers by language, the dominant one among them. They are used whatever the model answers."""


class RejectedRow(NamedTuple):
    """A row of a source that gives no prompt; or, with a `language`, no answers in that language.

    `reason` is a short stable name; `detail` says columns and numbers, never text of the row.
    """

    row: int
    reason: str
    detail: str
    language: str | None = None


class PromptSource(Settings, abc.ABC):
    """Base of every prompt source. Its fields are its settings; `source: Literal["name"]` gives its name.

    A source lives in a file of its own in `mpo_core/prompts/sources/`, or in another package that names its class in
    the entry-point group `mpo.prompt_sources`. The file is imported with the settings, so libraries are imported
    where they are used.
    """

    source: str
    """Name of the kind of source."""
    licence: str | None = None
    """Licence of the prompts, which the report shows. Default: not known."""
    limit: int | None = Field(None, ge=1)
    """Maximum number of prompts to use from this source, sampled at random with `prompts.seed`. Default: all."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Name of the source in tables and in the report, such as a file's name."""

    @abc.abstractmethod
    def prompts(self, *, dominant: str, seed: int, key: str) -> list[Prompt | RejectedRow]:
        """Returns every prompt, and every row that gives none.

        Args:
            dominant: code of the language of the prompts.
            seed: random seed, for a source that samples prompts itself. The caller removes equal prompts, samples
                `limit` of them, and gives each its split.
            key: settings key of the source, for messages: "prompts.sources.0".

        Raises:
            BadInputError: the source is missing, malformed or empty, lacks a column, or has no prompts in the dominant
                language.
        """

    @abc.abstractmethod
    def digest(self) -> str:
        """Returns a digest of what `prompts` reads, for the cache key.

        Raises:
            BadInputError: a file or folder is missing or cannot be read.
        """


PROMPT_SOURCES: ExtensionPoint[PromptSource] = ExtensionPoint(
    PromptSource,  # type: ignore[type-abstract]  # python/mypy#4717
    tag="source",
    package="mpo_core.prompts.sources",
    group="mpo.prompt_sources",
)
