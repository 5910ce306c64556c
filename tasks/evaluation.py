"""Before and after, on the same prompts."""

from collections.abc import Sequence

from mpo_core.contract.artifacts import ArtifactStore, Shard
from mpo_core.contract.tables import COMPARISONS, GAPS, METRICS, VERDICTS
from mpo_core.evaluation import compare, metrics
from tasks.stage import ShardInput, read_rows, stage


@stage("evaluation", verb="evaluate")
def evaluate_model(
    store: ArtifactStore,
    *,
    verdicts: Sequence[ShardInput],
    gaps: Sequence[ShardInput],
    baseline: Sequence[ShardInput],
    model: str,
    confidence: float,
    label: str,
) -> Shard:
    """Shares with intervals and reward gaps of one model; `baseline` are the first model's gaps, for the drift."""
    del label
    table = metrics(
        read_rows(store, verdicts, VERDICTS),
        read_rows(store, gaps, GAPS) if gaps else None,
        model=model,
        confidence=confidence,
        baseline=read_rows(store, baseline, GAPS) if baseline else None,
    )
    return Shard(rows=store.write_table("evaluation", METRICS, table))


@stage("evaluation", verb="compare")
def compare_models(
    store: ArtifactStore, *, before: Sequence[ShardInput], after: Sequence[ShardInput], label: str
) -> Shard:
    """Exact paired tests on the same prompts."""
    del label
    table = compare(*(read_rows(store, shards, VERDICTS) for shards in (before, after)))
    return Shard(rows=store.write_table("evaluation", COMPARISONS, table))
