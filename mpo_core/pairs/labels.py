"""Reads and writes the labels of a pair, which are all columns other than its texts: ids, languages, origin, weight.

Our exports write these keys, which other tools ignore; the import reads each that a row has, so that a pair is
imported as it was exported.
"""

from typing import Any

from mpo_core.contract.tables import prompt_id, source_id
from mpo_core.pairs.gates import Row
from mpo_core.pairs.turns import BadRowError, clean_text

LABELS = (
    "pair_id",
    "source_id",
    "prompt_id",
    "kind",
    "split",
    "source_language",
    "language",
    "origin",
    "weight",
)
"""The columns of PAIRS other than texts, in their order."""

_ALLOWED = {
    "kind": ("harmful", "harmless"),
    "split": ("train", "validation", "test", "concept"),
    "origin": ("imported", "reference", "translated", "sampled", "mixed"),
}
_MOST_WEIGHT = 3.4e38  # of a float32


def labels_of(row: Row) -> Row:
    """Returns the labels of a pair, as an export writes them."""
    return {name: row[name] for name in LABELS}


def read_labels(item: dict[str, Any]) -> Row:
    """Returns the labels of an imported row; null counts as missing.

    Raises:
        BadRowError: a label has a value that no pair can have.
    """
    labels = {name: item[name] for name in LABELS if item.get(name) is not None}
    for name, value in labels.items():
        if name == "weight":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and 0 <= value <= _MOST_WEIGHT):
                raise BadRowError("bad_weight", "weight is not a finite number of at least 0")
        elif not isinstance(value, str) or not value:
            raise BadRowError(f"unknown_{name}", f"{name} is empty, or not text but {type(value).__name__}")
        elif clean_text(value, name) not in _ALLOWED.get(name, (value,)):
            raise BadRowError(f"unknown_{name}", f"{name} must be one of {', '.join(_ALLOWED[name])}")
    return labels


def complete(row: Row, number: int) -> Row:
    """Returns a row of PAIRS; missing labels become those of an imported harmful training pair."""
    key = row.get("prompt_id") or prompt_id(row["source_language"], row["source_prompt"])
    return {
        "pair_id": f"{key}/{row['language']}/{number}",
        "source_id": source_id(row["source_prompt"], row["source_chosen"], row["source_rejected"]),
        "prompt_id": key,
        "kind": "harmful",
        "split": "train",
        "origin": "imported",
        **row,
    }


class Ids:
    """The ids of the rows imported so far, to check that pair_ids differ and that a source_id has one source text."""

    def __init__(self) -> None:
        self._pairs: set[str] = set()
        self._sources: dict[str, tuple[str, ...]] = {}

    def fault(self, row: Row) -> tuple[str, str] | None:
        """Returns why the row's ids cannot be used, as reason and detail of a quarantine row; else remembers them."""
        texts = (row["source_prompt"], row["source_chosen"], row["source_rejected"])
        if row["pair_id"] in self._pairs:
            return "repeated_id", "pair_id"
        if self._sources.setdefault(row["source_id"], texts) != texts:
            return "source_differs", "another row has this source_id with other source texts"
        self._pairs.add(row["pair_id"])
        return None
