"""The whole pipeline: English safety prompts in, a model as safe in every language out.

mpo run deployments/profiles/demo.yaml
"""

from prefect import flow
from pydantic import JsonValue

from flows import stages
from flows.benchmarks import read_benchmarks
from flows.report import write_report
from flows.run import start_run
from mpo_core.reporting import RunSummary
from mpo_core.settings import PipelineConfig
from tasks.model import find_model


@flow(name="mpo")
def full_pipeline(config: PipelineConfig, overrides: dict[str, JsonValue] | None = None) -> RunSummary:
    """Prompts → translation → sampling → judging → pairs → reference → training → evaluation → gate → registry.

    Args:
        config: the settings, as in a profile.
        overrides: by key, settings that are to be otherwise, such as {"training.beta": 1.5}.
    """
    with start_run(config, overrides) as run:
        training = run.config.training
        base = find_model(run.config.model, cutoff=training.cutoff)

        # 1. Prompts: the harmful and harmless requests of every source, in blocks of one split.
        blocks, benchmarks = stages.read_blocks(run), read_benchmarks(run)
        # The dominant language goes through 3 and 4 alone: without safety there, the run stops here.
        answers, verdicts = stages.answer_dominant(run, base, blocks)
        # 2. Translation: each prompt in every target language.
        texts = stages.translate(run, blocks)
        # 3. Sampling: what the base model answers in the target languages, where pairs are made of that.
        target_answers = stages.sample(run, base, texts)
        # 4. Judging: which answers are safe, unsafe or invalid, and which are refusals.
        target_verdicts = stages.judge(run, target_answers)
        # 5. Pairs: a good and a bad answer to each prompt in the dominant language, mirrored in every target.
        pairs = stages.pair(run, texts, answers | target_answers, verdicts | target_verdicts)
        # 6. Reference: the frozen model's reward gaps, to which targets are pulled (L1), and states to keep (L2).
        reference = stages.measure(run, base, pairs, training)
        # 7. Training: the gap of every target pair towards that of the dominant language.
        trained = stages.train(run, base, pairs, reference, training)
        # 8. Evaluation: before and after, on the same held-out prompts and benchmarks.
        change = stages.evaluate_change(run, base, trained, pairs, benchmarks)
        # 9. Gate: did the targets improve, and nothing else get lost?
        decision = stages.decide(run, change)
        # 10. Registry: a version with its lineage, promoted if the gate agrees.
        settled = stages.register(run, base, trained, change, decision)
        return write_report(run, base, trained, change, settled)
