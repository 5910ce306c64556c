"""Log-probabilities and divergences of answer tokens from hidden states, without ever holding all logits.

Logits are made chunk by chunk of tokens. The probabilities of the first chunks are kept for
backward while they fit a budget; those of the others are computed again. So memory does not
grow with batch x vocabulary, and short batches pay for no recomputation.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 256  # tokens a chunk: fewer make the matrix products slow at large vocabularies
_TINY = 1e-30  # below this a float32 probability loses digits, and its logarithm is taken from the logits


class Head(NamedTuple):
    """The constants by which logits are computed from hidden states: softcap(scale * (h W^T + b))."""

    scale: float = 1.0
    """Granite divides its logits by `logits_scaling`, Cohere multiplies by `logit_scale`."""
    softcap: float | None = None
    """Gemma-2: c * tanh(logits / c)."""


class Frozen(NamedTuple):
    """The frozen model's hidden states at the M places that are compared with it, and its output layer."""

    states: Tensor
    """[M, D]"""
    weight: Tensor
    """[V, D]"""
    bias: Tensor | None
    """[V], or none."""

    def to(self, device: torch.device) -> Frozen:
        """Returns the same with its states on another device."""
        return self._replace(states=self.states.to(device))


def describe_head(config: Any) -> Head:
    """Reads from a model's config how its output head scales, shifts and caps the logits."""
    config = config.get_text_config()
    scale = 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
    return Head(scale * (getattr(config, "logit_scale", None) or 1.0), getattr(config, "final_logit_softcapping", None))


def log_probability(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    head: Head,
    *,
    keep: int,
    chunk: int = CHUNK,
    in_place: bool = False,
    cast: Tensor | None = None,
) -> Tensor:
    """Computes the logarithm of pi of each target token, in float32 or wider.

    Args:
        hidden: [N, D], last hidden states at the positions that predict.
        weight: [V, D] of the output layer.
        bias: [V], or none.
        targets: [N], token ids.
        head: the head's constants.
        keep: bytes of probabilities that may be kept for backward.
        chunk: tokens whose logits exist at one time, beside those that are kept.
        in_place: backward adds to `weight.grad`, if there is one, instead of making another [V, D].
        cast: [V, D], the weight in the number format of the computation, if there is such a copy.

    Returns:
        [N] in nats.
    """
    hidden = to_autocast(hidden)
    out: Tensor = _LogProbability.apply(hidden, weight, bias, targets, head, keep, chunk, in_place, cast)  # type: ignore[no-untyped-call]
    return out


def to_autocast(hidden: Tensor) -> Tensor:
    """Returns the states in the number format of autocast, which does not reach into a function of our own."""
    kind = hidden.device.type
    return hidden.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else hidden


def divergence(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    frozen: Frozen,
    head: Head,
    *,
    chunk: int = CHUNK,
    in_place: bool = False,
) -> Tensor:
    """Computes KL(frozen ‖ policy) of the next token's distribution at each place, in float32 or wider.

    Logits of both models exist for `chunk` places at a time, and are computed again for backward.

    Args:
        hidden: [M, D], last hidden states of the policy at these places.
        weight: [V, D] of the policy's output layer.
        bias: [V], or none.
        frozen: the same of the frozen model; it gets no gradient.
        head: the head's constants.
        chunk: places whose logits exist at one time.
        in_place: backward adds to `weight.grad`, if there is one, instead of making another [V, D].

    Returns:
        [M] in nats.
    """
    hidden = to_autocast(hidden)
    out: Tensor = _Divergence.apply(hidden, weight, bias, frozen, head, chunk, in_place)  # type: ignore[no-untyped-call]
    return out


class _LogProbability(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        head: Head,
        keep: int,
        chunk: int,
        in_place: bool,  # noqa: FBT001 - apply() takes no keywords
        cast: Tensor | None,
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        # Only what backward will read; with soft-capping it needs the logits, so nothing is saved.
        wanted = any(ctx.needs_input_grad) and head.softcap is None
        saved = min(len(hidden), keep // (len(weight) * wide.itemsize)) if wanted else 0
        ctx.head, ctx.in_place, ctx.saved, ctx.parts = head, in_place, None, chunks(len(hidden), saved, chunk)
        log_p = hidden.new_empty(len(hidden), dtype=wide)
        ctx.cast, scratch = cast, None
        narrow = weight.to(hidden.dtype) if cast is None else cast
        for part in ctx.parts:
            keeps = part.stop <= saved
            logits = compute_logits(hidden[part], narrow, bias, head, None if keeps else scratch)
            if keeps:
                ctx.saved = logits
            elif scratch is None:
                scratch = logits
            at = targets[part][:, None]
            below_best = logits.gather(-1, at) - logits.amax(-1, keepdim=True)
            torch.softmax(logits, -1, out=logits)
            log_p[part] = _log_at(logits, at, below_best).squeeze(-1)
        ctx.save_for_backward(hidden, weight, bias, targets)
        return log_p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        head = ctx.head
        gradients = Gradients.of(ctx, hidden, weight, bias)
        cast, scratch = weight.to(hidden.dtype) if ctx.cast is None else ctx.cast, None
        for part in ctx.parts:
            rows, target_ids = hidden[part], targets[part]
            steep = None
            if ctx.saved is not None:
                slope, ctx.saved = ctx.saved, None  # the first part is what was saved
            else:
                slope = compute_logits(rows, cast, bias, head, scratch)
                scratch = slope if scratch is None else scratch
                if head.softcap is not None:
                    steep = 1 - (slope / head.softcap).square()
                torch.softmax(slope, -1, out=slope)
            # d log p_t / d z = onehot(t) - p; its sign and the incoming gradient go to the narrow factors below,
            # which spares a pass over [n, V].
            slope[torch.arange(len(rows), device=rows.device), target_ids] -= 1
            if steep is not None:
                slope.mul_(steep)
            gradients.add(part, slope.to(rows.dtype), rows, cast, gradient[part] * -head.scale)
            del slope  # the saved ones go before the next are made
        return *gradients.returned, None, None, None, None, None, None


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        frozen: Frozen,
        head: Head,
        chunk: int,
        in_place: bool,  # noqa: FBT001 - apply() takes no keywords
    ) -> Tensor:
        ctx.head, ctx.in_place, ctx.frozen, ctx.parts = head, in_place, frozen, chunks(len(hidden), 0, chunk)
        ctx.save_for_backward(hidden, weight, bias)
        kl = hidden.new_empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
        cast, goal = weight.to(hidden.dtype), frozen.weight.to(hidden.dtype)
        for part in ctx.parts:
            log_q = compute_logits(hidden[part], cast, bias, head, None).log_softmax(-1)
            log_p = compute_logits(frozen.states[part].to(hidden.dtype), goal, frozen.bias, head, None).log_softmax(-1)
            kl[part] = log_q.neg_().add_(log_p).mul_(log_p.exp_()).sum(-1)
        return kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        head, frozen = ctx.head, ctx.frozen
        gradients = Gradients.of(ctx, hidden, weight, bias)
        cast, goal = weight.to(hidden.dtype), frozen.weight.to(hidden.dtype)
        for part in ctx.parts:
            slope = compute_logits(hidden[part], cast, bias, head, None)
            steep = None if head.softcap is None else 1 - (slope / head.softcap).square()
            torch.softmax(slope, -1, out=slope)
            # d KL(p ‖ q) / d z = q - p, with q the softmax of the logits z.
            slope -= compute_logits(frozen.states[part].to(hidden.dtype), goal, frozen.bias, head, None).softmax(-1)
            if steep is not None:
                slope.mul_(steep)
            gradients.add(part, slope.to(hidden.dtype), hidden[part], cast, gradient[part] * head.scale)
        return *gradients.returned, None, None, None, None


class Gradients(NamedTuple):
    """What a backward pass adds up, chunk by chunk; None for what needs no gradient."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    adds: bool
    """Whether `weight` is the parameter's own gradient, which is then not returned."""

    @classmethod
    def of(cls, ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Gradients:
        """Makes empty gradients for those of the three that need one."""
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        adds = needs_weight and ctx.in_place and weight.grad is not None
        return cls(
            torch.empty_like(hidden) if needs_hidden else None,
            (weight.grad if adds else torch.zeros_like(weight)) if needs_weight else None,
            torch.zeros_like(bias) if needs_bias and bias is not None else None,
            adds,
        )

    def add(self, part: slice, slope: Tensor, rows: Tensor, cast: Tensor, step: Tensor) -> None:
        """Adds those of a chunk: `slope` is [n, V] over the logits, to be multiplied by `step`, [n]."""
        if self.hidden is not None:
            torch.mm(slope, cast, out=self.hidden[part]).mul_(step[:, None])
        if self.weight is not None:
            scaled = (rows * step[:, None]).to(rows.dtype)
            if self.weight.dtype == rows.dtype:
                self.weight.addmm_(slope.t(), scaled)
            else:
                self.weight.add_(slope.t() @ scaled)
        if self.bias is not None:
            self.bias.add_((slope * step[:, None]).sum(0))

    @property
    def returned(self) -> tuple[Tensor | None, ...]:
        """Returns the three as autograd expects them."""
        return self.hidden, None if self.adds else self.weight, self.bias


def chunks(tokens: int, saved: int, chunk: int) -> list[slice]:
    """Returns the saved tokens as one part, the others in chunks."""
    edges = [0, *range(saved, tokens, chunk), tokens] if saved else [*range(0, tokens, chunk), tokens]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def compute_logits(rows: Tensor, weight: Tensor, bias: Tensor | None, head: Head, buffer: Tensor | None) -> Tensor:
    """Computes [n, V] in float32 or wider, written into `buffer` if that is long enough and dtypes allow it."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    if buffer is not None and buffer.dtype == rows.dtype and len(buffer) >= len(rows):
        logits = torch.mm(rows, weight.t(), out=buffer[: len(rows)])
    else:
        logits = (rows @ weight.t()).to(wide)
    if bias is not None:
        logits += bias
    if head.scale != 1.0:
        logits *= head.scale
    if head.softcap is not None:
        logits.div_(head.softcap).tanh_().mul_(head.softcap)
    return logits


def _log_at(probabilities: Tensor, at: Tensor, below_best: Tensor) -> Tensor:
    """Computes log p of each target token, [n, 1]; where p is too small for its digits, from the best token's.

    Args:
        probabilities: [n, V].
        at: [n, 1], the target tokens.
        below_best: [n, 1], how far their logits are from the largest ones; at most 0.
    """
    p = probabilities.gather(-1, at)
    return torch.where(p < _TINY, below_best + probabilities.amax(-1, keepdim=True).log(), p.log())
