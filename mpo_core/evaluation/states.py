"""Reads the hidden states of prompts: what a model makes of a request before it begins to answer."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from mpo_core.contract.tables import PROMPT_STATES
from mpo_core.models.batches import batches
from mpo_core.models.chat import encode_prompt
from mpo_core.models.context import context_length


def hidden_states(
    model: Any,
    tokenizer: Any,
    prompts: list[dict[str, str]],
    *,
    language: str,
    system: str | None,
    progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Reads the last hidden state at the last token of each rendered prompt, where the answer begins.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: rows with `prompt_id`, `text` and `kind`.
        language: code of the language of these texts.
        system: system message before each prompt.
        progress: called with (done, all) after each batch.

    Returns:
        Table PROMPT_STATES. A prompt that is longer than the model's context is read at its end.
    """
    import torch

    limit = context_length(model.config) or 0
    texts = [encode_prompt(tokenizer, row["text"], system=system)[-limit:] for row in prompts]
    states: dict[int, list[float]] = {}
    for batch in batches(texts, model.device):
        with torch.inference_mode():
            hidden = model.base_model(**batch.inputs, use_cache=False).last_hidden_state
        states |= zip(batch.places, batch.last(hidden).float().tolist(), strict=True)
        if progress is not None:
            progress(len(states), len(texts))
    return PROMPT_STATES.build(
        {"prompt_id": row["prompt_id"], "language": language, "kind": row["kind"], "state": states[at]}
        for at, row in enumerate(prompts)
    )
