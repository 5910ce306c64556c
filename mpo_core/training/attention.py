"""Attention over packed pairs: no padding, and the prompt once for both of its answers.

A forward holds one row of tokens, pair after pair as [prompt | chosen | rejected]. Chosen
attends to prompt and chosen, rejected to prompt and rejected, nothing to another pair. Each
of these is a call of SDPA of its own, so no mask of tokens x tokens is made or computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "mpo_packed"
_LAYERS = frozenset({"full_attention", "sliding_attention"})


class Segment(NamedTuple):
    """Tokens of one packed pair, in the order in which they lie."""

    prompt: int
    chosen: int
    rejected: int


def packable(model: Any) -> bool:
    """Whether every layer of the model takes its attention from the interface of transformers.

    Models with state-space or linear-attention layers, attention sinks, or code of their own
    cannot be packed; they train on padded batches.
    """
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    sinks = any(name.endswith("sinks") for name, _ in model.named_parameters())
    return bool(getattr(model, "_supports_attention_backend", False)) and layers <= _LAYERS and not sinks


def register() -> None:
    """Makes the function known to transformers as `NAME`; it needs no mask, so none is made."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: list[Segment],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of each answer over its prompt and itself.

    Args:
        module: the attention layer that calls.
        query: [1, H, T, d], T the tokens of all segments.
        key: [1, K, T, d]; H is a multiple of K.
        value: like `key`.
        attention_mask: none is made for a packed row.
        segments: the pairs in the row.
        scaling: of the scores; left out, 1 / sqrt(d).
        dropout: on the attention weights.
        sliding_window: tokens that a token sees back, itself counted.
        softcap: Gemma-2's bound of the scores.

    Returns:
        [1, T, H, d], and no weights.
    """
    del attention_mask
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    lengths = [n for segment in segments for n in (segment.prompt + segment.chosen, segment.rejected)]
    parts = [tensor.split(lengths, dim=2) for tensor in (query, key, value)]
    outputs = []
    for i, (prompt, _, rejected) in enumerate(segments):
        first, second = ([part[2 * i + j] for part in parts] for j in (0, 1))
        options = _Options(scaling, dropout, sliding_window, softcap)
        outputs.append(_attend(*first, options))
        if rejected:
            # Causal squares skip what lies ahead; with a short prompt it is cheaper to ask for its rows again
            # and leave them than to compute a masked rectangle.
            again = prompt <= rejected
            asked = torch.cat([first[0][:, :, :prompt], second[0]], dim=2) if again else second[0]
            seen = [torch.cat([a[:, :, :prompt], b], dim=2) for a, b in zip(first[1:], second[1:], strict=True)]
            outputs.append(_attend(asked, *seen, options)[:, :, prompt if again else 0 :])
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


class _Options(NamedTuple):
    scaling: float | None
    dropout: float
    window: int | None
    softcap: float | None


def _attend(query: Tensor, key: Tensor, value: Tensor, options: _Options) -> Tensor:
    """Causal attention of the last queries of a sequence over the whole of it: [1, H, n, d]."""
    asked, seen = query.shape[2], key.shape[2]
    beyond = options.window is not None and seen > options.window
    mask = None if asked == seen and not beyond else _mask(asked, seen, options.window, query.device)
    if options.softcap is None:
        return scaled_dot_product_attention(
            query, key, value, mask, options.dropout, is_causal=mask is None, scale=options.scaling
        )
    scale = options.scaling if options.scaling is not None else query.shape[-1] ** -0.5
    scores = options.softcap * torch.tanh(query @ key.transpose(2, 3) * (scale / options.softcap))
    allowed = _mask(asked, seen, options.window, query.device)
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    return torch.dropout(weights.to(query.dtype), options.dropout, train=options.dropout > 0) @ value


def _mask(asked: int, seen: int, window: int | None, device: torch.device) -> Tensor:
    back = torch.arange(seen - asked, seen, device=device)[:, None] - torch.arange(seen, device=device)
    allowed = back >= 0
    return allowed if window is None else allowed & (back < window)
