"""Prompts, translation, sampling and judging: from the sources to judged answers."""

from collections.abc import Iterable, Sequence
from typing import Any

from flows.benchmarks import Texts, translation_inputs
from flows.kinds import announce
from flows.run import BEFORE_EVALUATION, TRANSLATE, Run
from flows.stages.shards import Shards, forward_settings, of_split, split
from flows.stages.utility import check_utility
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.sampling import TRAINED
from mpo_core.contract.tables import PROMPTS, VERDICTS
from mpo_core.pairs import require_safe_dominant
from mpo_core.prompts.load import count_kinds
from mpo_core.prompts.load import fingerprint as prompts_fingerprint
from mpo_core.settings import SamplingSettings, TrainingSettings
from mpo_core.translation import build as translation
from tasks.judging import judge_answers
from tasks.model import ModelFolder
from tasks.prompts import read_prompts
from tasks.reference import rank_answers
from tasks.sampling import sample_answers
from tasks.translation import translate_prompts


def require_parts(run: Run) -> None:
    """Checks that the judge, the translation engines and the sampling backends can be used.

    So what is missing, such as a model, is reported now, and not after hours of sampling. Keys, and the models of the
    judge, are checked before the first task that computes something: a run whose results are all in the cache needs
    none.

    Raises:
        BadInputError: an engine lacks something, the judge cannot judge a language, or a backend cannot answer with a
            model.
    """
    config = run.config
    sampling, evaluation = config.sampling.backend, config.evaluation.sampling.backend
    config.judging.require_languages([config.languages.dominant, *config.languages.targets])
    translation.fingerprint(config.translation)
    sampling.require_models([config.model.path])
    evaluation.require_models([config.model.path, TRAINED])
    if config.pairs.strategy != "translated":
        # The dominant answers come before any translation, and ask for the key themselves if one is requested.
        run.check_before(TRANSLATE, sampling.require_key)
    for check in (config.judging.require_ready, evaluation.require_key):
        run.check_before(BEFORE_EVALUATION, check)


def read_blocks(run: Run, trainings: Sequence[TrainingSettings] | None = None) -> list[ArtifactRef]:
    """Reads the prompts in blocks, each of one split, after a check of everything that the run and its trainings need.

    Raises:
        BadInputError: training or evaluation needs a split that has no prompts, or see `require_parts`.
    """
    config = run.config
    require_parts(run)
    blocks = read_prompt_blocks(run)
    validates = any(training.needs_validation for training in ([config.training] if trainings is None else trainings))
    for name in ("train", config.evaluation.split, *(["validation"] if validates else [])):
        needs = " or leave out training.evaluate_every and training.weighting."
        require_split(blocks, name, needs if name == "validation" else "")
    if not all(run.cached(translate_prompts, **inputs) for inputs in _translations(run, blocks).values()):
        translation.require_keys(config.translation)
    check_utility(run)  # it writes to the root, so it comes after the prompts are known to be good
    return blocks


def read_prompt_blocks(run: Run) -> list[ArtifactRef]:
    """Reads the prompts in blocks, each of one split."""
    config = run.config
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
    return list(shard.parts)


def require_split(blocks: Iterable[ArtifactRef], name: str, otherwise: str = "") -> None:
    """Requires prompts of a split.

    Raises:
        BadInputError: there are none; `otherwise` says what else fixes it.
    """
    if name not in {split(block) for block in blocks}:
        fix = "Give a source with this split, or shares for prompts.validation and prompts.test"
        raise BadInputError(
            f"no prompt is in the split {name!r}",
            where="prompts.sources",
            fix=f"{fix},{otherwise}" if otherwise else f"{fix}.",
        )


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
        _require_translation_of_answers(run, model, texts)
        answers |= _candidates(run, model, texts)
        verdicts |= judge(run, {key: answers[key] for key in texts})
    if judged := [run.result(shard).rows for shard in of_split(verdicts, "train").values()]:
        table = run.store.read_tables(judged, VERDICTS)
        require_safe_dominant(table, run.config.pairs, dominant=dominant, model=run.config.model.path)
    return answers, verdicts


def _require_translation_of_answers(run: Run, model: ModelFolder, texts: Texts) -> None:
    """Checks the keys of translation services before new answers are sampled that pairs need in other languages."""
    config = run.config
    translated = config.pairs.strategy != "sampled" and not all(
        has_all_answers(run, target, block) for _, block in texts for target in config.languages.targets
    )
    samplings = _samplings(model, texts, config.sampling, "pairs").values()
    if translated and not all(run.cached(sample_answers, **inputs) for inputs in samplings):
        translation.require_keys(config.translation)


def translate(run: Run, blocks: Iterable[ArtifactRef]) -> Texts:
    """Translates the prompts into every target language; returns the originals too, under the dominant language."""
    blocks = list(blocks)
    texts: Texts = {(run.config.languages.dominant, block): block for block in blocks}
    return texts | {key: run.submit(translate_prompts, **inputs) for key, inputs in _translations(run, blocks).items()}


def _translations(run: Run, blocks: Iterable[ArtifactRef]) -> dict[tuple[str, ArtifactRef], dict[str, Any]]:
    """Returns the inputs of the tasks that translate the prompts, by target language and block."""
    targets = sorted(run.config.languages.targets)
    return translation_inputs(run, ((target, block) for block in blocks for target in targets))


def sample(run: Run, model: ModelFolder, texts: Texts) -> Shards:
    """Samples answers in the target languages, if `pairs.strategy` needs them and the sources bring none."""
    if run.config.pairs.strategy not in {"sampled", "mixed"}:
        return {}
    dominant = run.config.languages.dominant
    unanswered = {
        (code, block): prompts
        for (code, block), prompts in texts.items()
        if code != dominant and not has_all_answers(run, code, block)
    }
    return _candidates(run, model, unanswered)


def _candidates(run: Run, model: ModelFolder, texts: Texts) -> Shards:
    """Samples the answers of which pairs are made, in the order in which `pairs.candidates` prefers them."""
    settings = run.config.sampling
    answers = sample_shards(run, model, texts, settings, "pairs")
    if run.config.pairs.candidates == "first" or settings.n == 1:
        return answers
    return {
        (language, block): run.submit(
            rank_answers,
            model=model,
            responses=responses,
            **forward_settings(run.config.training),
            language=language,
            label=f"{language}-{block.part}",
        )
        for (language, block), responses in answers.items()
    }


def sample_shards(run: Run, model: ModelFolder, texts: Texts, settings: SamplingSettings, purpose: str) -> Shards:
    """Samples a model's answers to prompts, each shard in a task of its own."""
    inputs = _samplings(model, texts, settings, purpose)
    return {key: run.submit(sample_answers, **values) for key, values in inputs.items()}


def _samplings(
    model: ModelFolder, texts: Texts, settings: SamplingSettings, purpose: str
) -> dict[tuple[str, ArtifactRef], dict[str, Any]]:
    """Returns the inputs of the tasks that sample answers to prompts, by language and block."""
    return {
        (language, block): {
            "model": model,
            "prompts": prompts,
            "settings": settings,
            "backend": settings.backend.identity(model.name),
            "language": language,
            "label": f"{language}-{block.part}-{purpose}",
        }
        for (language, block), prompts in texts.items()
    }


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


def reference_answers(run: Run, language: str, block: ArtifactRef) -> ArtifactRef | None:
    """Returns the reference answers in a language to the prompts of a block, if the sources have any."""
    shards = (step.shard for step in run.steps if step.stage == "prompts")
    refs = (ref for shard in shards if block in shard.parts for ref in shard.answers)
    return next((ref for ref in refs if (ref.language, ref.part) == (language, block.part)), None)


def has_all_answers(run: Run, language: str, block: ArtifactRef) -> bool:
    """Returns whether the sources have reference answers in a language to every prompt of a block."""
    answers = reference_answers(run, language, block)
    return answers is not None and answers.rows == block.rows
