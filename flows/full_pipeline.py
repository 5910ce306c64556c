"""The whole road: English safety prompts in, a model as safe in every language out.

mpo run deployments/profiles/demo.yaml
"""

from prefect import flow

from flows.report import finish
from flows.run import start_run
from flows.stages import (
    compare,
    dominant_pairs,
    evaluate,
    read_blocks,
    reference_gaps,
    require_pairs,
    split,
    target_pairs,
    translate,
)
from mpo_core.profiles import load_config
from mpo_core.reporting import RunSummary
from mpo_core.settings import PipelineConfig
from tasks.model import find_model, trained_model
from tasks.training import train_model


@flow(name="mpo")
def full_pipeline(config: PipelineConfig | None = None) -> RunSummary:
    """Prompts → translation → sampling → judging → pairs → reference → training → evaluation → gate → registry."""
    with start_run(config or load_config()) as run:
        dominant, targets = run.config.languages.dominant, sorted(run.config.languages.targets)
        base = find_model(run.config.model)
        blocks = read_blocks(run)
        translated = {(t, b): translate(run, b, t) for b in blocks for t in targets}

        # Preference pairs: a good and a bad answer in the dominant language, mirrored in every target.
        source = {b: dominant_pairs(run, base, b) for b in blocks}
        pairs = {(t, b): target_pairs(run, base, b, t, source[b], translated[t, b]) for t, b in translated}

        # Reward gaps of the frozen model, to which the targets are pulled (L1), and the states that stay put (L2).
        learned = [b for b in blocks if split(b) in {"train", "validation"}]
        reference = [reference_gaps(run, base, dominant, b, source[b]) for b in learned]
        if run.config.training.references_targets:
            reference += [reference_gaps(run, base, t, b, pairs[t, b]) for t in targets for b in learned]
        train, validation = ([pairs[t, b] for t, b in pairs if split(b) == s] for s in ("train", "validation"))
        require_pairs(run, [source[b] for b in learned], train)
        trained = run.submit(train_model, base, train, validation, reference, run.config.training, label="mpo")

        # Before and after, on the same held-out prompts.
        held_out = [b for b in blocks if split(b) == run.config.evaluation.split]
        prompts = {(dominant, b): b for b in held_out} | {(t, b): translated[t, b] for t in targets for b in held_out}
        answers = {(dominant, b): source[b] for b in held_out} | {
            (t, b): pairs[t, b] for t, b in pairs if b in held_out
        }
        before = evaluate(run, "before", base, prompts, answers)
        after = evaluate(run, "after", trained_model(base, run.result(trained)), prompts, answers, before)
        return finish(run, base, trained, before, after, compare(run, before, after))
