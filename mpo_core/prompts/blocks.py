"""Cuts prompts into blocks, the units of retrying, caching and scaling."""

from collections import Counter

import pyarrow as pa

from mpo_core.contract.tables import PROMPTS

_SPLITS = ("train", "validation", "test", "concept")


def blocks(prompts: pa.Table, size: int) -> list[pa.Table]:
    """Cuts prompts into blocks of at most `size` rows.

    A block holds one split. Its kinds are mixed in the split's own proportion, because a harmless pair may
    borrow its refusal from a harmful one of the same block. Prompts of one kind keep their order.

    Args:
        prompts: a PROMPTS table.
        size: maximum number of rows in a block.

    Returns:
        Blocks in the order train, validation, test, concept; an empty split has none.
    """
    splits = prompts.column("split").to_pylist()
    kinds = prompts.column("kind").to_pylist()
    cut: list[pa.Table] = []
    for split in _SPLITS:
        rows = _interleaved([row for row, row_split in enumerate(splits) if row_split == split], kinds)
        cut += [PROMPTS.check(prompts.take(rows[start : start + size])) for start in range(0, len(rows), size)]
    return cut


def _interleaved(rows: list[int], kinds: list[str]) -> list[int]:
    """Returns the rows with each kind spread evenly: the i-th of n rows of a kind is at (i + 1/2) / n of the list."""
    totals = Counter(kinds[row] for row in rows)
    count: Counter[str] = Counter()
    places: list[tuple[float, int]] = []
    for row in rows:
        kind = kinds[row]
        places.append(((count[kind] + 0.5) / totals[kind], row))
        count[kind] += 1
    return [row for _, row in sorted(places)]
