"""Finds target pairs whose chosen and rejected answers are swapped, by the hidden states of the frozen model.

A pair's two answers should resemble the dominant pair's answers in their order. The check proves itself in each
language first, on pairs whose order is known, and acts nowhere else.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mpo_core.contract.tables import GAPS, PAIRS, QUARANTINE, SWAPS
from mpo_core.pairs.gates import quarantine_row

LEAST_FOUND = 0.9
"""Share of artificial swaps of pairs in known order that must be found, or the check does not act."""
LEAST_KNOWN = 20
"""Pairs in known order below which the share says too little."""


class Swaps(NamedTuple):
    """SWAPS, and counts: `order_known`, `order_confirmed`, `order_acts` (1 or 0), `swapped`."""

    rows: pa.Table
    counts: dict[str, int]


def margins(pairs: pa.Table, states: pa.Table) -> dict[str, float]:
    """Measures how much better a target pair's two answers resemble the dominant pair's answers in order than swapped.

    With t and s the hidden states of target and dominant answers, less the mean of their language:
    cos(t_chosen, s_chosen) + cos(t_rejected, s_rejected) - cos(t_chosen, s_rejected) - cos(t_rejected, s_chosen).
    Swapping a pair negates its margin. Pairs without states have no margin in the result.

    Args:
        pairs: table PAIRS in one language.
        states: table GAPS with pooled states, of the target pairs and of their dominant pairs.

    Returns:
        The margin by pair_id; positive if the order is probably right.
    """
    directions = _directions(states)
    ids = pairs.select(["pair_id", "source_id"]).to_pylist()
    present = [(row["pair_id"], row["source_id"]) for row in ids if {*row.values()} <= directions.keys()]
    return {pair_id: float(directions[pair_id] @ directions[source_id]) for pair_id, source_id in present}


def _directions(states: pa.Table) -> dict[str, np.ndarray]:
    """Returns by text_id the unit vector of chosen minus that of rejected, centred per language; [D] each."""
    by_language: dict[str, list[tuple[str, np.ndarray]]] = {}
    for row in GAPS.check(states).select(["text_id", "language", "chosen_pooled", "rejected_pooled"]).to_pylist():
        if row["chosen_pooled"] is not None:
            both = np.array([row["chosen_pooled"], row["rejected_pooled"]], dtype=np.float64)
            by_language.setdefault(row["language"], []).append((row["text_id"], both))
    directions = {}
    for texts in by_language.values():
        centre = np.concatenate([both for _, both in texts]).mean(axis=0)
        for text_id, both in texts:
            centred = both - centre
            unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
            directions[text_id] = unit[0] - unit[1]
    return directions


def find_swaps(pairs: pa.Table, states: pa.Table) -> Swaps:
    """Names the training pairs of one language whose answers are swapped, if the check proves itself there.

    The order is known of the pairs of the split `validation`, and of pairs whose both answers are sampled, since a
    judge has said which is which. An artificial swap of such a pair is found exactly if its margin is above 0, so the
    share of these is the share of artificial swaps that the check finds; the rest would be false alarms.

    Args:
        pairs: table PAIRS of the splits `train` and `validation` in one language.
        states: table GAPS with states of these pairs and of their dominant pairs.
    """
    margin_of = margins(pairs, states)
    rows = [row for row in PAIRS.check(pairs).to_pylist() if row["pair_id"] in margin_of]
    known = [row["pair_id"] for row in rows if row["split"] == "validation" or row["origin"] == "sampled"]
    confirmed = sum(margin_of[key] > 0.0 for key in known)
    acts = len(known) >= LEAST_KNOWN and confirmed >= LEAST_FOUND * len(known)
    table = [
        {
            "pair_id": row["pair_id"],
            "language": row["language"],
            "margin": margin_of[row["pair_id"]],
            "swapped": acts and margin_of[row["pair_id"]] < 0.0,
        }
        for row in rows
        if row["split"] == "train"
    ]
    counts = {"order_known": len(known), "order_confirmed": confirmed, "order_acts": int(acts)}
    return Swaps(SWAPS.build(table), counts | {"swapped": sum(row["swapped"] for row in table)})


def settle_swaps(pairs: pa.Table, swaps: pa.Table, *, swap_back: bool) -> tuple[pa.Table, pa.Table]:
    """Swaps the answers of swapped pairs back, or rejects these pairs.

    Args:
        pairs: table PAIRS.
        swaps: table SWAPS.
        swap_back: True swaps the answers of these pairs back, False rejects the pairs.

    Returns:
        PAIRS in their order, and QUARANTINE (`swapped`).
    """
    swapped = {row["pair_id"]: row["margin"] for row in swaps.to_pylist() if row["swapped"]}
    rows, rejected = [], []
    for row in pairs.to_pylist():
        if row["pair_id"] not in swapped:
            rows.append(row)
        elif swap_back:
            rows.append(row | {"target_chosen": row["target_rejected"], "target_rejected": row["target_chosen"]})
        else:
            detail = f"margin {swapped[row['pair_id']]:.3f}"
            rejected.append(quarantine_row(row["pair_id"], row["language"], "swapped", detail))
    return PAIRS.build(rows), QUARANTINE.build(rejected)
