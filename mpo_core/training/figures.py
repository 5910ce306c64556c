"""The figures of an optimiser step: summed where the model computes, and read once."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpo_core.contract.errors import BadInputError

_NAMED = 16  # pairs in a message
NAMES = ("loss/gap", "loss/retention", "reward_gap/target", "reward_gap/dominant", "rewards/accuracies")


class Reading(NamedTuple):
    """The figures of a step over all processes."""

    loss: float
    norm: float
    """Of the gradient; 0 where none was given."""
    means: dict[str, float]
    """Weighted means of the loss's terms over the step's rows, by name."""
    not_finite: list[str]
    """Ids of the rows whose loss is NaN or infinite."""


class StepFigures:
    """Sums of the loss's terms over a step's rows, and the rows whose loss is not finite.

    Nothing here waits for the device before `read`.

    Args:
        pair_ids: of the step's rows.
        weight: sum of the rows' weights.
        device: where the model computes.
    """

    def __init__(self, pair_ids: list[str], weight: float, device: torch.device) -> None:
        self._pair_ids, self._weight = pair_ids, weight
        self._sums = torch.zeros(len(NAMES), dtype=torch.float64, device=device)
        self._bad = torch.zeros(len(pair_ids), dtype=torch.float64, device=device)

    def clear(self) -> None:
        """Starts anew, for a step that is run once more."""
        self._sums.zero_()
        self._bad.zero_()

    def add(self, **terms: tuple[Tensor, Tensor]) -> None:
        """Counts in terms by name, each as ([n] figures, [n] weights)."""
        for name, (figures, weights) in terms.items():
            at = NAMES.index(name.replace("__", "/"))
            self._sums[at] += (figures.detach().double() * weights.double()).sum()

    def check(self, loss: Tensor, places: Tensor) -> None:
        """Notes which losses, [n], of the rows with these numbers in the step are NaN or infinite."""
        self._bad.index_add_(0, places, (~torch.isfinite(loss.detach())).double())

    def read(self, accelerator: Any, loss: Tensor, norm: Tensor | float = 0.0) -> Reading:
        """Returns the figures of all processes; the one place of a step that waits for the device.

        Args:
            accelerator: of the training.
            loss: this process's share of the step's loss, a scalar.
            norm: of the gradient, equal in all processes.
        """
        figures = torch.cat([loss.detach().double().view(1), self._sums, self._bad])
        if accelerator.num_processes > 1:
            figures = accelerator.reduce(figures, "sum")
        norm_of_all = torch.as_tensor(norm, dtype=torch.float64, device=figures.device).view(1)
        total, *others, size = torch.cat([figures, norm_of_all]).tolist()
        sums, bad = others[: len(NAMES)], others[len(NAMES) :]
        return Reading(
            total,
            size,
            {name: value / self._weight for name, value in zip(NAMES, sums, strict=True)},
            [name for name, count in zip(self._pair_ids, bad, strict=True) if count],
        )


def diverged(what: str, pair_ids: list[str], step: int) -> BadInputError:
    """Returns the error of a step whose loss or gradient, `what`, is not finite on these pairs."""
    more = f" and {len(pair_ids) - _NAMED} more" if len(pair_ids) > _NAMED else ""
    return BadInputError(
        f"{what} on pairs {', '.join(pair_ids[:_NAMED])}{more}",
        where=f"training, step {step}",
        fix="Lower training.learning_rate, or look at these pairs; the last checkpoint is kept.",
    )
