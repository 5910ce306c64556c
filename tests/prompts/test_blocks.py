"""Blocks: one split each, kinds mixed, nothing lost."""

from __future__ import annotations

import pyarrow as pa

from mpo_core.contract.tables import PROMPTS
from mpo_core.prompts.blocks import blocks


def prompts(*groups: tuple[str, str, int]) -> pa.Table:
    rows = [
        {
            "prompt_id": f"{split}-{kind}-{i:03}",
            "text": f"{split} {kind} {i}",
            "kind": kind,
            "split": split,
            "source": "test",
            "row": i,
        }
        for split, kind, count in groups
        for i in range(count)
    ]
    return PROMPTS.build(rows)


def test_a_single_split_per_block_in_a_fixed_order_and_nothing_lost() -> None:
    table = prompts(("test", "harmful", 5), ("train", "harmful", 7), ("concept", "harmful", 2))
    cut = blocks(table, 3)
    assert [(set(b["split"].to_pylist()), b.num_rows) for b in cut] == [
        ({"train"}, 3),
        ({"train"}, 3),
        ({"train"}, 1),
        ({"test"}, 3),
        ({"test"}, 2),
        ({"concept"}, 2),
    ]
    ids = [key for b in cut for key in b["prompt_id"].to_pylist()]
    assert sorted(ids) == sorted(table["prompt_id"].to_pylist())
    assert ids[:7] == [f"train-harmful-{i:03}" for i in range(7)]


def test_every_block_has_both_kinds_in_proportion() -> None:
    cut = blocks(prompts(("train", "harmful", 100), ("train", "harmless", 50)), 15)
    assert len(cut) == 10
    for block in cut:
        assert block["kind"].to_pylist().count("harmless") == 5
    order = [key for b in cut for key in b["prompt_id"].to_pylist() if "harmless" in key]
    assert order == sorted(order)


def test_no_prompts_no_blocks() -> None:
    assert blocks(PROMPTS.build([]), 4) == []
