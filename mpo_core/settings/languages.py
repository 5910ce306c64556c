"""Which languages a run is about."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from mpo_core.languages import Language, Resource, define, language
from mpo_core.settings.base import Settings


class DefinedLanguage(Settings):
    """Facts of a language that the table in `mpo_core/languages.py` lacks."""

    code: str = Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
    """BCP-47 code."""
    name: str = Field(min_length=1)
    """Its English name."""
    script: str = Field(pattern=r"^[A-Z][a-z]{3}$")
    """ISO 15924 code of its script, such as Latn."""
    resource: Resource = "low"
    """How much text of it there is: high, medium or low."""
    identified_as: list[str] = Field([])
    """Codes by which a language identifier may name it."""
    right_to_left: bool = False
    """Whether it is written from right to left."""
    engines: dict[str, str] = Field({})
    """Each translation engine's own code for it; left out: `code` everywhere."""
    length: float = Field(1.0, gt=0.0)
    """Usual number of characters for one of the English original."""

    @property
    def entry(self) -> Language:
        """As the table has it."""
        facts = self.model_dump() | {"identified_as": tuple(self.identified_as)}
        return Language(**facts)


class LanguageSettings(Settings):
    """Which language leads and which follow."""

    defined: list[DefinedLanguage] = Field([])
    """Languages that the table lacks; `mpo languages add` registers them for a root."""

    dominant: str = "en"
    """Language in which the model is already safe."""
    targets: list[str] = Field(default_factory=lambda: ["zh", "ja", "ko", "ar", "bn", "sw"], min_length=1)
    """Languages to be made as safe."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        for one in self.defined:
            define(one.entry)
        language(self.dominant, where="languages.dominant")
        for code in self.targets:
            language(code, where="languages.targets")
        if self.dominant in self.targets:
            raise ValueError(f"the dominant language {self.dominant!r} is among the targets")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("a target language is listed twice")
        return self
