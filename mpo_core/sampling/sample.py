"""Samples answers to prompts with any backend, and returns them as tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from mpo_core.contract.sampling import Draw, NoAnswer, Progress, SampledModel
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
    progress: Progress = lambda _done, _total: None,
) -> tuple[pa.Table, pa.Table]:
    """Draws `settings.n` answers per request, with the backend of the settings.

    Args:
        model: the model that answers.
        requests: prompt ids are unique.
        settings: how to draw, and with which backend.
        language: code of the requests' language.
        progress: called with the number of answers so far, and of all that were requested.

    Returns:
        RESPONSES in the order request x sample, and QUARANTINE: the prompts that lack an answer, with each reason once.

    Raises:
        BadInputError: the model, the backend or its server is unusable.
    """
    draws = [
        Draw(*request, number, stream_seed(settings.seed, request.prompt_id, number))
        for request in requests
        for number in range(settings.n)
    ]
    replies = settings.backend.sample(draws, settings, model, progress)
    if len(replies) != len(draws):
        raise ValueError(
            f"{type(settings.backend).__name__}.sample returned {len(replies)} replies for {len(draws)} draws"
        )
    common = {
        "language": language,
        "backend": settings.backend.identity(model.name),
        "model": model.sha256,
        "settings": settings.key(),
    }
    rows: list[dict[str, Any]] = []
    rejected: dict[tuple[str, str], dict[str, Any]] = {}
    for draw, reply in zip(draws, replies, strict=True):
        if isinstance(reply, NoAnswer):
            row = {"row_id": draw.prompt_id, "language": language, **reply._asdict()}
            rejected.setdefault((draw.prompt_id, reply.reason), row)
        else:
            draw_of = {"prompt_id": draw.prompt_id, "sample": draw.sample, "seed": draw.seed, "prompt": draw.text}
            rows.append({**draw_of, **reply._asdict(), **common})
    return RESPONSES.build(rows), QUARANTINE.build(rejected.values())


def stream_seed(seed: int, prompt_id: str, sample: int) -> int:
    """Returns the 63-bit seed of one sample of one prompt."""
    digest = hashlib.sha256(f"{seed}\x00{prompt_id}\x00{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
