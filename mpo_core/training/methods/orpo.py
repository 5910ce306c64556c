"""ORPO (arXiv 2403.07691)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mpo_core.contract.training import Beta, Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor

_CERTAIN = -1e-7  # nats; an answer surer than this has infinite odds in float32


class Orpo(TrainingMethod):
    """Fine-tunes on the chosen answer, and raises its odds over the rejected one, without a reference model."""

    needs_prompt_scores: ClassVar[bool] = True

    method: Literal["orpo"]
    """Name of the method."""
    beta: Beta = 0.1
    """Weight of the odds: one number, or one by language code (and `default`). Default: 0.1."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns -log pi(x, y_w) per token - beta log sigmoid(o(y_w) - o(y_l)).

        Equations 6 and 7 of the ORPO paper: o(y) = log p - log(1 - p), log p = r(y|x) the mean over tokens. As in TRL
        and in the authors' code the likelihood is that of prompt and chosen, not of chosen alone.
        """
        from torch.nn.functional import logsigmoid

        tokens = scores.mean_prompt_tokens + scores.mean_chosen_tokens
        nll = -(scores.prompt + scores.chosen) / tokens
        odds = _log_odds(scores.chosen / scores.chosen_tokens) - _log_odds(scores.rejected / scores.rejected_tokens)
        return nll - scores.beta * logsigmoid(odds)


def _log_odds(log_p: Tensor) -> Tensor:
    import torch

    log_p = log_p.clamp(max=_CERTAIN)
    return log_p - torch.log(-torch.expm1(log_p))
