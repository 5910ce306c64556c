"""How far the policy is from the reference, for a method that needs it: estimated on mismatched pairs."""

from __future__ import annotations

from torch import Tensor

from mpo_core.contract.errors import BadInputError
from mpo_core.training.collator import PairRow
from mpo_core.training.encoding import EncodedText, truncated_lengths


def divergence(log_p: Tensor, reference: Tensor, weights: Tensor) -> float:
    """Estimates how far the policy is from the reference (`Scores.kl`): the mean of log pi - log pi_ref, at least 0.

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
    """Gives each row's prompt the answers to another prompt: the pairs on which `divergence` is estimated.

    TRL takes the answers of the neighbour in a batch. Here it is the next row in file order of
    the same language with another prompt (after the last row, the first), however steps are cut, so
    that the reference can measure these pairs once. A row that is alone in its language takes
    the next row with another prompt.

    Args:
        rows: of training, or of validation.
        cutoff: maximum length of a sequence in tokens.

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
            "all pairs have the same prompt, but the method needs at least two prompts",
            where="training.method",
            fix="Give more pairs, or train with another method.",
        )
    return foreign


def _join(row: PairRow, other: PairRow, cutoff: int) -> EncodedText:
    prompt, chosen, rejected = row.target.prompt, other.target.chosen, other.target.rejected
    prompt_length, answer_length = truncated_lengths(len(prompt), max(len(chosen), len(rejected)), cutoff)
    return EncodedText(prompt[:prompt_length], chosen[:answer_length], rejected[:answer_length])
