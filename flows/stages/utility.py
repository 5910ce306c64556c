"""What a model can do beside refusing, measured in every evaluation: plain text, and its distance from the base."""

from typing import NamedTuple

import pyarrow as pa

from flows.run import Future, Run
from flows.stages.shards import Shards, Utility
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.metric import ACCURACY, BITS_PER_BYTE, PARALLEL_TEXT
from mpo_core.contract.tables import PASSAGES
from mpo_core.evaluation.lm_eval import benchmark_name, require_lm_eval
from mpo_core.evaluation.passages import read_parallel_text
from mpo_core.reporting import BenchmarkCard
from tasks.model import ModelFolder
from tasks.utility import compare_utility, evaluate_utility, measure_divergence, score_items, score_text


class PlainText(NamedTuple):
    """The parallel text of a run: its passages by language, and its card for the report."""

    passages: list[ArtifactRef]
    card: BenchmarkCard


def plain_text(run: Run) -> PlainText:
    """Reads and stores the parallel text in the languages of the run.

    Raises:
        BadInputError: the file of `evaluation.parallel_text` cannot be read, or lacks a passage.
    """
    config = run.config
    languages = [config.languages.dominant, *sorted(config.languages.targets)]
    own = "microworld" if config.judging.model_dump()["judge"] == "microworld" else "shipped"
    text = read_parallel_text(config.evaluation.parallel_text or own, languages)
    card = BenchmarkCard(
        name=PARALLEL_TEXT,
        label="Plain text",
        metrics=[BITS_PER_BYTE],
        origin=text.origin,
        licence=text.licence,
        missing=[code for code in languages if code not in text.tables],
    )
    stored = [run.store.write_table("passages", PASSAGES, table, language=code) for code, table in text.tables.items()]
    return PlainText(stored, card)


def check_utility(run: Run) -> None:
    """Checks that plain text and lm-eval can be used, before hours of training.

    Raises:
        BadInputError: the text cannot be read, or lm-eval is asked for and not installed.
    """
    plain_text(run)
    if run.config.evaluation.lm_eval is not None:
        require_lm_eval()


def measure_utility(run: Run, name: str, model: ModelFolder, base: tuple[ModelFolder, Shards] | None) -> Utility:
    """Measures what a model can do beside refusing.

    Args:
        run: the run.
        name: name of the model in its metrics.
        model: the model.
        base: the model before training with its answers, for the distance between the two; None for no distance.
    """
    config = run.config
    passages, weights = plain_text(run).passages, config.training.weights
    text = [run.submit(score_text, model=model, passages=passages, weights=weights, label=name)]
    if config.evaluation.lm_eval is not None:
        codes = [config.languages.dominant, *sorted(config.languages.targets)]
        tasks = config.evaluation.lm_eval
        text.append(run.submit(score_items, model=model, settings=tasks, languages=codes, label=name))
    metrics = run.submit(
        evaluate_utility,
        scores=text[0],
        divergences=[] if base is None else _diverge(run, name, model, *base),
        items=text[1:],
        model=name,
        confidence=config.evaluation.confidence,
        label=name,
    )
    return Utility(text, metrics)


def compare_utilities(run: Run, before: Utility, after: Utility) -> Future:
    """Compares two models on the same passages, and on the same items of lm-eval."""
    level = run.config.evaluation.confidence
    return run.submit(compare_utility, before=before.text, after=after.text, confidence=level, label="before-after")


def utility_cards(run: Run, metrics: pa.Table) -> list[BenchmarkCard]:
    """Returns the cards of what is measured beside prompts: plain text, and the tasks of lm-eval.

    Args:
        run: the run.
        metrics: table METRICS, which shows the languages that a task of lm-eval lacks.
    """
    settings, languages = run.config.evaluation.lm_eval, run.config.languages
    cards = [plain_text(run).card]
    for name in dict.fromkeys(map(benchmark_name, [] if settings is None else settings.tasks)):
        measured = {row["language"] for row in metrics.to_pylist() if row["benchmark"] == name}
        missing = [code for code in [languages.dominant, *sorted(languages.targets)] if code not in measured]
        cards.append(
            BenchmarkCard(name=name, label=f"lm-eval {name}", metrics=[ACCURACY], origin="lm-eval", missing=missing)
        )
    return cards


def _diverge(run: Run, name: str, trained: ModelFolder, base: ModelFolder, answers: Shards) -> list[Future]:
    """Measures how far a model is from the base model, on the base model's answers in the dominant language."""
    training = run.config.training
    return [
        run.submit(
            measure_divergence,
            base=base,
            trained=trained,
            answers=responses,
            prompts=block,
            weights=training.weights,
            cutoff=training.cutoff,
            label=f"{code}-{block.part}-{name}",
        )
        for (code, block), responses in answers.items()
        if code == run.config.languages.dominant
    ]
