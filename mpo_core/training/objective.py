"""The equations of MPO (arXiv 2505.16869), nothing else. Everything is summed in float32.

Shapes: B sequences, n pairs (B = 2n: chosen rows, then rejected rows), T tokens, D width,
V vocabulary, N answer tokens of the whole batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

IGNORE = -100  # label of a position that is no answer token
Pooling = Literal["mean", "last", "padded_mean"]


def predicting(labels: Tensor) -> Tensor:
    """Positions whose next token is an answer token.

    Args:
        labels: [B, T], the answer's token ids, `IGNORE` elsewhere.

    Returns:
        bool [B, T]; N of them are true.
    """
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[:, :-1] = labels[:, 1:] != IGNORE
    return mask


def mean_log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 1: r(y|x) = (1/|y|) sum_i log pi(y_i | x, y_<i), the end token counted in |y|.

    Args:
        logits: [N, V] at the positions of `predicting(labels)`, in that order.
        labels: [B, T].

    Returns:
        [B] in nats per token. A sequence without an answer token would be 0/0: callers
        set such rows aside first.
    """
    targets = labels[:, 1:]
    answer = targets != IGNORE
    log_p = logits.float().log_softmax(-1).gather(-1, targets[answer].unsqueeze(-1)).squeeze(-1)  # [N]
    # Back to [B, T-1], so that each row is summed alone and in a fixed order.
    per_token = log_p.new_zeros(answer.shape).masked_scatter(answer, log_p)
    return per_token.sum(-1) / answer.sum(-1)


def reward_gap(rewards: Tensor) -> Tensor:
    """Eq. 2: RG(x, y_w, y_l) = r(y_w|x) - r(y_l|x).

    Args:
        rewards: [2n], chosen rows then rejected rows, nats per token.

    Returns:
        [n] in nats per token.
    """
    chosen, rejected = rewards.chunk(2)
    return chosen - rejected


def gap_loss(target_gap: Tensor, anchor_gap: Tensor, *, beta: float) -> Tensor:
    """L1 of eq. 4, per pair: (beta * RG_target(policy) - RG_dominant(reference))^2.

    beta multiplies the target gap only, as in the released code.

    Args:
        target_gap: [n], of the policy.
        anchor_gap: [n], of the frozen reference.
        beta: factor of the target gap.

    Returns:
        [n]; L1 is its mean.
    """
    return (beta * target_gap.float() - anchor_gap.float()).square()


def pool(hidden: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector per sequence from the last hidden layer, after the final norm.

    Args:
        hidden: [B, T, D], right-padded.
        attention_mask: [B, T], 1 at tokens.
        pooling: `mean` over the tokens; `last` token (the paper); `padded_mean` over every
            position, pads included (the released code), so that it depends on the batch.

    Returns:
        [B, D] in float32.
    """
    hidden = hidden.float()
    if pooling == "padded_mean":
        return hidden.mean(dim=1)
    lengths = attention_mask.sum(-1)  # [B]
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
    return (hidden * attention_mask.unsqueeze(-1)).sum(1) / lengths.unsqueeze(-1)


def retention_loss(pooled: Tensor, reference: Tensor) -> Tensor:
    """L2 of eq. 5, per pair: the squared distance of hidden states, a mean over width.

    Args:
        pooled: [2n, D], of the policy on the dominant sequences, chosen rows then rejected.
        reference: [2n, D], of the frozen reference.

    Returns:
        [n], chosen and rejected averaged; L2 is its mean, equal to a mean over 2n x D.
    """
    per_sequence = (pooled.float() - reference.float()).square().mean(-1)  # [2n]
    return torch.stack(per_sequence.chunk(2)).mean(0)


def total_loss(gap: Tensor, retention: Tensor, *, weight: float, rows: float | Tensor) -> Tensor:
    """Eq. 6: L = L1 + weight * L2, this batch's share of a mean over `rows` pairs.

    Dividing by the pairs of the whole optimiser step, not of this batch, is what makes
    gradient accumulation exact when the last batch is smaller.

    Args:
        gap: [n] from `gap_loss`.
        retention: [n] from `retention_loss`.
        weight: weight of L2; 1 in the paper.
        rows: pairs of the optimiser step.

    Returns:
        a scalar.
    """
    return (gap.sum() + weight * retention.sum()) / rows
