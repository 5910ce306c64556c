"""Samples answers to prompts with any backend, and returns them as tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from mpo_core.contract.progress import Progress, ignore_progress
from mpo_core.contract.sampling import NoAnswer, SampledModel, SampleRequest
from mpo_core.contract.tables import QUARANTINE, RESPONSES

if TYPE_CHECKING:
    from mpo_core.settings import SamplingSettings


class Request(NamedTuple):
    """A prompt as the model gets it: its id, and its text in one language."""

    prompt_id: str
    text: str


def sample(
    model: SampledModel,
    requests: Sequence[Request],
    settings: SamplingSettings,
    *,
    language: str,
    progress: Progress = ignore_progress,
) -> tuple[pa.Table, pa.Table]:
    """Samples `settings.n` answers to each prompt, with the backend that the settings name.

    Args:
        model: the model that answers.
        requests: the prompts; their ids are unique.
        settings: the backend, temperature, number of answers, and so on.
        language: code of the requests' language.
        progress: called with the number of answers so far, and the number of answers to sample.

    Returns:
        RESPONSES in the order request x sample, and QUARANTINE: the prompts that lack an answer, with each reason once.

    Raises:
        BadInputError: the model, the backend or its server is unusable.
    """
    sample_requests = [
        SampleRequest(*request, number, stream_seed(settings.seed, request.prompt_id, number))
        for request in requests
        for number in range(settings.n)
    ]
    replies = settings.backend.sample(sample_requests, settings, model, progress)
    if len(replies) != len(sample_requests):
        raise ValueError(
            f"{type(settings.backend).__name__}.sample returned {len(replies)} replies "
            f"for {len(sample_requests)} requests"
        )
    common = {
        "language": language,
        "backend": settings.backend.identity(model.name),
        "model": model.sha256,
        "settings": settings.key(),
    }
    rows: list[dict[str, Any]] = []
    rejected: dict[tuple[str, str], dict[str, Any]] = {}
    for wanted, reply in zip(sample_requests, replies, strict=True):
        if isinstance(reply, NoAnswer):
            row = {"row_id": wanted.prompt_id, "language": language, **reply._asdict()}
            rejected.setdefault((wanted.prompt_id, reply.reason), row)
        else:
            request = {
                "prompt_id": wanted.prompt_id,
                "sample": wanted.sample,
                "seed": wanted.seed,
                "prompt": wanted.text,
            }
            rows.append({**request, **reply._asdict(), **common})
    return RESPONSES.build(rows), QUARANTINE.build(rejected.values())


def stream_seed(seed: int, prompt_id: str, sample: int) -> int:
    """Returns the 63-bit random seed of one answer, so that an answer does not depend on those before it."""
    digest = hashlib.sha256(f"{seed}\x00{prompt_id}\x00{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
