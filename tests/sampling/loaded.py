"""Sampling from a model that a test holds in memory."""

from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import PrivateAttr

from mpo_core.contract.sampling import SampledModel, SamplingBackend
from mpo_core.sampling import Request, sample
from mpo_core.sampling.generate import generate
from mpo_core.settings import ModelSettings, SamplingSettings


class InMemory(SamplingBackend):
    """The backend `transformers` on a model that is loaded."""

    backend: Literal["in_memory"]
    """Name of the backend."""
    _model: Any = PrivateAttr()
    _tokenizer: Any = PrivateAttr()

    def sample(self, draws, settings, model, progress):
        how = {"system": model.settings.system, "thinking": model.settings.thinking}
        return generate(self._model, self._tokenizer, draws, settings, **how, progress=progress)

    def identity(self, model):
        return "in_memory"


def sample_from(
    model: Any,
    tokenizer: Any,
    requests: list[Request],
    settings: SamplingSettings,
    *,
    language: str,
    system: str | None = None,
    thinking: bool = False,
    **more: Any,
) -> tuple[pa.Table, pa.Table]:
    """RESPONSES and QUARANTINE of a loaded model."""
    backend = InMemory(backend="in_memory")
    backend._model, backend._tokenizer = model, tokenizer
    described = SampledModel("tiny", Path(), ModelSettings(system=system, thinking=thinking), "0" * 64)
    return sample(described, requests, settings.model_copy(update={"backend": backend}), language=language, **more)
