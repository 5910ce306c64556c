"""Self-distillation: what the model answers to translated prompts when it sees their originals too."""

from flows.benchmarks import Texts
from flows.run import Future, Run
from flows.stages.shards import of_split
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.errors import BadInputError
from mpo_core.settings import TrainingMethod
from tasks.distillation import answer_as_teacher, measure_teacher
from tasks.judging import judge_answers
from tasks.model import ModelFolder


def teach(run: Run, model: ModelFolder, texts: Texts, training: TrainingMethod) -> list[Future]:
    """Samples, judges and measures the teacher's answers to the prompts of the split `train`, if the training distils.

    Raises:
        BadInputError: there is no prompt in a language that is to be distilled.
    """
    settings = training.distillation
    if settings is None or settings.weight == 0:
        return []
    wanted = {
        (language, block): translations
        for (language, block), translations in of_split(texts, "train").items()
        if not isinstance(translations, ArtifactRef) and language in (settings.languages or [language])
    }
    for language in set(settings.languages or []) - {language for language, _ in wanted}:
        raise BadInputError(
            f"no prompt of the split `train` is translated into {language}",
            where="training.distillation.languages",
            fix="Name languages of languages.targets.",
        )
    sampling, taught = run.config.sampling, []
    for (language, block), translations in wanted.items():
        label = f"{language}-{block.part}"
        responses = run.submit(
            answer_as_teacher,
            model=model,
            prompts=block,
            translations=translations,
            instruction=settings.instruction,
            settings=sampling,
            backend=sampling.backend.identity(model.name),
            language=language,
            label=label,
        )
        verdicts = run.submit(
            judge_answers, responses=responses, prompts=block, judge=run.config.judging, label=f"{label}-teacher"
        )
        taught.append(
            run.submit(
                measure_teacher,
                model=model,
                prompts=block,
                responses=responses,
                verdicts=verdicts,
                instruction=settings.instruction,
                top_k=settings.top_k,
                cutoff=training.cutoff,
                precision=training.precision,
                weights=training.weights,
                language=language,
                tokens_per_forward=training.tokens_per_forward or 4096,
                label=label,
            )
        )
    return taught
