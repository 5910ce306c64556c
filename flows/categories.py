"""The attack success rate by harm category: what the heat map of the report shows."""

import pyarrow as pa

from flows.run import Run
from flows.stages import Change
from flows.stages.shards import Shards
from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.tables import CATEGORIES, PROMPTS, VERDICTS
from mpo_core.evaluation.categories import category_shares


def category_figures(run: Run, change: Change) -> pa.Table:
    """Returns table CATEGORIES of both models on held-out prompts and on every benchmark with categories."""
    tables = [CATEGORIES.build([])]
    for model, evaluation in (("before", change.before), ("after", change.after)):
        measured: list[tuple[str, Shards]] = [(HELD_OUT, evaluation.verdicts)]
        measured += [(result.prompts.benchmark.benchmark, result.verdicts) for result in evaluation.benchmarks]
        for benchmark, verdicts in measured:
            blocks = {block.sha256: block for _, block in verdicts}
            tables.append(
                category_shares(
                    run.store.read_tables(list(blocks.values()), PROMPTS),
                    run.store.read_tables([run.result(future).rows for future in verdicts.values()], VERDICTS),
                    benchmark=benchmark,
                    model=model,
                    confidence=run.config.evaluation.confidence,
                    pooled=run.config.languages.targets,
                )
            )
    return pa.concat_tables(tables)
