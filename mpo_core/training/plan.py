"""Divides an optimiser step into forward passes.

The loss of a step is a sum over its pairs, so the cut changes rounding alone. A dominant pair
that several rows share goes through the model once, weighted by those rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

from mpo_core.contract.training import Pooling
from mpo_core.training.collator import PairRow
from mpo_core.training.layout import Item, Layout, pack, pad

T = TypeVar("T", bound=Any)


class Source(NamedTuple):
    """A dominant pair of a step."""

    row: PairRow
    """Any row that it belongs to."""
    weight: float
    """Sum of the weights of all the step's rows that it belongs to."""


class Forward(NamedTuple):
    """The pairs that go through the model in one forward pass."""

    targets: list[PairRow]
    sources: list[Source]
    idle: bool = False
    """Whether the pass counts for nothing, and only lets this process run as many passes as the others."""

    @property
    def pairs(self) -> int:
        """Number of target and dominant pairs."""
        return len(self.targets) + len(self.sources)

    @property
    def tokens(self) -> int:
        """Number of tokens of the packed pass."""
        return sum(sum(map(len, row.target)) for row in self.targets) + sum(
            sum(map(len, source.row.source)) for source in self.sources
        )

    def layout(
        self, *, packed: bool, pooling: Pooling, pad_id: int, with_prompts: bool = False, compares: bool = False
    ) -> Layout:
        """Its tensors: the targets are scored, their prompts too if asked for; the sources pooled, or compared."""
        items = [Item(row.target, scored=True, pooled=False, with_prompt=with_prompts) for row in self.targets]
        items += [
            Item(source.row.source, scored=False, pooled=not compares, compared=compares) for source in self.sources
        ]
        return pack(items, pooling) if packed else pad(items, pooling, pad_id)


def by_tokens(rows: list[PairRow], budget: int, *, sources: bool) -> list[Forward]:
    """Plans packed forward passes of at most `budget` tokens; a longer pair has a pass of its own.

    The longest pairs come first, each into the first pass with room: this gives few passes, and a training that needs
    too much memory fails in its first step.

    Args:
        rows: rows of the optimiser step.
        budget: maximum number of tokens in a forward pass.
        sources: whether the dominant pairs go through the model too.
    """
    work = [(Item(row.target, scored=True, pooled=False).tokens, Forward([row], [])) for row in rows]
    if sources:
        shared_sources = _sources(rows)
        work += [
            (Item(source.row.source, scored=False, pooled=True).tokens, Forward([], [source]))
            for source in shared_sources
        ]
    forwards: list[Forward] = []
    room: list[int] = []
    for tokens, part in sorted(work, key=lambda pair: -pair[0]):
        at = next((i for i, left in enumerate(room) if left >= tokens), None)
        if at is None:
            at = len(forwards)
            forwards.append(Forward([], []))
            room.append(budget)
        room[at] -= tokens
        forwards[at].targets.extend(part.targets)
        forwards[at].sources.extend(part.sources)
    return forwards


def by_rows(rows: list[PairRow], size: int, *, sources: bool) -> list[Forward]:
    """Plans padded forward passes as the MPO authors' code does: `size` rows each, in their order.

    Args:
        rows: rows of the optimiser step.
        size: number of rows in a forward pass.
        sources: whether a pass with the rows' dominant pairs comes before the pass with their target pairs.
    """
    forwards = []
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        if sources:
            forwards.append(Forward([], _sources(batch)))
        forwards.append(Forward(batch, []))
    return forwards


def in_passes(items: Iterable[T], budget: int) -> list[list[T]]:
    """Divides items with `tokens` into forward passes of at most `budget` tokens, in order; a longer item is alone."""
    passes: list[list[T]] = []
    for item in items:
        if not passes or sum(other.tokens for other in passes[-1]) + item.tokens > budget:
            passes.append([])
        passes[-1].append(item)
    return passes


def share(rows: list[PairRow], rank: int, processes: int) -> list[PairRow]:
    """Returns the rows of a step that a process works on; rows of one source stay together.

    Each group, the heaviest first, goes to the process that has the fewest tokens so far.
    Every process computes the same shares.
    """
    if processes == 1:
        return rows
    groups: dict[str, list[PairRow]] = {}
    for row in rows:
        groups.setdefault(row.source_id, []).append(row)
    shares: list[list[PairRow]] = [[] for _ in range(processes)]
    load = [0] * processes
    for group in sorted(groups.values(), key=lambda group: -_tokens(group)):
        lightest = load.index(min(load))
        shares[lightest].extend(group)
        load[lightest] += _tokens(group)
    return shares[rank]


def _tokens(rows: list[PairRow]) -> int:
    return sum(sum(map(len, row.target)) for row in rows)


def _sources(rows: list[PairRow]) -> list[Source]:
    weights: dict[str, float] = {}
    first: dict[str, PairRow] = {}
    for row in rows:
        first.setdefault(row.source_id, row)
        weights[row.source_id] = weights.get(row.source_id, 0.0) + row.weight
    return [Source(first[name], weight) for name, weight in weights.items()]
