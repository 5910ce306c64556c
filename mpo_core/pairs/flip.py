"""Swapped answers on purpose: how a method bears labels that are wrong."""

from __future__ import annotations

import hashlib

import pyarrow as pa

from mpo_core.tables import PAIRS


def flip_answers(pairs: pa.Table, share: float, *, seed: int) -> pa.Table:
    """The same pairs, chosen and rejected of the target swapped in a share of them.

    Which ones is drawn by hash: the same for every method, and those of a smaller share are
    among those of a larger one.

    Args:
        pairs: PAIRS.
        share: of the rows, rounded to whole rows.
        seed: of the draw.
    """
    rows = pairs.to_pylist()
    drawn = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row['pair_id']}".encode()).digest())
    swapped = {row["pair_id"] for row in drawn[: round(share * len(rows))]}
    for row in rows:
        if row["pair_id"] in swapped:
            row["target_chosen"], row["target_rejected"] = row["target_rejected"], row["target_chosen"]
    return PAIRS.build(rows)
