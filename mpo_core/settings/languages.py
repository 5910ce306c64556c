"""Which languages a run is about."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from mpo_core.contract.settings import Settings
from mpo_core.languages.known import ENGINES, Language, Resource, define, language
from mpo_core.languages.refusals import normalised
from mpo_core.languages.scripts import is_script, usual_length
from mpo_core.languages.tags import is_code

_CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_LONGEST_NAME = 60


def check_code(code: str) -> str:
    """Checks that a code is a registered BCP-47 code, and returns it.

    Raises:
        ValueError: it is malformed, or not registered.
    """
    if not _CODE.fullmatch(code) or not is_code(code):
        raise ValueError(
            "not a BCP-47 language code, such as sw, fil, zh-TW or sr-Latn (qaa to qtz are for private use)"
        )
    return code


class DefinedLanguage(Settings):
    """Facts of a language that the table in `mpo_core/languages/known.py` lacks, or that complete its entry there."""

    code: str
    """BCP-47 code, such as fil, zh-TW or sr-Latn."""
    name: str
    """Its English name."""
    script: str
    """ISO 15924 code of its script, such as Cyrl; any script of Unicode that has letters."""
    resource: Resource = "low"
    """How much text of it there is: high, medium or low. Default: low."""
    identified_as: list[str] = Field([])
    """Further codes that a language identifier may give for it; those of its macro-language need not be listed.
    Default: none."""
    right_to_left: bool = False
    """Whether it is written from right to left. Default: false."""
    engines: dict[str, str] = Field({})
    """Each translation engine's own code for it, such as `google: iw`. Default: `code`, for every engine."""
    length: float | None = Field(None, gt=0.0)
    """Usual number of characters of a translation per character of its English original. Default: that of its script,
    such as 0.32 for Hant."""
    refusals: list[str] = Field([])
    """Phrases by which an answer declines; the judge `refusal_rules` needs some for a language that mpo does not know.
    Default: none."""

    _code = field_validator("code")(check_code)

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
            raise ValueError(f"a name is 1 to {_LONGEST_NAME} printable characters on one line")
        return name

    @field_validator("script")
    @classmethod
    def _script(cls, script: str) -> str:
        if not re.fullmatch("[A-Z][a-z]{3}", script) or not is_script(script):
            raise ValueError("not a script of Unicode; give an ISO 15924 code, such as Latn, Cyrl, Deva or Ethi")
        return script

    @field_validator("engines")
    @classmethod
    def _engines(cls, engines: dict[str, str]) -> dict[str, str]:
        for engine, code in engines.items():
            if engine not in ENGINES or not code.strip() or not code.isprintable():
                raise ValueError(f"an engine's code is written ENGINE=CODE, with an engine of {', '.join(ENGINES)}")
        return engines

    @field_validator("refusals")
    @classmethod
    def _refusals(cls, phrases: list[str]) -> list[str]:
        for number, phrase in enumerate(phrases, start=1):
            if len(normalised(phrase)) < 2:  # noqa: PLR2004 - a single letter is in every answer
                raise ValueError(f"refusal phrase {number} has fewer than two letters")
        return phrases

    @property
    def entry(self) -> Language:
        """The language as an entry of the table of known languages."""
        lists = {"identified_as": tuple(self.identified_as), "refusals": tuple(self.refusals)}
        length = usual_length(self.script) if self.length is None else self.length
        return Language(**self.model_dump() | lists | {"length": length})

    @classmethod
    def of(cls, entry: Language) -> "DefinedLanguage":
        """Makes the facts of an entry of the table of known languages."""
        lists = {"identified_as": list(entry.identified_as), "refusals": list(entry.refusals)}
        return cls(**entry._asdict() | lists | {"engines": dict(entry.engines)})

    def define(self) -> None:
        """Makes the language known in this process.

        Raises:
            BadInputError: the code is known as something else.
        """
        define(self.entry)


class LanguageSettings(Settings):
    """Which language leads and which follow."""

    defined: list[DefinedLanguage] = Field([])
    """Languages that are not in mpo's own table, each with its facts. `mpo languages add` registers such a language for
    all runs with the same `run.root`. Default: none."""

    dominant: str = "en"
    """Code of the language in which the model is already safe. Default: en."""
    targets: list[str] = Field(default_factory=lambda: ["zh", "ja", "ko", "ar", "bn", "sw"], min_length=1)
    """Codes of the languages to be made as safe as the dominant one. Default: [zh, ja, ko, ar, bn, sw]."""
    without_pairs: list[str] = Field([])
    """Codes of targets that get no training pairs: their prompts are translated, and the model is evaluated in them.
    Default: none."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        for facts in self.defined:
            facts.define()
        language(self.dominant, where="languages.dominant")
        for code in self.targets:
            language(code, where="languages.targets")
        if self.dominant in self.targets:
            raise ValueError(f"the dominant language {self.dominant!r} is among the targets")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("a target language is listed twice")
        if unknown := sorted({*self.without_pairs} - {*self.targets}):
            raise ValueError(f"`without_pairs` names {', '.join(unknown)}, which is not among the targets")
        if not self.with_pairs:
            raise ValueError("`without_pairs` names every target, so nothing is left to train on")
        return self

    @property
    def with_pairs(self) -> list[str]:
        """Codes of the targets that get training pairs."""
        return [code for code in self.targets if code not in self.without_pairs]
