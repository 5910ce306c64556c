"""Samples a share of the pairs by hash, to swap their answers on purpose or to use them again in a realignment.

The same seed selects the same pairs for both purposes, and a larger share contains the pairs of a smaller one.
"""

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


def vary_pairs(
    pairs: pa.Table, *, share: float = 1.0, swapped: float = 0.0, untranslated: float = 0.0, seed: int
) -> pa.Table:
    """Returns fewer or worse pairs on purpose, for a study of how much of either training bears.

    Args:
        pairs: table PAIRS.
        share: share of the prompts whose pairs stay, the same prompts in every language.
        swapped: share of these pairs whose answers are swapped.
        untranslated: share of these pairs whose three texts are those of the dominant pair.
        seed: random seed.
    """
    prompts = {row["prompt_id"]: {"pair_id": row["prompt_id"]} for row in pairs.to_pylist()}
    sampled_ids = _sampled_ids(list(prompts.values()), share, seed)
    rows = [row for row in pairs.to_pylist() if row["prompt_id"] in sampled_ids]
    untranslated_ids = _sampled_ids(rows, untranslated, seed)
    for row in rows:
        if row["pair_id"] in untranslated_ids:
            row |= {f"target_{text}": row[f"source_{text}"] for text in ("prompt", "chosen", "rejected")}
    return flip_answers(PAIRS.build(rows), swapped, seed=seed)


def _sampled_ids(rows: list[dict[str, Any]], share: float, seed: int) -> set[str]:
    shuffled = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row['pair_id']}".encode()).digest())
    return {row["pair_id"] for row in shuffled[: round(share * len(rows))]}
