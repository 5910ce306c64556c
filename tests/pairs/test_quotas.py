"""Quotas of training pairs: by harm category, by kind and by language."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from pydantic import ValidationError

from mpo_core.contract.tables import PAIRS
from mpo_core.pairs import surplus, within
from mpo_core.settings import PairSettings
from tests.pairs.conftest import Tables

CATEGORIES = {f"h{n}": "theft" if n < 12 else "arms" for n in range(18)} | {"h18": None, "h19": None}


def pairs(language: str, harmful: int = 20, harmless: int = 10) -> pa.Table:
    rows = []
    for kind, count in (("harmful", harmful), ("harmless", harmless)):
        for n in range(count):
            key = f"{'h' if kind == 'harmful' else 'a'}{n}"
            rows.append(Tables.pair(pair_id=f"{key}/{language}", prompt_id=key, kind=kind, language=language))
    return PAIRS.build(rows)


def limited(table: pa.Table, **quotas: float) -> tuple[list[str], Counter[str]]:
    """The prompts of the pairs within the quotas, and the reasons for which others are rejected."""
    over = surplus(table, CATEGORIES, PairSettings.model_validate(quotas))
    left, rejected = within(table, over)
    assert left.num_rows + rejected.num_rows == table.num_rows
    assert rejected.num_rows == over.num_rows
    return left["prompt_id"].to_pylist(), Counter(rejected["reason"].to_pylist())


def test_no_quota_rejects_nothing() -> None:
    assert limited(pairs("sw")) == (pairs("sw")["prompt_id"].to_pylist(), Counter())


def test_no_category_outweighs_the_others() -> None:
    left, reasons = limited(pairs("sw"), max_per_category=6)
    counts = Counter(CATEGORIES[key] for key in left if key.startswith("h"))
    assert counts == {"theft": 6, "arms": 6, None: 2}
    assert sum(key.startswith("a") for key in left) == 10
    assert reasons == {"category_quota": 6}


@pytest.mark.parametrize(
    ("share", "harmful", "harmless"), [(0.5, 10, 10), (0.25, 20, 6), (0.0, 20, 0), (1.0, 0, 10), (0.8, 2, 10)]
)
def test_kinds_are_in_the_proportion(share: float, harmful: int, harmless: int) -> None:
    left, reasons = limited(pairs("sw"), harmless_share=share)
    assert (sum(key.startswith("h") for key in left), sum(key.startswith("a") for key in left)) == (harmful, harmless)
    assert reasons == {"kind_quota": 30 - harmful - harmless}


def test_a_language_has_at_most_so_many_and_the_same_prompts_as_others() -> None:
    left, reasons = limited(pairs("sw"), max_per_language=12)
    assert (len(left), reasons) == (12, {"language_quota": 18})
    assert limited(pairs("bn"), max_per_language=12)[0] == left
    assert {*limited(pairs("sw"), max_per_language=5)[0]} < {*left}
    both, reasons = limited(pairs("sw"), max_per_language=12, harmless_share=0.25, max_per_category=4)
    assert (len(both), sum(key.startswith("a") for key in both)) == (12, 3)
    assert reasons == {"category_quota": 10, "kind_quota": 8}


def test_a_proportion_without_the_kind_leaves_nothing() -> None:
    assert limited(pairs("sw", harmless=0), harmless_share=0.5) == ([], {"kind_quota": 20})


def test_a_share_of_harmless_pairs_needs_them() -> None:
    with pytest.raises(ValidationError, match="harmless_share"):
        PairSettings(harmless_share=0.5, harmless_anchors=False)
