"""Describes a set of pairs in figures: kinds, splits, origins, lengths and variety."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping

import pyarrow as pa

from mpo_core.contract.tables import PAIRS
from mpo_core.pairs.gates import Row

_COUNTED = {
    "kind": ("harmful", "harmless"),
    "split": ("train", "validation", "test", "concept"),
    "origin": ("reference", "translated", "sampled", "mixed", "imported"),
}
_GAPS = {"source_id": "reward gap, source", "pair_id": "reward gap, target"}


def describe(
    pairs: pa.Table,
    categories: Mapping[str, str | None] | None = None,
    gaps: Mapping[str, float] | None = None,
) -> dict[str, dict[str, float]]:
    """Returns figures by target language, in the order of codes, without figures that are 0 in every language.

    `pairs`, then counts by kind, split and origin; `lowered weight`: pairs that count less than 1 in training;
    `different chosen`, `different rejected`: a low figure means that many prompts share one answer; `characters
    chosen`, `characters rejected`: medians; `category …`: pairs of each harm category; `reward gap, source` and
    `reward gap, target`: means under the frozen model in nats per token, of the pairs where it was measured. `gaps`
    are by source_id and by pair_id, `categories` by prompt_id.
    """
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in PAIRS.check(pairs).to_pylist():
        rows[row["language"]].append(row)
    figures = {language: _figures(rows[language], categories or {}, gaps or {}) for language in sorted(rows)}
    names = dict.fromkeys(name for by_name in figures.values() for name, value in by_name.items() if value)
    return {
        code: {name: by_name.get(name, 0) for name in names if name in by_name or name not in _GAPS.values()}
        for code, by_name in figures.items()
    }


def _figures(rows: list[Row], categories: Mapping[str, str | None], gaps: Mapping[str, float]) -> dict[str, float]:
    counts: dict[str, float] = {"pairs": len(rows)}
    for column, values in _COUNTED.items():
        counts |= {value: sum(row[column] == value for row in rows) for value in values}
    counts["lowered weight"] = sum(row["weight"] is not None and row["weight"] < 1.0 for row in rows)
    for side in ("chosen", "rejected"):
        texts = [row[f"target_{side}"] for row in rows]
        counts[f"different {side}"] = len(set(texts))
        counts[f"characters {side}"] = round(statistics.median(map(len, texts)))
    of_category = Counter(category for row in rows if (category := categories.get(row["prompt_id"])) is not None)
    counts |= {f"category {name}": count for name, count in sorted(of_category.items())}
    for key, name in _GAPS.items():
        if measured := [gaps[row[key]] for row in rows if row[key] in gaps]:
            counts[name] = statistics.fmean(measured)
    return counts
