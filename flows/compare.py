"""Compares training methods on the same pairs and the same held-out prompts.

mpo compare deployments/profiles/compare.yaml
"""

from typing import NamedTuple

from prefect import flow
from pydantic import JsonValue

from flows import stages
from flows.compare_report import Cell, finish_comparison
from flows.run import Future, Run, start_run
from flows.stages import Key, Pairs, evaluate, preference_pairs, read_blocks, require_pairs, require_trainable
from flows.swaps import check_swaps
from mpo_core.languages.known import language
from mpo_core.reporting import MethodsSummary
from mpo_core.settings import EditSettings, ModelSettings, PipelineConfig, TrainingMethod
from mpo_core.settings.profiles import with_overrides
from tasks.model import ModelFolder, find_model, trained_model
from tasks.pairs import flip_pairs


class _Start(NamedTuple):
    """What the trainings of one base model and seed have in common."""

    run: Run
    base: ModelFolder
    pairs: Pairs

    @property
    def held_out(self) -> Pairs:
        """What models are evaluated on: without target pairs, whose reward gaps no figure of a comparison needs."""
        return self.pairs._replace(target={})


class _Training(NamedTuple):
    """One training, and the model that it ends with, which may be edited; None where an edit is all."""

    trained: Future | None
    final: Future


@flow(name="compare")
def compare_methods(config: PipelineConfig, overrides: dict[str, JsonValue] | None = None) -> MethodsSummary:
    """Trains and evaluates every method of `compare.methods`, from every base model, seed and share of swapped answers.

    Args:
        config: the settings, as in a profile.
        overrides: settings to change, by key, such as {"compare.seeds": [0, 1]}.
    """
    with start_run(config, overrides) as run:
        comparison = run.config.compare
        own = {name: _with_changes(run.config, name) for name in comparison.methods}
        starts = _starts(run, own)
        cells = [
            Cell(model, method, flipped, seed)
            for flipped in comparison.flipped
            for method in comparison.methods
            for model, seed in starts
        ]

        # All trainings are submitted first: they wait for nothing but their pairs, so no worker is idle.
        trained = {cell: _train(starts[cell.model, cell.seed], own[cell.method], cell) for cell in cells}
        before = {key: evaluate(start.run, "base", start.base, start.held_out) for key, start in starts.items()}
        after = {}
        for cell, future in trained.items():
            start = starts[cell.model, cell.seed]
            model = trained_model(start.base, run.result(future.final))
            after[cell] = evaluate(start.run, cell.label, model, start.held_out, before[cell.model, cell.seed])
        base = next(iter(starts.values())).base
        return finish_comparison(run, base, before, {cell: future.trained for cell, future in trained.items()}, after)


def seeded(config: PipelineConfig, seed: int) -> PipelineConfig:
    """Adds `seed` to the seeds of prompts and sampling; training prompts and answers change, held-out prompts not."""
    return config.model_copy(
        update={
            "prompts": config.prompts.model_copy(update={"seed": config.prompts.seed + seed}),
            "sampling": config.sampling.model_copy(update={"seed": config.sampling.seed + seed}),
        }
    )


def _starts(run: Run, own: dict[str, PipelineConfig]) -> dict[tuple[str, int], _Start]:
    """Finds each base model, and builds its pairs for each seed; `own` has the settings of each method."""
    comparison, starts = run.config.compare, {}
    trainings = {method: comparison.training(method, run.config.training, 0) for method in own}
    paths = comparison.models or [run.config.model.path]
    bases = [_base(run.config.model.model_copy(update={"path": path}), run, own, trainings) for path in paths]
    for number, base in enumerate(bases):
        for seed in comparison.seeds:
            config = seeded(run.config.model_copy(update={"model": base.settings}), seed)
            of_seed = run.variant(config, f"model{number}-seed{seed}" if number else f"seed{seed}")
            blocks = read_blocks(of_seed, [settings for settings in trainings.values() if settings is not None])
            starts[paths[number], seed] = _Start(of_seed, base, preference_pairs(of_seed, base, blocks))
    for start in starts.values():
        require_pairs(start.run, start.pairs)
    return starts


def _base(
    settings: ModelSettings, run: Run, own: dict[str, PipelineConfig], trainings: dict[str, TrainingMethod | None]
) -> ModelFolder:
    """Finds a base model, and checks what each method needs of it."""
    base = find_model(settings, training=run.config.training)
    for method, training in trainings.items():
        require_trainable(base, own[method], training)
    return base


def _with_changes(config: PipelineConfig, method: str) -> PipelineConfig:
    """Returns the settings with what a method changes outside of `training`."""
    return with_overrides(config, config.compare.changes(method), where=f"compare.methods.{method}")


def _train(start: _Start, own: PipelineConfig, cell: Cell) -> _Training:
    """Trains as a cell says, with the sections `pairs` and `edit` of its method, or edits the base model alone."""
    run, base = start.run, start.base
    changed = run.variant(
        run.config.model_copy(update={"pairs": own.pairs, "edit": own.edit}), f"{cell.label}-{run.tag}"
    )
    settings = run.config.compare.training(cell.method, run.config.training, cell.seed)
    if settings is None:
        alone = own.edit or EditSettings()
        return _Training(None, stages.submit_edit(changed, base, start.pairs.texts, alone, None, cell.label))
    check = {"swap_check": run.config.pairs.swap_check}  # it comes after the pairs
    same = own.pairs.model_copy(update=check) == run.config.pairs
    pairs = start.pairs if same else preference_pairs(changed, base, read_blocks(changed))
    train = {key: _flipped(run, future, key, cell) for key, future in pairs.of("train").target.items()}
    # The reference is measured on the pairs as they are trained on, swapped answers included.
    learned = check_swaps(changed, base, pairs._replace(target=pairs.target | train))
    trained = stages.train(run, base, learned, stages.measure(run, base, learned, settings), settings, cell.label)
    return _Training(trained, stages.edit(changed, base, learned.texts, trained, cell.label))


def _flipped(run: Run, pairs: Future, key: Key, cell: Cell) -> Future:
    code, block = key
    if not cell.flipped or language(code).resource != "low":
        return pairs
    label = f"{code}-{block.part}-{cell.flipped:g}"
    return run.submit(flip_pairs, pairs=pairs, share=cell.flipped, seed=cell.seed, language=code, label=label)
