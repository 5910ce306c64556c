"""How many pairs of a training were cut at `training.cutoff`, by language."""

from __future__ import annotations

from pydantic import BaseModel

from mpo_core.training.encoding import Cut

WARN_ABOVE = 0.05
"""Share of pairs with a cut from which on a user is warned."""


class LanguageCuts(BaseModel):
    """Pairs of one language, and how many of them were cut; a dominant pair counts once."""

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
        """Counts a pair in."""
        self.pairs += 1
        self.cut += any(cut)
        self.prompt_cut += cut.prompt
        self.answer_cut += cut.answer
        self.end_lost += cut.end


class Cuts(BaseModel):
    """The counts of a training's pairs."""

    languages: dict[str, LanguageCuts] = {}

    def add(self, language: str, cut: Cut) -> None:
        """Counts a pair in."""
        self.languages.setdefault(language, LanguageCuts()).add(cut)

    @property
    def total(self) -> LanguageCuts:
        """The sums over all languages."""
        names = LanguageCuts.model_fields
        return LanguageCuts(**{n: sum(getattr(counts, n) for counts in self.languages.values()) for n in names})

    def counts(self) -> dict[str, int]:
        """The totals by name, such as `prompt_cut`; for a stage's counts."""
        return {name: count for name, count in self.total.model_dump().items() if name != "pairs"}

    def figures(self) -> dict[str, int]:
        """Totals, and by language what was cut, as `cut/prompt_cut` and `cut/prompt_cut/sw`; for the training's log."""
        found = {f"cut/{name}": count for name, count in self.total.model_dump().items()}
        for language, counts in sorted(self.languages.items()):
            found |= {f"cut/{name}/{language}": count for name, count in counts.model_dump().items()}
        return found

    def warning(self, cutoff: int) -> str | None:
        """A sentence, where more pairs than `WARN_ABOVE` were cut."""
        total = self.total
        if total.cut <= WARN_ABOVE * total.pairs:
            return None
        by_language = ", ".join(
            f"{code} {one.cut}/{one.pairs}" for code, one in sorted(self.languages.items()) if one.cut
        )
        return (
            f"{total.cut} of {total.pairs} pairs ({total.cut / total.pairs:.0%}) were cut at training.cutoff {cutoff}: "
            f"{total.prompt_cut} prompts, {total.answer_cut} answers, {total.end_lost} end tokens ({by_language}). "
            "Raise training.cutoff, or shorten these texts."
        )
