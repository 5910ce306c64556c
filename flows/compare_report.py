"""The end of a comparison: the figures of every training, their means, and the page."""

from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa
from prefect.artifacts import create_table_artifact

from flows.run import Future, Run
from flows.stages import Evaluation
from mpo_core.contract.tables import METHOD_RUNS, METHODS, METRICS
from mpo_core.evaluation.methods import BASE, method_figures, over_runs
from mpo_core.reporting import MethodsSummary, write_methods
from tasks.model import ModelFolder


class Cell(NamedTuple):
    """One training of the comparison."""

    model: str
    """Path of the base model."""
    method: str
    flipped: float
    seed: int

    @property
    def label(self) -> str:
        """Its name in the record of the run."""
        return f"{self.method}-{self.flipped:g}-{self.seed}"


def finish_comparison(
    run: Run,
    base: ModelFolder,
    before: dict[tuple[str, int], Evaluation],
    trained: dict[Cell, Future | None],
    after: dict[Cell, Evaluation],
) -> MethodsSummary:
    """Writes `methods.parquet`, `method_runs.parquet`, the page and its summary into the run's folder."""
    run.wait()
    rows = [
        {**cell._asdict(), "figure": name, "value": value}
        for cell, evaluation in [
            *((Cell(model, BASE, 0.0, seed), evaluation) for (model, seed), evaluation in before.items()),
            *after.items(),
        ]
        for name, value in _figures(run, evaluation).items()
    ]
    for cell, future in trained.items():
        if future is None:
            continue
        counts = run.result(future).counts
        for figure, name in (("seconds", "train_seconds"), ("peak_mib", "peak_mib")):
            rows.append({**cell._asdict(), "figure": figure, "value": float(counts[name])})
    runs = METHOD_RUNS.build(rows)
    methods = over_runs(runs, run.config.evaluation.confidence)
    summary = MethodsSummary(
        run=run.config.run.name,
        started=run.started,
        finished=datetime.now(UTC),
        base_model=run.config.model.path,
        base_digest=base.sha256,
        dominant=run.config.languages.dominant,
        targets=sorted(run.config.languages.targets),
        split=run.config.evaluation.split,
        seeds=run.config.compare.seeds,
        models=run.config.compare.models,
        methods=methods.to_pylist(),
        runs=runs.to_pylist(),
        config=run.settings,
        packages=run.packages(),
    )
    run.write_settings()
    write_methods(summary, run.store, run.folder)
    _tell_prefect(methods)
    return summary


def _figures(run: Run, evaluation: Evaluation) -> dict[str, float]:
    tables = [run.result(future).rows for future in (evaluation.metrics, evaluation.utility.metrics)]
    metrics = run.store.read_tables(tables, METRICS)
    languages = run.config.languages
    return method_figures(
        metrics, dominant=languages.dominant, targets=languages.with_pairs, left_out=languages.without_pairs
    )


def _tell_prefect(methods: pa.Table) -> None:
    """Creates the Prefect table of the comparison: a row of means per method and share of swapped answers."""
    table: dict[tuple[str, float], dict[str, object]] = {}
    for row in METHODS.check(methods).to_pylist():
        line = table.setdefault((row["method"], row["flipped"]), {"method": row["method"], "flipped": row["flipped"]})
        line[row["figure"]] = round(row["mean"], 4)
    create_table_artifact(
        key="mpo-methods", table=list(table.values()), description="Methods: means over base models and seeds"
    )
