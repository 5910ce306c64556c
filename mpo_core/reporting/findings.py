"""Says what a reader must know first: the outcome of the run, and why its figures may mislead."""

import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.errors import quantity
from mpo_core.contract.judge import JUDGES
from mpo_core.contract.metric import OVER_REFUSAL, UNSAFE, Metric
from mpo_core.display.wording import language_name, listed, percent, points
from mpo_core.reporting.summary import MODELS, Model, RunSummary

# Above this share of invalid answers, a low ASR only shows that the model fails to answer.
_MOSTLY = 0.5
_NOTABLE = 0.05
_FEW_PROMPTS = 50
# Below this share of refusals or of help, the dominant language is a poor example for the targets.
_POOR = 0.7
_FEW_STEPS = 20
_ALPHA = 0.05
_PROMOTED = (
    "Check the figures and some examples below before you release the model. To take it out of use, and "
    "go back to the version before it if there is one: mpo models rollback --why REASON"
)
_REFUSED = (
    "Find the failed checks in the table of the gate and the languages behind them in the sections below. Then train "
    "with other prompts or settings, or change the bounds in section gate of the profile, and run again."
)

_TOO_FEW = (
    "No check found the model bad, but the prompts are too few to show that it is good. Evaluate on more of them: add "
    "prompts to the split evaluation.split, and run again."
)


class Headline(NamedTuple):
    """The outcome of a run in words. `tone` is good, bad or neutral."""

    tone: str
    title: str
    sentence: str
    next_step: str


class Change(NamedTuple):
    """A figure of the model before the training and after it; None if it was not measured."""

    before: float | None
    after: float | None


def median(summary: RunSummary, metric: str, benchmark: str | None = None) -> Change:
    """Returns the median of a metric over the target languages, before and after."""
    before, after = (_median(summary, model, metric, benchmark) for model in MODELS)
    return Change(before, after)


def _median(summary: RunSummary, model: Model, metric: str, benchmark: str | None) -> float | None:
    rows = [summary.metric(model, code, metric, benchmark) for code in summary.targets]
    values = [row.value for row in rows if row is not None]
    return statistics.median(values) if values else None


def headline(summary: RunSummary) -> Headline:
    """Returns the outcome of the run: a title, what happened and why, and what to do next."""
    measured = _measured(summary)
    version = summary.version or "the new model"
    if summary.gate is None:
        title = (
            f"Evaluation of {' and '.join(summary.models.values())}" if summary.models else "Evaluated, without a gate"
        )
        return Headline("neutral", title, measured, "")
    registry = f" Registry: {summary.registry}." if summary.registry else ""
    if not summary.gate.promoted:
        failed = [check for check in summary.gate.checks if check.passed is False]
        reasons = ". And ".join(check.explanation for check in failed)
        why = f" The gate refused: {reasons}." if failed else " No target language was measured."
        in_use = summary.version is not None and summary.version == summary.promoted_version
        title = f"Refused by the gate, but {version} is still in use" if in_use else "Not promoted"
        refused = _TOO_FEW if failed and all(check.too_few for check in failed) else _REFUSED
        step = f"To take it out of use, run: mpo models rollback --why REASON. {refused}" if in_use else refused
        return Headline("bad", title, measured + registry + why, step)
    if not summary.registry:  # written by a version that recorded only what the gate decided
        step = "This summary does not say what the registry did. To see which version is in use, run: mpo models list"
        return Headline("neutral", f"Passed the gate as {version}", measured, step)
    if summary.promoted_version != summary.version:
        current = f"{summary.promoted_version} is in use" if summary.promoted_version else "no version is in use"
        step = f"To use it, run: mpo models promote {version} --why REASON"
        return Headline("neutral", f"Passed the gate as {version}, but {current}", measured + registry, step)
    title = f"Promoted as {summary.version}" if summary.version else "Promoted"
    return Headline("good", title, measured + registry, _PROMOTED)


def _measured(summary: RunSummary) -> str:
    unsafe = median(summary, "unsafe")
    count = len(summary.targets)
    languages = "the target language" if count == 1 else f"{count} target languages"
    if summary.alone and unsafe.after is not None:
        sentence = (
            f"Unsafe answers to harmful prompts, median over {languages}: {percent(unsafe.after)}; lower is better."
        )
    elif unsafe.before is None or unsafe.after is None:
        sentence = "The share of unsafe answers in the target languages was not measured before and after."
    else:
        sentence = (
            f"Unsafe answers to harmful prompts, median over {languages}: {percent(unsafe.before)} before, "
            f"{percent(unsafe.after)} after; lower is better."
        )
    invalid = _mostly_invalid(summary)
    if invalid:
        where = "every language" if len(invalid) == len(summary.languages) else listed(invalid)
        sentence += f" But most answers in {where} are invalid, so this says little about safety."
    return sentence


def cautions(summary: RunSummary) -> list[str]:
    """Lists the reasons not to take the figures at face value, the most serious first."""
    sentences = [
        _invalid_caution(summary),
        _dominant_caution(summary),
        _worse_caution(summary),
        _over_refusal_caution(summary),
        _unmeasured_caution(summary),
        _not_finite_caution(summary),
        _short_training_caution(summary),
        _cut_answers_caution(summary),
        _cut_candidates_caution(summary),
        _cut_caution(summary),
        _unchanged_caution(summary),
        _few_caution(summary),
        _quarantine_caution(summary),
        *_swap_cautions(summary),
        _unjudged_caution(summary),
        judge_caution(summary),
        *_benchmark_cautions(summary),
    ]
    return [sentence for sentence in sentences if sentence]


def _unjudged_caution(summary: RunSummary) -> str:
    counts = [stage.counts for stage in summary.stages if stage.stage == "judging"]
    unjudged, answers = sum(count.get("unjudged", 0) for count in counts), sum(sum(count.values()) for count in counts)
    if not unjudged:
        return ""
    return f"The judge came to no verdict on {unjudged:,} of {answers:,} answers, which count in no share."


def judge_caution(summary: RunSummary) -> str:
    """Returns what the judge itself says that a reader must know about its verdicts."""
    judging = summary.config.get("judging")
    name = setting(summary, "judging", "judge")
    judge = JUDGES.implementations.get(name) if isinstance(name, str) else None
    if judge is None or not isinstance(judging, Mapping):  # a judge whose package is not installed here
        return ""
    try:
        known = judge.model_validate({key: value for key, value in judging.items() if key in judge.model_fields})
    except ValidationError:
        return f"This version cannot read the settings of the judge {name}, so what to know about it is missing here."
    return " ".join(known.cautions(summary.languages))


def _mostly_invalid(summary: RunSummary) -> list[str]:
    rows = ((code, summary.metric("after", code, "invalid")) for code in summary.languages)
    return [language_name(code) for code, row in rows if row is not None and row.value > _MOSTLY]


def _invalid_caution(summary: RunSummary) -> str:
    languages = []
    for code in summary.languages:
        pair = summary.pair(code, "invalid")
        if max((row.value for row in pair if row is not None), default=0.0) > _NOTABLE:
            rows = pair[1:] if summary.alone else pair
            shares = " → ".join(percent(row.value) if row else "–" for row in rows)
            languages.append(f"{language_name(code)} ({shares})")
    if not languages:
        return ""
    return (
        f"Many answers to harmful prompts are invalid in {listed(languages)}. "
        "An invalid answer is neither unsafe nor safe: a low ASR with many invalid answers is no success."
    )


def _dominant_caution(summary: RunSummary) -> str:
    refused, helped = (summary.metric("before", summary.dominant, metric) for metric in ("refused", "helped"))
    figures = [
        (f"{share} {percent(row.value)} of {row.n:,} {kind} prompts", row.value)
        for share, kind, row in (("refused", "harmful", refused), ("helped with", "harmless", helped))
        if row is not None
    ]
    if all(value >= _POOR for _, value in figures):
        return ""
    name = language_name(summary.dominant)
    return (
        f"Before training the model {' and '.join(text for text, _ in figures)} in {name}. The other languages follow "
        f"{name}, so they cannot become better than that; take a model that is safer and more helpful in {name}."
    )


def _worse_caution(summary: RunSummary) -> str:
    worse = _risen(summary, UNSAFE, 0.0)
    return f"More answers are unsafe after training than before in {listed(worse)}." if worse else ""


def _over_refusal_caution(summary: RunSummary) -> str:
    risen = _risen(summary, OVER_REFUSAL, _NOTABLE)
    return f"Harmless prompts are refused more often after training in {listed(risen)}." if risen else ""


def _risen(summary: RunSummary, metric: Metric, above: float) -> list[str]:
    """Returns the languages, and benchmarks, in which a metric has risen by more than `above`."""
    labels = {card.name: "" if card.name == summary.main else f" of {card.label}" for card in summary.cards}
    return [
        f"{language_name(row.language)}{labels.get(row.benchmark, '')} ({points(row.difference)} points)"
        for row in summary.comparisons
        if row.metric == metric.name and row.difference > above
    ]


def _benchmark_cautions(summary: RunSummary) -> list[str]:
    """Names languages that a benchmark lacks or was translated into, and counts the prompts that were trained on."""
    sentences = []
    for card in summary.cards:
        missing, translated = (listed(list(map(language_name, codes))) for codes in (card.missing, card.translated))
        if missing:
            sentences.append(f"{card.label} has no {card.content} in {missing}, so nothing was measured there.")
        if card.in_training:
            sentences.append(
                f"{card.in_training:,} of {quantity(card.prompts, 'prompt')} of {card.label} are among the training "
                "prompts: the answers to them do not show how the model answers prompts that are new to it."
            )
        if translated:
            sentences.append(
                f"This run has translated {card.label} into {translated}: errors of translation count too."
            )
    return sentences


def _unmeasured_caution(summary: RunSummary) -> str:
    harmless = {metric.name for card in summary.cards for metric in card.metrics if metric.kind == "harmless"}
    if not any(row.metric in harmless for row in summary.metrics):
        return (
            "No harmless prompts were judged, so help and over-refusal are unknown: a model that refuses "
            "everything would look the same here. Add harmless prompts, or measure own_over_refusal too."
        )
    if summary.main != HELD_OUT:
        return ""  # what a benchmark lacks is listed with it
    unmeasured = [
        language_name(code)
        for code in summary.languages
        if any(summary.metric("after", code, metric) is None for metric in ("unsafe", "helped"))
    ]
    return f"Harmful or harmless prompts were not judged in {listed(unmeasured)}." if unmeasured else ""


def _short_training_caution(summary: RunSummary) -> str:
    steps = [stage.counts["steps"] for stage in summary.stages if stage.stage == "training" and "steps" in stage.counts]
    if not steps or max(steps) >= _FEW_STEPS:
        return ""
    limit = setting(summary, "training", "max_steps")
    remedy = "add training prompts or raise sampling.n or training.epochs"
    if isinstance(limit, int) and max(steps) >= limit:
        remedy = "raise training.max_steps, which ended it"
    return f"The training had only {max(steps)} optimiser steps, in which a model hardly changes. For more, {remedy}."


def _cut_answers_caution(summary: RunSummary) -> str:
    cut, answers = _cut_answers(summary, MODELS)
    if cut <= _MOSTLY * answers:
        return ""
    return (
        f"{cut:,} of {answers:,} answers were cut at evaluation.sampling.max_new_tokens, so the judge read only their "
        "beginnings. For whole answers, raise it."
    )


def _cut_candidates_caution(summary: RunSummary) -> str:
    cut, answers = _cut_answers(summary, ("pairs",))
    if cut <= _NOTABLE * answers:
        return ""
    return (
        f"{cut:,} of {answers:,} answers from which pairs are made were cut at sampling.max_new_tokens. In a pair such "
        "an answer has an end token all the same, which teaches the model to end in mid-sentence. For whole answers, "
        "raise it."
    )


def _cut_answers(summary: RunSummary, purposes: tuple[str, ...]) -> tuple[int, int]:
    """Returns how many sampled answers were cut at the token limit, and how many there are, by the end of the label."""
    stages = [stage for stage in summary.stages if stage.stage == "sampling" and stage.label.endswith(purposes)]
    return sum(stage.counts.get("length", 0) for stage in stages), sum(stage.rows for stage in stages)


def _cut_caution(summary: RunSummary) -> str:
    log = next((line for line in reversed(summary.training) if "cut/pairs" in line), {})
    pairs, cut = (int(log.get(f"cut/{name}") or 0) for name in ("pairs", "cut"))
    if cut <= _NOTABLE * pairs:
        return ""
    counts = [int(log.get(f"cut/{name}") or 0) for name in ("prompt_cut", "answer_cut", "end_lost")]
    return (
        f"{cut:,} of {pairs:,} training pairs were cut at training.cutoff: {counts[0]:,} lost a part of the prompt, "
        f"{counts[1]:,} of an answer, {counts[2]:,} the end token, which teaches the model not to end its answers."
    )


def _unchanged_caution(summary: RunSummary) -> str:
    unclear = [
        language_name(code)
        for code in summary.targets
        if (row := summary.comparison(code, "unsafe")) is not None
        and (row.p_value if row.p_holm is None else row.p_holm) > _ALPHA
    ]
    if not unclear:
        return ""
    return (
        f"The change in unsafe answers may be due to chance in {listed(unclear)} "
        f"(p > {_ALPHA}, adjusted for all languages)."
    )


def _few_caution(summary: RunSummary) -> str:
    sizes = [row.n for row in summary.metrics if row.metric in {"unsafe", "helped"}]
    if not sizes or min(sizes) >= _FEW_PROMPTS:
        return ""
    return f"Some figures are based on only {quantity(min(sizes), 'prompt')}: their intervals are wide."


def _quarantine_caution(summary: RunSummary) -> str:
    rejected = sum(row.count for row in summary.quarantine)
    accepted = sum(stage.rows for stage in summary.stages)
    if not rejected or rejected < _NOTABLE * (rejected + accepted):
        return ""
    return f"Rejected on the way: {quantity(rejected, 'row')}. Section “Stages” lists the reasons."


def _swap_cautions(summary: RunSummary) -> list[str]:
    """Says which languages have swapped pairs, and in which the swap check cannot know."""
    checked = [stage for stage in summary.stages if stage.language is not None and "order_acts" in stage.counts]
    swapped, unknown = [], []
    for stage in checked:
        name, n = language_name(str(stage.language)), stage.counts
        if not n["order_acts"]:
            unknown.append(f"{name} ({n['order_confirmed']:,} of {n['order_known']:,})")
        elif n["swapped"]:
            alarms = round(stage.rows * (1 - n["order_confirmed"] / n["order_known"]))
            swapped.append(f"{name} ({n['swapped']:,} of {stage.rows:,}; about {alarms:,} of good ones would be, too)")
    done = {"drop": "were rejected", "swap_back": "got their answers swapped back"}
    action = done.get(str(setting(summary, "pairs", "swap_check")), "were trained on as they are")
    sentences = [f"Training pairs seem to have swapped answers in {listed(swapped)}; they {action}."] if swapped else []
    if unknown:
        sentences.append(
            f"Whether training pairs have swapped answers is unknown in {listed(unknown)}: the check found so many "
            "artificial swaps of pairs in known order, and needs 90 % of at least 20. Add validation prompts, or check "
            "that their own answers are in order. It cannot work where languages share no direction of hidden states."
        )
    return sentences


def _not_finite_caution(summary: RunSummary) -> str:
    if not summary.not_finite:
        return ""
    return (
        f"These figures were NaN or infinite and count as not measured: {'; '.join(summary.not_finite)}. "
        "Check the model's weights."
    )


def setting(summary: RunSummary, section: str, name: str) -> Any:
    """Returns a setting of the run, or None where the summary does not have it, as one of another version."""
    values = summary.config.get(section)
    return values.get(name) if isinstance(values, Mapping) else None
