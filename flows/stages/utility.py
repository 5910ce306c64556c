"""What a model can do beside refusing, measured in every evaluation: plain text, and its distance from the base."""

from typing import NamedTuple

from flows.run import Future, Run
from flows.stages.shards import Shards
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.metric import BITS_PER_BYTE, PARALLEL_TEXT
from mpo_core.contract.tables import PASSAGES
from mpo_core.evaluation.passages import read_parallel_text
from mpo_core.reporting import BenchmarkCard
from tasks.model import ModelFolder
from tasks.utility import measure_divergence, score_text


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


def score_plain_text(run: Run, name: str, model: ModelFolder) -> Future:
    """Measures a model on the parallel text of the run."""
    passages = plain_text(run).passages
    return run.submit(score_text, model=model, passages=passages, weights=run.config.training.weights, label=name)


def diverge(run: Run, name: str, base: ModelFolder, trained: ModelFolder, answers: Shards) -> list[Future]:
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
