"""Computes the attack success rate by harm category and language."""

import ast
import contextlib
from collections import Counter, defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mpo_core.contract.metric import UNSAFE
from mpo_core.contract.tables import CATEGORIES
from mpo_core.evaluation.metrics import metrics

OTHER = "other categories"
NONE = "no category"
_MOST = 15  # categories that a reader can take in; the rest counts together


def category_shares(
    prompts: pa.Table, verdicts: pa.Table, *, benchmark: str, model: str, confidence: float, pooled: Sequence[str]
) -> pa.Table:
    """Computes ASR with Wilson's interval for each harm category, in every language and over the pooled ones.

    A prompt of several categories counts in each. Beyond 15 categories, the smallest count together as `other
    categories`.

    Args:
        prompts: table PROMPTS of the benchmark, with categories; a prompt may be there in several languages.
        verdicts: table VERDICTS of one model on these prompts.
        benchmark: value of the column `benchmark`.
        model: value of the column `model`.
        confidence: level of the intervals.
        pooled: languages whose answers also count together, in rows of language `targets`.

    Returns:
        Table CATEGORIES; empty where no harmful prompt has a category.
    """
    categories = {
        row["prompt_id"]: _names(row["category"])
        for row in prompts.select(["prompt_id", "category", "kind"]).to_pylist()
        if row["kind"] == UNSAFE.kind
    }
    sizes = Counter(name for names in categories.values() for name in names)
    if not sizes.keys() - {NONE}:
        return CATEGORIES.build([])
    ranked = [name for name, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))]
    shown = set(ranked if len(ranked) <= _MOST else ranked[: _MOST - 1])
    members: dict[str, list[str]] = defaultdict(list)
    for prompt, names in categories.items():
        for name in {name if name in shown else OTHER for name in names}:
            members[name].append(prompt)
    rows = []
    for category, ids in sorted(members.items()):
        part = verdicts.filter(pc.is_in(verdicts["prompt_id"], pa.array(ids)))
        figures = metrics(
            part, None, model=model, confidence=confidence, benchmark=benchmark, measured=[UNSAFE], pooled=pooled
        )
        rows += [{"category": category, **row} for row in figures.to_pylist()]
    return CATEGORIES.build(rows)


def _names(category: str | None) -> list[str]:
    """Returns the names in a category; some sets, such as MultiJail, write a list of them as text."""
    if category and category.startswith("[") and category.endswith("]"):
        with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            names = ast.literal_eval(category)
            if names and all(isinstance(name, str) and name for name in names):
                return list(dict.fromkeys(names))
    return [category or NONE]
