"""DPO and what follows from it: losses of how the pair's log-ratios h differ.

h(y) = log pi(y|x) - log pi_ref(y|x), summed over the answer's tokens; y_w chosen, y_l rejected.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from mpo_core.settings import TrainingSettings
from mpo_core.training.objectives.scores import Scores


def log_ratios(scores: Scores) -> tuple[Tensor, Tensor]:
    """h(y_w) and h(y_l), [n] each, nats."""
    return scores.chosen - scores.reference_chosen, scores.rejected - scores.reference_rejected


def dpo(scores: Scores, settings: TrainingSettings) -> Tensor:
    """-log sigmoid(beta (h(y_w) - h(y_l))): arXiv 2305.18290, eq. 7."""
    del settings
    return -logsigmoid(_logits(scores))


def rdpo(scores: Scores, settings: TrainingSettings) -> Tensor:
    """DPO made unbiased for a share e of swapped pairs: arXiv 2403.00409; TRL's `robust`.

    ((1 - e) dpo(y_w, y_l) - e dpo(y_l, y_w)) / (1 - 2 e), e = `label_smoothing`.
    """
    logits, swapped = _logits(scores), settings.label_smoothing
    return (swapped * logsigmoid(-logits) - (1 - swapped) * logsigmoid(logits)) / (1 - 2 * swapped)


def r_dpo(scores: Scores, settings: TrainingSettings) -> Tensor:
    """-log sigmoid(beta (h(y_w) - h(y_l)) + a (|y_w| - |y_l|)): arXiv 2403.19159, a = `length_alpha`.

    The reward that the policy implies is beta h(y) + a |y|, because a |y| is taken off the reward
    that it maximises. So a pair whose chosen is longer counts as learnt sooner.
    """
    longer = scores.chosen_tokens - scores.rejected_tokens
    return -logsigmoid(_logits(scores) + settings.length_alpha * longer)


def ipo(scores: Scores, settings: TrainingSettings) -> Tensor:
    """(h(y_w) / |y_w| - h(y_l) / |y_l| - 1 / (2 beta))^2: arXiv 2310.12036, eq. 17.

    Per token, as in TRL, which has it from the paper's authors.
    """
    del settings
    chosen, rejected = log_ratios(scores)
    return (chosen / scores.chosen_tokens - rejected / scores.rejected_tokens - 1 / (2 * scores.beta)).square()


def _logits(scores: Scores) -> Tensor:
    chosen, rejected = log_ratios(scores)
    return scores.beta * (chosen - rejected)
