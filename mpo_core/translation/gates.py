"""Tests a translation against its source by named gates, each of which gives a verdict with a score."""

from typing import NamedTuple

from mpo_core.languages.defects import (
    ending_lost,
    entities_left,
    error_page,
    lines_lost,
    markup_lost,
    repeated_share,
    same_text,
)
from mpo_core.languages.identify import language_fault
from mpo_core.languages.known import language, relative_length
from mpo_core.languages.refusals import is_refusal
from mpo_core.languages.sentences import count_clauses, count_sentences
from mpo_core.settings import TranslationGates
from mpo_core.translation.protect import mask, protected_lost

_SHORT = 0.6
"""A translation that lost the final mark of its source and is shorter than this share of the usual length counts as
truncated. This holds for one in a thousand of MultiJail's 2,835 translations by people."""
_SHORTENED = 0.7
"""A translation with fewer sentences than its source and shorter than this share of the usual length counts as having
lost sentences, unless commas join them (in Chinese, "I want to bake. What should I do?" is one sentence of half the
letters). This holds for one of MultiJail's 2,835 translations by people."""
_UNPOINTED = {"Thai"}
"""Scripts that rarely end a sentence with a mark."""
_LETTERS = 40
"""`length_ratio` passes if the source has fewer characters than this, converted to the length of an English text."""


class Verdict(NamedTuple):
    """The result of one gate: whether the translation passed, and the measured `score` in the gate's own unit."""

    gate: str
    passed: bool
    score: float


def verdicts(
    text: str,
    translation: str,
    *,
    source: str,
    target: str,
    settings: TranslationGates,
    measures: bool,
) -> list[Verdict]:
    """Tests one translation by every gate that needs no other translation.

    Scores: characters of the translation other than spaces (`empty_translation`); 1 where the flaw is there
    (`echo`, `error_page`, `wrong_language`, `refusal`, `ending_lost`); counts (`protected_lost`, `entities`,
    `markup_lost`, `lines_lost`, `sentences_lost`); repeated share beyond the source's (`repetition`); length over
    the usual length for the two languages (`truncated`, `length_ratio`).

    Args:
        text: the original.
        translation: its translation.
        source: code of the original's language.
        target: code of the translation's language.
        settings: thresholds.
        measures: whether numbers with units must be in the translation unchanged.
    """
    letters = len("".join(translation.split()))
    if not letters:
        return [Verdict("empty_translation", passed=False, score=0.0)]
    repeated = max(0.0, repeated_share(translation) - repeated_share(text))
    length = relative_length(text, translation, source, target)
    open_ended = ending_lost(text, translation)
    fewer = max(0, count_sentences(text) - count_sentences(translation))
    joined = length >= _SHORT and count_clauses(translation) >= count_clauses(text)
    # In a text as short as that, one word more or less changes the ratio too much.
    usual = (
        len(text) / language(source).length < _LETTERS
        or 1 / settings.max_length_factor <= length <= settings.max_length_factor
    )
    return [
        Verdict("empty_translation", passed=True, score=float(letters)),
        _flaw("echo", same_text(text, translation) and mask(text).is_words),
        _flaw("error_page", error_page(text, translation)),
        _flaw("refusal", _is_refused(text, translation, source, target)),
        _flaw("wrong_language", language_fault(translation, target) is not None),
        _count("protected_lost", protected_lost(text, translation, measures=measures)),
        Verdict("repetition", repeated <= settings.max_repetition, repeated),
        Verdict("truncated", not (open_ended and length < _SHORT), length),
        Verdict("sentences_lost", joined or not (fewer and length < _SHORTENED), float(fewer)),
        _flaw("ending_lost", open_ended and language(target).script not in _UNPOINTED),
        _count("entities", entities_left(text, translation)),
        _count("markup_lost", markup_lost(text, translation)),
        _count("lines_lost", lines_lost(text, translation)),
        Verdict("length_ratio", usual, length),
    ]


def _flaw(gate: str, present: bool) -> Verdict:  # noqa: FBT001 - the only fact
    return Verdict(gate, not present, float(present))


def _count(gate: str, count: int) -> Verdict:
    return Verdict(gate, count == 0, float(count))


def _is_refused(text: str, translation: str, source: str, target: str) -> bool:
    """Returns whether the translator refused to translate. A text that is itself a refusal may be translated as one."""
    return any(is_refusal(translation, code) for code in {source, target, "en"}) and not is_refusal(text, source)
