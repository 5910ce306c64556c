"""What analyses need beyond a finished run: trainings of their own, and hidden states of prompts.

mpo analyse beta
"""

import pyarrow as pa
from prefect import flow
from pydantic import JsonValue

from flows import stages
from flows.compare import seeded
from flows.run import Future, Run, start_run
from flows.stages import Evaluation, Pairs, evaluate, preference_pairs, read_blocks, require_pairs
from mpo_core.contract.analysis import Variant
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import METHOD_RUNS, METRICS, PROMPT_STATES
from mpo_core.contract.training import TRAINING_METHODS, TrainingMethod
from mpo_core.evaluation.methods import BASE
from mpo_core.evaluation.studies import study_figures
from mpo_core.settings import LanguageSettings, PipelineConfig
from tasks.model import ModelFolder, trained_model
from tasks.pairs import vary_block
from tasks.utility import read_states


@flow(name="study", validate_parameters=False)
def train_variants(config: PipelineConfig, variants: list[Variant], seeds: int) -> pa.Table:
    """Trains and evaluates every variant with every seed; returns METHOD_RUNS, whose methods are the variants.

    Raises:
        BadInputError: nothing remains to train on in a variant; nothing has run then.
    """
    for variant in variants:
        _without(_settings(config.training, variant, 0), config.languages, variant.without)
    with start_run(config) as run:
        base = stages.find_base(run.config)
        runs = {seed: run.variant(seeded(run.config, seed), f"seed{seed}") for seed in range(seeds)}
        pairs = {seed: preference_pairs(of_seed, base, read_blocks(of_seed)) for seed, of_seed in runs.items()}
        for seed, of_seed in runs.items():
            require_pairs(of_seed, pairs[seed])

        cells = [(variant, seed) for variant in variants for seed in runs]
        # All trainings are submitted first: they wait for nothing but their pairs, so no worker is idle.
        trained = {(v.name, seed): _train(runs[seed], base, pairs[seed], v, seed) for v, seed in cells}
        before = {seed: evaluate(of_seed, BASE, base, pairs[seed]) for seed, of_seed in runs.items()}
        after = {
            (v.name, seed): _evaluate(
                runs[seed], trained_model(base, run.result(trained[v.name, seed])), pairs[seed], v, before[seed]
            )
            for v, seed in cells
        }
        run.write_settings()
        measured = {**{(BASE, seed): evaluation for seed, evaluation in before.items()}, **after}
        return METHOD_RUNS.build(
            {"method": name, "flipped": 0.0, "seed": seed, "figure": figure, "value": value}
            for (name, seed), evaluation in measured.items()
            for figure, value in _figures(run, evaluation).items()
        )


def _train(run: Run, base: ModelFolder, pairs: Pairs, variant: Variant, seed: int) -> Future:
    settings = _without(_settings(run.config.training, variant, seed), run.config.languages, variant.without)
    train = {key: future for key, future in pairs.of("train").target.items() if key[0] != variant.without}
    if (variant.share, variant.swapped, variant.untranslated) != (1.0, 0.0, 0.0):
        train = {
            (code, block): run.submit(
                vary_block,
                pairs=future,
                share=variant.share,
                swapped=variant.swapped,
                untranslated=variant.untranslated,
                seed=seed,
                language=code,
                label=f"{code}-{block.part}-{variant.name}",
            )
            for (code, block), future in train.items()
        }
    validation = {key: future for key, future in pairs.of("validation").target.items() if key[0] != variant.without}
    texts = {key: text for key, text in pairs.texts.items() if key[0] != variant.without}
    learned = pairs._replace(target=train | validation, texts=texts)
    references = stages.measure(run, base, learned, settings)
    label = f"{variant.name}-{seed}"
    return stages.edit(run, base, texts, stages.train(run, base, learned, references, settings, label), label)


def _evaluate(run: Run, model: ModelFolder, pairs: Pairs, variant: Variant, before: Evaluation) -> Evaluation:
    """Measures a trained model; one without the pairs of a language, in that language alone."""
    if variant.without is None:
        return evaluate(run, variant.name, model, pairs, before)
    languages = run.config.languages.model_copy(update={"targets": [variant.without]})
    fewer = run.variant(run.config.model_copy(update={"languages": languages}), run.tag)
    return evaluate(fewer, variant.name, model, pairs.within({variant.without}))


def _settings(base: TrainingMethod, variant: Variant, seed: int) -> TrainingMethod:
    changed: dict[str, JsonValue] = base.model_dump()
    for key, value in variant.training.items():
        inner = changed.get(key)
        changed[key] = {**inner, **value} if isinstance(inner, dict) and isinstance(value, dict) else value
    settings = TRAINING_METHODS.parse(changed)
    return settings.model_copy(update={"seed": settings.seed + seed})


def _without(training: TrainingMethod, languages: LanguageSettings, code: str | None) -> TrainingMethod:
    """Leaves a language out of those that the settings distil; without any other, nothing is distilled.

    Raises:
        BadInputError: nothing remains to train on.
    """
    settings = training.distillation
    named = None if settings is None else settings.languages
    if settings is None or named is None:
        return training
    rest = [name for name in (languages.without_pairs if isinstance(named, str) else named) if name != code]
    if not (rest or training.needs_answers or training.compares_prompts):
        raise BadInputError(
            f"without {code}, nothing remains to train on",
            where="training.distillation.languages",
            fix="Name another language too, or choose a method that trains on pairs.",
        )
    distillation = settings.model_copy(update={"languages": rest}) if rest else None
    return training.model_copy(update={"distillation": distillation})


def _figures(run: Run, evaluation: Evaluation) -> dict[str, float]:
    tables = [run.result(future).rows for future in (evaluation.metrics, evaluation.utility.metrics)]
    languages = run.config.languages
    metrics = run.store.read_tables(tables, METRICS)
    return study_figures(metrics, dominant=languages.dominant, targets=languages.targets)


@flow(name="states", validate_parameters=False)
def prompt_states(config: PipelineConfig) -> dict[str, pa.Table]:
    """Measures the hidden states of the held-out prompts before and after training; a finished run is not repeated."""
    with start_run(config) as run:
        base = stages.find_base(run.config)
        pairs = preference_pairs(run, base, read_blocks(run))
        references = stages.measure(run, base, pairs, run.config.training)
        trained = stages.train(run, base, pairs, references, run.config.training)
        final = stages.edit(run, base, pairs.texts, trained)
        models = {"before": base, "after": trained_model(base, run.result(final))}
        texts = pairs.of(run.config.evaluation.split).texts
        futures = {
            name: [
                run.submit(
                    read_states,
                    model=model,
                    prompts=prompts,
                    kinds=block,
                    weights=run.config.training.weights,
                    language=code,
                    label=f"{code}-{block.part}-{name}",
                )
                for (code, block), prompts in texts.items()
            ]
            for name, model in models.items()
        }
        return {
            name: run.store.read_tables([run.result(future).rows for future in of_model], PROMPT_STATES)
            for name, of_model in futures.items()
        }
