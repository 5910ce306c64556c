"""The whole road: English safety prompts in, a model as safe in every language out.

mpo run deployments/profiles/demo.yaml
"""

from prefect import flow
from pydantic import JsonValue

from flows.report import finish
from flows.run import start_run
from flows.stages import (
    compare,
    evaluate,
    preference_pairs,
    read_blocks,
    references,
    require_pairs,
)
from mpo_core.reporting import RunSummary
from mpo_core.settings import PipelineConfig
from tasks.model import find_model, trained_model
from tasks.training import train_model


@flow(name="mpo")
def full_pipeline(config: PipelineConfig, overrides: dict[str, JsonValue] | None = None) -> RunSummary:
    """Prompts → translation → sampling → judging → pairs → reference → training → evaluation → gate → registry.

    Args:
        config: the settings, as in a profile.
        overrides: by key, settings that are to be otherwise, such as {"training.beta": 1.5}.
    """
    with start_run(config, overrides) as run:
        config, base = run.config, find_model(run.config.model, cutoff=run.config.training.cutoff)

        # A good and a bad answer to every prompt in the dominant language, mirrored in every target.
        pairs = preference_pairs(run, base, read_blocks(run))

        # Reward gaps of the frozen model, to which the targets are pulled (L1), and the states that stay put (L2).
        reference = references(run, base, pairs, config.training)
        require_pairs(run, pairs)
        train, validation = (list(pairs.of(name).target.values()) for name in ("train", "validation"))
        trained = run.submit(
            train_model,
            model=base,
            pairs=train,
            validation=validation,
            references=reference,
            settings=config.training,
            label="mpo",
        )

        # Before and after, on the same held-out prompts.
        before = evaluate(run, "before", base, pairs)
        after = evaluate(run, "after", trained_model(base, run.result(trained)), pairs, before)
        return finish(run, base, trained, before, after, compare(run, before, after))
