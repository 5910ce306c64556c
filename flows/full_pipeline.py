"""The whole pipeline: English safety prompts in, a model as safe in every language out.

mpo run deployments/profiles/demo.yaml
"""

from prefect import flow
from pydantic import JsonValue

from flows import stages
from flows.benchmarks import read_benchmarks
from flows.report import write_report
from flows.run import start_run
from flows.swaps import check_swaps
from mpo_core.reporting import RunSummary
from mpo_core.settings import PipelineConfig


@flow(name="mpo")
def full_pipeline(config: PipelineConfig, overrides: dict[str, JsonValue] | None = None) -> RunSummary:
    """Runs the ten stages of the pipeline: aligns a model in every target language, and promotes it if the gate agrees.

    Args:
        config: the settings, as in a profile.
        overrides: settings to change, by key, such as {"training.beta": 1.5}.
    """
    with start_run(config, overrides) as run:
        training = run.config.training
        base = stages.find_base(run.config)

        # 1. Prompts: the harmful and harmless requests of every source, in blocks of one split.
        blocks, benchmarks = stages.read_blocks(run), read_benchmarks(run)
        # 3 and 4 for the dominant language come first: if the model is not safe there, the run stops here.
        answers, verdicts = stages.answer_dominant(run, base, blocks)
        # 2. Translation: each prompt in every target language.
        texts = stages.translate(run, blocks)
        # 3. Sampling: the base model's answers in the target languages, if pairs are made of them.
        target_answers = stages.sample(run, base, texts)
        # 4. Judging: which answers are safe, unsafe or invalid, and which are refusals.
        target_verdicts = stages.judge(run, target_answers)
        # 5. Pairs: a good and a bad answer to each prompt in the dominant language, mirrored in every target.
        pairs = stages.pair(run, texts, answers | target_answers, verdicts | target_verdicts)
        # Where pairs.swap_check asks for it, the frozen model's states say which target answers are swapped.
        pairs = check_swaps(run, base, pairs)
        # 6. Reference: the frozen model's reward gaps, to which training pulls the target languages (gap loss), and
        # its hidden states in the dominant language, near which training keeps the model (retention loss).
        reference = stages.measure(run, base, pairs, training)
        # 7. Training: the gap of every target pair towards that of the dominant language.
        trained = stages.train(run, base, pairs, reference, training)
        # Where `edit` asks for it, a few neurons of the trained model are edited after that.
        final = stages.edit(run, base, texts, trained)
        # 8. Evaluation: before and after, on the same held-out prompts and benchmarks.
        change = stages.evaluate_change(run, base, final, pairs, benchmarks)
        # 9. Gate: did the targets improve, and did nothing else get worse?
        decision = stages.decide(run, change)
        # 10. Registry: a version with its lineage, promoted if the gate agrees.
        settled = stages.register(run, base, final, change, decision)
        return write_report(run, base, pairs, trained, change, settled)
