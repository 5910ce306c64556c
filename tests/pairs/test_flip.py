from __future__ import annotations

import pyarrow as pa

from mpo_core.contract.tables import PAIRS
from mpo_core.pairs import flip_answers

COMMON = {
    "kind": "harmful",
    "split": "train",
    "source_language": "en",
    "language": "sw",
    "source_prompt": "Question?",
    "source_chosen": "No.",
    "source_rejected": "Yes.",
    "target_prompt": "Swali?",
    "origin": "translated",
}


def pairs(n: int) -> pa.Table:
    return PAIRS.build(
        COMMON
        | {
            "pair_id": f"p{i}/sw",
            "source_id": f"s{i}",
            "prompt_id": f"p{i}",
            "target_chosen": f"chosen {i}",
            "target_rejected": f"rejected {i}",
        }
        for i in range(n)
    )


def swapped(table: pa.Table) -> set[str]:
    return {row["pair_id"] for row in table.to_pylist() if row["target_chosen"].startswith("rejected")}


def test_a_share_of_the_answers_changes_places_and_nothing_else() -> None:
    before = pairs(10)
    after = flip_answers(before, 0.4, seed=0)
    assert len(swapped(after)) == 4
    for old, new in zip(before.to_pylist(), after.to_pylist(), strict=True):
        if new["pair_id"] in swapped(after):
            assert (new["target_chosen"], new["target_rejected"]) == (old["target_rejected"], old["target_chosen"])
            assert new | {"target_chosen": old["target_chosen"], "target_rejected": old["target_rejected"]} == old
        else:
            assert new == old


def test_a_smaller_share_is_part_of_a_larger_and_a_seed_draws_others() -> None:
    table = pairs(20)
    small, large = (swapped(flip_answers(table, share, seed=3)) for share in (0.2, 0.4))
    assert len(small) == 4
    assert small < large
    assert large != swapped(flip_answers(table, 0.4, seed=4))
    assert swapped(flip_answers(table, 0.0, seed=3)) == set()
