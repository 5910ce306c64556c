"""Chooses which training pairs of a language stay within the quotas of `pairs`: by category, by kind, and in all."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from mpo_core.contract.tables import PAIRS, QUARANTINE
from mpo_core.pairs.gates import Row, quarantine_row
from mpo_core.settings import PairSettings

_ROUNDING = 1e-9
"""Error of a product of a share and a number of pairs."""


def surplus(pairs: pa.Table, categories: Mapping[str, str | None], settings: PairSettings) -> pa.Table:
    """Returns the pairs beyond the quotas; which pairs stay is chosen by a hash of the prompt, alike in every language.

    Harmful pairs of one category beyond `max_per_category` go first, then those of the kind that `harmless_share`
    leaves too many of, then those beyond `max_per_language`. Pairs without a category have no quota of one. Reasons:
    `category_quota`, `kind_quota`, `language_quota`.
    """
    rows = sorted(pairs.select(["pair_id", "prompt_id", "kind", "language"]).to_pylist(), key=_lot)
    rejected: list[Row] = []
    if settings.max_per_category is not None:
        count: Counter[str] = Counter()
        inside = []
        for row in rows:
            category = categories.get(row["prompt_id"])
            if row["kind"] == "harmful" and category is not None:
                count[category] += 1
                if count[category] > settings.max_per_category:
                    rejected.append(_over(row, "category_quota", f"at most {settings.max_per_category} of a category"))
                    continue
            inside.append(row)
        rows = inside
    most = len(rows) if settings.max_per_language is None else settings.max_per_language
    if settings.harmless_share is not None:
        by_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in ("harmful", "harmless")}
        sizes = _sizes(settings.harmless_share, len(by_kind["harmful"]), len(by_kind["harmless"]), most)
        detail = f"a share of {settings.harmless_share:g} is harmless"
        for (_, of_kind), size in zip(by_kind.items(), sizes, strict=True):
            rejected += [_over(row, "kind_quota", detail) for row in of_kind[size:]]
    else:
        rejected += [_over(row, "language_quota", f"at most {most} pairs of a language") for row in rows[most:]]
    return QUARANTINE.build(rejected)


def within(pairs: pa.Table, over: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Returns PAIRS without those in a table QUARANTINE, and the rows of that table that name one of them."""
    ids = set(over["row_id"].to_pylist())
    rows = pairs.to_pylist()
    names = {row["pair_id"] for row in rows}
    return (
        PAIRS.build([row for row in rows if row["pair_id"] not in ids]),
        QUARANTINE.build([row for row in over.to_pylist() if row["row_id"] in names]),
    )


def _lot(row: Row) -> tuple[bytes, str]:
    return hashlib.sha256(f"quota/{row['prompt_id']}".encode()).digest(), row["pair_id"]


def _over(row: Row, reason: str, detail: str) -> Row:
    return quarantine_row(row["pair_id"], row["language"], reason, detail)


def _sizes(share: float, harmful: int, harmless: int, most: int) -> Sequence[int]:
    """Returns the largest numbers of harmful and harmless pairs in the proportion, together at most `most`."""
    for total in range(min(most, harmful + harmless), 0, -1):
        of_harmless = share * total
        if of_harmless < harmless + _ROUNDING and total - of_harmless < harmful + _ROUNDING:
            return total - round(of_harmless), round(of_harmless)
    return 0, 0
