"""A sampling backend that answers with the beginning of the prompt."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from mpo_core.contract.progress import Progress
from mpo_core.contract.sampling import (
    Answer,
    GenerationSettings,
    NoAnswer,
    SampledModel,
    SampleRequest,
    SamplingBackend,
)


class Echo(SamplingBackend):
    """Answers with the beginning of the prompt."""

    backend: Literal["echo"]
    """Name of the backend."""
    words: int = Field(3, ge=1)
    """Words of an answer. Default: 3."""

    def sample(
        self, requests: Sequence[SampleRequest], settings: GenerationSettings, model: SampledModel, progress: Progress
    ) -> list[Answer | NoAnswer]:
        """Returns an answer to every request."""
        del settings, model, progress
        return [Answer(" ".join(request.text.split()[: self.words]), "stop") for request in requests]

    def identity(self, model: str) -> str:
        """Returns the backend's name."""
        del model
        return self.backend
