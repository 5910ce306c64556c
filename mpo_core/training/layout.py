"""Pairs laid out as the tensors of one forward: packed without padding, or padded.

Packed: one row, pair after pair as [prompt | chosen | rejected], the prompt computed once for
both answers. Padded: a row per sequence, all chosen, then all rejected, right-padded, as in
the code that the authors of the MPO paper released.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpo_core.contract.training import Pooling
from mpo_core.training.attention import Segment
from mpo_core.training.encoding import EncodedText
from mpo_core.training.head import Frozen
from mpo_core.training.objective import pool
from mpo_core.training.top_tokens import TopTokens
from mpo_core.training.transfer import move

MULTIPLE = 8  # padded lengths are rounded up to this, as in the MPO authors' code


class Item(NamedTuple):
    """A pair that goes through the model, and what is computed from the output."""

    ids: EncodedText
    scored: bool
    """Whether the rewards of its answers are computed (equation 1 of the MPO paper)."""
    pooled: bool
    """The pooled hidden states of its sequences."""
    with_prompt: bool = False
    """The likelihood of its prompt too, after the first token."""
    compared: bool = False
    """The distributions of its answers' tokens, to compare them with those of the frozen model."""

    @property
    def tokens(self) -> int:
        """Tokens of the packed pair."""
        return sum(map(len, self.ids))


class Layout(NamedTuple):
    """The tensors of a forward: R rows, T tokens each, N answer tokens to score, M to compare."""

    inputs: dict[str, Any]
    """Arguments of the backbone: `input_ids`, `position_ids` and `segments`, or `attention_mask`; [R, T]."""
    predicting: Tensor
    """[N], positions in R * T whose next token is an answer token."""
    targets: Tensor
    """[N], these next tokens."""
    answers: list[int]
    """Lengths of what is scored, of each item in turn: chosen, rejected, then its prompt if asked for; N in all."""
    spans: list[int]
    """Cuts R * T into spans of tokens."""
    pooled: list[tuple[int, ...]]
    """For chosen and rejected of each pooled item in turn, the spans that make up the sequence."""
    pooling: Pooling
    compared: Tensor
    """[M], positions in R * T whose next token is an answer token of a compared item."""
    compared_answers: list[int]
    """Lengths of the compared answers, chosen and rejected of each item in turn; M in all."""
    frozen: Frozen | TopTokens | None = None
    """What the compared tokens are compared with. Without it, their hidden states are what comes out."""
    layer: int | None = None
    """Pools the states after this layer, from 1. Default: that of `forward.attach`."""

    def to(self, device: torch.device) -> Layout:
        """Returns the same layout with its tensors on another device."""
        moved = self.with_tensors(iter(move(self.tensors, device)))
        return moved._replace(frozen=self.frozen and self.frozen.to(device))

    @property
    def tensors(self) -> list[Tensor]:
        """Its tensors, but for those of `frozen`."""
        inputs = [value for value in self.inputs.values() if isinstance(value, Tensor)]
        return [*inputs, self.predicting, self.targets, self.compared]

    def with_tensors(self, tensors: Iterator[Tensor]) -> Layout:
        """Returns the same layout with others in the place of `tensors`."""
        inputs = {name: next(tensors) if isinstance(value, Tensor) else value for name, value in self.inputs.items()}
        predicting, targets, compared = itertools.islice(tensors, 3)
        return self._replace(inputs=inputs, predicting=predicting, targets=targets, compared=compared)

    def pool(self, hidden: Tensor) -> Tensor:
        """Returns [2k, D] of the k pooled items, chosen and rejected in turn; `hidden` is [R * T, D]."""
        spans = hidden.split(self.spans)
        vectors = [pool([spans[i] for i in parts], self.pooling) for parts in self.pooled]
        return torch.stack(vectors) if vectors else hidden.new_zeros(0, hidden.shape[-1])


def pack(items: list[Item], pooling: Pooling) -> Layout:
    """Lays out all sequences one after the other in a single row, without padding.

    Args:
        items: the pairs, at least one.
        pooling: `mean` or `last`; `padded_mean` has no meaning without pads.
    """
    ids: list[int] = []
    positions: list[int] = []
    predicting: list[int] = []
    targets: list[int] = []
    answers: list[int] = []
    spans: list[int] = []
    pooled: list[tuple[int, ...]] = []
    compared: list[int] = []
    compared_answers: list[int] = []
    for (prompt, *both), scored, wants_states, with_prompt, compares in items:
        begin, prompt_span = len(ids), len(spans)
        ids += prompt
        positions += range(len(prompt))
        spans.append(len(prompt))
        for answer in both:
            start = len(ids)
            # The prompt's last token predicts the first token of either answer; a second answer may be missing.
            places = [begin + len(prompt) - 1, *range(start, start + len(answer) - 1)][: len(answer)]
            if scored:
                predicting += places
                targets += answer
                answers.append(len(answer))
            if compares:
                compared += places
                compared_answers.append(len(answer))
            if wants_states:
                pooled.append((prompt_span, len(spans)))
            ids += answer
            positions += range(len(prompt), len(prompt) + len(answer))
            spans.append(len(answer))
        if with_prompt:
            predicting += range(begin, begin + len(prompt) - 1)
            targets += prompt[1:]
            answers.append(len(prompt) - 1)
    inputs = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "segments": [Segment(*map(len, item.ids)) for item in items],
    }
    return Layout(
        inputs, _long(predicting), _long(targets), answers, spans, pooled, pooling, _long(compared), compared_answers
    )


def pad(items: list[Item], pooling: Pooling, pad_id: int) -> Layout:
    """Lays out each sequence in a row of its own, chosen rows first; pads rows to a multiple of `MULTIPLE`.

    Args:
        items: the n pairs, at least one.
        pooling: how states are pooled; `padded_mean` counts the pads.
        pad_id: token id of the padding.
    """
    n = len(items)
    rows = [(item.ids.prompt, item.ids.chosen) for item in items] + [
        (item.ids.prompt, item.ids.rejected) for item in items
    ]
    length = math.ceil(max(len(prompt) + len(answer) for prompt, answer in rows) / MULTIPLE) * MULTIPLE
    input_ids = torch.full((len(rows), length), pad_id)
    attention_mask = torch.zeros_like(input_ids)
    spans: list[int] = []
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        input_ids[i, :end] = torch.tensor(prompt + answer)
        attention_mask[i, :end] = 1
        spans += [end, length - end]
    predicting: list[int] = []
    targets: list[int] = []
    answers: list[int] = []
    pooled: list[tuple[int, ...]] = []
    compared: list[int] = []
    compared_answers: list[int] = []
    for i, item in enumerate(items):
        for row in (i, n + i):
            prompt, answer = rows[row]
            start = row * length + len(prompt) - 1
            places = range(start, start + len(answer))
            if item.scored:
                predicting += places
                targets += answer
                answers.append(len(answer))
            if item.compared:
                compared += places
                compared_answers.append(len(answer))
            if item.pooled:
                pooled.append((2 * row, 2 * row + 1) if pooling == "padded_mean" else (2 * row,))
        if item.with_prompt:
            prompt = item.ids.prompt
            predicting += range(i * length, i * length + len(prompt) - 1)
            targets += prompt[1:]
            answers.append(len(prompt) - 1)
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    return Layout(
        inputs, _long(predicting), _long(targets), answers, spans, pooled, pooling, _long(compared), compared_answers
    )


def _long(numbers: list[int]) -> Tensor:
    # Named, because an empty list would become floats.
    return torch.tensor(numbers, dtype=torch.long)
