"""Samples a share of the pairs by hash, to swap their answers on purpose or to use them again in a realignment.

The same seed selects the same pairs for both purposes, and a larger share contains the pairs of a smaller one.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from mpo_core.contract.tables import PAIRS


def flip_answers(pairs: pa.Table, share: float, *, seed: int) -> pa.Table:
    """Swaps the chosen and the rejected answer in the target language in a share of the pairs.

    Args:
        pairs: table PAIRS.
        share: share of the rows (0 to 1), rounded to whole rows.
        seed: random seed.
    """
    rows = pairs.to_pylist()
    swapped_ids = _sampled_ids(rows, share, seed)
    for row in rows:
        if row["pair_id"] in swapped_ids:
            row["target_chosen"], row["target_rejected"] = row["target_rejected"], row["target_chosen"]
    return PAIRS.build(rows)


def sample_pairs(pairs: pa.Table, share: float, *, seed: int) -> pa.Table:
    """Samples a share of the pairs, in their order.

    Args:
        pairs: table PAIRS.
        share: share of the rows (0 to 1), rounded to whole rows.
        seed: random seed.
    """
    rows = pairs.to_pylist()
    sampled_ids = _sampled_ids(rows, share, seed)
    return PAIRS.build([row for row in rows if row["pair_id"] in sampled_ids])


def _sampled_ids(rows: list[dict[str, Any]], share: float, seed: int) -> set[str]:
    shuffled = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row['pair_id']}".encode()).digest())
    return {row["pair_id"] for row in shuffled[: round(share * len(rows))]}
