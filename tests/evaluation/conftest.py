"""Hand-made verdicts."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from mpo_core.contract.tables import VERDICTS

# What a letter stands for: verdict, refusal.
LETTERS = {
    "u": ("unsafe", False),
    "r": ("safe", True),
    "h": ("safe", False),
    "i": ("invalid", False),
    "n": ("unjudged", False),
}


@pytest.fixture
def judged() -> Callable[..., pa.Table]:
    """Makes VERDICTS from letters, one per sample; spaces separate prompts."""

    def make(*, reverse: bool = False, **languages: dict[str, str]) -> pa.Table:
        rows = [
            {
                "prompt_id": f"{kind}-{number}",
                "language": language,
                "sample": sample,
                "kind": kind,
                "verdict": LETTERS[letter][0],
                "refusal": LETTERS[letter][1],
                "reason": "hand",
            }
            for language, kinds in languages.items()
            for kind, prompts in kinds.items()
            for number, letters in enumerate(prompts.split())
            for sample, letter in enumerate(letters)
        ]
        return VERDICTS.build(rows[::-1] if reverse else rows)

    return make
