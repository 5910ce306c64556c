"""What a sampling backend is: it turns prompts into a model's answers, or into reasons why there is none."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from pydantic import Field, model_validator

from mpo_core.contract.extensions import ExtensionPoint
from mpo_core.contract.progress import Progress
from mpo_core.contract.settings import OPERATIONAL, Settings

if TYPE_CHECKING:
    from mpo_core.settings import ModelSettings

TRAINED = "trained"
"""Name of a model that a run has made; any other model's name is its `model.path`."""


class SampleRequest(NamedTuple):
    """A request for one answer: the prompt, the number of the answer (from 0), and the seed of its random numbers.

    Requests with the same prompt stand next to each other in a list.
    """

    prompt_id: str
    text: str
    sample: int
    seed: int


class Answer(NamedTuple):
    """One answer of the model. Fields are None where the backend does not know them."""

    text: str
    finish_reason: str | None
    """`stop`: the model ended its turn; `length`: cut at the token limit."""
    prompt_tokens: int | None = None
    tokens: int | None = None
    """Tokens of the answer, the end token counted."""
    thought: str | None = None
    fault: str | None = None
    """Why the text is empty: `unfinished_thought` or `only_thoughts`."""


class NoAnswer(NamedTuple):
    """Why a request has no answer: a short stable reason, and numbers or names to explain it; never text of prompts."""

    reason: str
    detail: str


class SampledModel(NamedTuple):
    """The model that answers: its name, folder, settings and digest."""

    name: str
    """`trained`, or its `model.path`."""
    folder: Path
    settings: ModelSettings
    sha256: str


class GenerationSettings(Settings):
    """Settings of sampling that every backend has: number of answers, temperature, length, seed."""

    n: int = Field(1, ge=1)
    """Number of answers to sample for each prompt. Default: 1."""
    temperature: float = Field(0.0, ge=0.0)
    """Temperature of sampling; 0 takes the likeliest token every time. Default: 0."""
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """Samples only among the likeliest tokens, whose probabilities add up to this (0 to 1). Default: 1, all tokens."""
    max_new_tokens: int = Field(256, ge=1)
    """Maximum length of an answer, in tokens; a longer one is cut off there. Default: 256."""
    seed: int = Field(0, ge=0)
    """Random seed of sampling. Every answer has random numbers of its own, whatever the batch. Default: 0."""
    batch_size: int | None = Field(None, ge=1, json_schema_extra=OPERATIONAL)
    """Maximum number of prompts that this process answers at the same time; a server decides for itself. Default: as
    many as the backend's `tokens_per_batch` allows."""

    @model_validator(mode="after")
    def _useful(self) -> Self:
        if self.n > 1 and self.temperature == 0.0:
            raise ValueError("several greedy samples are all the same: set a temperature or n=1")
        return self


class SamplingBackend(Settings, abc.ABC):
    """Base of every sampling backend. Its fields are its settings; `backend: Literal["name"]` gives its name.

    A backend lives in a file of its own in `mpo_core/sampling/backends/`, or in another package that names its class
    in the entry-point group `mpo.sampling_backends`. The file is imported with the settings, so libraries are
    imported in `sample`.
    """

    @abc.abstractmethod
    def sample(
        self, requests: Sequence[SampleRequest], settings: GenerationSettings, model: SampledModel, progress: Progress
    ) -> list[Answer | NoAnswer]:
        """Returns an answer to every request, or why it has none, in the same order.

        Args:
            requests: the prompts to answer, with their seeds.
            settings: temperature, maximum length of an answer, and so on.
            model: the model to answer with; its settings say the system message and whether it may think.
            progress: call it now and then; let an exception that it raises end the sampling.

        Raises:
            BadInputError: the model, the server or a setting is unusable.
            StageFailedError: the server does not answer any more.
        """

    @abc.abstractmethod
    def identity(self, model: str) -> str:
        """Returns what tells the answers of this backend from those of others, such as `openai:NAME@VERSION`.

        It is a part of cache keys, and a column of every row.
        """

    def require_models(self, models: Sequence[str]) -> None:
        """Checks that the backend can answer with every one of these models.

        It is called before anything is sampled.

        Args:
            models: their names; `trained` is one that the run is going to make.

        Raises:
            BadInputError: the backend cannot; names the model, and says what to do.
        """

    def require_key(self) -> None:
        """Checks that the key of a server is set; it is called before the first request.

        Raises:
            BadInputError: the key is missing or malformed.
        """


BACKENDS: ExtensionPoint[SamplingBackend] = ExtensionPoint(
    SamplingBackend,  # type: ignore[type-abstract]  # python/mypy#4717
    tag="backend",
    package="mpo_core.sampling.backends",
    group="mpo.sampling_backends",
)
