"""Self-distillation: what the model answers to translated prompts when it sees their originals too."""

from collections.abc import Collection, Mapping
from typing import Any

from flows.run import Run
from flows.stages.shards import Key, forward_settings, of_split
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.errors import BadInputError
from mpo_core.settings import LanguageSettings, TrainingMethod
from tasks.distillation import answer_as_teacher, measure_teacher
from tasks.judging import judge_answers
from tasks.model import ModelFolder
from tasks.stage import ShardInput

Texts = Mapping[Key, ArtifactRef | ShardInput]


def teacher(run: Run, model: ModelFolder, texts: Texts, training: TrainingMethod) -> dict[str, Any]:
    """Samples, judges and measures the teacher's answers to the prompts of the split `train`, if the training distils.

    Returns:
        the input `teacher` of the training; nothing where it does not distil, since an absent input takes no part in
        its cache key.

    Raises:
        BadInputError: there is no prompt in a language that is to be distilled, or the server of
            `sampling.backend` does not have the model, as one that a realignment starts from.
    """
    settings = training.distillation
    if settings is None or not training.distils:
        return {}
    run.config.sampling.backend.require_models([run.config.model.path, model.name])
    answers = []
    for (language, block), translations in _wanted(run, texts, training).items():
        label = f"{language}-{block.part}"
        responses = run.submit(
            answer_as_teacher,
            model=model,
            prompts=block,
            translations=translations,
            instruction=settings.instruction,
            settings=run.config.sampling,
            backend=run.config.sampling.backend.identity(model.name),
            language=language,
            label=label,
        )
        verdicts = run.submit(
            judge_answers, responses=responses, prompts=block, judge=run.config.judging, label=f"{label}-teacher"
        )
        answers.append(
            run.submit(
                measure_teacher,
                model=model,
                prompts=block,
                responses=responses,
                verdicts=verdicts,
                instruction=settings.instruction,
                top_k=settings.top_k,
                **forward_settings(training),
                language=language,
                label=label,
            )
        )
    return {"teacher": answers}


def _wanted(run: Run, texts: Texts, training: TrainingMethod) -> dict[Key, ShardInput]:
    """Returns the translated prompts of the split `train` in the languages that the settings name."""
    translated = {key: text for key, text in of_split(texts, "train").items() if not isinstance(text, ArtifactRef)}
    codes = require_distilled({code for code, _ in translated}, run.config.languages, training)
    return {key: text for key, text in translated.items() if key[0] in codes}


def require_distilled(
    translated: Collection[str], languages: LanguageSettings, training: TrainingMethod
) -> Collection[str]:
    """Returns the codes of the languages that are distilled.

    Raises:
        BadInputError: one has no translated prompt, or there is none.
    """
    named = None if training.distillation is None else training.distillation.languages
    if named is None:
        return translated
    codes = languages.without_pairs if isinstance(named, str) else named
    missing = sorted({*codes} - {*translated})
    if missing or not codes:
        what = f"no prompt of the split `train` is translated into {missing[0]}" if missing else "no language is named"
        raise BadInputError(
            what,
            where="training.distillation.languages",
            fix="Name languages of languages.targets; for `without_pairs`, name some in languages.without_pairs.",
        )
    return codes
