"""Losses beside that of the method: each adds its own gradient to an optimiser step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from mpo_core.contract.training import TrainingMethod
from mpo_core.training.collator import PairRow
from mpo_core.training.consistency import Consistency
from mpo_core.training.distillation import Distillation, TeacherRow
from mpo_core.training.forward import Output
from mpo_core.training.layout import Layout


class Auxiliary(Protocol):
    """A loss beside that of the method."""

    def step(self, rows: list[PairRow], number: int, run: Callable[[Layout], Output]) -> Tensor:
        """Adds the gradient of the loss to an optimiser step, and returns the weighted loss, a scalar.

        Args:
            rows: of the step.
            number: of the step, from 1.
            run: a forward pass of the policy.
        """

    def modules(self) -> dict[str, torch.nn.Module]:
        """Returns what of its own is trained with the model and saved in checkpoints, by name."""

    def take(self) -> dict[str, float]:
        """Returns the figures of the last step, for its log."""


def auxiliary_losses(
    settings: TrainingMethod,
    rows: list[PairRow],
    teacher: list[TeacherRow],
    model: Any,
    *,
    packed: bool,
    pad_id: int,
    device: torch.device,
    tokens: Callable[[], int | None],
) -> list[Auxiliary]:
    """Makes the auxiliary losses that the settings ask for; those without weight are left out.

    Args:
        settings: of the training.
        rows: the pairs of the training.
        teacher: the teacher's answers.
        model: the policy.
        packed: whether sequences go through the model packed.
        pad_id: token id of the padding.
        device: that of the training.
        tokens: returns the number of tokens of a forward pass that fits into memory, or None where it is not known.

    Raises:
        BadInputError: what one of them needs is missing.
    """
    losses: list[Auxiliary] = []
    if settings.consistency is not None and settings.consistency.weight > 0:
        losses.append(
            Consistency(
                settings.consistency,
                rows,
                model,
                packed=packed,
                pad_id=pad_id,
                seed=settings.seed,
                device=device,
                tokens=tokens,
            )
        )
    if settings.distillation is not None and settings.distils:
        losses.append(
            Distillation(
                settings.distillation,
                teacher,
                answers=settings.distillation.answers or settings.step_rows,
                packed=packed,
                pad_id=pad_id,
                seed=settings.seed,
                tokens=tokens,
            )
        )
    return losses
