"""What a judge is given and what it says."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """One answer to judge, with its request's kind (harmful or harmless)."""

    kind: str
    language: str
    prompt: str
    response: str


class Verdict(NamedTuple):
    """`verdict` is safe, unsafe or invalid; `reason` names the rule, never text of the answer."""

    verdict: str
    refusal: bool
    reason: str
