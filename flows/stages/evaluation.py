"""Evaluation, gate and registry: what changed, whether that is good enough, and which version is promoted."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from flows.benchmarks import BenchmarkPrompts, Texts
from flows.run import Future, Run
from flows.stages.answers import judge, sample_shards
from flows.stages.shards import Change, Evaluation, Measured, Pairs, Shards, Since
from flows.stages.training import reference_gaps
from flows.stages.utility import compare_utilities, measure_utility
from mpo_core import registry
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.tables import COMPARISONS, METRICS, PROMPTS, TRANSLATIONS, VERDICTS
from mpo_core.evaluation.outcomes import unjudged
from mpo_core.gate import decide as gate
from mpo_core.reporting import BenchmarkCard
from tasks.evaluation import compare_models, evaluate_model
from tasks.model import ModelFolder, trained_model


def evaluate(
    run: Run,
    name: str,
    model: ModelFolder,
    pairs: Pairs,
    baseline: Evaluation | None = None,
    benchmarks: Iterable[BenchmarkPrompts] = (),
) -> Evaluation:
    """Measures a model on held-out prompts in every language (answers, verdicts, reward gaps), text and benchmarks."""
    held_out = pairs.of(run.config.evaluation.split)
    own = held_out_prompts(run, held_out.texts)
    answered = _answer(run, name, model, own)
    gaps = reference_gaps(run, model, held_out.source, name, dominant=True)
    gaps |= reference_gaps(run, model, held_out.target, name, dominant=False)
    first = _measured(run, name, own, *answered, gaps, baseline.gaps if baseline else {})
    base = (baseline.model, baseline.measured[0].answers) if baseline else None
    utility = measure_utility(run, name, model, base)
    measured = [first, *(measure_prompts(run, name, model, prompts) for prompts in benchmarks)]
    return Evaluation(model, measured, gaps, utility)


def held_out_prompts(run: Run, texts: Texts, label: str | None = None) -> BenchmarkPrompts:
    """Returns the run's own prompts as those of the benchmark `held_out`; `label` is what the report calls them."""
    benchmark = next(entry for entry in run.config.evaluation.benchmarks if entry.benchmark == HELD_OUT)
    return BenchmarkPrompts(benchmark, texts, BenchmarkCard() if label is None else BenchmarkCard(label=label))


def measure_prompts(run: Run, name: str, model: ModelFolder, prompts: BenchmarkPrompts) -> Measured:
    """Measures a model on one set of prompts."""
    return _measured(run, name, prompts, *_answer(run, name, model, prompts), {}, {})


def _answer(run: Run, name: str, model: ModelFolder, prompts: BenchmarkPrompts) -> tuple[Shards, Shards]:
    """Samples and judges answers; the benchmark's own judge gives the verdicts, if it has one."""
    answers = sample_shards(run, model, prompts.texts, run.config.evaluation.sampling, name)
    own = run.config.model_copy(update={"judging": prompts.benchmark.judging or run.config.judging})
    return answers, judge(run.variant(own, run.tag), answers, name)


def _measured(
    run: Run, name: str, prompts: BenchmarkPrompts, answers: Shards, verdicts: Shards, gaps: Shards, baseline: Shards
) -> Measured:
    benchmark = prompts.benchmark
    metrics = run.submit(
        evaluate_model,
        verdicts=list(verdicts.values()),
        gaps=list(gaps.values()),
        baseline=list(baseline.values()),
        model=name,
        benchmark=benchmark,
        pooled=sorted(run.config.languages.targets),
        confidence=run.config.evaluation.confidence,
        label=name if benchmark.benchmark == HELD_OUT else f"{name}-{benchmark.benchmark}",
    )
    return Measured(prompts, answers, verdicts, metrics)


def evaluate_change(
    run: Run,
    base: ModelFolder,
    trained: Future,
    pairs: Pairs,
    benchmarks: list[BenchmarkPrompts],
    promoted: tuple[str, ModelFolder] | None = None,
) -> Change:
    """Evaluates the base model and the trained one, and in a realignment the version that was promoted before."""
    before = evaluate(run, "before", base, pairs, benchmarks=benchmarks)
    previous = None if promoted is None else evaluate(run, "previous", promoted[1], pairs, before)
    after = evaluate(run, "after", trained_model(base, run.result(trained)), pairs, before, benchmarks)
    utility = compare_utilities(run, before.utility, after.utility)
    change = Change(before, after, compare(run, before.measured, after.measured, "before-after"), utility)
    if promoted is None or previous is None:
        return change
    since = compare(run, previous.measured, after.measured[:1], "previous-after")[0]
    return change._replace(since=Since(promoted[0], since))


def compare(run: Run, before: Iterable[Measured], after: Iterable[Measured], label: str) -> list[Future]:
    """Compares two models on each set of prompts, by exact paired tests."""
    tests = []
    for old, new in zip(before, after, strict=True):
        benchmark = old.prompts.benchmark
        tests.append(
            run.submit(
                compare_models,
                before=list(old.verdicts.values()),
                after=list(new.verdicts.values()),
                benchmark=benchmark,
                pooled=sorted(run.config.languages.targets),
                confidence=run.config.evaluation.confidence,
                label=label if benchmark.benchmark == HELD_OUT else f"{label}-{benchmark.benchmark}",
            )
        )
    return tests


def figures(run: Run, change: Change) -> pa.Table:
    """Reads the metrics of both models, on held-out prompts, plain text and benchmarks, as one table."""
    futures = change.before.all_metrics + change.after.all_metrics
    return run.store.read_tables([run.result(future).rows for future in futures], METRICS)


def decide(run: Run, change: Change) -> gate.GateDecision:
    """Decides by the gate's checks on the figures whether the trained model may be promoted."""
    languages, store = run.config.languages, run.store
    verdicts = [
        [store.read_table(run.result(future).rows, VERDICTS) for future in model.measured[0].verdicts.values()]
        for model in (change.before, change.after)
    ]
    return gate.decide(
        figures(run, change),
        store.read_tables([run.result(future).rows for future in change.all_comparisons], COMPARISONS),
        run.config.gate,
        dominant=languages.dominant,
        targets=languages.targets,
        since=store.read_table(run.result(change.since.comparison).rows, COMPARISONS) if change.since else None,
        unjudged=unjudged(
            *verdicts,
            prompts=prompt_keys(run, change.after.measured[0].prompts.texts),
            samples=run.config.evaluation.sampling.n,
        ),
    )


def prompt_keys(run: Run, texts: Texts) -> Iterator[tuple[str, str, str]]:
    """Yields language, kind and id of every prompt that a model is asked, whether it answers or not."""
    for (language, block), prompts in texts.items():
        table = run.store.read_table(block, PROMPTS)
        kinds = dict(zip(table["prompt_id"].to_pylist(), table["kind"].to_pylist(), strict=True))
        if not isinstance(prompts, ArtifactRef):
            table = run.store.read_table(run.result(prompts).rows, TRANSLATIONS)
        yield from ((language, kinds[prompt_id], prompt_id) for prompt_id in table["prompt_id"].to_pylist())


def register(
    run: Run, start: ModelFolder, trained: Future, change: Change, decision: gate.GateDecision
) -> registry.Settled:
    """Registers the model that was trained from `start`, and promotes it if the gate and the registry agree."""
    languages, model, steps = run.config.languages, run.result(trained).model, run.wait()
    if model is None:
        raise TypeError("training gave no model")
    medians = {
        f"median_unsafe_{name}": gate.median_unsafe(figures(run, change), languages.targets, name)
        for name in ("before", "after")
    }
    entry = registry.Entry(
        run=run.config.run.name,
        model=model,
        base=start.sha256,
        inputs=[step.shard.rows for step in steps if step.stage == "pairs"],
        settings=run.config.key(),
        figures={name: value for name, value in medians.items() if value is not None},
        targets=languages.targets,
        prompts=[part for step in steps if step.stage == "prompts" for part in step.shard.parts],
        evaluation=run.result(change.after.metrics).rows,
        dominant=languages.dominant,
    )
    fewer = run.config.gate.allow_fewer_languages
    return registry.settle(run.store, entry, decision, allow_fewer=fewer, realigned=change.since is not None)
