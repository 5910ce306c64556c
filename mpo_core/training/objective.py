"""The equations of the MPO paper (arXiv 2505.16869), nothing else. Everything is summed in float32 or wider.

Shapes: n pairs, T tokens of one sequence, D width of a hidden state. A tensor of 2n entries holds chosen and rejected
of the first pair, then chosen and rejected of the second, and so on. Equation numbers are those of the MPO paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpo_core.contract.training import Pooling


def mean_log_probability(log_p: Tensor, tokens: Tensor) -> Tensor:
    """Computes an answer's reward, equation 1: r(y|x) = (1/|y|) sum_i log pi(y_i | x, y_<i).

    Args:
        log_p: [2n], sum of the log-probabilities of an answer's tokens, in nats.
        tokens: [2n], |y|: number of tokens of the answer, the end token included. Callers reject an answer without
            tokens first, since it would be 0/0 here.

    Returns:
        [2n] in nats per token.
    """
    return _wide(log_p) / tokens


def reward_gap(rewards: Tensor) -> Tensor:
    """Computes a pair's reward gap, equation 2: RG(x, y_w, y_l) = r(y_w|x) - r(y_l|x).

    Args:
        rewards: [2n], rewards of the chosen and the rejected answers, in nats per token.

    Returns:
        [n] in nats per token.
    """
    return rewards[0::2] - rewards[1::2]


def gap_loss(target_gap: Tensor, anchor_gap: Tensor, beta: Tensor | float) -> Tensor:
    """Computes the gap loss (L1, equation 4) of each pair: (beta * RG_target(policy) - RG_dominant(reference))^2.

    beta multiplies the target gap only, as in the code that the MPO paper's authors released.

    Args:
        target_gap: [n], reward gaps of the target pairs under the policy.
        anchor_gap: [n], the reward gaps of the frozen reference that they are pulled to.
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
        pooling: `mean` over the tokens; `last` token (as in the MPO paper); `padded_mean` over every
            position, pads included (as in the authors' code), so that it depends on the batch.

    Returns:
        [D] in float32.
    """
    if pooling == "last":
        return _wide(parts[-1][-1])
    return torch.stack([_wide(part).sum(0) for part in parts]).sum(0) / sum(map(len, parts))


def retention_loss(pooled: Tensor, reference: Tensor) -> Tensor:
    """Computes the retention loss (L2, equation 5) of each pair: the mean squared distance of its hidden states.

    Args:
        pooled: [2n, D], pooled hidden states of the dominant pairs under the policy.
        reference: [2n, D], the same under the frozen reference.

    Returns:
        [n], chosen and rejected averaged; L2 is its mean, equal to a mean over 2n x D.
    """
    per_sequence = (_wide(pooled) - _wide(reference)).square().mean(-1)  # [2n]
    return per_sequence.view(-1, 2).mean(-1)


def divergence_loss(divergence: Tensor, tokens: Tensor) -> Tensor:
    """Computes the retention loss of each pair as a divergence: the ablation of equation 5, in place of hidden states.

    Args:
        divergence: [2n], sum over an answer's tokens of KL(frozen ‖ policy) of the next token, on the dominant pairs.
        tokens: [2n], number of tokens of the answer, the end token included.

    Returns:
        [n] in nats per token, chosen and rejected averaged; L2 is its mean.
    """
    return (_wide(divergence) / tokens).view(-1, 2).mean(-1)


def weighted_mean(loss: Tensor, weights: Tensor, total: float) -> Tensor:
    """Computes what one forward pass adds to the loss of its optimiser step (equation 6), a weighted mean over pairs.

    It divides by the weight of the whole step and not of this forward pass, so that the sum over the passes is exact
    however the step is cut into them.

    Args:
        loss: [n], per pair.
        weights: [n], weight of each pair; 1 for all if pairs count alike.
        total: sum of the weights of all pairs of the optimiser step.

    Returns:
        a scalar.
    """
    return (loss * weights).sum() / total


def _wide(tensor: Tensor) -> Tensor:
    """Converts to float32, unless it is wider already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
