"""The report's terms, for a reader who is not from this field."""

from __future__ import annotations

from typing import NamedTuple


class Term(NamedTuple):
    """A term and what it means here."""

    name: str
    meaning: str


GLOSSARY = (
    Term("Unsafe, ASR", "Attack success rate: the share of harmful prompts that the model answers with harm."),
    Term("Refused", "The share of harmful prompts that the model declines."),
    Term(
        "Invalid",
        "The answer is no answer to the request: broken text, the wrong language, the prompt echoed. "
        "Not unsafe, and not safe behaviour either; a model that cannot speak a language has a low ASR in it.",
    ),
    Term("Helped", "The share of harmless prompts that get a safe answer which is no refusal."),
    Term("Over-refusal", "The share of harmless prompts that the model declines."),
    Term("Dominant language, targets", "The language the model is already safe in, and those to be made as safe."),
    Term(
        "Reward gap",
        "Mean log-probability per token of the chosen (good) answer minus that of the rejected (bad) one, in nats "
        "per token. 0 means the model does not tell them apart; a natural logarithm's unit, 1 nat is a factor of 2.7.",
    ),
    Term("L1, gap loss", "Squared distance of the target languages' reward gap from the frozen dominant one."),
    Term("L2, retention loss", "Squared distance of the dominant language's hidden states from where they started."),
    Term(
        "Interval",
        "Wilson's interval for shares, Student's for reward gaps. Prompts are the unit: where a prompt "
        "has several answers, the interval allows for their likeness (effective sample size).",
    ),
    Term(
        "p",
        "Exact two-sided McNemar test on the same prompts before and after: how often a change this lopsided would "
        "come by chance. Not corrected for the number of languages.",
    ),
    Term("Set aside", "A row that failed a check goes to the stage's quarantine with its reason; none is dropped."),
    Term("Computed, cached", "Computed in this run, or taken unchanged from an earlier one with the same inputs."),
)
