"""How the flows ask for a stage: which task, with which settings, under which name."""

from typing import NamedTuple

from flows.kinds import announce
from flows.run import Future, Run
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.sampling import TRAINED
from mpo_core.contract.tables import PROMPTS, QUARANTINE
from mpo_core.prompts.load import count_kinds
from mpo_core.prompts.load import fingerprint as prompts_fingerprint
from mpo_core.settings import SamplingSettings, TrainingSettings
from mpo_core.translation.build import fingerprint as translation_fingerprint
from tasks.evaluation import compare_models, evaluate_model
from tasks.judging import judge_answers
from tasks.model import ModelFolder
from tasks.pairs import pair_dominant, pair_target
from tasks.prompts import read_prompts
from tasks.reference import measure_gaps
from tasks.sampling import sample_answers
from tasks.translation import translate_answers, translate_prompts

Key = tuple[str, ArtifactRef]
"""Language and block of prompts: one shard of a stage."""


class Evaluation(NamedTuple):
    """One model's evaluation: by shard the answers and verdicts, and the metrics of all."""

    answers: dict[Key, Future]
    verdicts: dict[Key, Future]
    gaps: dict[Key, Future]
    metrics: Future


class Pairs(NamedTuple):
    """Preference pairs by block of prompts, and by language where there are many."""

    dominant: str
    translated: dict[Key, Future]
    """The prompts in the target languages."""
    source: dict[ArtifactRef, Future]
    """The dominant pairs."""
    target: dict[Key, Future]
    """Their mirrors."""

    def of(self, name: str) -> "Pairs":
        """Those of one split."""
        return Pairs(
            self.dominant,
            {key: future for key, future in self.translated.items() if split(key[1]) == name},
            {block: future for block, future in self.source.items() if split(block) == name},
            {key: future for key, future in self.target.items() if split(key[1]) == name},
        )

    @property
    def prompts(self) -> dict[Key, ArtifactRef | Future]:
        """The prompts in every language."""
        return {(self.dominant, block): block for block in self.source} | dict(self.translated)

    @property
    def answers(self) -> dict[Key, Future]:
        """The pairs in every language."""
        return {(self.dominant, block): future for block, future in self.source.items()} | self.target


def split(block: ArtifactRef) -> str:
    """The split that a block of prompts belongs to."""
    return (block.part or "").partition("-")[0]


def read_blocks(run: Run) -> list[ArtifactRef]:
    """The prompts, in blocks of one split.

    Raises:
        BadInputError: a split that training or evaluation asks for has no prompts, the judge cannot judge a language,
            or a sampling backend cannot answer with a model.
    """
    config = run.config
    config.judging.require_languages([config.languages.dominant, *config.languages.targets])
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
    read = run.result(prompts)
    announce(count_kinds(run.store.read_table(read.rows, PROMPTS)))
    blocks = list(read.parts)
    evaluated_in_training = ["validation"] if config.training.evaluate_every is not None else []
    for needed in ("train", config.evaluation.split, *evaluated_in_training):
        if needed not in {split(block) for block in blocks}:
            raise BadInputError(
                f"no prompt is in the split {needed!r}",
                where="prompts.sources",
                fix="Give a source with this split, or shares for prompts.validation and prompts.test"
                + (", or set training.evaluate_every to null." if needed == "validation" else "."),
            )
    return blocks


def translate(run: Run, block: ArtifactRef, target: str) -> Future:
    """The prompts of a block in a target language."""
    settings = run.config.translation
    return run.submit(
        translate_prompts,
        prompts=block,
        settings=settings,
        fingerprint=translation_fingerprint(settings),
        source=run.config.languages.dominant,
        target=target,
        label=f"{target}-{block.part}",
    )


def dominant_pairs(run: Run, model: ModelFolder, block: ArtifactRef) -> Future:
    """A good and a bad dominant answer for each prompt of a block."""
    config, dominant = run.config, run.config.languages.dominant
    answers, verdicts = _answer(run, model, block, block, dominant, config.sampling, "pairs")
    return run.submit(
        pair_dominant,
        prompts=block,
        responses=answers,
        verdicts=verdicts,
        settings=config.pairs,
        dominant=dominant,
        label=f"{dominant}-{block.part}",
    )


def target_pairs(
    run: Run, model: ModelFolder, block: ArtifactRef, target: str, source: Future, prompts: Future
) -> Future:
    """The dominant pairs of a block mirrored in a target language."""
    config, label = run.config, f"{target}-{block.part}"
    translations = answers = verdicts = None
    if config.pairs.strategy in {"translated", "mixed"}:
        translations = run.submit(
            translate_answers,
            pairs=source,
            settings=config.translation,
            fingerprint=translation_fingerprint(config.translation),
            source=config.languages.dominant,
            target=target,
            label=label,
        )
    if config.pairs.strategy in {"sampled", "mixed"}:
        answers, verdicts = _answer(run, model, block, prompts, target, config.sampling, "pairs")
    return run.submit(
        pair_target,
        source_pairs=source,
        prompt_translations=prompts,
        answer_translations=translations,
        responses=answers,
        verdicts=verdicts,
        settings=config.pairs,
        dominant=config.languages.dominant,
        language=target,
        label=label,
    )


def preference_pairs(run: Run, model: ModelFolder, blocks: list[ArtifactRef]) -> Pairs:
    """A good and a bad answer to every prompt in the dominant language, mirrored in every target."""
    translated = {(t, b): translate(run, b, t) for b in blocks for t in sorted(run.config.languages.targets)}
    source = {b: dominant_pairs(run, model, b) for b in blocks}
    target = {(t, b): target_pairs(run, model, b, t, source[b], translated[t, b]) for t, b in translated}
    return Pairs(run.config.languages.dominant, translated, source, target)


def references(run: Run, model: ModelFolder, pairs: Pairs, training: TrainingSettings) -> list[Future]:
    """What the frozen model says of the pairs of training and validation, as far as the method asks."""
    learned = [block for block in pairs.source if split(block) in {"train", "validation"}]
    gaps = [reference_gaps(run, model, pairs.dominant, b, pairs.source[b]) for b in learned]
    if training.references_targets:
        gaps += [reference_gaps(run, model, t, b, pairs.target[t, b]) for t, b in pairs.target if b in learned]
    return gaps


def require_pairs(run: Run, pairs: Pairs) -> None:
    """Tells why, if no pair is left to train on.

    Raises:
        BadInputError: with the reasons and where the tables of them lie.
    """
    train = pairs.of("train")
    if any(run.result(future).rows.rows for future in train.target.values()):
        return
    counts: dict[str, int] = {}
    for shard in map(run.result, (*train.source.values(), *train.target.values())):
        if shard.quarantine is not None:
            for row in run.store.read_table(shard.quarantine, QUARANTINE).to_pylist():
                name = f"{row['language'] or run.config.languages.dominant} {row['reason']}"
                counts[name] = counts.get(name, 0) + 1
    reasons = ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
    raise BadInputError(
        f"no pair is left to train on ({reasons or 'no prompt reached this stage'})",
        where=f"pairs, rejected rows in {run.config.run.root}/pairs/quarantine",
        fix="no_rejected: a safe model gives no bad answer, so name prompts.sources.0.rejected_column "
        "or raise sampling.n and sampling.temperature; no_translation: complete the memory or name another engine; "
        "timed_out and the like: ask again with translation.attempt=2.",
    )


def reference_gaps(
    run: Run, model: ModelFolder, language: str, block: ArtifactRef, pairs: Future, purpose: str = "base"
) -> Future:
    """Reward gaps of a model on pairs; on dominant ones also their pooled hidden states."""
    training = run.config.training
    dominant = language == run.config.languages.dominant
    return run.submit(
        measure_gaps,
        model=model,
        pairs=pairs,
        cutoff=training.cutoff,
        pooling=training.retention.pooling if dominant else None,
        precision=training.precision,
        weights=training.weights,
        language=language,
        label=f"{language}-{block.part}-{purpose}",
    )


def evaluate(
    run: Run,
    name: str,
    model: ModelFolder,
    pairs: Pairs,
    baseline: Evaluation | None = None,
) -> Evaluation:
    """Greedy answers, verdicts and reward gaps of a model on held-out prompts, in every language."""
    settings = run.config.evaluation
    held_out = pairs.of(settings.split)
    answers, verdicts, gaps = {}, {}, {}
    for key, prompts in held_out.prompts.items():
        language, block = key
        answers[key], verdicts[key] = _answer(run, model, block, prompts, language, settings.sampling, name)
        gaps[key] = reference_gaps(run, model, language, block, held_out.answers[key], name)
    metrics = run.submit(
        evaluate_model,
        verdicts=list(verdicts.values()),
        gaps=list(gaps.values()),
        baseline=list(baseline.gaps.values()) if baseline else [],
        model=name,
        confidence=settings.confidence,
        label=name,
    )
    return Evaluation(answers, verdicts, gaps, metrics)


def compare(run: Run, before: Evaluation, after: Evaluation, label: str = "before-after") -> Future:
    """Exact paired tests of two evaluations of the same prompts."""
    shards = {"before": list(before.verdicts.values()), "after": list(after.verdicts.values())}
    return run.submit(compare_models, **shards, label=label)


def _answer(
    run: Run,
    model: ModelFolder,
    block: ArtifactRef,
    prompts: ArtifactRef | Future,
    language: str,
    settings: SamplingSettings,
    purpose: str,
) -> tuple[Future, Future]:
    """A model's answers to a block in one language, and the verdicts on them."""
    label = f"{language}-{block.part}-{purpose}"
    answers = run.submit(
        sample_answers,
        model=model,
        prompts=prompts,
        settings=settings,
        backend=settings.backend.identity(model.name),
        language=language,
        label=label,
    )
    verdicts = run.submit(judge_answers, responses=answers, prompts=block, judge=run.config.judging, label=label)
    return answers, verdicts
