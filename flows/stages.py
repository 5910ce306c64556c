"""The ten stages as the flows call them: which tasks, with which settings, under which label."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

import pyarrow as pa

from flows.benchmarks import BenchmarkPrompts, Texts
from flows.kinds import announce
from flows.run import Future, Run
from mpo_core import registry
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.benchmark import HELD_OUT, Benchmark
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.sampling import TRAINED
from mpo_core.contract.tables import COMPARISONS, METRICS, PROMPTS, QUARANTINE, VERDICTS
from mpo_core.gate import decide as gate
from mpo_core.pairs import require_safe_dominant
from mpo_core.prompts.load import count_kinds
from mpo_core.prompts.load import fingerprint as prompts_fingerprint
from mpo_core.settings import SamplingSettings, TrainingMethod
from mpo_core.translation.build import fingerprint as translation_fingerprint
from tasks.evaluation import compare_models, evaluate_model
from tasks.judging import judge_answers
from tasks.model import ModelFolder, trained_model
from tasks.pairs import pair_dominant, pair_target
from tasks.prompts import read_prompts
from tasks.reference import measure_gaps
from tasks.sampling import sample_answers
from tasks.stage import ShardInput
from tasks.training import train_model
from tasks.translation import translate_answers, translate_prompts

T = TypeVar("T")
Key = tuple[str, ArtifactRef]
"""Language and block of prompts: one shard of a stage."""
Shards = dict[Key, Future]


class Pairs(NamedTuple):
    """Preference pairs by language and block, with the prompts that they answer."""

    texts: Texts
    source: Shards
    """The pairs in the dominant language."""
    target: Shards
    """Their mirrors in the target languages."""

    def of(self, name: str) -> "Pairs":
        """Returns the pairs of one split."""
        return Pairs(_of(self.texts, name), _of(self.source, name), _of(self.target, name))


class Evaluation(NamedTuple):
    """One model's evaluation: answers, verdicts and reward gaps by shard, and the metrics of all shards."""

    answers: Shards
    verdicts: Shards
    gaps: Shards
    metrics: Future
    benchmarks: "list[Measured]"
    """The results on benchmarks beside the held-out prompts."""


class Measured(NamedTuple):
    """One model's result on one benchmark: the verdicts by shard, and the metrics of all shards."""

    prompts: BenchmarkPrompts
    verdicts: Shards
    metrics: Future


class Since(NamedTuple):
    """The version that was promoted before a realignment, and the paired tests against it."""

    version: str
    comparison: Future


class Change(NamedTuple):
    """The model before and after training on the same held-out prompts, with the paired tests of the two."""

    before: Evaluation
    after: Evaluation
    comparison: Future
    benchmarks: list[Future]
    """The paired tests on further benchmarks."""
    since: Since | None = None


def split(block: ArtifactRef) -> str:
    """Returns the split that a block of prompts belongs to."""
    return (block.part or "").partition("-")[0]


def _of(shards: Mapping[Key, T], name: str) -> dict[Key, T]:
    return {key: shard for key, shard in shards.items() if split(key[1]) == name}


def read_blocks(run: Run) -> list[ArtifactRef]:
    """Reads the prompts in blocks, each of one split, and checks that judge and sampling backends can be used.

    Raises:
        BadInputError: training or evaluation needs a split that has no prompts, the judge is missing or
            cannot judge a language, or a sampling backend cannot answer with a model.
    """
    config = run.config
    config.judging.require_languages([config.languages.dominant, *config.languages.targets])
    config.judging.identity()  # a missing guard model is reported now, and not after hours of sampling
    config.sampling.backend.require_models([config.model.path])
    config.evaluation.sampling.backend.require_models([config.model.path, TRAINED])
    prompts = run.submit(
        read_prompts,
        settings=config.prompts,
        dominant=config.languages.dominant,
        fingerprint=prompts_fingerprint(config.prompts),
        block_size=config.run.block_size,
        label=config.languages.dominant,
    )
    shard = run.result(prompts)
    announce(count_kinds(run.store.read_table(shard.rows, PROMPTS)))
    blocks = list(shard.parts)
    for name in ("train", config.evaluation.split, *(["validation"] if config.training.evaluate_every else [])):
        if name not in {split(block) for block in blocks}:
            raise BadInputError(
                f"no prompt is in the split {name!r}",
                where="prompts.sources",
                fix="Give a source with this split, or shares for prompts.validation and prompts.test"
                + (", or set training.evaluate_every to null." if name == "validation" else "."),
            )
    return blocks


def answer_dominant(run: Run, model: ModelFolder, blocks: list[ArtifactRef]) -> tuple[Shards, Shards]:
    """Samples and judges answers in the dominant language, and checks that the model is safe and helpful there.

    Raises:
        BadInputError: the model is not safe or helpful enough there for other languages to follow.
    """
    dominant = run.config.languages.dominant
    answers: Shards = {}
    verdicts: Shards = {}
    for decides in (True, False):  # the answers to training prompts do: they are judged before others are sampled
        texts: Texts = {(dominant, block): block for block in blocks if (split(block) == "train") is decides}
        answers |= _sample(run, model, texts, run.config.sampling, "pairs")
        verdicts |= judge(run, {key: answers[key] for key in texts})
    if judged := [run.result(shard).rows for shard in _of(verdicts, "train").values()]:
        table = run.store.read_tables(judged, VERDICTS)
        require_safe_dominant(table, run.config.pairs, dominant=dominant, model=run.config.model.path)
    return answers, verdicts


def translate(run: Run, blocks: Iterable[ArtifactRef]) -> Texts:
    """Translates the prompts into every target language; returns the originals too, under the dominant language."""
    dominant, settings = run.config.languages.dominant, run.config.translation
    fingerprint = translation_fingerprint(settings)
    texts: Texts = {(dominant, block): block for block in blocks}
    for _, block in list(texts):
        for target in sorted(run.config.languages.targets):
            texts[target, block] = run.submit(
                translate_prompts,
                prompts=block,
                settings=settings,
                fingerprint=fingerprint,
                source=dominant,
                target=target,
                label=f"{target}-{block.part}",
            )
    return texts


def sample(run: Run, model: ModelFolder, texts: Texts) -> Shards:
    """Samples answers in the target languages, if `pairs.strategy` needs them and the sources bring none."""
    if run.config.pairs.strategy not in {"sampled", "mixed"}:
        return {}
    dominant = run.config.languages.dominant
    unanswered = {
        (code, block): prompts
        for (code, block), prompts in texts.items()
        if code != dominant and not _has_all_answers(run, code, block)
    }
    return _sample(run, model, unanswered, run.config.sampling, "pairs")


def judge(run: Run, answers: Shards, purpose: str = "pairs") -> Shards:
    """Judges answers, each shard in a task of its own."""
    return {
        (language, block): run.submit(
            judge_answers,
            responses=responses,
            prompts=block,
            judge=run.config.judging,
            label=f"{language}-{block.part}-{purpose}",
        )
        for (language, block), responses in answers.items()
    }


def pair(run: Run, texts: Texts, answers: Shards, verdicts: Shards) -> Pairs:
    """Builds pairs: a good and a bad answer to every prompt in the dominant language, mirrored in every target."""
    config, dominant = run.config, run.config.languages.dominant
    fingerprint = translation_fingerprint(config.translation)
    source = {
        (code, block): run.submit(
            pair_dominant,
            prompts=block,
            responses=answers[code, block],
            verdicts=verdicts[code, block],
            reference_answers=_reference_answers(run, code, block),
            settings=config.pairs,
            dominant=dominant,
            label=f"{dominant}-{block.part}",
        )
        for code, block in texts
        if code == dominant
    }
    target = {}
    for (language, block), prompts in texts.items():
        if isinstance(prompts, ArtifactRef):
            continue
        label, source_pairs, translations = f"{language}-{block.part}", source[dominant, block], None
        if config.pairs.strategy in {"translated", "mixed"} and not _has_all_answers(run, language, block):
            translations = run.submit(
                translate_answers,
                pairs=source_pairs,
                settings=config.translation,
                fingerprint=fingerprint,
                source=dominant,
                target=language,
                label=label,
            )
        target[language, block] = run.submit(
            pair_target,
            source_pairs=source_pairs,
            prompt_translations=prompts,
            reference_answers=_reference_answers(run, language, block),
            answer_translations=translations,
            responses=answers.get((language, block)),
            verdicts=verdicts.get((language, block)),
            settings=config.pairs,
            dominant=dominant,
            language=language,
            label=label,
        )
    return Pairs(texts, source, target)


def preference_pairs(run: Run, model: ModelFolder, blocks: list[ArtifactRef]) -> Pairs:
    """Runs translation, sampling, judging and pairs one after the other, for flows that need them together."""
    answers, verdicts = answer_dominant(run, model, blocks)
    texts = translate(run, blocks)
    target_answers = sample(run, model, texts)
    return pair(run, texts, answers | target_answers, verdicts | judge(run, target_answers))


def _reference_answers(run: Run, language: str, block: ArtifactRef) -> ArtifactRef | None:
    """Returns the answers in a language that the sources bring along for the prompts of a block, if any."""
    shards = (step.shard for step in run.steps if step.stage == "prompts")
    refs = (ref for shard in shards if block in shard.parts for ref in shard.answers)
    return next((ref for ref in refs if (ref.language, ref.part) == (language, block.part)), None)


def _has_all_answers(run: Run, language: str, block: ArtifactRef) -> bool:
    """Returns whether the sources bring along answers in a language to every prompt of a block."""
    answers = _reference_answers(run, language, block)
    return answers is not None and answers.rows == block.rows


def measure(run: Run, model: ModelFolder, pairs: Pairs, training: TrainingMethod) -> list[Future]:
    """Measures the frozen model's reward gaps and states on training and validation pairs, as the method needs them."""
    source, target = (
        {key: pair for key, pair in shards.items() if split(key[1]) in {"train", "validation"}}
        for shards in (pairs.source, pairs.target)
    )
    measured = reference_gaps(run, model, source, "base", dominant=True, training=training)
    if training.references_targets:
        measured |= reference_gaps(run, model, target, "base", dominant=False, training=training)
    return list(measured.values())


def train(
    run: Run, model: ModelFolder, pairs: Pairs, references: list[Future], settings: TrainingMethod, label: str = "mpo"
) -> Future:
    """Trains on the pairs of the split `train`, and evaluates the loss on those of `validation` on the way.

    Raises:
        BadInputError: no pair is left to train on.
    """
    require_pairs(run, pairs)
    return run.submit(
        train_model,
        model=model,
        pairs=list(pairs.of("train").target.values()),
        validation=list(pairs.of("validation").target.values()) if settings.evaluate_every else [],
        references=references,
        settings=settings,
        label=label,
    )


def require_pairs(run: Run, pairs: Pairs) -> None:
    """Rejects a training without pairs, with the reasons why none are left.

    Raises:
        BadInputError: no pair is left; names the reasons and the folder of the rejected rows.
    """
    train = pairs.of("train")
    if any(run.result(future).rows.rows for future in train.target.values()):
        return
    counts: dict[str, int] = {}
    for shard in map(run.result, (train.source | train.target).values()):
        if shard.quarantine is not None:
            for row in run.store.read_table(shard.quarantine, QUARANTINE).to_pylist():
                name = f"{row['language'] or run.config.languages.dominant} {row['reason']}"
                counts[name] = counts.get(name, 0) + 1
    reasons = ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
    raise BadInputError(
        f"no pair is left to train on ({reasons or 'no prompt reached this stage'})",
        where=f"pairs, rejected rows in {run.config.run.root}/pairs/quarantine",
        fix="no_rejected: the model gave no bad answer, so set prompts.sources.0.rejected_column "
        "or raise sampling.n and sampling.temperature; no_translation: complete the memory or name another engine; "
        "timed_out and the like: request again with translation.attempt=2.",
    )


def evaluate(
    run: Run,
    name: str,
    model: ModelFolder,
    pairs: Pairs,
    baseline: Evaluation | None = None,
    benchmarks: Iterable[BenchmarkPrompts] = (),
) -> Evaluation:
    """Measures a model on held-out prompts in every language (answers, verdicts, reward gaps) and on benchmarks."""
    settings, held_out = run.config.evaluation, pairs.of(run.config.evaluation.split)
    answers = _sample(run, model, held_out.texts, settings.sampling, name)
    verdicts = judge(run, answers, name)
    gaps = reference_gaps(run, model, held_out.source, name, dominant=True)
    gaps |= reference_gaps(run, model, held_out.target, name, dominant=False)
    metrics = run.submit(
        evaluate_model,
        verdicts=list(verdicts.values()),
        gaps=list(gaps.values()),
        baseline=list(baseline.gaps.values()) if baseline else [],
        model=name,
        benchmark=_held_out(run),
        confidence=settings.confidence,
        label=name,
    )
    return Evaluation(answers, verdicts, gaps, metrics, [_measure(run, name, model, prompts) for prompts in benchmarks])


def _held_out(run: Run) -> Benchmark:
    return next(entry for entry in run.config.evaluation.benchmarks if entry.benchmark == HELD_OUT)


def _measure(run: Run, name: str, model: ModelFolder, prompts: BenchmarkPrompts) -> Measured:
    """Measures a model on one benchmark, whose own judge gives the verdicts, if it has one."""
    benchmark, settings = prompts.benchmark, run.config.evaluation
    answers = _sample(run, model, prompts.texts, settings.sampling, name)
    own = run.config.model_copy(update={"judging": benchmark.judging or run.config.judging})
    verdicts = judge(run.variant(own, run.tag), answers, name)
    metrics = run.submit(
        evaluate_model,
        verdicts=list(verdicts.values()),
        gaps=[],
        baseline=[],
        model=name,
        benchmark=benchmark,
        confidence=settings.confidence,
        label=f"{name}-{benchmark.benchmark}",
    )
    return Measured(prompts, verdicts, metrics)


def reference_gaps(
    run: Run,
    model: ModelFolder,
    pairs: Mapping[Key, ShardInput],
    purpose: str,
    *,
    dominant: bool,
    training: TrainingMethod | None = None,
) -> Shards:
    """Measures a model's reward gaps on pairs, computed as in `training`, and dominant pairs' pooled hidden states."""
    training = training or run.config.training
    return {
        (language, block): run.submit(
            measure_gaps,
            model=model,
            pairs=shard,
            cutoff=training.cutoff,
            pooling=training.pooling if dominant else None,
            precision=training.precision,
            weights=training.weights,
            language=language,
            tokens_per_forward=training.tokens_per_forward or 4096,
            label=f"{language}-{block.part}-{purpose}",
        )
        for (language, block), shard in pairs.items()
    }


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
    tests = [
        _compare(run, old.verdicts, new.verdicts, old.prompts.benchmark, f"before-after-{old.prompts.card.name}")
        for old, new in zip(before.benchmarks, after.benchmarks, strict=True)
    ]
    change = Change(before, after, compare(run, before, after, "before-after"), tests)
    if promoted is None or previous is None:
        return change
    return change._replace(since=Since(promoted[0], compare(run, previous, after, "previous-after")))


def decide(run: Run, change: Change) -> gate.GateDecision:
    """Decides by the gate's checks on the figures whether the trained model may be promoted."""
    languages, store = run.config.languages, run.store
    return gate.decide(
        figures(run, change),
        store.read_table(run.result(change.comparison).rows, COMPARISONS),
        run.config.gate,
        dominant=languages.dominant,
        targets=languages.targets,
        since=store.read_table(run.result(change.since.comparison).rows, COMPARISONS) if change.since else None,
    )


def register(
    run: Run, start: ModelFolder, trained: Future, change: Change, decision: gate.GateDecision
) -> registry.Settled:
    """Registers the model that was trained from `start`, and promotes it if the gate and the registry agree."""
    languages, model, steps = run.config.languages, run.result(trained).model, run.wait()
    if model is None:
        raise TypeError("training gave no model")
    medians = {
        f"median_unsafe_{name}": gate.targets_median(figures(run, change), "unsafe", languages.targets, name)
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


def figures(run: Run, change: Change) -> pa.Table:
    """Reads the metrics of both models, on held-out prompts and benchmarks, as one table."""
    models = (change.before, change.after)
    futures = [model.metrics for model in models] + [m.metrics for model in models for m in model.benchmarks]
    return run.store.read_tables([run.result(future).rows for future in futures], METRICS)


def _sample(run: Run, model: ModelFolder, texts: Texts, settings: SamplingSettings, purpose: str) -> Shards:
    """Samples a model's answers to prompts, each shard in a task of its own."""
    return {
        (language, block): run.submit(
            sample_answers,
            model=model,
            prompts=prompts,
            settings=settings,
            backend=settings.backend.identity(model.name),
            language=language,
            label=f"{language}-{block.part}-{purpose}",
        )
        for (language, block), prompts in texts.items()
    }


def compare(run: Run, before: Evaluation, after: Evaluation, label: str) -> Future:
    """Compares two evaluations of the same held-out prompts, by exact paired tests."""
    return _compare(run, before.verdicts, after.verdicts, _held_out(run), label)


def _compare(run: Run, before: Shards, after: Shards, benchmark: Benchmark, label: str) -> Future:
    shards = {"before": list(before.values()), "after": list(after.values())}
    return run.submit(compare_models, **shards, benchmark=benchmark, label=label)
