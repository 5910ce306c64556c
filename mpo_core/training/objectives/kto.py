"""KTO (arXiv 2402.01306): every pair is one desirable and one undesirable example."""

from __future__ import annotations

import torch
from torch import Tensor

from mpo_core.contract.errors import BadInputError
from mpo_core.settings import TrainingSettings
from mpo_core.training.collator import PairRow
from mpo_core.training.encoding import EncodedText, truncated_lengths
from mpo_core.training.objectives.dpo import log_ratios
from mpo_core.training.objectives.scores import Scores


def kto(scores: Scores, settings: TrainingSettings) -> Tensor:
    """Mean of d (1 - sigmoid(beta (h(y_w) - z))) and u (1 - sigmoid(beta (z - h(y_l)))): eq. 7.

    h is the log-ratio of `dpo`, z = `scores.kl`, d and u are `desirable_weight` and `undesirable_weight`.
    """
    chosen, rejected = log_ratios(scores)
    # 1 - sigmoid(t) is sigmoid(-t), which keeps its digits for large t.
    desirable = settings.desirable_weight * torch.sigmoid(scores.beta * (scores.kl - chosen))
    undesirable = settings.undesirable_weight * torch.sigmoid(scores.beta * (rejected - scores.kl))
    return (desirable + undesirable) / 2


def divergence(log_p: Tensor, reference: Tensor, weights: Tensor) -> float:
    """How far the policy is from the reference, z of `kto`: the mean of log pi - log pi_ref, never below 0.

    Args:
        log_p: [n, 2], summed log-probability of chosen and rejected of `mismatched` pairs, nats.
        reference: [n, 2], the same under the frozen model.
        weights: [n], of the rows.

    Returns:
        nats; a constant, no gradient goes through it.
    """
    mean = ((log_p - reference).mean(1) * weights).sum() / weights.sum()
    return max(0.0, float(mean))


def mismatched(rows: list[PairRow], cutoff: int) -> list[PairRow]:
    """Each row's prompt with the answers to another one, from which z is estimated.

    TRL takes the answers of the neighbour in a batch. Here it is the next row in file order of
    the same language and another prompt, round the end: no matter of how steps are cut, so
    the reference can measure these pairs once. A row that is alone in its language takes
    the next row with another prompt.

    Args:
        rows: of training, or of validation.
        cutoff: most tokens of a sequence.

    Raises:
        BadInputError: all rows have the same prompt.
    """
    return [row._replace(target=_join(row, _other(rows, at), cutoff)) for at, row in enumerate(rows)]


def _other(rows: list[PairRow], at: int) -> PairRow:
    here, foreign = rows[at], None
    for step in range(1, len(rows)):
        row = rows[(at + step) % len(rows)]
        if row.target.prompt != here.target.prompt:
            if row.language == here.language:
                return row
            foreign = foreign or row
    if foreign is None:
        raise BadInputError(
            "kto needs pairs of two prompts or more",
            where="training.method",
            fix="Give more pairs, or train with another method.",
        )
    return foreign


def _join(row: PairRow, other: PairRow, cutoff: int) -> EncodedText:
    prompt, chosen, rejected = row.target.prompt, other.target.chosen, other.target.rejected
    prompt_length, answer_length = truncated_lengths(len(prompt), max(len(chosen), len(rejected)), cutoff)
    return EncodedText(prompt[:prompt_length], chosen[:answer_length], rejected[:answer_length])
