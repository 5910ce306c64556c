"""Compares training methods on the same pairs and the same held-out prompts.

mpo compare deployments/profiles/compare.yaml
"""

from prefect import flow
from pydantic import JsonValue

from flows import stages
from flows.compare_report import Cell, finish_comparison
from flows.run import Future, Run, start_run
from flows.stages import Key, Pairs, evaluate, preference_pairs, read_blocks, require_pairs
from flows.swaps import check_swaps
from mpo_core.languages.known import language
from mpo_core.reporting import MethodsSummary
from mpo_core.settings import PipelineConfig
from tasks.model import ModelFolder, find_model, trained_model
from tasks.pairs import flip_pairs


@flow(name="compare")
def compare_methods(config: PipelineConfig, overrides: dict[str, JsonValue] | None = None) -> MethodsSummary:
    """Trains and evaluates every method of `compare.methods` for every seed and every share of swapped answers.

    Args:
        config: the settings, as in a profile.
        overrides: settings to change, by key, such as {"compare.seeds": [0, 1]}.
    """
    with start_run(config, overrides) as run:
        base, comparison = find_model(run.config.model, cutoff=run.config.training.cutoff), run.config.compare
        cells = [Cell(m, f, s) for f in comparison.flipped for m in comparison.methods for s in comparison.seeds]
        variants = {seed: run.variant(seeded(run.config, seed), f"seed{seed}") for seed in comparison.seeds}
        pairs = {seed: preference_pairs(seed_run, base, read_blocks(seed_run)) for seed, seed_run in variants.items()}

        for seed, seed_run in variants.items():
            require_pairs(seed_run, pairs[seed])

        # All trainings are submitted first: they wait for nothing but their pairs, so no worker is idle.
        trained = {cell: _train(variants[cell.seed], base, pairs[cell.seed], cell) for cell in cells}
        final = {
            cell: stages.edit(variants[cell.seed], base, pairs[cell.seed].texts, future, cell.label)
            for cell, future in trained.items()
        }
        before = {seed: evaluate(seed_run, "base", base, pairs[seed]) for seed, seed_run in variants.items()}
        after = {
            cell: evaluate(
                variants[cell.seed],
                cell.label,
                trained_model(base, run.result(future)),
                pairs[cell.seed],
                before[cell.seed],
            )
            for cell, future in final.items()
        }
        return finish_comparison(run, base, list(before.values()), trained, after)


def seeded(config: PipelineConfig, seed: int) -> PipelineConfig:
    """Adds `seed` to the seeds of prompts and sampling; training prompts and answers change, held-out prompts not."""
    return config.model_copy(
        update={
            "prompts": config.prompts.model_copy(update={"seed": config.prompts.seed + seed}),
            "sampling": config.sampling.model_copy(update={"seed": config.sampling.seed + seed}),
        }
    )


def _train(run: Run, base: ModelFolder, pairs: Pairs, cell: Cell) -> Future:
    settings = run.config.compare.training(cell.method, run.config.training, cell.seed)
    clean = pairs.of("train").target
    train = {key: _flipped(run, future, key, cell) for key, future in clean.items()}
    # The reference is measured on the pairs as they are trained on, swapped answers included.
    learned = check_swaps(run.variant(run.config, cell.label), base, pairs._replace(target=pairs.target | train))
    return stages.train(run, base, learned, stages.measure(run, base, learned, settings), settings, cell.label)


def _flipped(run: Run, pairs: Future, key: Key, cell: Cell) -> Future:
    code, block = key
    if not cell.flipped or language(code).resource != "low":
        return pairs
    label = f"{code}-{block.part}-{cell.flipped:g}"
    return run.submit(flip_pairs, pairs=pairs, share=cell.flipped, seed=cell.seed, language=code, label=label)
