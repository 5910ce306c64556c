"""Draws a share of the pairs by hash, to swap their answers on purpose or to use them again in a realignment.

The same seed draws the same pairs for both purposes, and a larger share contains the pairs of a smaller one.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from mpo_core.contract.tables import PAIRS


def flip_answers(pairs: pa.Table, share: float, *, seed: int) -> pa.Table:
    """Swaps chosen and rejected of the target in a share of the pairs.

    Args:
        pairs: PAIRS.
        share: share of the rows (0 to 1), rounded to whole rows.
        seed: seed of the draw.
    """
    rows = pairs.to_pylist()
    swapped_ids = _draw(rows, share, seed)
    for row in rows:
        if row["pair_id"] in swapped_ids:
            row["target_chosen"], row["target_rejected"] = row["target_rejected"], row["target_chosen"]
    return PAIRS.build(rows)


def draw_pairs(pairs: pa.Table, share: float, *, seed: int) -> pa.Table:
    """Draws a share of the pairs, in their order.

    Args:
        pairs: PAIRS.
        share: share of the rows (0 to 1), rounded to whole rows.
        seed: seed of the draw.
    """
    rows = pairs.to_pylist()
    drawn_ids = _draw(rows, share, seed)
    return PAIRS.build([row for row in rows if row["pair_id"] in drawn_ids])


def _draw(rows: list[dict[str, Any]], share: float, seed: int) -> set[str]:
    lots = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row['pair_id']}".encode()).digest())
    return {row["pair_id"] for row in lots[: round(share * len(rows))]}
