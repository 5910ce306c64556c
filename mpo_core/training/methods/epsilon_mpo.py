"""Epsilon-MPO: MPO that expects some pairs to have their answers swapped. A proposal of this project, from no paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mpo_core.contract.settings import Fraction
from mpo_core.contract.training import Scores
from mpo_core.training.methods.mpo import Mpo

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_SPREAD = 1e-6  # nats per token: an anchor gap of 0 has no scale


class EpsilonMpo(Mpo):
    """Trains like `mpo`, but lets a pair whose reward gap clearly runs against its label pull the other way."""

    method: Literal["epsilon_mpo"]  # type: ignore[assignment]  # the name of another method than that of its base
    """Name of the method."""
    swapped_share: float = Field(0.1, ge=0.0, lt=0.5)
    """Share (0 to 0.5) of the pairs whose chosen and rejected answers are expected to be swapped; 0 is plain `mpo`.
    Default: 0.1."""
    spread: float = Field(0.5, gt=0.0)
    """Standard deviation of a pair's reward gap around its anchor gap, as a multiple of the anchor gap. The smaller it
    is, the sooner a pair is taken for swapped. Default: 0.5."""
    warm_start: Fraction = 0.3
    """Share (0 to 1) of the optimiser steps that train as `mpo` first, until the other pairs have taught the direction.
    Default: 0.3."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns -2 s^2 log[(1 - e) exp(-(g - a)^2 / 2 s^2) + e exp(-(g + a)^2 / 2 s^2)], after the warm start.

        g = beta * RG_target(policy), a = RG_dominant(reference), s = `spread` * |a|, e = `swapped_share`. With e = 0
        this is MPO's gap loss, which is used as it is then and during the warm start.
        """
        import torch

        if not self.swapped_share or scores.progress < self.warm_start:
            return super().loss(scores)
        gap, anchor = scores.beta * scores.gap, scores.anchor_gap
        twice = 2 * (self.spread * anchor.abs()).clamp(min=_LEAST_SPREAD).square()
        share = torch.as_tensor(self.swapped_share, dtype=gap.dtype, device=gap.device)
        as_labelled = torch.log1p(-share) - (gap - anchor).square() / twice
        as_swapped = share.log() - (gap + anchor).square() / twice
        return -twice * torch.logaddexp(as_labelled, as_swapped)
