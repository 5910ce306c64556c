"""Arranges what surrounds the figures: their scope, the judge, the data, outcomes, changes, and examples."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from mpo_core.display.wording import language_name, listed
from mpo_core.languages.known import LANGUAGES
from mpo_core.reporting.findings import judge_caution, setting
from mpo_core.reporting.summary import BenchmarkCard, Example, Model, OutcomeRow, RunSummary

OUTCOME_NAMES = {
    "safe_refusal": "safe refusal",
    "safe_help": "safe help",
    "unsafe": "unsafe",
    "invalid": "invalid",
    "unjudged": "unjudged",
}
_NO_AGREEMENT = (
    "not measured: people have labelled no answer of this evaluation, so nobody knows how often its judge errs. "
    "`mpo judge sample` gives people answers to label, and `mpo judge --against` compares the judge with them"
)
_NOT_COVERED = (
    "conversations of several turns, attacks that disguise a request, languages that are not listed, and harm of "
    "other kinds than these prompts ask for"
)


class Fact(NamedTuple):
    """A line of a card: what it is about, and what is known of it."""

    name: str
    text: str


class DataRow(NamedTuple):
    """A set of prompts as the data card shows it."""

    name: str
    origin: str
    licence: str
    prompts: str
    languages: str


class OutcomeLine(NamedTuple):
    """The outcomes of the answers in one language: a cell for each outcome, and why answers are invalid."""

    language: str
    answers: str
    cells: list[str]
    reasons: str


class FlipLine(NamedTuple):
    """A change of outcome in one language."""

    language: str
    before: str
    after: str
    prompts: str
    ids: str


def scope(summary: RunSummary) -> list[Fact]:
    """Returns what was measured, and what this evaluation cannot show."""
    models = " → ".join(summary.models.values()) or f"{summary.base_model}, before and after training"
    sets = [f"{card.label} ({counts})" for card in summary.cards if (counts := _prompts(summary, card))]
    sampling = setting(summary, "evaluation", "sampling")
    draws = sampling if isinstance(sampling, dict) else {}
    samples, temperature = draws.get("n", 1), draws.get("temperature", 0.0)
    how = "greedy" if not temperature else f"temperature {temperature:g}"
    facts = {
        "Model" if summary.alone else "Models": models,
        "Languages": listed([language_name(code) for code in summary.languages]),
        "Prompts": "; ".join(sets) or "none",
        "Answers": f"{samples} to each prompt, {how}, in one turn",
        "Judge": judge_name(summary),
        "Not covered": _NOT_COVERED,
    }
    return [Fact(*fact) for fact in facts.items()]


def judge_name(summary: RunSummary) -> str:
    """Returns the name of the run's judge."""
    return summary.judge.get("judge") or str(setting(summary, "judging", "judge") or "not recorded")


def _prompts(summary: RunSummary, card: BenchmarkCard) -> str:
    """Returns `315 harmful`, for the language with the most prompts of each kind."""
    counts: dict[str, int] = {}
    kinds = {metric.name: metric.kind for metric in card.metrics if metric.unit == "share"}
    for row in summary.metrics:
        if row.benchmark == card.name and row.metric in kinds:
            kind = kinds[row.metric]
            counts[kind] = max(counts.get(kind, 0), row.n)
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items())


def judge_card(summary: RunSummary) -> list[Fact]:
    """Returns what a reader must know of the judge to trust and to repeat its verdicts."""
    facts = {"judge": judge_name(summary), **summary.judge}
    answers = sum(sum(row.counts.values()) for row in summary.outcomes)
    if answers:
        unjudged = sum(row.counts.get("unjudged", 0) for row in summary.outcomes)
        facts["unjudged"] = f"{unjudged:,} of {answers:,} answers, which count in no share"
    facts.setdefault("agreement with people", _NO_AGREEMENT)
    if caution := judge_caution(summary):
        facts["caution"] = caution
    return [Fact(name[:1].upper() + name[1:], text) for name, text in facts.items()]


def data_rows(summary: RunSummary) -> list[DataRow]:
    """Returns a row for each set of prompts that was measured."""
    rows = []
    for card in summary.cards:
        measured = {row.language for row in summary.metrics if row.benchmark == card.name}
        codes = [code for code in summary.languages if code in measured]
        names = [language_name(code) + (" (translated)" if code in card.translated else "") for code in codes]
        if card.missing:
            names.append(f"missing: {listed([language_name(code) for code in card.missing])}")
        licence = card.licence or ("" if card.name == summary.main and not card.origin else "not stated")
        prompts = _prompts(summary, card) or "not measured"
        rows.append(DataRow(card.label, card.origin or "the run's own", licence, prompts, ", ".join(names)))
    return rows


def outcome_lines(summary: RunSummary, benchmark: str, kind: str) -> list[OutcomeLine]:
    """Returns, per language, the number of answers with each outcome: `86 → 21` where there are two models."""
    roles: list[Model] = ["model"] if summary.alone else ["before", "after"]
    rows = {
        (row.model, row.language): row
        for row in summary.outcomes
        if (row.benchmark, row.kind) == (benchmark, kind) and row.model in roles
    }
    lines = []
    for code in summary.languages:
        of_roles = [rows.get((role, code)) for role in roles]
        if any(of_roles):
            cells = [_arrow(row.counts.get(name, 0) if row else None for row in of_roles) for name in OUTCOME_NAMES]
            answers = _arrow(sum(row.counts.values()) if row else None for row in of_roles)
            lines.append(OutcomeLine(language_name(code), answers, cells, _reasons(of_roles[-1])))
    return lines


def _arrow(counts: Iterable[int | None]) -> str:
    texts = ["–" if count is None else f"{count:,}" for count in counts]
    return texts[0] if len(set(texts)) == 1 and len(texts) == 1 else " → ".join(texts)


def _reasons(row: OutcomeRow | None) -> str:
    reasons = row.reasons if row else {}
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in reasons.items())


def flip_lines(summary: RunSummary, benchmark: str, kind: str) -> list[FlipLine]:
    """Returns the changes of outcome on one set of prompts, the commonest first."""
    return [
        FlipLine(
            language_name(row.language),
            OUTCOME_NAMES.get(row.before, row.before),
            OUTCOME_NAMES.get(row.after, row.after),
            f"{row.prompts:,}",
            " ".join(row.prompt_ids),
        )
        for row in summary.flips
        if (row.benchmark, row.kind) == (benchmark, kind)
    ]


def example_groups(summary: RunSummary, *, texts: bool) -> list[dict[str, Any]]:
    """Groups the examples by language, with texts of a right-to-left language set from right to left.

    Without `texts`, the texts of harmful prompts and of the answers to them stay out.
    """
    labels = {card.name: card.label for card in summary.cards}
    grouped: dict[str, list[Example]] = {code: [] for code in summary.languages}
    for example in summary.examples:
        grouped.setdefault(example.language, []).append(example)
    return [
        {
            "code": code,
            "name": language_name(code),
            "dir": "rtl" if code in LANGUAGES and LANGUAGES[code].right_to_left else "auto",
            "examples": [
                {
                    "title": f"{example.kind.capitalize()} prompt",
                    "of": "" if example.benchmark == summary.main else f" of {labels.get(example.benchmark, '')}",
                    "prompt_id": example.prompt_id,
                    "prompt": _shown(example, example.prompt, texts=texts),
                    "answers": [
                        {"name": name, "verdict": verdict, "text": _shown(example, text, texts=texts)}
                        for name, text, verdict in (
                            ("before", example.before, example.verdict_before),
                            ("answer" if summary.alone else "after", example.after, example.verdict_after),
                        )
                        if text is not None
                    ],
                }
                for example in examples
            ],
        }
        for code, examples in grouped.items()
        if examples
    ]


def _shown(example: Example, text: str, *, texts: bool) -> str:
    if texts or example.kind == "harmless":
        return text
    return f"[left out: {len(text):,} characters]"
