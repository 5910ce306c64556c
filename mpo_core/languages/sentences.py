"""Splits a text into sentences at the full stops of its script, but not after abbreviations, initials and numbers."""

import re
from typing import NamedTuple

_CLOSERS = "\"'”’»)\\]}）】」』*_"
_END = re.compile(rf"[.!?…।॥۔؟።՞]+[{_CLOSERS}]*(?=\s)|[。！？｡]+[{_CLOSERS}]*")
_PAUSE = re.compile(r"[,;،؛](?=\s)|[，；、]")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“‘])(?:[A-Z]|mr|mrs|ms|dr|prof|st|jr|sr|vs|etc|e\.g|i\.e|cf|no|nr|fig|vol|approx|dept|inc|ltd|co|gen|col"
    r"|capt|sgt|rev|hon|gov|sen|rep|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|a\.m|p\.m|u\.s|u\.k|z\.b|d\.h|bzw|ca"
    r"|sig|dott|ing|pag|tp)\.$",
    re.IGNORECASE,
)
_VISIBLE = re.compile(r"\S")
_LONGEST_ABBREVIATION = 16
"""An abbreviation is searched for within this many characters before a full stop."""


class Sentence(NamedTuple):
    """A sentence, and the white space before it."""

    gap: str
    text: str


def split_sentences(text: str) -> list[Sentence]:
    """Splits a text into sentences; gaps and texts joined give the text again, unless it is blank."""
    sentences: list[Sentence] = []
    start = 0
    for end in _END.finditer(text):
        following = _VISIBLE.search(text, end.end())
        if following is not None and not _goes_on(text, end, following.group()):
            sentences.append(_sentence(text[start : end.end()]))
            start = end.end()
    last = _sentence(text[start:])
    return [*sentences, last] if last.text else sentences


def count_sentences(text: str) -> int:
    """Counts the sentences that have letters, in all lines of a text."""
    return sum(any(map(str.isalpha, s.text)) for line in text.splitlines() for s in split_sentences(line))


def count_clauses(text: str) -> int:
    """Counts the parts of a text between full stops and commas: as many as before, if commas join its sentences."""
    return count_sentences(text) + len(_PAUSE.findall(text))


def _sentence(text: str) -> Sentence:
    plain = text.lstrip()
    return Sentence(text[: len(text) - len(plain)], plain)


def _goes_on(text: str, end: re.Match[str], following: str) -> bool:
    """Returns whether a sentence continues after a full stop: a small letter follows, or it ends an abbreviation."""
    if following.islower():
        return True
    if not end.group().startswith("."):
        return False
    return _ABBREVIATION.search(text[max(0, end.start() - _LONGEST_ABBREVIATION) : end.start() + 1]) is not None
