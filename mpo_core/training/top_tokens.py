"""Distillation from a teacher of which only the likeliest tokens are stored (MSD, after arXiv 2605.02971).

Shapes: M answer tokens, K likeliest tokens of the teacher at each, V vocabulary, D width of a hidden state.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mpo_core.training.head import CHUNK, Gradients, Head, chunks, compute_logits, to_autocast


class TopTokens(NamedTuple):
    """The teacher's next-token distributions at the M tokens of its answers."""

    ids: Tensor
    """[M, K], the likeliest tokens, the likeliest first."""
    log_p: Tensor
    """[M, K], their log-probabilities, nats."""
    rest: Tensor
    """[M], the log-probability of all other tokens together."""
    lengths: list[int]
    """Number of tokens of each answer; M in all."""

    def to(self, device: torch.device) -> TopTokens:
        """Returns the same on another device."""
        return TopTokens(self.ids.to(device), self.log_p.to(device), self.rest.to(device), self.lengths)


def top_tokens(states: Tensor, weight: Tensor, bias: Tensor | None, head: Head, k: int) -> tuple[Tensor, ...]:
    """Computes the K likeliest next tokens at each place, chunk by chunk.

    Args:
        states: [M, D], last hidden states.
        weight: [V, D] of the output layer.
        bias: [V], or none.
        head: the head's constants.
        k: number of tokens, fewer than V.

    Returns:
        ids [M, K] (int32), their log-probabilities [M, K] (float32), and that of all others together [M] (float32).
    """
    cast, parts = weight.to(states.dtype), []
    for part in chunks(len(states), 0, CHUNK):
        log_p = compute_logits(states[part], cast, bias, head, None).log_softmax(-1)
        top, ids = log_p.topk(k)
        # Summed over the others themselves: 1 - sum of the likeliest would have no digits where that sum is near 1.
        rest = log_p.scatter_(-1, ids, -math.inf).logsumexp(-1)
        parts.append((ids.int(), top.float(), rest.float()))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def token_weights(log_p: Tensor, likelihood: Tensor, lengths: list[int]) -> Tensor:
    """Computes how much each token counts: w = (1 - H(p_T on its top K) / log K) (1 - p_S(y*)), mean 1 over an answer.

    So a token counts more where the teacher is sure, and where the student does not yet do what the teacher would.

    Args:
        log_p: [M, K], log-probabilities of the teacher's likeliest tokens.
        likelihood: [M], the student's probability of the likeliest of them, y*.
        lengths: see `TopTokens`.

    Returns:
        [M]; 1 throughout an answer whose tokens would all count nothing.
    """
    top = log_p.log_softmax(-1)
    entropy = -(top.exp() * top).nan_to_num().sum(-1)  # a probability of 0 adds nothing
    raw = (1 - entropy / math.log(log_p.shape[-1])).clamp(min=0.0) * (1 - likelihood).clamp(min=0.0)
    parts = [part / part.mean() if float(part.sum()) > 0 else torch.ones_like(part) for part in raw.split(lengths)]
    return torch.cat(parts)


def distillation_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    teacher: TopTokens,
    head: Head,
    *,
    chunk: int = CHUNK,
    in_place: bool = False,
) -> Tensor:
    """Computes each token's share of the loss of its answer: w KL(student ‖ teacher) / length of the answer.

    The divergence is that of K + 1 classes: the teacher's likeliest tokens, and all others together. It is at most that
    of the whole distributions. No gradient goes through the weights (ours; the paper's text was not at hand).

    Args:
        hidden: [M, D], last hidden states of the student at these places.
        weight: [V, D] of the student's output layer.
        bias: [V], or none.
        teacher: the teacher at the same places.
        head: the head's constants.
        chunk: places whose logits exist at one time.
        in_place: see `head.log_probability`.

    Returns:
        [M] in nats; summed over an answer it is the answer's loss.
    """
    hidden = to_autocast(hidden)
    kl, likelihood = _TopDivergence.apply(hidden, weight, bias, teacher, head, chunk, in_place)  # type: ignore[no-untyped-call]
    weights = token_weights(teacher.log_p, likelihood, teacher.lengths)
    lengths = torch.tensor(teacher.lengths, device=kl.device)
    out: Tensor = kl * weights / lengths.repeat_interleave(lengths)
    return out


class _TopDivergence(torch.autograd.Function):
    """KL(student ‖ teacher) over K + 1 classes, and the student's probability of the teacher's likeliest token."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        teacher: TopTokens,
        head: Head,
        chunk: int,
        in_place: bool,  # noqa: FBT001 - apply() takes no keywords
    ) -> tuple[Tensor, Tensor]:
        ctx.head, ctx.in_place, ctx.teacher, ctx.parts = head, in_place, teacher, chunks(len(hidden), 0, chunk)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        kl, likelihood = hidden.new_empty(len(hidden), dtype=wide), hidden.new_empty(len(hidden), dtype=wide)
        cast = weight.to(hidden.dtype)
        for part in ctx.parts:
            log_q = compute_logits(hidden[part], cast, bias, head, None).log_softmax(-1)
            ratios, classes = _ratios(log_q, teacher, part)
            kl[part] = (classes.exp() * ratios).sum(-1)
            likelihood[part] = classes[:, 0].exp()
        ctx.save_for_backward(hidden, weight, bias, kl)
        ctx.mark_non_differentiable(likelihood)
        return kl, likelihood

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, kl = ctx.saved_tensors
        head, teacher = ctx.head, ctx.teacher
        gradients = Gradients.of(ctx, hidden, weight, bias)
        cast = weight.to(hidden.dtype)
        for part in ctx.parts:
            logits = compute_logits(hidden[part], cast, bias, head, None)
            steep = None if head.softcap is None else 1 - (logits / head.softcap).square()
            log_q = logits.log_softmax(-1)
            ratios, _ = _ratios(log_q, teacher, part)
            # d KL / d z_v = q_v (ratio of v's class - KL): the class of a token is itself, or the rest.
            slope = (ratios[:, -1:] - kl[part, None]).expand_as(log_q).clone()
            slope.scatter_(-1, teacher.ids[part].long(), ratios[:, :-1] - kl[part, None])
            slope.mul_(log_q.exp_())
            if steep is not None:
                slope.mul_(steep)
            gradients.add(part, slope.to(hidden.dtype), hidden[part], cast, gradient[part] * head.scale)
        return *gradients.returned, None, None, None, None


def _ratios(log_q: Tensor, teacher: TopTokens, part: slice) -> tuple[Tensor, Tensor]:
    """Returns log q - log p and log q of the K + 1 classes, [n, K + 1] each, from the student's log q of all tokens."""
    ids = teacher.ids[part].long()
    rest = log_q.scatter(-1, ids, -math.inf).logsumexp(-1, keepdim=True)
    classes = torch.cat([log_q.gather(-1, ids), rest], -1)
    goal = torch.cat([teacher.log_p[part], teacher.rest[part, None]], -1)
    return classes - goal.to(classes.dtype), classes
