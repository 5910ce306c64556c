"""A set of pairs in figures, by language."""

from __future__ import annotations

import json

from mpo_core.contract.tables import PAIRS
from mpo_core.pairs import describe


def pair(number: int, language: str, **changes: object) -> dict[str, object]:
    texts = {f"{side}_{name}": f"{name} {number}" for side in ("source", "target") for name in ("prompt", "rejected")}
    row = {"pair_id": f"{number}/{language}", "source_id": f"s{number}", "prompt_id": str(number), "kind": "harmful"}
    row |= {"split": "train", "source_language": "en", "language": language, "origin": "sampled", "weight": None}
    return row | texts | {"source_chosen": "No.", "target_chosen": "Hapana."} | changes


ROWS = [
    pair(1, "sw"),
    pair(2, "sw", kind="harmless", origin="reference", target_chosen="Changanya unga vizuri."),
    pair(3, "sw", weight=0.5, split="validation"),
    pair(1, "bn", origin="reference", weight=1.0),
]


def test_figures_by_language() -> None:
    figures = describe(PAIRS.build(ROWS))
    assert list(figures) == ["bn", "sw"]
    assert figures["sw"] == {
        "pairs": 3,
        "harmful": 2,
        "harmless": 1,
        "train": 2,
        "validation": 1,
        "reference": 1,
        "sampled": 2,
        "lowered weight": 1,
        "different chosen": 2,
        "characters chosen": 7,
        "different rejected": 3,
        "characters rejected": 10,
    }
    assert figures["bn"]["lowered weight"] == 0
    assert figures["bn"].keys() == figures["sw"].keys()  # test, concept, translated … are 0 in both: left out


def test_the_command(mpo, tmp_path) -> None:
    path = tmp_path / "pairs.jsonl"
    bad = pair(4, "sw", target_chosen="")
    path.write_text("\n".join(json.dumps(row) for row in [*ROWS, bad]))
    shown = mpo("pairs", "describe", path)
    assert shown.code == 0, shown
    assert "rejected: empty_response 1" in shown.out
    outcome = json.loads(mpo("pairs", "describe", path, "--json").out)
    assert (outcome["languages"]["sw"]["pairs"], outcome["rejected"]) == (3, {"empty_response": 1})
    path.write_text(json.dumps(bad))
    refused = mpo("pairs", "describe", path)
    assert refused.code == 2
    assert "pairs.jsonl: no pair can be used; rejected: 1 row. Run `mpo pairs import`, which" in refused.err


def test_categories_and_gaps_where_they_are_known() -> None:
    categories = {"1": "theft", "2": None, "3": "theft"}
    figures = describe(PAIRS.build(ROWS), categories, {"s1": 2.0, "s3": 1.0, "2/sw": -0.25})
    assert figures["sw"]["category theft"] == 2
    assert figures["bn"]["category theft"] == 1
    assert (figures["sw"]["reward gap, source"], figures["bn"]["reward gap, source"]) == (1.5, 2.0)
    assert figures["sw"]["reward gap, target"] == -0.25
    assert "reward gap, target" not in figures["bn"]  # not measured is not 0
