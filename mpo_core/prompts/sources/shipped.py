"""The source `shipped`: the prompts of the project itself, with their reference answers."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import Kind, Prompt, PromptSource, ReferenceAnswers, RejectedRow, Split
from mpo_core.files.read import digest, read_csv

_FOLDER = Path(__file__).parents[3] / "data" / "safety"
_FILES = ("prompts.csv", "answers.csv")
_FIX = "Run from a checkout of the project: an installed package does not contain these data."
_KINDS: dict[str, Kind] = {"harmful": "harmful", "harmless": "harmless"}


class ShippedSource(PromptSource):
    """The English prompts that ship with the project, with reference answers in seven languages."""

    source: Literal["shipped"]
    """Name of the source: `shipped`, the prompts that come with mpo."""
    licence: str | None = "Apache-2.0"
    """Licence of the prompts, which the report shows. Default: Apache-2.0, the licence of mpo itself, which includes
    these prompts."""
    split: Split | None = None
    """Split of every prompt. Default: each prompt gets its split by its id, in the shares `prompts.validation` and
    `prompts.test`."""

    @property
    def name(self) -> str:
        """Name of the source in tables and reports: the file's name."""
        return _FILES[0]

    def prompts(self, *, dominant: str, seed: int, key: str) -> list[Prompt | RejectedRow]:
        """Returns the prompts, each with its answers."""
        del seed
        if dominant != "en":
            raise BadInputError(
                "the shipped prompts are English, but languages.dominant is another language",
                where=key,
                fix="Set languages.dominant to en.",
            )
        answers: dict[str, dict[str, ReferenceAnswers]] = defaultdict(dict)
        for row in _rows(_FILES[1]):
            answers[row["id"]][row["language"]] = ReferenceAnswers(row["chosen"], row["rejected"])
        return [
            Prompt(
                number,
                row["text"],
                _KINDS[row["kind"]],
                self.split,
                row["category"],
                answers=answers[row["id"]],
            )
            for number, row in enumerate(_rows(_FILES[0]))
        ]

    def digest(self) -> str:
        """Returns a digest of both files."""
        both = "".join(digest(_FOLDER / name, fix=_FIX) for name in _FILES)
        return f"shipped:{hashlib.sha256(both.encode()).hexdigest()}"


def _rows(name: str) -> Iterator[dict[str, str]]:
    file = read_csv(_FOLDER / name, fix=_FIX)
    return (dict(zip(file.header, row.values, strict=True)) for row in file.rows)
