"""Batches of token ids, padded on the right, for figures at the last token of each text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

_SIZE = 32  # texts of similar length that go through the model together


class Batch(NamedTuple):
    """B texts of at most T tokens, as tensors on the model's device."""

    places: list[int]
    """Place of each text in the list that was cut into batches."""
    inputs: dict[str, Tensor]
    """`input_ids` and `attention_mask`, [B, T]."""

    def last(self, states: Tensor) -> Tensor:
        """Returns the state at the last token of each text, [B, D] of [B, T, D]."""
        lengths = self.inputs["attention_mask"].sum(1)
        return states[list(range(len(lengths))), lengths - 1]


def batches(texts: list[list[int]], device: Any) -> Iterator[Batch]:
    """Yields texts, given as token ids, in batches of similar length, the shortest first."""
    import torch

    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    for places in (order[start : start + _SIZE] for start in range(0, len(order), _SIZE)):
        width = max(len(texts[at]) for at in places)
        ids = [texts[at] + [0] * (width - len(texts[at])) for at in places]
        mask = [[1] * len(texts[at]) + [0] * (width - len(texts[at])) for at in places]
        tensors = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
        yield Batch(places, {name: tensor.to(device) for name, tensor in tensors.items()})
