"""Before and after, on the same prompts."""

from typing import Literal

from mpo_core.contract.artifacts import ArtifactStore, Shard
from mpo_core.contract.tables import COMPARISONS, GAPS, METRICS, VERDICTS
from mpo_core.evaluation import compare, metrics
from tasks.stage import stage


@stage("evaluation", verb="evaluate")
def evaluate_model(
    verdicts: list[Shard],
    gaps: list[Shard],
    baseline: list[Shard],
    model: Literal["before", "after", "previous"],
    confidence: float,
    *,
    store: ArtifactStore,
    label: str,
) -> Shard:
    """Shares with intervals and reward gaps of one model; `baseline` are the first model's gaps, for the drift."""
    del label
    table = metrics(
        store.read_tables([shard.rows for shard in verdicts], VERDICTS),
        store.read_tables([shard.rows for shard in gaps], GAPS) if gaps else None,
        model=model,
        confidence=confidence,
        baseline=store.read_tables([shard.rows for shard in baseline], GAPS) if baseline else None,
    )
    return Shard(rows=store.write_table("evaluation", METRICS, table))


@stage("evaluation", verb="compare")
def compare_models(before: list[Shard], after: list[Shard], *, store: ArtifactStore, label: str) -> Shard:
    """Exact paired tests on the same prompts."""
    del label
    table = compare(*(store.read_tables([shard.rows for shard in shards], VERDICTS) for shards in (before, after)))
    return Shard(rows=store.write_table("evaluation", COMPARISONS, table))
