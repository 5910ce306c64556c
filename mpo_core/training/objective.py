"""The equations of MPO (arXiv 2505.16869), nothing else. Everything is summed in float32 or wider.

Shapes: n pairs, T tokens of one sequence, D width. Pairs of tensors lie in turn: chosen and
rejected of the first pair, then of the second.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpo_core.contract.training import Pooling


def mean_log_probability(log_p: Tensor, tokens: Tensor) -> Tensor:
    """Computes eq. 1: r(y|x) = (1/|y|) sum_i log pi(y_i | x, y_<i), the end token counted in |y|.

    Args:
        log_p: [2n], summed log-probabilities of answers, nats.
        tokens: [2n], answer tokens. An answer without one would be 0/0: callers set such
            rows aside first.

    Returns:
        [2n] in nats per token.
    """
    return _wide(log_p) / tokens


def reward_gap(rewards: Tensor) -> Tensor:
    """Computes eq. 2: RG(x, y_w, y_l) = r(y_w|x) - r(y_l|x).

    Args:
        rewards: [2n], chosen and rejected in turn, nats per token.

    Returns:
        [n] in nats per token.
    """
    return rewards[0::2] - rewards[1::2]


def gap_loss(target_gap: Tensor, anchor_gap: Tensor, beta: Tensor | float) -> Tensor:
    """Computes L1 of eq. 4, per pair: (beta * RG_target(policy) - RG_dominant(reference))^2.

    beta multiplies the target gap only, as in the released code.

    Args:
        target_gap: [n], of the policy.
        anchor_gap: [n], of the frozen reference.
        beta: factor of the target gap, one or [n].

    Returns:
        [n]; L1 is its mean.
    """
    return (beta * _wide(target_gap) - _wide(anchor_gap)).square()


def pool(parts: list[Tensor], pooling: Pooling) -> Tensor:
    """Pools the last hidden layer of a sequence, after the final norm, to one vector.

    Args:
        parts: the sequence's states in order, [T1, D], [T2, D] ...; for `padded_mean` the
            states of its pads too.
        pooling: `mean` over the tokens; `last` token (the paper); `padded_mean` over every
            position, pads included (the released code), so that it depends on the batch.

    Returns:
        [D] in float32.
    """
    if pooling == "last":
        return _wide(parts[-1][-1])
    return torch.stack([_wide(part).sum(0) for part in parts]).sum(0) / sum(map(len, parts))


def retention_loss(pooled: Tensor, reference: Tensor) -> Tensor:
    """Computes L2 of eq. 5, per pair: the squared distance of hidden states, a mean over width.

    Args:
        pooled: [2n, D], of the policy on the dominant sequences.
        reference: [2n, D], of the frozen reference.

    Returns:
        [n], chosen and rejected averaged; L2 is its mean, equal to a mean over 2n x D.
    """
    per_sequence = (_wide(pooled) - _wide(reference)).square().mean(-1)  # [2n]
    return per_sequence.view(-1, 2).mean(-1)


def weighted_mean(loss: Tensor, weights: Tensor, total: float) -> Tensor:
    """Computes a forward's share of eq. 6, the mean over the pairs of an optimiser step.

    Dividing by the weight of the whole step, not of this forward, is what makes it exact to
    cut a step into forwards of any size.

    Args:
        loss: [n], per pair.
        weights: [n]; 1 where pairs count alike.
        total: sum of the weights of all pairs of the optimiser step.

    Returns:
        a scalar.
    """
    return (loss * weights).sum() / total


def _wide(tensor: Tensor) -> Tensor:
    """Converts to float32, unless it is wider already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
