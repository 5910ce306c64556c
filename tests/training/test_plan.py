"""The order of the rows, the cut of a step into forwards, and the tensors of a forward."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpo_core.training.attention import Segment
from mpo_core.training.collator import PairRow
from mpo_core.training.encoding import EncodedText
from mpo_core.training.layout import Item, pack, pad
from mpo_core.training.plan import Forward, by_rows, by_tokens, share
from mpo_core.training.schedule import EpochSteps, Order, total_steps


def row(number: int, source: int, lengths: tuple[int, int, int] = (3, 2, 2), weight: float = 1.0) -> PairRow:
    target = EncodedText(*([7] * length for length in lengths))
    own = EncodedText([source] * 2, [source], [source] * 3)
    return PairRow(f"p{number}", f"s{source}", "sw", target, own, 0.0, 1.0, weight, None, None)


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.tuples(*[st.integers(1, 20)] * 3), st.sampled_from([1.0, 0.5, 4.0])),
    min_size=1,
    max_size=10,
).map(lambda some: [row(i, *part) for i, part in enumerate(some)])


def tokens(forward: Forward) -> int:
    targets = sum(len(part) for row in forward.targets for part in row.target)
    return targets + sum(len(part) for part in forward.sources for part in part.row.source)


def sources_of(forwards: list[Forward]) -> dict[str, list[float]]:
    weights: dict[str, list[float]] = {}
    for part in itertools.chain.from_iterable(forward.sources for forward in forwards):
        weights.setdefault(part.row.source_id, []).append(part.weight)
    return weights


@given(rows=ROWS, budget=st.integers(1, 80))
def test_packed_forwards_hold_every_row_once_within_the_budget(rows: list[PairRow], budget: int) -> None:
    forwards = by_tokens(rows, budget, sources=True)
    assert sorted(r.pair_id for f in forwards for r in f.targets) == sorted(r.pair_id for r in rows)
    expected: dict[str, float] = {}
    for pair in rows:
        expected[pair.source_id] = expected.get(pair.source_id, 0.0) + pair.weight
    assert sources_of(forwards) == {name: [weight] for name, weight in expected.items()}  # once, with all its weight
    for forward in forwards:
        assert tokens(forward) <= budget or len(forward.targets) + len(forward.sources) == 1
    sizes = [
        [tokens(Forward([r], [])) for r in f.targets] + [tokens(Forward([], [part])) for part in f.sources]
        for f in forwards
    ]
    assert max(sizes[0]) == max(itertools.chain.from_iterable(sizes))  # the longest first: it shows the memory needed
    assert sources_of(by_tokens(rows, budget, sources=False)) == {}


@given(rows=ROWS, size=st.integers(1, 5))
def test_padded_forwards_are_slices_each_with_its_own_sources(rows: list[PairRow], size: int) -> None:
    forwards = by_rows(rows, size, sources=True)
    assert [len(f.targets) for f in forwards[0::2]] == [0] * len(forwards[0::2])
    assert list(itertools.chain.from_iterable(f.targets for f in forwards[1::2])) == rows
    for before, after in zip(forwards[0::2], forwards[1::2], strict=True):
        assert len(after.targets) <= size
        assert sources_of([before]).keys() == {r.source_id for r in after.targets}
        assert sum(part.weight for part in before.sources) == pytest.approx(sum(r.weight for r in after.targets))


@given(rows=ROWS, processes=st.integers(1, 4))
def test_processes_share_a_step_and_keep_groups_whole(rows: list[PairRow], processes: int) -> None:
    shares = [share(rows, rank, processes) for rank in range(processes)]
    assert sorted(r.pair_id for part in shares for r in part) == sorted(r.pair_id for r in rows)
    for part, other in itertools.combinations(shares, 2):
        assert {r.source_id for r in part}.isdisjoint(r.source_id for r in other)
    loads = [sum(tokens(Forward([r], [])) for r in part) for part in shares]
    groups = [
        sum(tokens(Forward([r], [])) for r in rows if r.source_id == name) for name in {r.source_id for r in rows}
    ]
    assert max(loads) - min(loads) <= max(groups)
    if processes == 1:
        assert shares == [rows]


@given(
    sources=st.lists(st.sampled_from("abcde"), min_size=1, max_size=30),
    order=st.sampled_from(["grouped", "shuffled", "file"]),
    step_rows=st.integers(1, 7),
    epoch=st.integers(0, 3),
)
def test_an_epoch_is_every_row_once(sources: list[str], order: Order, step_rows: int, epoch: int) -> None:
    steps = EpochSteps(sources, step_rows=step_rows, seed=5, order=order)
    drawn = steps.steps(epoch)
    assert len(drawn) == len(steps)
    assert [len(step) for step in drawn[:-1]] == [step_rows] * (len(drawn) - 1)
    flat = list(itertools.chain.from_iterable(drawn))
    assert sorted(flat) == list(range(len(sources)))
    if order == "file":
        assert flat == sorted(flat)
    if order == "grouped":
        runs = [name for name, _ in itertools.groupby(sources[i] for i in flat)]
        assert len(runs) == len(set(sources))


def test_epochs_and_seeds_differ_and_are_known_beforehand() -> None:
    sources = [f"{i // 3}" for i in range(60)]
    for order in ("grouped", "shuffled"):
        steps = EpochSteps(sources, step_rows=8, seed=1, order=order)
        again = EpochSteps(sources, step_rows=8, seed=1, order=order)
        other = EpochSteps(sources, step_rows=8, seed=2, order=order)
        assert steps.steps(0) == again.steps(0)
        assert steps.steps(0) != steps.steps(1)
        assert steps.steps(0) != other.steps(0)
        assert list(steps.all_steps(20)) == (again.steps(0) + again.steps(1) + again.steps(2))[:20]


def test_grouped_rows_lie_in_another_order_each_epoch() -> None:
    steps = EpochSteps(["a", "a", "a", "b", "b", "b"], step_rows=6, seed=0, order="grouped")
    within = {tuple(i for i in steps.rows(epoch) if i < 3) for epoch in range(10)}
    assert len(within) > 1


@pytest.mark.parametrize(
    ("changes", "rows", "expected"),
    [
        ({"max_steps": None, "epochs": 2.0, "batch_size": 1, "gradient_accumulation": 8}, 20, 6),
        ({"max_steps": None, "epochs": 0.5, "batch_size": 2, "gradient_accumulation": 4}, 20, 2),
        ({"max_steps": 7}, 20, 7),
    ],
)
def test_length_of_a_training(world: Any, changes: dict[str, Any], rows: int, expected: int) -> None:
    assert total_steps(world.settings(**changes), rows) == expected


def test_the_trainer_sees_the_rows_in_that_order(build: Any) -> None:
    seen: list[list[str]] = []
    trainer = build({"batch_size": 5, "gradient_accumulation": 1, "max_steps": 5})
    step = trainer.forward_and_backward
    trainer.forward_and_backward = lambda of: seen.append([pair.pair_id for pair in of.rows]) or step(of)
    names = [pair.pair_id for pair in trainer.train_dataset]
    trainer.train()
    planned = [[names[i] for i in step] for step in trainer.order.all_steps(5)]
    assert seen == planned
    assert [len(step) for step in planned] == [5, 5, 2, 5, 5]


FIRST = EncodedText([11, 12, 13], [21, 22], [31])
SECOND = EncodedText([14], [23], [32, 33, 34])


def test_packed_tensors() -> None:
    layout = pack([Item(FIRST, scored=True, pooled=False), Item(SECOND, scored=True, pooled=True)], "mean")
    assert layout.inputs["input_ids"].tolist() == [[11, 12, 13, 21, 22, 31, 14, 23, 32, 33, 34]]
    assert layout.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 4, 3, 0, 1, 1, 2, 3]]
    assert layout.inputs["segments"] == [Segment(3, 2, 1), Segment(1, 1, 3)]
    assert layout.targets.tolist() == [21, 22, 31, 23, 32, 33, 34]
    assert layout.predicting.tolist() == [2, 3, 2, 6, 6, 8, 9]
    assert layout.answers == [2, 1, 1, 3]
    hidden = torch.arange(11.0)[:, None]
    assert layout.pool(hidden).tolist() == [[(6 + 7) / 2], [(6 + 8 + 9 + 10) / 4]]
    last = pack([Item(FIRST, scored=False, pooled=True)], "last")
    assert last.pool(hidden[:6]).tolist() == [[4.0], [5.0]]
    assert (len(last.targets), last.answers) == (0, [])


def test_padded_tensors() -> None:
    items = [Item(FIRST, scored=True, pooled=True), Item(SECOND, scored=True, pooled=False)]
    layout = pad(items, "mean", pad_id=9)
    # Chosen rows, then rejected rows; as long as the longest, rounded up to a multiple of 8.
    assert layout.inputs["input_ids"].tolist() == [
        [11, 12, 13, 21, 22, 9, 9, 9],
        [14, 23, 9, 9, 9, 9, 9, 9],
        [11, 12, 13, 31, 9, 9, 9, 9],
        [14, 32, 33, 34, 9, 9, 9, 9],
    ]
    assert layout.inputs["attention_mask"].sum(1).tolist() == [5, 2, 4, 4]
    assert layout.targets.tolist() == [21, 22, 31, 23, 32, 33, 34]
    assert layout.predicting.tolist() == [2, 3, 18, 8, 24, 25, 26]
    assert layout.answers == [2, 1, 1, 3]
    hidden = torch.arange(32.0)[:, None]
    assert layout.pool(hidden).tolist() == [[2.0], [(16 + 17 + 18 + 19) / 4]]
    assert pad(items, "padded_mean", 9).pool(hidden).tolist() == [[3.5], [19.5]]
    assert pad(items, "last", 9).pool(hidden).tolist() == [[4.0], [19.0]]
    longer = [Item(SECOND._replace(prompt=[14] * 6), scored=True, pooled=False)]
    assert pad(longer, "mean", 9).inputs["input_ids"].shape == (2, 16)
