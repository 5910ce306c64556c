"""Reads the hidden states of prompts: what a model makes of a request before it begins to answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from mpo_core.contract.tables import PROMPT_STATES
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
        progress: called with (done, all) after each prompt.

    Returns:
        Table PROMPT_STATES. A prompt that is longer than the model's context is read at its end.
    """
    import torch

    limit = context_length(model.config) or 0
    rows = []
    for number, row in enumerate(prompts, start=1):
        ids = torch.tensor([encode_prompt(tokenizer, row["text"], system=system)[-limit:]], device=model.device)
        with torch.inference_mode():
            state = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, -1].float().tolist()
        rows.append({"prompt_id": row["prompt_id"], "language": language, "kind": row["kind"], "state": state})
        if progress is not None:
            progress(number, len(prompts))
    return PROMPT_STATES.build(rows)
