"""What a model can do beside refusing, measured in every evaluation: plain text, and its distance from the base."""

import pyarrow as pa

from flows.run import Future, PlainText, Run
from flows.stages.shards import Shards, Utility
from mpo_core.contract.metric import ACCURACY, BITS_PER_BYTE, PARALLEL_TEXT
from mpo_core.contract.tables import PASSAGES
from mpo_core.evaluation.lm_eval import places, require_lm_eval
from mpo_core.evaluation.passages import read_parallel_text
from mpo_core.reporting import BenchmarkCard
from tasks.model import ModelFolder
from tasks.utility import compare_utility, evaluate_utility, measure_divergence, score_items, score_text


def plain_text(run: Run) -> PlainText:
    """Returns the parallel text in the languages of the run, which is read and stored once.

    Raises:
        BadInputError: the file of `evaluation.parallel_text` cannot be read, or lacks a passage.
    """
    source, languages = run.config.evaluation.parallel_text, _languages(run)
    key = f"{source} {languages}"
    if key not in run.plain_texts:
        text = read_parallel_text(source, languages)
        passages = [
            run.store.write_table("passages", PASSAGES, table, language=code) for code, table in text.tables.items()
        ]
        card = BenchmarkCard(
            name=PARALLEL_TEXT,
            label="Plain text",
            metrics=[BITS_PER_BYTE],
            origin=text.origin,
            licence=text.licence,
            missing=[code for code in languages if code not in text.tables],
            digests={ref.language: ref.sha256 for ref in passages if ref.language is not None},
        )
        run.plain_texts[key] = PlainText(passages, card)
    return run.plain_texts[key]


def check_utility(run: Run) -> None:
    """Checks that plain text and lm-eval can be used, before hours of training.

    Raises:
        BadInputError: the text cannot be read, or lm-eval is asked for and not installed, or the language of a task is
            unclear.
    """
    plain_text(run)
    if run.config.evaluation.lm_eval is not None:
        places(run.config.evaluation.lm_eval.tasks, _languages(run))
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
        tasks = config.evaluation.lm_eval
        text.append(run.submit(score_items, model=model, settings=tasks, languages=_languages(run), label=name))
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
    """Returns the cards of plain text and of lm-eval's tasks; table METRICS shows the languages that a task lacks."""
    settings = run.config.evaluation.lm_eval
    cards = [plain_text(run).card]
    wanted = places([] if settings is None else settings.tasks, _languages(run)).values()
    measured = {(row["benchmark"], row["language"]) for row in metrics.to_pylist()}
    for name in dict.fromkeys(place["benchmark"] for place in wanted):
        codes = [place["language"] for place in wanted if place["benchmark"] == name]
        missing = [code for code in codes if (name, code) not in measured]
        cards.append(
            BenchmarkCard(name=name, label=f"lm-eval {name}", metrics=[ACCURACY], origin="lm-eval", missing=missing)
        )
    return cards


def _languages(run: Run) -> list[str]:
    return [run.config.languages.dominant, *sorted(run.config.languages.targets)]


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
