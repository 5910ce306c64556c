"""Attention over packed pairs: no padding, and the prompt once for both of its answers.

A forward holds one row of tokens, pair after pair as [prompt | chosen | rejected]. Chosen
attends to prompt and chosen, rejected to prompt and rejected, nothing to another pair.

On a device in half precision flash attention takes all of them in one call. Elsewhere the
tokens are spread to sequences [prompt | answer], those of one length go through SDPA together,
and the row is gathered again: no mask, and few calls however short the pairs are. A device
waits for each call more than it works on it; there those of similar length go together.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mpo_core.training.transfer import move

NAME = "mpo_packed"
_LAYERS = frozenset({"full_attention", "sliding_attention"})


class Segment(NamedTuple):
    """Numbers of tokens in one packed pair, in their order in the row."""

    prompt: int
    chosen: int
    rejected: int


def packable(model: Any) -> bool:
    """Says whether every layer of the model takes its attention from the interface of transformers.

    Models with state-space or linear-attention layers, attention sinks, or code of their own
    cannot be packed; they train on padded batches.
    """
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    # What a model class says of itself, with no public reader in transformers 5.23; a wrong answer is found by trying.
    supported = bool(getattr(model, "_supports_attention_backend", False))
    sinks = any(name.endswith("sinks") for name, _ in model.named_parameters())
    return supported and layers <= _LAYERS and not sinks


def use_packed_attention(model: Any) -> str:
    """Lets the model attend over packed pairs, without a mask; returns the name of its attention until now."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)
    # transformers 5.23 has `set_attn_implementation` in public, and nothing that reads it back; this can go with that.
    before: str = model.config._attn_implementation  # noqa: SLF001
    model.set_attn_implementation(NAME)
    return before


def packed_attention(
    module: Any,  # noqa: ARG001 - the interface's
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    *,
    segments: list[Segment],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Computes the attention of each answer over its prompt and itself.

    Args:
        module: the attention layer that calls.
        query: [1, H, T, d], T the tokens of all segments.
        key: [1, K, T, d]; H is a multiple of K.
        value: like `key`.
        attention_mask: none is made for a packed row.
        segments: the pairs in the row.
        scaling: factor of the scores. Default: 1 / sqrt(d).
        dropout: on the attention weights.
        sliding_window: tokens that a token sees back, itself counted.
        softcap: Gemma-2's bound of the scores.

    Returns:
        [1, T, H, d], and no weights.
    """
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # once here, not in each call: the rotation has left float32
        query, key, value = (t.to(torch.get_autocast_dtype(kind)) for t in (query, key, value))
    rows = [t[0].transpose(0, 1) for t in (query, key, value)]  # [T, H or K, d]
    options = _Options(scaling, dropout, sliding_window, softcap)
    attend = _at_once if _flash_takes(query, options) else _by_length
    return attend(rows, tuple(segments), options).unsqueeze(0), None


class _Options(NamedTuple):
    scaling: float | None
    dropout: float
    window: int | None
    softcap: float | None


def _flash_takes(query: Tensor, options: _Options) -> bool:
    """Says whether torch's flash attention for sequences of many lengths has a kernel for this."""
    width = query.shape[-1]
    return (
        query.is_cuda
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and query.dtype in (torch.bfloat16, torch.float16)
        and width % 8 == 0
        and width <= 256  # noqa: PLR2004 - its kernels go so far
        and options.softcap is None
        and options.dropout == 0.0
    )


class _Bounds(NamedTuple):
    """Of each pair, prompt and chosen as one sequence, then rejected, whose keys are prompt and rejected."""

    queries: Tensor
    """[2n + 1] int32, where sequences begin and end among the T tokens."""
    keys: Tensor
    """[2n + 1] int32, likewise among the S places of their keys."""
    take: Tensor
    """[S], the token at each place."""
    most_queries: int
    most_keys: int


@functools.lru_cache(maxsize=4)  # each layer of a forward asks again
def _bounds(segments: tuple[Segment, ...], device: torch.device) -> _Bounds:
    queries, keys = [0], [0]
    take: list[int] = []
    for prompt, chosen, rejected in segments:
        start = queries[-1]
        second, end = start + prompt + chosen, start + prompt + chosen + rejected
        queries += [second, end]
        take += range(start, second)
        keys.append(len(take))
        take += [*range(start, start + prompt), *range(second, end)]
        keys.append(len(take))
    most_queries, most_keys = (max(end - start for start, end in itertools.pairwise(of)) for of in (queries, keys))
    ends = [torch.tensor(of, dtype=torch.int32) for of in (queries, keys)]
    of_queries, of_keys, places = move([*ends, torch.tensor(take)], device)
    return _Bounds(of_queries, of_keys, places, most_queries, most_keys)


def _at_once(rows: list[Tensor], segments: tuple[Segment, ...], options: _Options) -> Tensor:
    """Returns [T, H, d]: the prompt's queries run once, its keys are there for both answers."""
    from torch.nn.attention.varlen import varlen_attn  # here, because it imports torch's compiler

    query, *others = rows
    bounds = _bounds(segments, query.device)
    key, value = (t.index_select(0, bounds.take) for t in others)
    back = -1 if options.window is None else options.window - 1
    out: Tensor = varlen_attn(  # type: ignore[assignment]  # nothing but the output was asked for
        query,
        key,
        value,
        bounds.queries,
        bounds.keys,
        bounds.most_queries,
        bounds.most_keys,
        scale=options.scaling,
        window_size=(back, 0),  # from the last key on, which is the last query's token
        enable_gqa=key.shape[1] < query.shape[1],
    )
    return out


def _by_length(rows: list[Tensor], segments: tuple[Segment, ...], options: _Options) -> Tensor:
    """Returns [T, H, d]: spreads the tokens to whole sequences and calls SDPA once for each length."""
    device = rows[0].device
    spread = _spread(segments, device, exact=device.type == "cpu")
    sizes = [n * length for n, length in spread.shapes]
    parts = [t.index_select(0, spread.take).split(sizes) for t in rows]
    outputs = []
    for (n, length), *group in zip(spread.shapes, *parts, strict=True):
        q, k, v = (t.view(n, length, *t.shape[1:]).transpose(1, 2) for t in group)  # [n, H or K, L, d]
        outputs.append(_attend(q, k, v, options).transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).index_select(0, spread.back)


class _Spread(NamedTuple):
    """Positions of the T tokens of a packed row among the S positions of its sequences [prompt | answer]."""

    shapes: list[tuple[int, int]]
    """Sequences n and their length L, of each group in turn; S is the sum of n * L."""
    take: Tensor
    """[S], the token at each place; the row's first at the places after a shorter sequence's end."""
    back: Tensor
    """[T], one position of each token. A prompt's tokens are in two sequences, where they get the same result."""


@functools.lru_cache(maxsize=4)  # each layer of a forward asks again
def _spread(segments: tuple[Segment, ...], device: torch.device, *, exact: bool) -> _Spread:
    """Groups of one length, or else of lengths within a factor of two, filled up at their ends.

    Causal attention from a token never reaches what was filled in after it, and nothing is
    gathered from there.
    """
    groups: dict[int, list[list[int]]] = {}
    start = 0
    for prompt, chosen, rejected in segments:
        first, second, end = start + prompt, start + prompt + chosen, start + prompt + chosen + rejected
        for answer in filter(None, (range(first, second), range(second, end))):  # a second answer may be missing
            sequence = [*range(start, first), *answer]
            group = len(sequence) if exact else (len(sequence) - 1).bit_length()
            groups.setdefault(group, []).append(sequence)
        start = end
    take: list[int] = []
    back = [0] * start
    shapes = []
    for sequences in groups.values():
        length = max(map(len, sequences))
        shapes.append((len(sequences), length))
        for sequence in sequences:
            for place, token in enumerate(sequence, len(take)):
                back[token] = place
            take += sequence + [0] * (length - len(sequence))
    return _Spread(shapes, *move([torch.tensor(take), torch.tensor(back)], device))


def _attend(query: Tensor, key: Tensor, value: Tensor, options: _Options) -> Tensor:
    """Computes causal attention within each of n sequences: [n, H, L, d]."""
    groups = query.shape[1] // key.shape[1]
    # In float32 CUDA has no kernel for grouped heads but the one that makes L x L.
    if groups > 1 and (options.softcap is not None or (query.is_cuda and query.dtype == torch.float32)):
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    length = query.shape[2]
    seen = options.window if options.window is not None and options.window < length else None
    if options.softcap is None:
        mask = None if seen is None else _mask(length, seen, query.device)
        return scaled_dot_product_attention(
            query,
            key,
            value,
            mask,
            options.dropout,
            is_causal=mask is None,
            scale=options.scaling,
            enable_gqa=key.shape[1] < query.shape[1],
        )
    scale = options.scaling if options.scaling is not None else query.shape[-1] ** -0.5
    scores = options.softcap * torch.tanh(query @ key.transpose(2, 3) * (scale / options.softcap))
    hidden = ~_mask(length, seen, query.device)
    wide = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1, dtype=wide)
    return torch.dropout(weights.to(query.dtype), options.dropout, train=options.dropout > 0) @ value


def _mask(length: int, window: int | None, device: torch.device) -> Tensor:
    """Returns [L, L], true where a token may attend to another."""
    place = torch.arange(length, device=device)
    back = place[:, None] - place
    allowed = back >= 0
    return allowed if window is None else allowed & (back < window)
