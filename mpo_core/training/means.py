"""The means of the loss's terms that the log of a step shows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Means:
    """Weighted means of the loss's terms over the pairs of all forward passes since the last `take`."""

    NAMES = ("loss/gap", "loss/retention", "reward_gap/target", "reward_gap/dominant", "rewards/accuracies")

    def __init__(self) -> None:
        self.weight = 0.0
        self.sums = torch.zeros(len(self.NAMES), dtype=torch.float64)

    def add(self, **terms: tuple[Tensor, Tensor]) -> None:
        """Counts in terms by name, each as ([n] figures, [n] weights)."""
        for name, (figures, weights) in terms.items():
            at = self.NAMES.index(name.replace("__", "/"))
            self.sums[at] += (figures.detach().double() * weights.double()).sum().cpu()

    def take(self, accelerator: Any) -> dict[str, float]:
        """Returns the means over all processes, and starts anew."""
        sums = self.sums
        if accelerator.num_processes > 1:
            sums = accelerator.reduce(sums.to(accelerator.device, torch.float32), "sum").double().cpu()
        means = dict(zip(self.NAMES, (sums / max(self.weight, 1e-30)).tolist(), strict=True))
        self.__init__()  # type: ignore[misc]
        return means
