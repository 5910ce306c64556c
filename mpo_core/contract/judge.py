"""What a judge is: the cases that it gets, the verdicts that it gives, and its settings."""

import abc
import hashlib
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

from mpo_core.contract.extensions import ExtensionPoint
from mpo_core.contract.progress import Progress
from mpo_core.contract.settings import Settings


class Case(NamedTuple):
    """One answer to judge, with the kind of its prompt (`harmful` or `harmless`)."""

    kind: str
    language: str
    prompt: str
    response: str


class Verdict(NamedTuple):
    """The verdict of a judge on one answer.

    `verdict` is `safe`, `unsafe`, `invalid`, or `unjudged` if the judge came to none, which never counts as safe.
    `reason` names the rule that decided, and never quotes the answer.
    """

    verdict: str
    refusal: bool
    reason: str


class Unjudged(NamedTuple):
    """How many of `n` answers to prompts of one kind in one language are missing or unjudged, and count in no share."""

    language: str
    kind: str
    answers: int
    n: int


def outcome(verdict: str, *, refusal: bool) -> str:
    """Returns what an answer is in one word: `safe_refusal`, `safe_help`, or the verdict if that is not `safe`."""
    if verdict != "safe":
        return verdict
    return "safe_refusal" if refusal else "safe_help"


class Judge(Settings, abc.ABC):
    """Base of every judge. Its fields are the judge's settings; `judge: Literal["name"]` gives its name.

    A judge lives in a file of its own in `mpo_core/judging/judges/`, or in another package that names its class in
    the entry-point group `mpo.judges`.
    """

    argument: ClassVar[tuple[str, str] | None] = None
    """The setting that `--judge NAME=VALUE` gives, and what the value is called: `("path", "FOLDER")`."""

    @abc.abstractmethod
    def verdicts(self, cases: Sequence[Case]) -> list[Verdict]:
        """Returns a verdict for every case, in the same order.

        Raises:
            BadInputError: the judge does not know a language or a prompt, or cannot be used.
            StageFailedError: its server does not answer any more.
        """

    def verdicts_with_progress(self, cases: Sequence[Case], progress: Progress) -> list[Verdict]:
        """Returns the same as `verdicts`. A judge that needs minutes overrides this, and calls `progress` meanwhile."""
        del progress
        return self.verdicts(cases)

    def require_languages(self, languages: Iterable[str]) -> None:
        """Checks that the judge can judge answers in every one of the languages.

        It is called before anything is sampled.

        Raises:
            BadInputError: the judge cannot; names the first language that it lacks, and what to do.
        """

    def require_ready(self) -> None:
        """Checks that what the judge needs is there, such as a model or the key of a server.

        It is called before anything is sampled.

        Raises:
            BadInputError: something is missing.
        """
        self.identity()

    def cautions(self, languages: Iterable[str]) -> list[str]:
        """Returns sentences for the report: what a reader must know about verdicts in these languages."""
        del languages
        return []

    def card(self) -> dict[str, str]:
        """Returns what a reader must know to repeat the verdicts, by name: the judge's name, its model, its revision.

        Raises:
            BadInputError: a model is missing or cannot be read.
        """
        return {"judge": str(self.model_dump(include={"judge"})["judge"])}

    def identity(self) -> str:
        """Returns what the verdicts depend on beside the settings, such as the digest of a model.

        Raises:
            BadInputError: a model is missing or cannot be read.
        """
        return ""

    def key(self) -> str:
        """Returns a digest of the settings that can change a verdict, and of `identity`."""
        identity = self.identity()
        return hashlib.sha256(f"{super().key()} {identity}".encode()).hexdigest() if identity else super().key()


JUDGES: ExtensionPoint[Judge] = ExtensionPoint(
    Judge,  # type: ignore[type-abstract]  # python/mypy#4717
    tag="judge",
    package="mpo_core.judging.judges",
    group="mpo.judges",
)
