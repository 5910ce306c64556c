"""The report's figures of the pairs that the model was trained on, by language."""

from collections import Counter

from flows.run import Run
from flows.stages import Pairs
from mpo_core.contract.tables import GAPS, PAIRS, PROMPTS, QUARANTINE
from mpo_core.pairs import describe

_BASE = "-base"
"""End of the labels of the tasks that measure the frozen model on training pairs."""


def pairs_card(run: Run, pairs: Pairs) -> dict[str, dict[str, float]]:
    """Returns figures of the training pairs by target language, all tasks being done.

    Beside those of `describe`: `swapped`, the pairs that the swap check found, and `rejected, REASON`.
    """
    store, train = run.store, pairs.of("train")
    prompts = store.read_tables([block for _, block in train.source], PROMPTS)
    categories = dict(zip(prompts["prompt_id"].to_pylist(), prompts["category"].to_pylist(), strict=True))
    measured = [step.shard.rows for step in run.steps if step.verb == "reference" and step.label.endswith(_BASE)]
    gap_of: dict[str, float] = {}
    for gaps in (store.read_table(ref, GAPS) for ref in measured):
        gap_of |= zip(gaps["text_id"].to_pylist(), gaps["gap"].to_pylist(), strict=True)
    tables = [run.result(future).rows for future in train.target.values()]
    figures = describe(store.read_tables(tables, PAIRS), categories, gap_of)
    counts: Counter[tuple[str, str]] = Counter()
    for step in run.steps:
        shard, code = step.shard, step.shard.rows.language
        if code not in figures:
            continue
        if step.verb == "swaps":
            counts[code, "swapped"] += shard.counts["swapped"]
        if step.stage == "pairs" and shard.quarantine is not None and "-train-" in f"{step.label}-":
            for reason in store.read_table(shard.quarantine, QUARANTINE)["reason"].to_pylist():
                counts[code, f"rejected, {reason}"] += 1
    names = sorted({name for _, name in counts})
    return {code: {**of_code, **{name: counts[code, name] for name in names}} for code, of_code in figures.items()}
