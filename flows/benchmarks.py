"""The prompts of the benchmarks that the settings name beside the held-out ones."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from flows.run import BEFORE_EVALUATION, Future, Run
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.benchmark import HELD_OUT, Benchmark
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PROMPTS
from mpo_core.languages.defects import folded
from mpo_core.prompts.benchmark import benchmark_fingerprint
from mpo_core.reporting import BenchmarkCard
from mpo_core.translation.build import fingerprint as translation_fingerprint
from tasks.evaluation import read_benchmark
from tasks.translation import translate_prompts

Texts = dict[tuple[str, ArtifactRef], ArtifactRef | Future]
"""The prompts by language and block: the block itself, or its translation."""


class BenchmarkPrompts(NamedTuple):
    """A benchmark with its prompts by language and block, and its card for the report."""

    benchmark: Benchmark
    texts: Texts
    card: BenchmarkCard


def read_benchmarks(run: Run) -> list[BenchmarkPrompts]:
    """Reads the prompts of every benchmark beside the held-out ones, in the languages of the run.

    Raises:
        BadInputError: a benchmark has no prompts in any of these languages, or its judge cannot judge one of them.
    """
    training_texts = training_prompts(run)
    benchmarks = (entry for entry in run.config.evaluation.benchmarks if entry.benchmark != HELD_OUT)
    return [_read(run, benchmark, training_texts) for benchmark in benchmarks]


def _read(run: Run, benchmark: Benchmark, training_texts: set[str]) -> BenchmarkPrompts:
    name, dominant = benchmark.benchmark, run.config.languages.dominant
    futures = {
        code: run.submit(
            read_benchmark,
            benchmark=benchmark,
            language=code,
            fingerprint=benchmark_fingerprint(benchmark, code),
            block_size=run.config.run.block_size,
            label=f"{code}-{name}",
        )
        for code in [dominant, *sorted(run.config.languages.targets)]
    }
    blocks = {code: run.result(future).parts for code, future in futures.items()}
    lacking = [code for code in blocks if not blocks[code]]
    translated = lacking if benchmark.translate and blocks[dominant] else []
    judged = [code for code in blocks if code not in lacking or code in translated]
    if not judged:
        raise BadInputError(
            f"the benchmark has no prompts in any language of the run ({', '.join(blocks)})",
            where=f"evaluation.benchmarks, {name}",
            fix="Choose other languages or another benchmark.",
        )
    judge = benchmark.judging or run.config.judging
    judge.require_languages(judged)
    run.check_before(BEFORE_EVALUATION, judge.require_ready)
    texts: Texts = {(code, block): block for code in blocks for block in blocks[code]}
    if translated:
        inputs = translation_inputs(run, ((code, block) for code in translated for block in blocks[dominant]))
        texts |= {key: run.submit(translate_prompts, **values) for key, values in inputs.items()}
    dominant_texts = [
        row["text"] for block in blocks[dominant] for row in run.store.read_table(block, PROMPTS).to_pylist()
    ]
    card = BenchmarkCard(
        name=name,
        label=benchmark.label,
        metrics=list(benchmark.metrics),
        origin=benchmark.origin,
        licence=benchmark.licence,
        judge="" if benchmark.judging is None else str(benchmark.judging.model_dump()["judge"]),
        translated=translated,
        missing=[code for code in lacking if code not in translated],
        in_training=sum(folded(text) in training_texts for text in dominant_texts),
        prompts=len(dominant_texts),
    )
    return BenchmarkPrompts(benchmark, texts, card)


def training_prompts(run: Run) -> set[str]:
    """Returns the training prompts of the run, in the form in which two prompts are the same."""
    shards = [step.shard for step in run.steps if step.stage == "prompts"]
    rows = [row for shard in shards for row in run.store.read_table(shard.rows, PROMPTS).to_pylist()]
    return {folded(row["text"]) for row in rows if row["split"] == "train"}


def translation_inputs(
    run: Run, wanted: Iterable[tuple[str, ArtifactRef]]
) -> dict[tuple[str, ArtifactRef], dict[str, Any]]:
    """Returns the inputs of the tasks that translate blocks of prompts, by target language and block."""
    settings = run.config.translation
    fingerprint = translation_fingerprint(settings)
    return {
        (target, block): {
            "prompts": block,
            "settings": settings,
            "fingerprint": fingerprint,
            "source": run.config.languages.dominant,
            "target": target,
            "label": f"{target}-{block.part}",
        }
        for target, block in wanted
    }
