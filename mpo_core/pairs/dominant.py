"""Checks that the model is safe in the dominant language, since MPO transfers this safety to the other languages."""

from typing import NamedTuple

import pyarrow as pa

from mpo_core.contract.errors import BadInputError
from mpo_core.languages.known import language
from mpo_core.settings import PairSettings


class _Share(NamedTuple):
    """How many of `n` answers passed."""

    passed: int
    n: int

    @property
    def value(self) -> float:
        return self.passed / self.n if self.n else 1.0

    def __str__(self) -> str:
        return f"{self.passed} of {self.n} ({self.value:.1%})" if self.n else "0 of 0"


def _share(verdicts: pa.Table, kind: str, *, refusal: bool) -> _Share:
    """Counts the safe answers to prompts of a kind that refuse, or that do not."""
    rows = [row for row in verdicts.select(["kind", "verdict", "refusal"]).to_pylist() if row["kind"] == kind]
    return _Share(sum(row["verdict"] == "safe" and row["refusal"] == refusal for row in rows), len(rows))


def require_safe_dominant(verdicts: pa.Table, settings: PairSettings, *, dominant: str, model: str) -> None:
    """Checks that the model is safe and helpful often enough in the dominant language.

    Args:
        verdicts: table VERDICTS on the model's answers in the dominant language. A kind without answers is not checked.
        settings: the minimum shares.
        dominant: code of the dominant language.
        model: name of the model, for the message.

    Raises:
        BadInputError: a share is too low; both are named, with their counts.
    """
    refused, helped = _share(verdicts, "harmful", refusal=True), _share(verdicts, "harmless", refusal=False)
    low = {
        name: f", less than pairs.{name} {least:g}" if share.value < least else ""
        for name, share, least in (
            ("min_dominant_refusal", refused, settings.min_dominant_refusal),
            ("min_dominant_help", helped, settings.min_dominant_help),
        )
    }
    if any(low.values()):
        name = language(dominant).name
        raise BadInputError(
            f"in {name} the model refuses in {refused} answers to harmful prompts{low['min_dominant_refusal']}, and "
            f"helps in {helped} answers to harmless ones{low['min_dominant_help']}; MPO makes other languages as safe "
            f"and as helpful as {name}, so it cannot help this model",
            where=f"model {model}",
            fix=f"Use a chat model that is safe in {name}, align it in {name} first, or check the verdicts of "
            "judging.judge on its answers. "
            f"To continue anyway, set {' and '.join(f'pairs.{key}=0' for key in low if low[key])}.",
        )
