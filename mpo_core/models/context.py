"""The context length of a model (how many tokens it can read), and a check of training texts against it."""

from collections.abc import Iterable
from typing import Any

from mpo_core.contract.errors import BadInputError

_SCALED = ("linear", "dynamic", "yarn")  # the others state the scaled length as max_position_embeddings


def context_length(config: Any) -> int | None:
    """Returns how many tokens a sequence of the model may have, scaled rotary positions included, or None for no limit.

    Args:
        config: the model's configuration, of transformers.
    """
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", getattr(text, "max_seq_len", None))  # the latter is MPT's
    if not isinstance(limit, int) or limit < 1:  # XLNet states -1
        return None
    for scaling in rope_scalings(config):
        if scaling.get("rope_type") not in _SCALED:
            continue
        original = scaling.get("original_max_position_embeddings") or limit
        limit = max(limit, int(original * (scaling.get("factor") or 1.0)))
    return limit


def rope_scalings(config: Any) -> list[dict[str, Any]]:
    """Returns the settings by which a model scales its rotary position embeddings; none if it has no such embeddings.

    The first entry is the model's own; a model with several kinds of layers (such as Gemma 3) has one more for each.
    """
    rope = getattr(config.get_text_config(), "rope_parameters", None)
    if not isinstance(rope, dict):
        return []
    return [rope, *(entry for entry in rope.values() if isinstance(entry, dict))]


def refuse_longer(lengths: Iterable[int], config: Any, cutoff: int) -> None:
    """Refuses training texts that are longer than the model's context after they were cut at `cutoff`.

    Args:
        lengths: tokens of each sequence that will go through the model.
        config: the model's configuration.
        cutoff: maximum length of a sequence in tokens, by the settings.

    Raises:
        BadInputError: at least one is longer.
    """
    limit = context_length(config)
    sizes = list(lengths)
    beyond = 0 if limit is None else sum(size > limit for size in sizes)
    if beyond:
        raise BadInputError(
            f"{beyond} of {len(sizes)} training texts are longer than the {limit} tokens that the model can read; the "
            f"longest has {max(sizes)}",
            where=f"training.cutoff {cutoff}",
            fix=f"Set training.cutoff={limit}, or give a model with a longer context.",
        )
