"""Reference and training: the frozen model's reward gaps, and the model that is pulled towards them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.run import Future, Run
from flows.stages.distillation import require_distilled, teacher
from flows.stages.pairs import require_pairs
from flows.stages.shards import Key, Pairs, Shards, forward_settings, in_languages, split
from mpo_core.models import described, require_layers
from mpo_core.settings import EditSettings, PipelineConfig, TrainingMethod
from tasks.model import ModelFolder, find_model
from tasks.reference import measure_gaps
from tasks.stage import ShardInput
from tasks.training import train_model


def find_base(config: PipelineConfig) -> ModelFolder:
    """Finds the model that a run trains; see `find_model` and `require_trainable` for what it must be."""
    model = find_model(config.model, training=config.training)
    require_trainable(model, config, config.training)
    return model


def require_trainable(model: ModelFolder, config: PipelineConfig, training: TrainingMethod | None) -> None:
    """Checks what a training, if any, and the edit after it need of the model and the languages, before anything runs.

    Raises:
        BadInputError: the settings name a layer that the model does not have, or a language that is no target, or the
            model cannot be edited.
    """
    require_named_layers(model, training, config.edit)
    if training is not None and training.distils:
        require_distilled(config.languages.targets, config.languages, training)


def require_named_layers(model: ModelFolder, training: TrainingMethod | None, edit: EditSettings | None = None) -> None:
    """Checks that a model has the layers that the settings of a training and of an edit name, and can be edited.

    Raises:
        BadInputError: it has not, or cannot.
    """
    consistency = training.consistency if training is not None and training.compares_prompts else None
    layer = consistency.layer if consistency is not None else None
    if layer is None and edit is None:
        return  # importing torch takes seconds
    network = described(Path(str(model.folder)), model.settings)
    if layer is not None:
        count = network.config.get_text_config().num_hidden_layers
        require_layers([layer], count, where="training.consistency.layer")
    if edit is not None:
        from mpo_core.editing.edit import require_editable

        require_editable(network, edit)


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
            **forward_settings(training),
            pooling=training.pooling if dominant else None,
            language=language,
            label=f"{language}-{block.part}-{purpose}",
        )
        for (language, block), shard in pairs.items()
    }


def train(
    run: Run, model: ModelFolder, pairs: Pairs, references: list[Future], settings: TrainingMethod, label: str = "mpo"
) -> Future:
    """Trains on the pairs of the split `train`; the pairs of `validation` are for its evaluations and learned weights.

    Where the training distils, the model answers as the teacher first. Where it compares prompts, it also gets those of
    the languages without pairs.

    Raises:
        BadInputError: no pair is left to train on.
    """
    require_pairs(run, pairs)
    inputs: dict[str, Any] = {
        "model": model,
        "pairs": list(pairs.of("train").target.values()),
        "validation": [
            future
            for (code, _), future in pairs.of("validation").target.items()
            if settings.needs_validation and code in run.config.languages.with_pairs
        ],
        "references": references,
        "settings": settings,
        "label": label,
        **_translations(run, pairs, settings),
    }
    return run.submit(train_model, **inputs, **teacher(run, model, pairs.texts, settings))


def _translations(run: Run, pairs: Pairs, settings: TrainingMethod) -> dict[str, Any]:
    """Returns the input `translations` of the training; nothing where it would be empty, as `teacher` does."""
    codes = {*run.config.languages.without_pairs} if settings.compares_prompts else set()
    prompts = list(in_languages(pairs.of("train").texts, codes).values())
    return {"translations": prompts} if prompts else {}
