"""What the retention loss compares with as a divergence: the frozen model at every token of the dominant answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from mpo_core.training.forward import Output, frozen_head
from mpo_core.training.head import Frozen
from mpo_core.training.plan import Forward


class FrozenAnswers:
    """Stores hidden states and the output layer, while the model is not trained yet.

    The distributions of the frozen model are computed from them chunk by chunk, so no second model is in memory.

    Args:
        model: the model before training.
        forwards: passes that hold each dominant pair once.
        run: runs a pass without gradient.
        narrow: stores bfloat16, as the output layer will read the states under autocast.
    """

    def __init__(
        self, model: Any, forwards: Iterable[Forward], run: Callable[[Forward], Output], *, narrow: bool
    ) -> None:
        model.eval()
        self._states: dict[str, Tensor] = {}
        for forward in (Forward([], forward.sources) for forward in forwards if forward.sources):
            with torch.no_grad():
                states = run(forward).states
            pairs = [source.row.source for source in forward.sources]
            parts = (states.bfloat16() if narrow else states).cpu().split([len(p.chosen + p.rejected) for p in pairs])
            self._states |= {source.row.source_id: part for source, part in zip(forward.sources, parts, strict=True)}
        self._head = frozen_head(model)

    def of(self, forward: Forward) -> Frozen:
        """Returns what the dominant answers of a pass are compared with, in their order."""
        return self._head._replace(states=torch.cat([self._states[source.row.source_id] for source in forward.sources]))
