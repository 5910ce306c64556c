from __future__ import annotations

import pyarrow as pa

from mpo_core.contract.tables import PAIRS
from mpo_core.pairs import flip_answers, vary_pairs

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


def test_fewer_pairs_are_those_of_the_same_prompts_in_every_language() -> None:
    swahili = pairs(20)
    chinese = PAIRS.build(row | {"language": "zh", "pair_id": row["prompt_id"] + "/zh"} for row in swahili.to_pylist())
    drawn = [vary_pairs(table, share=0.25, seed=3)["prompt_id"].to_pylist() for table in (swahili, chinese)]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 5
    assert set(drawn[0]) <= set(vary_pairs(swahili, share=0.5, seed=3)["prompt_id"].to_pylist())


def test_untranslated_pairs_have_the_three_texts_of_their_dominant_pair() -> None:
    rows = vary_pairs(pairs(10), untranslated=0.4, seed=0).to_pylist()
    plain = [row for row in rows if row["target_prompt"] == "Question?"]
    assert len(plain) == 4
    assert {(row["target_chosen"], row["target_rejected"]) for row in plain} == {("No.", "Yes.")}
    assert all(row["target_chosen"].startswith("chosen") for row in rows if row not in plain)


def test_swapping_in_a_study_is_that_of_a_flip_and_sound_pairs_stay() -> None:
    assert vary_pairs(pairs(10), swapped=0.3, seed=2) == flip_answers(pairs(10), 0.3, seed=2)
    assert vary_pairs(pairs(10), seed=2) == pairs(10)
