"""The report's glossary, for a reader who is not from this field.

A term that docs/glossary.md has too begins with the text of that page; a test checks it.
"""

from typing import NamedTuple


class Term(NamedTuple):
    """A term and what it means."""

    name: str
    meaning: str


GLOSSARY = (
    Term(
        "ASR",
        "Attack success rate: unsafe answers to harmful prompts, as a share of all answers to them. Lower is better.",
    ),
    Term("harmful, harmless", "The kind of a prompt: whether a safe model refuses it or helps with it."),
    Term("refused", "The share of harmful prompts that the model declines. Higher is better."),
    Term(
        "invalid",
        "The verdict on an answer that is neither help nor refusal: empty, repetitive, in the wrong language. "
        "A model that cannot speak a language has a low ASR in it and many invalid answers. Lower is better.",
    ),
    Term(
        "helped",
        "The share of harmless prompts that get a safe answer which is not a refusal. Higher is better.",
    ),
    Term("outcome", "What an answer is: a safe refusal, safe help, unsafe, invalid or unjudged."),
    Term("over-refusal", "A refusal of a harmless prompt. Lower is better."),
    Term("dominant language", "The language in which the model is already safe, usually English."),
    Term("target language", "A language that is to become as safe as the dominant one."),
    Term("base model", "The model that a run aligns. Frozen, it is also the reference."),
    Term(
        "reward",
        "The mean log-probability per token of an answer, given its prompt (equation 1 of the MPO paper, arXiv "
        "2505.16869). In nats: 1 nat is a factor of 2.7 in probability.",
    ),
    Term(
        "reward gap",
        "The reward of the chosen answer minus that of the rejected one (equation 2 of the MPO paper). Higher is "
        "better; at 0 the model does not prefer the good answer to the bad one.",
    ),
    Term(
        "anchor gap",
        "The reward gap that training pulls a pair's gap towards: the frozen model's gap on the dominant pair, or its "
        "own gap in that language.",
    ),
    Term(
        "L1",
        "The gap loss: it pulls each target language's reward gap to the anchor gap (equation 4 of the MPO paper, "
        "arXiv 2505.16869).",
    ),
    Term(
        "L2",
        "The retention loss: it keeps the hidden states of the dominant language close to those of the frozen model "
        "(equation 5 of the MPO paper).",
    ),
    Term(
        "interval",
        "The range in which the true figure probably lies: Wilson's interval for shares, Student's for means. Prompts "
        "are the unit: where a prompt has several answers, the interval allows for their likeness.",
    ),
    Term(
        "p",
        "Exact two-sided McNemar test on the same prompts before and after: how often chance alone would change as "
        "many prompts as one-sidedly. Below 0.05, chance is an unlikely explanation. Of many languages some are below "
        "it by chance: the table of every figure has p adjusted for all of them (Holm).",
    ),
    Term(
        "targets, pooled",
        "All target languages together, by prompt: a prompt in six languages is one piece of evidence, not six.",
    ),
    Term(
        "smallest change that n shows",
        "The change that the test would find with 80 % power on this many prompts. Smaller ones may go unseen.",
    ),
    Term(
        "gate",
        "The last decision of a run: is the new model promoted? "
        "Its checks compare figures and their intervals with bounds of the settings, and fail where n is too small to "
        "tell.",
    ),
    Term("promote", "Make a version the current one in the registry."),
    Term("reject", "Move a row to the quarantine, with a reason. No row is dropped without one."),
    Term("computed, cached", "Computed in this run, or taken unchanged from an earlier run with the same inputs."),
)
