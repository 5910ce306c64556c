"""Counts of the pairs of a training that were cut at `training.cutoff`, by language."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from mpo_core.contract.errors import quantity
from mpo_core.training.encoding import Cut

WARN_ABOVE = 0.05
"""Share of pairs, of all or of one language, above which a cut is worth a warning."""


class LanguageCuts(BaseModel):
    """Counts the pairs of one language and those that were cut; a dominant pair counts once."""

    pairs: int = 0
    cut: int = 0
    """Pairs that lost anything."""
    prompt_cut: int = 0
    """Pairs whose prompt lost tokens."""
    answer_cut: int = 0
    """Pairs with an answer that lost tokens of its text."""
    end_lost: int = 0
    """Pairs with an answer that lost its end-of-turn token: the model is not taught to end there."""

    def add(self, cut: Cut) -> None:
        """Adds a pair."""
        self.pairs += 1
        self.cut += any(cut)
        self.prompt_cut += cut.prompt
        self.answer_cut += cut.answer
        self.end_lost += cut.end


class Cuts(BaseModel):
    """Holds the counts of a training's pairs."""

    languages: dict[str, LanguageCuts] = {}

    def add(self, language: str, cut: Cut) -> None:
        """Adds a pair of a language."""
        self.languages.setdefault(language, LanguageCuts()).add(cut)

    @property
    def total(self) -> LanguageCuts:
        """Returns the sums over all languages."""
        names = LanguageCuts.model_fields
        return LanguageCuts(**{n: sum(getattr(counts, n) for counts in self.languages.values()) for n in names})

    def counts(self) -> dict[str, int]:
        """Returns the totals by name, such as `prompt_cut`, for a stage's counts."""
        return {name: count for name, count in self.total.model_dump().items() if name != "pairs"}

    def figures(self) -> dict[str, int]:
        """Returns the counts for the training's log: `cut/prompt_cut` over all languages, `cut/prompt_cut/sw`."""
        figures = {f"cut/{name}": count for name, count in self.total.model_dump().items()}
        for language, counts in sorted(self.languages.items()):
            figures |= {f"cut/{name}/{language}": count for name, count in counts.model_dump().items()}
        return figures

    @classmethod
    def of_figures(cls, figures: Mapping[str, float]) -> Cuts:
        """Makes the counts of the figures in a training's log, which `figures` has written; skips other figures."""
        languages: dict[str, dict[str, int]] = {}
        for name, count in figures.items():
            parts = name.split("/")
            if parts[0] == "cut" and len(parts) == 3:  # noqa: PLR2004 - cut, which count, language
                languages.setdefault(parts[2], {})[parts[1]] = int(count)
        return cls(languages={code: LanguageCuts(**counts) for code, counts in languages.items()})

    def warning(self, cutoff: int) -> str | None:
        """Returns a sentence where more than `WARN_ABOVE` of all pairs, or of one language's, were cut; else None.

        Languages are looked at one by one too: in a script that takes many tokens, many pairs may be cut, even if few
        pairs of all languages are.
        """
        total = self.total
        if not any(counts.cut > WARN_ABOVE * counts.pairs for counts in (total, *self.languages.values())):
            return None
        by_language = ", ".join(
            f"{code} {counts.cut}/{counts.pairs}" for code, counts in sorted(self.languages.items()) if counts.cut
        )
        return (
            f"{total.cut} of {total.pairs} pairs ({total.cut / total.pairs:.0%}) were cut at training.cutoff {cutoff}: "
            f"{quantity(total.prompt_cut, 'prompt')}, {quantity(total.answer_cut, 'answer')}, "
            f"{quantity(total.end_lost, 'end token')} ({by_language}). "
            "Raise training.cutoff, or shorten these texts."
        )
