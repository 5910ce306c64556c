"""What is known of a language: those of the table, and those that settings or a root's registry define."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import langcodes
import yaml

from mpo_core.contract.errors import BadInputError
from mpo_core.languages.scripts import usual_length
from mpo_core.languages.tags import same_language, standard

Resource = Literal["high", "medium", "low"]


class Language(NamedTuple):
    """One language: BCP-47 code, names, ISO 15924 script, resource level.

    `identified_as` lists further codes by which a language identifier may name it; those of the same macro-language
    (`wuu` is Chinese, `ary` is Arabic) are known without. `engines` has each translation engine's own code;
    an engine that is not there does not know the language. `length` is the usual number of characters for one
    of the English original. `refusals` are phrases by which an answer declines, beside those of its data file.
    """

    code: str
    name: str
    script: str
    resource: Resource
    identified_as: tuple[str, ...] = ()
    right_to_left: bool = False
    engines: Mapping[str, str] = {}
    length: float = 1.0
    refusals: tuple[str, ...] = ()

    def same_as(self, other: Language) -> bool:
        """Whether both mean one language: engines' codes, length, aliases and refusals are what is known of it."""
        return self[:4] == other[:4] and self.right_to_left == other.right_to_left

    def joined(self, other: Language) -> Language:
        """The same language with what the other entry knows beside."""
        return self._replace(
            identified_as=tuple(dict.fromkeys((*self.identified_as, *other.identified_as))),
            engines={**self.engines, **other.engines},
            length=self.length if other.length in {1.0, usual_length(other.script)} else other.length,
            refusals=other.refusals or self.refusals,
        )


class Shipped(NamedTuple):
    """A language's data file: its entry, and the phrases by which an answer in it declines."""

    entry: Language
    refusals: tuple[str, ...]
    refusal_window: int
    """Characters from the start of an answer in which a phrase counts."""


def _shipped(file: Path) -> Shipped:
    facts = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    phrases, window = facts.pop("refusals"), facts.pop("refusal_window")
    return Shipped(Language(code=file.stem, **facts), tuple(phrases), window)


SHIPPED = {file.stem: _shipped(file) for file in sorted((Path(__file__).parent / "table").glob("*.yaml"))}
"""The languages of the table, one data file each; `table/README.md` explains the keys."""

LANGUAGES: dict[str, Language] = {
    entry.code: entry
    for level in get_args(Resource)
    for entry in (shipped.entry for shipped in SHIPPED.values())
    if entry.resource == level
}


_TABLE = dict(LANGUAGES)
ENGINES = tuple(sorted({engine for entry in _TABLE.values() for engine in entry.engines}))
"""Translation engines that have codes of their own for languages."""


def define(entry: Language) -> None:
    """Makes a language known that the table lacks, or adds to what is known of one.

    Raises:
        BadInputError: the code is known as something else.
    """
    known = LANGUAGES.get(entry.code)
    if known is not None and not known.same_as(entry):
        raise BadInputError(
            f"{entry.code!r} is known as {known.name}, with other facts",
            where="languages",
            fix="Use it as it is, or take another code.",
        )
    LANGUAGES[entry.code] = entry if known is None else known.joined(entry)


def defined() -> tuple[Language, ...]:
    """The languages that this process knows beyond the table, for another process to `define`."""
    return tuple(entry for code, entry in LANGUAGES.items() if _TABLE.get(code) != entry)


def language(code: str, *, where: str = "languages") -> Language:
    """The entry of `code`.

    Raises:
        BadInputError: the code is not known.
    """
    if code in LANGUAGES:
        return LANGUAGES[code]
    other = known_code(code)
    hint = f"It is {LANGUAGES[other].name}, which is called {other!r} here. " if other in LANGUAGES else ""
    raise BadInputError(
        f"unknown language {code!r}",
        where=where,
        fix=f"{hint}Known: {', '.join(LANGUAGES)}. Add another: mpo languages add CODE --name NAME --script SCRIPT.",
    )


def known_code(code: str) -> str:
    """Returns our code for a language that is named by another one (`swh`, `SW`, `eng`); an unknown code stays."""
    if code in LANGUAGES:
        return code
    return next((known for known in LANGUAGES if standard(known) == standard(code)), code)


def canonical(identified: str) -> str:
    """Our code for what a language identifier said (`wuu` → `zh`, `tl` → `fil`); unknown codes stay."""
    if identified in LANGUAGES:
        return identified
    named = (code for code, entry in LANGUAGES.items() if identified in entry.identified_as)
    alike = (code for code in LANGUAGES if same_language(code, identified))
    return next(named, None) or next(alike, identified)


def engine_code(code: str, engine: str) -> str | None:
    """What a translation engine calls the language; None if it does not know it.

    A language model is told the language's name, so `openai` knows them all by our codes.
    A language beyond the table is called by its own code (NLLB: by that of FLORES, such as `rus_Cyrl`) where its
    `engines` name none: the engine itself says whether that is right.

    Raises:
        BadInputError: the language is not known.
    """
    entry = language(code, where="translation")
    if engine == "openai":
        return code
    if engine in entry.engines or code in _TABLE:
        return entry.engines.get(engine)
    return _flores(entry) if engine == "nllb" else code


def _flores(entry: Language) -> str:
    try:
        return f"{langcodes.Language.get(entry.code).to_alpha3()}_{entry.script}"
    except LookupError:  # a private code has none
        return entry.code


def relative_length(text: str, translation: str, source: str, target: str) -> float:
    """Length over what is usual between the two languages: 1 is usual, 0.5 half of it."""
    usual = language(target).length / language(source).length
    return len(translation.strip()) / max(1.0, len(text.strip()) * usual)
