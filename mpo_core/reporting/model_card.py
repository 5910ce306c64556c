"""Writes the model card of a trained model: `README.md` with the metadata that the Hugging Face hub reads."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mpo_core.display.wording import figure, language_name, listed
from mpo_core.reporting.findings import cautions, headline
from mpo_core.reporting.summary import BenchmarkCard, RunSummary

CARD = "README.md"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_LIBRARY = "transformers"
_TAGS = ["mpo", "safety-alignment"]
_METHODS = {"mpo": "multilingual reward-gap optimisation (MPO, arXiv 2505.16869)"}
_ADDED = {
    "consistency": "multilingual consistency (MLC, arXiv 2602.16660)",
    "distillation": "self-distillation (MSD, after arXiv 2605.02971)",
}
_EDITED = "After that a few of its neurons were edited (sparse weight editing, arXiv 2602.22554)."
_READING = (
    "ASR: unsafe answers to harmful prompts, lower is better. Intervals, tests and all other figures are in the report "
    "of the run."
)
_UNMEASURED = "**It has not been evaluated**: `mpo evaluate --model FOLDER --benchmark NAME` does that."


def model_card(summary: RunSummary) -> str:
    """Returns the card of the model that a run has trained: base, languages, data, and the figures of its report.

    Equal summaries give equal cards.
    """
    name = f"{summary.run} {summary.version}" if summary.version else summary.run
    lead = headline(summary)
    parts = [
        _lead(summary.base_model, [summary.dominant, *summary.targets], summary.config.get("training") or {}),
        *([_EDITED] if summary.config.get("edit") is not None else []),
        f"{lead.title}. {lead.sentence}",
        "## Figures",
        _figures(summary),
        _READING,
    ]
    if notes := cautions(summary):
        parts += ["## What the figures do not show", "\n".join(f"- {note}" for note in notes)]
    parts += [
        "## Data",
        "\n".join(f"- {line}" for line in _data(summary)),
        "## Lineage",
        f"- Base model: {summary.base_model}, sha256 `{summary.base_digest}`\n- Run: {summary.run}",
    ]
    return _page(
        name,
        parts,
        base=summary.base_model,
        languages=summary.languages,
        datasets=[*summary.inputs, *(card.origin.partition("@")[0] for card in summary.benchmarks)],
        results=_results(summary),
    )


def training_card(base: str, languages: Sequence[str], pairs: str, training: Mapping[str, Any]) -> str:
    """Returns the card of a model that was trained on the file `pairs` with these settings, and not evaluated."""
    parts = [
        _lead(base, languages, training),
        f"Trained on the pairs of {pairs}. {_UNMEASURED}",
    ]
    return _page("Aligned model", parts, base=base, languages=languages, datasets=[], results=[])


def _lead(base: str, languages: Sequence[str], training: Mapping[str, Any]) -> str:
    """Says what the model was made from, by what, and for which languages: the dominant one, then the targets."""
    dominant, *targets = map(language_name, languages)
    aim = f", so that it is as safe in {listed(targets)} as in {dominant}" if targets else ""
    return f"{base}, trained by {listed(_losses(training))}{aim}."


def _losses(training: Mapping[str, Any]) -> list[str]:
    """Names what the settings of a training trained with."""
    method = training.get("method", "mpo")
    weighting, added = training.get("weighting"), [name for name in _ADDED if (training.get(name) or {}).get("weight")]
    return [
        *([] if method == "none" else [_METHODS.get(method, f"the method {method}")]),
        *(_ADDED[name] for name in added),
        *([f"learned weights of each {weighting['per']} ({weighting['kind']})"] if weighting else []),
    ]


def _page(
    name: str,
    parts: Iterable[str],
    *,
    base: str,
    languages: Iterable[str],
    datasets: Iterable[str],
    results: list[Any],
) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        library_name=_LIBRARY,
        tags=_TAGS,
        language=list(languages),
        base_model=base if _HUB_ID.fullmatch(base) else None,
        datasets=sorted({name for name in datasets if _HUB_ID.fullmatch(name)}) or None,
        metrics=sorted({result.metric_type for result in results}) or None,
        eval_results=results or None,
        model_name=name if results else None,
    )
    return "\n\n".join([f"---\n{data.to_yaml()}\n---", f"# {name}", *parts]) + "\n"


def _measured(summary: RunSummary) -> Iterable[tuple[BenchmarkCard, str, Any, Any]]:
    """Yields benchmark, language, metric and its figures, for the main metrics."""
    for card in summary.cards:
        for code in summary.languages:
            for metric in card.metrics:
                if metric.main and (pair := summary.pair(code, metric.name, card.name)).after is not None:
                    yield card, code, metric, pair


def _results(summary: RunSummary) -> list[Any]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=card.name,
            dataset_name=f"{card.label}, {language_name(code)}",
            dataset_config=code,
            metric_type=metric.name,
            metric_name=metric.label,
            metric_value=round(pair.after.value, 4),
        )
        for card, code, metric, pair in _measured(summary)
    ]


def _figures(summary: RunSummary) -> str:
    lines = ["| prompts | language | metric | before | after | n |", "|---|---|---|---|---|---|"]
    for card, code, metric, pair in _measured(summary):
        before = figure(metric, pair.before.value if pair.before else None)
        row = (card.label, language_name(code), metric.short, before, figure(metric, pair.after.value), str(pair.n))
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _data(summary: RunSummary) -> list[str]:
    training = [f"{source.name}: {source.licence or 'licence not stated'}" for source in summary.sources]
    measured = [
        f"{card.label} ({card.origin}): {card.licence or 'licence not stated'}; for evaluation alone"
        for card in summary.benchmarks
        if card.origin
    ]
    return [*training, *measured, "The prompts ask for harm, or sound as if they did; they are no part of this model."]
