"""What every objective is computed from."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mpo_core.training.objective import mean_log_probability


class Scores(NamedTuple):
    """Of n target pairs; each [n] and float64 unless said otherwise."""

    chosen: Tensor
    """Summed log-probability of chosen under the policy, nats."""
    rejected: Tensor
    """Of rejected."""
    prompt: Tensor
    """Of the prompt after its first token; zero where the method does not ask for it."""
    chosen_tokens: Tensor
    """Answer tokens of chosen, the end token counted."""
    rejected_tokens: Tensor
    """Of rejected."""
    beta: Tensor
    """The method's beta, by the pair's language."""
    anchor_gap: Tensor
    """Goal of the target gap, nats per token; zero where the method has none."""
    reference_chosen: Tensor
    """`chosen` under the frozen reference; zero where the method does not compare with it."""
    reference_rejected: Tensor
    """Of rejected."""
    mean_chosen_tokens: float
    """Mean of `chosen_tokens` over all pairs of the optimiser step: a mean over its tokens from one over its pairs."""
    mean_prompt_tokens: float
    """In the same manner, of the tokens that `prompt` sums."""
    kl: float
    """kto: estimate of how far the policy is from the reference, over the optimiser step; else 0."""

    @property
    def gap(self) -> Tensor:
        """Reward gap (eq. 2 of MPO), [n], nats per token."""
        chosen = mean_log_probability(self.chosen, self.chosen_tokens)
        return chosen - mean_log_probability(self.rejected, self.rejected_tokens)
