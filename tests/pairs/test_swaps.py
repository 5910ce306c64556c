"""The swap check: finds swapped target answers, acts only where it has proved itself, and says where it has not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mpo_core.contract.tables import GAPS, PAIRS
from mpo_core.pairs import find_swaps, flip_answers, settle_swaps
from mpo_core.pairs.swaps import margins

REFUSAL, HELP = np.array([3.0, 1.0, 0.0]), np.array([1.0, 3.0, 0.0])


def pairs(tables: Any, train: int, validation: int, origin: str = "translated") -> pa.Table:
    return PAIRS.build(
        tables.pair(
            pair_id=f"{split}{i}/sw",
            source_prompt=f"{split} {i}?",
            split=split,
            origin=origin,
            # What the states below are made of.
            target_chosen="refusal",
            target_rejected="help",
        )
        for split, n in (("train", train), ("validation", validation))
        for i in range(n)
    )


def states(table: pa.Table, *, spread: float = 0.1, shared: bool = True) -> pa.Table:
    """States whose kind of answer shows in the same direction in both languages, far apart; or, unshared, nowhere."""
    draw = np.random.default_rng(0)
    vector = {"refusal": REFUSAL, "help": HELP}

    def row(key: str, language: str, chosen: np.ndarray, rejected: np.ndarray, shift: float) -> dict[str, Any]:
        noise = draw.normal(0.0, spread, (2, 3)) + shift
        return {
            "text_id": key,
            "language": language,
            "kind": "harmful",
            **dict.fromkeys(("gap", "chosen_reward", "rejected_reward"), 0.0),
            **dict.fromkeys(("chosen_tokens", "rejected_tokens"), 1),
            "ids": "",
            "model": "",
            "chosen_pooled": (chosen * shared + noise[0]).tolist(),
            "rejected_pooled": (rejected * shared + noise[1]).tolist(),
        }

    rows = [row(p["source_id"], "en", REFUSAL, HELP, 0.0) for p in table.to_pylist()]
    rows += [
        row(p["pair_id"], p["language"], vector[p["target_chosen"]], vector[p["target_rejected"]], 40.0)
        for p in table.to_pylist()
    ]
    return GAPS.build(rows)


def swapped(table: pa.Table) -> set[str]:
    return {row["pair_id"] for row in table.to_pylist() if row["target_chosen"] == "help"}


def flipped(table: pa.Table, share: float) -> pa.Table:
    train = pa.array([split == "train" for split in table["split"].to_pylist()])
    held_out = pa.array([split == "validation" for split in table["split"].to_pylist()])
    return pa.concat_tables([flip_answers(table.filter(train), share, seed=0), table.filter(held_out)])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_exactly_the_swapped_pairs_are_found_however_far_the_languages_are_apart(tables: Any, share: float) -> None:
    table = flipped(pairs(tables, 50, 20), share)
    swaps = find_swaps(table, states(table))
    rows = swaps.rows.to_pylist()
    assert len(rows) == 50
    assert {row["pair_id"] for row in rows if row["swapped"]} == swapped(table)
    assert swaps.counts == {
        "order_known": 20,
        "order_confirmed": 20,
        "order_acts": 1,
        "swapped": round(50 * share),
    }


def test_a_margin_is_the_difference_of_four_cosines_and_a_swap_negates_it(tables: Any) -> None:
    table = pairs(tables, 6, 0)
    measured = states(table)
    vectors = {row["text_id"]: np.array([row["chosen_pooled"], row["rejected_pooled"]]) for row in measured.to_pylist()}
    target = np.concatenate([vectors[key] for key in table["pair_id"].to_pylist()]).mean(0)
    source = np.concatenate([vectors[key] for key in table["source_id"].to_pylist()]).mean(0)

    def cos(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    first = table.to_pylist()[0]
    t, s = vectors[first["pair_id"]] - target, vectors[first["source_id"]] - source
    expected = cos(t[0], s[0]) + cos(t[1], s[1]) - cos(t[0], s[1]) - cos(t[1], s[0])
    assert margins(table, measured)[first["pair_id"]] == pytest.approx(expected)
    rows = measured.to_pylist()
    for row in rows:
        if row["text_id"] == first["pair_id"]:
            row["chosen_pooled"], row["rejected_pooled"] = row["rejected_pooled"], row["chosen_pooled"]
    assert margins(table, GAPS.build(rows))[first["pair_id"]] == pytest.approx(-expected)


def test_it_does_not_act_without_enough_pairs_in_known_order(tables: Any) -> None:
    table = flipped(pairs(tables, 50, 19), 0.4)
    swaps = find_swaps(table, states(table))
    assert swaps.counts == {"order_known": 19, "order_confirmed": 19, "order_acts": 0, "swapped": 0}
    assert not any(swaps.rows["swapped"].to_pylist())


def test_it_does_not_act_where_the_model_shows_no_order(tables: Any) -> None:
    table = flipped(pairs(tables, 50, 60), 0.4)
    counts = find_swaps(table, states(table, shared=False)).counts
    assert (counts["order_acts"], counts["swapped"]) == (0, 0)
    assert counts["order_confirmed"] < 54


def test_it_does_not_act_where_the_known_pairs_are_swapped_themselves(tables: Any) -> None:
    table = flip_answers(pairs(tables, 50, 50), 0.2, seed=0)
    assert find_swaps(table, states(table)).counts["order_acts"] == 0


def test_the_order_of_judged_pairs_is_known(tables: Any) -> None:
    table = pairs(tables, 30, 0, origin="sampled")
    assert find_swaps(table, states(table)).counts["order_known"] == 30
    assert find_swaps(pairs(tables, 30, 0), states(table)).counts["order_known"] == 0


def test_pairs_without_states_stay_as_they_are(tables: Any) -> None:
    table = flipped(pairs(tables, 30, 20), 0.4)
    assert find_swaps(table, states(table.slice(10))).rows.num_rows == 20
    empty = find_swaps(table.slice(0, 0), GAPS.build([]))
    assert (empty.rows.num_rows, empty.counts["order_acts"]) == (0, 0)


def test_swapped_pairs_are_rejected_or_swapped_back(tables: Any) -> None:
    clean = pairs(tables, 30, 20)
    table = flipped(clean, 0.4)
    swaps = find_swaps(table, states(table)).rows
    back, rejected = settle_swaps(table, swaps, swap_back=True)
    assert back.equals(clean)
    assert rejected.num_rows == 0
    left, rejected = settle_swaps(table, swaps, swap_back=False)
    assert {*rejected["row_id"].to_pylist()} == swapped(table)
    assert {*rejected["reason"].to_pylist()} == {"swapped"}
    assert left.num_rows == 38
    assert not swapped(left)


def benchmark() -> Any:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "swaps.py"
    spec = importlib.util.spec_from_file_location("swaps_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_swaps_are_found_in_the_states_of_the_shipped_model() -> None:
    for row in benchmark().measure(("sw",), (0.4,), 10, 10):
        assert row.acts
        assert row.hit_rate == 1.0
        assert row.false_alarms == 0.0


@pytest.mark.long
def test_swaps_are_found_in_every_language_of_the_shipped_model() -> None:
    rows = benchmark().measure(("zh", "ja", "ko", "ar", "bn", "sw"), (0.2, 0.4), 100, 50)
    assert len(rows) == 12
    for row in rows:
        assert row.acts
        assert row.hit_rate >= 0.9
        assert row.false_alarms <= 0.1
