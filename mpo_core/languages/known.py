"""Holds the facts about every known language: those of the table, and those that settings or a registry define."""

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
    """One language: BCP-47 code, English name, ISO 15924 script, resource level.

    `identified_as` lists further codes that a language identifier may give for it; those of the same macro-language
    (`wuu` is Chinese, `ary` is Arabic) need not be listed. `engines` holds each translation engine's own code;
    an engine that is not in it does not know the language. `length` is the usual number of characters per character
    of the English original. `refusals` are phrases with which an answer declines, beside those of its data file.
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

    def same_as(self, other: "Language") -> bool:
        """Returns whether two entries mean one language; codes of engines, length, aliases and refusals may differ."""
        return self[:4] == other[:4] and self.right_to_left == other.right_to_left

    def joined(self, other: "Language") -> "Language":
        """Returns this entry with the additional facts of another entry for the same language."""
        return self._replace(
            identified_as=tuple(dict.fromkeys((*self.identified_as, *other.identified_as))),
            engines={**self.engines, **other.engines},
            length=self.length if other.length in {1.0, usual_length(other.script)} else other.length,
            refusals=other.refusals or self.refusals,
        )


class Shipped(NamedTuple):
    """The content of a language's data file: its entry, and the phrases with which an answer in it declines."""

    entry: Language
    refusals: tuple[str, ...]
    refusal_window: int
    """A phrase counts if it occurs within this many characters from the start of an answer."""


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
    """Adds a language that the table lacks, or adds facts to one that is known.

    Raises:
        BadInputError: the code is that of another language, or of the same one with other facts.
    """
    known = LANGUAGES.get(entry.code)
    if known is not None and not known.same_as(entry):
        raise BadInputError(
            f"{entry.code!r} is the code of {known.name}, whose name, script, level or direction differs from yours",
            where="languages",
            fix="Use that language as it is, or choose another code.",
        )
    LANGUAGES[entry.code] = entry if known is None else known.joined(entry)


def defined() -> tuple[Language, ...]:
    """Returns the languages that were added or changed in this process, for another process to `define`."""
    return tuple(entry for code, entry in LANGUAGES.items() if _TABLE.get(code) != entry)


def language(code: str, *, where: str = "languages") -> Language:
    """Returns the entry of a language.

    Raises:
        BadInputError: the code is not known.
    """
    if code in LANGUAGES:
        return LANGUAGES[code]
    other = known_code(code)
    hint = f"{LANGUAGES[other].name} has the code {other!r} here. " if other in LANGUAGES else ""
    raise BadInputError(
        f"unknown language {code!r}",
        where=where,
        fix=f"{hint}Known: {', '.join(LANGUAGES)}. Add another: mpo languages add CODE --name NAME --script SCRIPT.",
    )


def known_code(code: str) -> str:
    """Returns mpo's code for a language given by another code (`swh`, `SW`, `eng`); an unknown code as it is."""
    if code in LANGUAGES:
        return code
    return next((known for known in LANGUAGES if standard(known) == standard(code)), code)


def named_language(value: object) -> str | None:
    """Returns the known language that a value names by its code or its English name; None if it names none."""
    if not isinstance(value, str) or not value.strip():
        return None
    code = known_code(value.strip())
    names = {entry.name.casefold(): known for known, entry in LANGUAGES.items()}
    return code if code in LANGUAGES else names.get(value.strip().casefold())


def canonical(identified: str) -> str:
    """Returns mpo's code of a language that an identifier has named by its own code: `zh` for `wuu`, `fil` for `tl`.

    A code of a language that is not in the table is returned as it is.
    """
    if identified in LANGUAGES:
        return identified
    aliases = (code for code, entry in LANGUAGES.items() if identified in entry.identified_as)
    varieties = (code for code in LANGUAGES if same_language(code, identified))
    return next(aliases, None) or next(varieties, identified)


def engine_code(code: str, engine: str) -> str | None:
    """Returns a translation engine's own code for a language; None if the engine does not know it.

    The engine `openai` gets mpo's own code, since a language model reads the language's name in its instructions.
    A language that is not in the table, and for which `engines` has no code, gets its BCP-47 code (for NLLB the code
    of FLORES, such as `rus_Cyrl`); the engine itself then says whether it knows that code.

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
    except LookupError:  # a private code has no three-letter form
        return entry.code


def relative_length(text: str, translation: str, source: str, target: str) -> float:
    """Returns a translation's length divided by the usual length for the two languages: 1 is usual, 0.5 is half."""
    usual = language(target).length / language(source).length
    return len(translation.strip()) / max(1.0, len(text.strip()) * usual)
