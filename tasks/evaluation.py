"""Metrics of a model, paired tests of two models on the same prompts, and the prompts of benchmarks."""

from collections.abc import Sequence

from mpo_core.contract.artifacts import ArtifactStore, Shard
from mpo_core.contract.benchmark import Benchmark
from mpo_core.contract.tables import COMPARISONS, GAPS, METRICS, PROMPTS, VERDICTS
from mpo_core.evaluation.comparison import compare
from mpo_core.evaluation.metrics import metrics
from mpo_core.prompts.benchmark import benchmark_prompts
from mpo_core.prompts.blocks import blocks
from tasks.stage import ShardInput, read_rows, stage, write_shard


@stage("evaluation", verb="read-benchmark", version=2)
def read_benchmark(
    store: ArtifactStore, *, benchmark: Benchmark, language: str, fingerprint: list[str], block_size: int, label: str
) -> Shard:
    """Reads a benchmark's prompts in one language; `fingerprint` (digests of the files) only takes part in the key."""
    prompts, quarantine = benchmark_prompts(benchmark, language)
    cut = [
        store.write_table("evaluation", PROMPTS, block, language=language, part=f"{benchmark.benchmark}-{number:03d}")
        for number, block in enumerate(blocks(prompts, block_size))
    ]
    return write_shard(store, "evaluation", PROMPTS, prompts, quarantine, language=language, parts=tuple(cut))


@stage("evaluation", verb="evaluate", version=3)
def evaluate_model(
    store: ArtifactStore,
    *,
    verdicts: Sequence[ShardInput],
    gaps: Sequence[ShardInput],
    baseline: Sequence[ShardInput],
    model: str,
    benchmark: Benchmark,
    pooled: list[str],
    confidence: float,
    label: str,
) -> Shard:
    """Computes one model's metrics with intervals; its drift is measured from the model `baseline`."""
    table = metrics(
        read_rows(store, verdicts, VERDICTS),
        read_rows(store, gaps, GAPS) if gaps else None,
        model=model,
        confidence=confidence,
        baseline=read_rows(store, baseline, GAPS) if baseline else None,
        benchmark=benchmark.benchmark,
        measured=benchmark.metrics,
        pooled=pooled,
    )
    return Shard(rows=store.write_table("evaluation", METRICS, table))


@stage("evaluation", verb="compare", version=3)
def compare_models(
    store: ArtifactStore,
    *,
    before: Sequence[ShardInput],
    after: Sequence[ShardInput],
    benchmark: Benchmark,
    pooled: list[str],
    confidence: float,
    label: str,
) -> Shard:
    """Compares two models on the same prompts, by exact paired tests."""
    first, second = (read_rows(store, shards, VERDICTS) for shards in (before, after))
    table = compare(
        first,
        second,
        confidence=confidence,
        benchmark=benchmark.benchmark,
        measured=benchmark.metrics,
        pooled=pooled,
    )
    return Shard(rows=store.write_table("evaluation", COMPARISONS, table))
