"""An optimiser step, and what a method's loss is computed from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mpo_core.contract.training import Scores
from mpo_core.training.collator import PairRow
from mpo_core.training.figures import StepFigures
from mpo_core.training.layout import Layout
from mpo_core.training.plan import Forward
from mpo_core.training.transfer import move


class Step(NamedTuple):
    """An optimiser step: all its rows, and this process's share of them in forwards."""

    rows: list[PairRow]
    forwards: list[Forward]
    figures: StepFigures
    kl: float = 0.0
    """See `Scores`."""

    @property
    def weight(self) -> float:
        """Sum of the rows' weights."""
        return math.fsum(row.weight for row in self.rows)

    @property
    def mean_chosen_tokens(self) -> float:
        """Mean number of tokens of a chosen answer, weighted by the rows' weights."""
        return math.fsum(row.weight * len(row.target.chosen) for row in self.rows) / self.weight

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean number of tokens of a prompt after its first one, weighted by the rows' weights."""
        return math.fsum(row.weight * (len(row.target.prompt) - 1) for row in self.rows) / self.weight


class RowFigures(NamedTuple):
    """What is known of the n rows whose targets go through the model in a forward pass; all are [n] in float64."""

    place: Tensor
    """Number of the row in its step, an integer."""
    weight: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    beta: Tensor
    anchor_gap: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    bare_chosen: Tensor
    bare_rejected: Tensor


class SourceFigures(NamedTuple):
    """What is known of the k dominant pairs in a forward pass."""

    place: Tensor
    """[k], number of a row that it belongs to in its step."""
    weight: Tensor
    """[k] in float64."""
    tokens: Tensor
    """[2k] in float64, lengths of chosen and rejected in turn."""
    pooled: Tensor
    """[2k, D], the reference's states in turn; [0] where it has none."""


class Part(NamedTuple):
    """A forward pass of a step with all that is computed from, on the device."""

    forward: Forward
    layout: Layout
    rows: RowFigures
    sources: SourceFigures


def parts(
    step: Step,
    layouts: list[Layout],
    device: torch.device,
    *,
    pooled: Callable[[Forward], Tensor],
    bare: Mapping[str, PairRow],
) -> list[Part]:
    """Returns the forward passes of a step on a device, to which they are moved together.

    Args:
        step: an optimiser step.
        layouts: of its forward passes, on the CPU.
        device: where the model computes.
        pooled: returns the reference's states of a pass, see `SourceFigures`.
        bare: rows by pair_id with the reference of their answers after an empty request, where the method needs it.
    """
    place = {row.pair_id: number for number, row in enumerate(step.rows)}
    figures = [
        (
            _row_figures(forward.targets, place, bare),
            SourceFigures(
                torch.tensor([place[source.row.pair_id] for source in forward.sources], dtype=torch.long),
                _double([source.weight for source in forward.sources]),
                _double([len(answer) for source in forward.sources for answer in source.row.source[1:]]),
                pooled(forward),
            ),
        )
        for forward in step.forwards
    ]
    tensors = [[*layout.tensors, *rows, *sources] for layout, (rows, sources) in zip(layouts, figures, strict=True)]
    moved = iter(move(list(itertools.chain.from_iterable(tensors)), device))
    return [
        Part(
            forward,
            layout.with_tensors(moved),
            RowFigures(*itertools.islice(moved, len(RowFigures._fields))),
            SourceFigures(*itertools.islice(moved, len(SourceFigures._fields))),
        )
        for forward, layout in zip(step.forwards, layouts, strict=True)
    ]


def _row_figures(rows: list[PairRow], place: dict[str, int], bare: Mapping[str, PairRow]) -> RowFigures:
    table = [
        (
            row.weight,
            len(row.target.chosen),
            len(row.target.rejected),
            row.beta,
            row.anchor_gap,
            *(row.reference or (0.0, 0.0)),
            *(bare[row.pair_id].reference or (0.0, 0.0) if bare else (0.0, 0.0)),
        )
        for row in rows
    ]
    columns = torch.tensor(table, dtype=torch.float64).view(len(rows), len(RowFigures._fields) - 1).t().contiguous()
    return RowFigures(torch.tensor([place[row.pair_id] for row in rows], dtype=torch.long), *columns)


def _double(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def scores(log_p: Tensor, rows: RowFigures, step: Step, *, progress: float, with_bare: bool) -> Scores:
    """Returns what the method's loss on some rows of a step is computed from.

    Args:
        log_p: of a forward pass.
        rows: its rows.
        step: all of the step.
        progress: share of the training that is done.
        with_bare: whether the method needs the reference of answers after an empty request.
    """
    chosen, rejected, *prompt = log_p.view(len(rows.weight), -1).unbind(1)
    return Scores(
        chosen=chosen,
        rejected=rejected,
        prompt=prompt[0] if prompt else torch.zeros_like(chosen),
        chosen_tokens=rows.chosen_tokens,
        rejected_tokens=rows.rejected_tokens,
        beta=rows.beta,
        anchor_gap=rows.anchor_gap,
        reference_chosen=rows.reference_chosen,
        reference_rejected=rows.reference_rejected,
        bare_chosen=rows.bare_chosen if with_bare else None,
        bare_rejected=rows.bare_rejected if with_bare else None,
        mean_chosen_tokens=step.mean_chosen_tokens,
        mean_prompt_tokens=step.mean_prompt_tokens,
        kl=step.kl,
        progress=progress,
    )
