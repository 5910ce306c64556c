"""Describes a set of pairs in figures: kinds, splits, origins, lengths and variety."""

from __future__ import annotations

import statistics
from collections import defaultdict

import pyarrow as pa

from mpo_core.contract.tables import PAIRS
from mpo_core.pairs.gates import Row

_COUNTED = {
    "kind": ("harmful", "harmless"),
    "split": ("train", "validation", "test", "concept"),
    "origin": ("reference", "translated", "sampled", "mixed", "imported"),
}


def describe(pairs: pa.Table) -> dict[str, dict[str, int]]:
    """Returns figures by target language, in the order of codes, without figures that are 0 in every language.

    `pairs`, then counts by kind, split and origin; `lowered weight`: pairs that count less than 1 in training;
    `different chosen`, `different rejected`: a low figure means that many prompts share one answer; `characters
    chosen`, `characters rejected`: medians.
    """
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in PAIRS.check(pairs).to_pylist():
        rows[row["language"]].append(row)
    figures = {language: _figures(rows[language]) for language in sorted(rows)}
    present = {name for by_name in figures.values() for name, value in by_name.items() if value}
    return {code: {name: n for name, n in by_name.items() if name in present} for code, by_name in figures.items()}


def _figures(rows: list[Row]) -> dict[str, int]:
    counts = {"pairs": len(rows)}
    for column, values in _COUNTED.items():
        counts |= {value: sum(row[column] == value for row in rows) for value in values}
    counts["lowered weight"] = sum(row["weight"] is not None and row["weight"] < 1.0 for row in rows)
    for side in ("chosen", "rejected"):
        texts = [row[f"target_{side}"] for row in rows]
        counts[f"different {side}"] = len(set(texts))
        counts[f"characters {side}"] = round(statistics.median(map(len, texts)))
    return counts
