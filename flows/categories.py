"""The attack success rate by harm category: what the heat map of the report shows."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from flows.run import Run
from flows.stages import Measured
from mpo_core.contract.tables import CATEGORIES, PROMPTS, VERDICTS
from mpo_core.evaluation.categories import category_shares
from mpo_core.reporting.summary import Model


def category_figures(run: Run, evaluated: Mapping[Model, Sequence[Measured]]) -> pa.Table:
    """Returns table CATEGORIES of each model, by its role, on every set of prompts with categories."""
    tables = [CATEGORIES.build([])]
    for model, parts in evaluated.items():
        for measured in parts:
            if not measured.verdicts:
                continue
            # A prompt has one id in every language of a benchmark, so these are no single table.
            blocks = {block.sha256: block for _, block in measured.verdicts}
            tables.append(
                category_shares(
                    pa.concat_tables([run.store.read_table(block, PROMPTS) for block in blocks.values()]),
                    run.store.read_tables([run.result(f).rows for f in measured.verdicts.values()], VERDICTS),
                    benchmark=measured.prompts.benchmark.benchmark,
                    model=model,
                    confidence=run.config.evaluation.confidence,
                    pooled=run.config.languages.targets,
                )
            )
    return pa.concat_tables(tables)
