"""How many positions a model knows, and what does not fit into them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mpo_core.errors import BadInputError

_SCALED = ("linear", "dynamic", "yarn")  # the others state the scaled length as max_position_embeddings


def context_length(config: Any) -> int | None:
    """The most tokens of a sequence, scaled rotary positions included; None where the model states no limit.

    Args:
        config: the model's configuration, of transformers.
    """
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None)
    if not isinstance(limit, int):
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    for scaling in (rope, *rope.values()):  # some models have one set per kind of layer
        if not isinstance(scaling, dict) or scaling.get("rope_type") not in _SCALED:
            continue
        original = scaling.get("original_max_position_embeddings") or limit
        limit = max(limit, int(original * (scaling.get("factor") or 1.0)))
    return limit


def refuse_longer(lengths: Iterable[int], config: Any, cutoff: int) -> None:
    """Refuses training texts that are longer than the model's context after they were cut at `cutoff`.

    Args:
        lengths: tokens of each sequence that will go through the model.
        config: the model's configuration.
        cutoff: most tokens of a sequence by the settings.

    Raises:
        BadInputError: at least one is longer.
    """
    limit = context_length(config)
    sizes = list(lengths)
    beyond = 0 if limit is None else sum(size > limit for size in sizes)
    if beyond:
        raise BadInputError(
            f"{beyond} of {len(sizes)} texts are longer than the model's {limit} positions, the longest has "
            f"{max(sizes)} tokens",
            where=f"training.cutoff {cutoff}",
            mend=f"Set training.cutoff={limit}, or give a model with a longer context.",
        )
