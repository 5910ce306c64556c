"""Checks on a few pairs that the model before its first training step gives the same figures as the reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.training import TrainingMethod
from mpo_core.training.collator import PairRow
from mpo_core.training.encoding import EncodedText
from mpo_core.training.forward import Output
from mpo_core.training.layout import Item

_ROWS = 4  # of a step, the shortest
# Rounding of the same computation in another layout: nats per token (relative beyond 1), and a share of the norm.
# Weights in four bits are computed with in float32 unless autocast says otherwise, in reference and training alike.
_CLOSE_GAP = {"float32": 2e-3, "bfloat16": 0.15}
_CLOSE_STATES = {"float32": 2e-3, "bfloat16": 0.08}


class Expected(NamedTuple):
    """A pair with the reference model's figures for its answers; None where the method needs none."""

    ids: EncodedText
    gap: float | None = None
    log_p: tuple[float, float] | None = None
    pooled: tuple[Tensor, Tensor] | None = None

    @property
    def item(self) -> Item:
        """The pair with what must be computed for it."""
        return Item(self.ids, scored=True, pooled=self.pooled is not None)


def expected_of(rows: list[PairRow], settings: TrainingMethod) -> list[Expected]:
    """Returns what the reference measured on the shortest pairs of a step, such as their reward gaps.

    `require_reference` compares the model with these figures before its first step. A method without a reference has
    none.

    Args:
        rows: the pairs of the step.
        settings: the method with its settings.
    """
    shortest = sorted(rows, key=lambda row: sum(map(len, row.target)) + sum(map(len, row.source)))[:_ROWS]
    expected: dict[str, Expected] = {}
    for row in shortest:
        if settings.needs_sources:
            gap = None if row.own_goal else row.anchor_gap
            if gap is not None or row.pooled is not None:
                expected.setdefault(row.source_id, Expected(row.source, gap=gap, pooled=row.pooled))
            if row.own_goal:
                expected[row.pair_id] = Expected(row.target, gap=row.anchor_gap)
        elif row.reference is not None:
            expected[row.pair_id] = Expected(row.target, log_p=row.reference)
    return list(expected.values())


def require_reference(
    expected: list[Expected], run: Callable[[list[Item]], Output], *, settings: TrainingMethod
) -> None:
    """Compares the model before its first step with the reference.

    NaN and infinite figures are not reported here: the check of the loss does so, and names their rows.

    Args:
        expected: see `expected_of`.
        run: the model as it trains, without gradient, on these items in one forward.
        settings: precision and weights say how far rounding reaches.

    Raises:
        BadInputError: reward gaps or hidden states differ by more than rounding.
    """
    out = run([pair.item for pair in expected])
    gaps, states = _gap_difference(expected, out), _state_difference(expected, out)
    kind = "bfloat16" if "bfloat16" in (settings.weights, settings.precision) else "float32"
    wrong = []
    if gaps > _CLOSE_GAP[kind]:
        wrong.append(f"reward gaps differ by {gaps:.2g} nats per token, rounding explains {_CLOSE_GAP[kind]:g}")
    if states > _CLOSE_STATES[kind]:
        wrong.append(f"hidden states differ by {states:.1%}, rounding explains {_CLOSE_STATES[kind]:.1%}")
    if wrong:
        raise BadInputError(
            f"before the first step, the model differs from its reference: {'; '.join(wrong)}",
            where="training, step 0",
            fix="Compute the references with this very model on this machine; if it uses random numbers in its own "
            "code (noise, dropout), switch that off in its config.json.",
        )


def _gap_difference(expected: list[Expected], out: Output) -> float:
    """Computes the mean difference of gaps, or of mean log-probabilities, of pairs; relative where above 1."""
    differences, sizes = [], []
    for pair, (chosen, rejected) in zip(expected, out.log_p.view(-1, 2).tolist(), strict=True):
        lengths = (len(pair.ids.chosen), len(pair.ids.rejected))
        rewards = (chosen / lengths[0], rejected / lengths[1])
        pairs = [] if pair.gap is None else [(rewards[0] - rewards[1], pair.gap)]
        if pair.log_p is not None:
            pairs += [(reward, goal / n) for reward, goal, n in zip(rewards, pair.log_p, lengths, strict=True)]
        for measured, goal in pairs:
            if math.isfinite(measured) and math.isfinite(goal):
                differences.append(abs(measured - goal))
                sizes.append(abs(goal))
    if not differences:
        return 0.0
    return math.fsum(differences) / max(math.fsum(sizes), len(sizes))


def _state_difference(expected: list[Expected], out: Output) -> float:
    """Computes the norm of the difference of all pooled states, relative to the norm of the states."""
    goals = [state for pair in expected for state in pair.pooled or ()]
    if not goals:
        return 0.0
    goal = torch.stack(goals).to(out.pooled.device, torch.float32)
    measured = out.pooled.float()
    finite = (goal.isfinite() & measured.isfinite()).all(1)
    difference = (measured - goal)[finite].norm() / goal[finite].norm().clamp(min=1e-12)
    return float(difference)
