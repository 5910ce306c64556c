"""Methods without a reference: sft, cpo, orpo, simpo.

Their likelihood term is a mean over the tokens of the optimiser step, as in TRL: each pair
brings its sum, divided by the step's mean number of tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mpo_core.settings import TrainingSettings
from mpo_core.training.objectives.scores import Scores

_CERTAIN = -1e-7  # nats; an answer surer than this has infinite odds in float32


def sft(scores: Scores, settings: TrainingSettings) -> Tensor:
    """-log pi(y_w|x) per token; rejected plays no part."""
    del settings
    return -scores.chosen / scores.mean_chosen_tokens


def cpo(scores: Scores, settings: TrainingSettings) -> Tensor:
    """-log sigmoid(beta (log pi(y_w|x) - log pi(y_l|x))) + `cpo_alpha` sft: arXiv 2401.08417."""
    return -logsigmoid(scores.beta * (scores.chosen - scores.rejected)) + settings.cpo_alpha * sft(scores, settings)


def simpo(scores: Scores, settings: TrainingSettings) -> Tensor:
    """-log sigmoid(beta RG(x, y_w, y_l) - g): arXiv 2405.14734, eq. 6, g = `simpo_gamma`.

    TRL adds `cpo_alpha` times the likelihood of chosen unless that is set to 0; the paper has no such term.
    """
    return -logsigmoid(scores.beta * scores.gap - settings.simpo_gamma)


def orpo(scores: Scores, settings: TrainingSettings) -> Tensor:
    """-log pi(x, y_w) per token - beta log sigmoid(o(y_w) - o(y_l)): arXiv 2403.07691, eq. 6 and 7.

    o(y) = log p - log(1 - p), log p = r(y|x) the mean over tokens. As in TRL and in the authors' code
    the likelihood is that of prompt and chosen, not of chosen alone.
    """
    del settings
    tokens = scores.mean_prompt_tokens + scores.mean_chosen_tokens
    nll = -(scores.prompt + scores.chosen) / tokens
    odds = _log_odds(scores.chosen / scores.chosen_tokens) - _log_odds(scores.rejected / scores.rejected_tokens)
    return nll - scores.beta * logsigmoid(odds)


def _log_odds(log_p: Tensor) -> Tensor:
    log_p = log_p.clamp(max=_CERTAIN)
    return log_p - torch.log(-torch.expm1(log_p))
