"""Log-probabilities of response tokens from hidden states, without ever holding all logits.

Logits are made chunk by chunk of tokens. The probabilities of the first chunks are kept for
backward while they fit a budget; those of the others are computed again. So memory does not
grow with batch x vocabulary, and short batches pay for no recomputation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 256  # tokens a chunk: fewer make the matrix products slow at large vocabularies
_TINY = 1e-30  # below this a float32 probability loses digits, and its logarithm is taken from the logits


class Head(NamedTuple):
    """What stands between hidden states and logits: softcap(scale * (h W^T + b))."""

    scale: float = 1.0
    """Granite divides its logits by `logits_scaling`, Cohere multiplies by `logit_scale`."""
    softcap: float | None = None
    """Gemma-2: c * tanh(logits / c)."""


def describe_head(config: Any) -> Head:
    """The head's constants, from the model's config."""
    config = config.get_text_config()
    scale = 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
    return Head(scale * (getattr(config, "logit_scale", None) or 1.0), getattr(config, "final_logit_softcapping", None))


def log_probability(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: Head, *, keep: int, chunk: int = CHUNK
) -> Tensor:
    """log pi of each target token, in float32 or wider.

    Args:
        hidden: [N, D], last hidden states at the positions that predict.
        weight: [V, D] of the output layer.
        bias: [V], or none.
        targets: [N], token ids.
        head: the head's constants.
        keep: bytes of probabilities that may be kept for backward.
        chunk: tokens whose logits exist at one time.

    Returns:
        [N] in nats.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    out: Tensor = _LogProbability.apply(hidden, weight, bias, targets, head, keep, chunk)
    return out


class _LogProbability(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        head: Head,
        keep: int,
        chunk: int,
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        size = len(weight) * wide.itemsize
        # Only what backward will read; with soft-capping it needs the logits, so nothing is kept.
        wanted = any(ctx.needs_input_grad) and head.softcap is None
        ctx.kept, ctx.head, ctx.chunk = [], head, chunk
        found = hidden.new_empty(len(hidden), dtype=wide)
        scratch = None
        cast = weight.to(hidden.dtype)
        for i, start in enumerate(range(0, len(hidden), chunk)):
            rows, asked = hidden[start : start + chunk], targets[start : start + chunk]
            keeps = wanted and len(ctx.kept) == i and (start + len(rows)) * size <= keep
            buffer = None if keeps or scratch is None else scratch[: len(rows)]
            logits = _logits(rows, cast, bias, head, buffer)
            if not keeps:
                scratch = logits if scratch is None else scratch
            torch.softmax(logits, -1, out=logits)
            found[start : start + chunk] = _log_at(logits, asked, rows, cast, bias, head)
            if keeps:
                ctx.kept.append(logits)
        ctx.save_for_backward(hidden, weight, bias, targets)
        return found

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        head, chunk = ctx.head, ctx.chunk
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.empty_like(hidden) if needs_hidden else None
        d_weight = torch.zeros_like(weight) if needs_weight else None
        d_bias = torch.zeros_like(bias) if needs_bias else None
        scratch = None
        cast = weight.to(hidden.dtype)
        for i, start in enumerate(range(0, len(hidden), chunk)):
            rows, asked = hidden[start : start + chunk], targets[start : start + chunk]
            steep = None
            if i < len(ctx.kept):
                slope, ctx.kept[i] = ctx.kept[i], None
            else:
                slope = _logits(rows, cast, bias, head, None if scratch is None else scratch[: len(rows)])
                scratch = slope if scratch is None else scratch
                if head.softcap is not None:
                    steep = 1 - (slope / head.softcap).square()
                torch.softmax(slope, -1, out=slope)
            # d log p_t / d z = onehot(t) - p
            step = gradient[start : start + chunk] * head.scale
            slope.mul_(-step[:, None])
            slope[torch.arange(len(rows), device=rows.device), asked] += step
            if steep is not None:
                slope.mul_(steep)
            slope = slope.to(rows.dtype)
            if d_hidden is not None:
                torch.mm(slope, cast, out=d_hidden[start : start + chunk])
            if d_weight is not None:
                if d_weight.dtype == rows.dtype:
                    d_weight.addmm_(slope.t(), rows)
                else:
                    d_weight += slope.t() @ rows
            if d_bias is not None:
                d_bias += slope.sum(0)
        ctx.kept = []
        return d_hidden, d_weight, d_bias, None, None, None, None


def _logits(rows: Tensor, weight: Tensor, bias: Tensor | None, head: Head, buffer: Tensor | None) -> Tensor:
    """[n, V] in float32 or wider, written into `buffer` where the dtypes allow it."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    if buffer is not None and buffer.dtype == rows.dtype:
        logits = torch.mm(rows, weight.t(), out=buffer)
    else:
        logits = (rows @ weight.t()).to(wide)
    if bias is not None:
        logits += bias
    if head.scale != 1.0:
        logits *= head.scale
    if head.softcap is not None:
        logits.div_(head.softcap).tanh_().mul_(head.softcap)
    return logits


def _log_at(
    probabilities: Tensor, asked: Tensor, rows: Tensor, weight: Tensor, bias: Tensor | None, head: Head
) -> Tensor:
    """log p at the asked tokens; where p is too small for its digits, from the logits again."""
    at = probabilities.gather(-1, asked[:, None]).squeeze(-1)
    found = at.log()
    faint = at < _TINY
    if bool(faint.any()):
        logits = _logits(rows[faint], weight, bias, head, None)
        found[faint] = logits.log_softmax(-1).gather(-1, asked[faint, None]).squeeze(-1)
    return found
