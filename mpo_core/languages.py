"""What is known of a language. Adding one is one line here."""

from __future__ import annotations

from typing import Literal, NamedTuple

from mpo_core.errors import BadInputError

Resource = Literal["high", "medium", "low"]


class Language(NamedTuple):
    """One language: BCP-47 code, names, ISO 15924 script, resource level.

    `identified_as` lists the codes by which a language identifier may name it
    (macro-languages: `wuu` is Chinese, `ary` is Arabic).
    """

    code: str
    name: str
    script: str
    resource: Resource
    identified_as: tuple[str, ...] = ()
    right_to_left: bool = False


# Resource levels follow MultiJail (Deng et al., 2024, table 1), by share of CommonCrawl.
LANGUAGES: dict[str, Language] = {
    language.code: language
    for language in (
        Language("en", "English", "Latn", "high"),
        Language("zh", "Chinese", "Hans", "high", ("wuu", "yue")),
        Language("it", "Italian", "Latn", "high"),
        Language("vi", "Vietnamese", "Latn", "high"),
        Language("ja", "Japanese", "Jpan", "high"),
        Language("ar", "Arabic", "Arab", "medium", ("ary", "arz", "apc", "acm"), right_to_left=True),
        Language("ko", "Korean", "Hang", "medium"),
        Language("th", "Thai", "Thai", "medium"),
        Language("bn", "Bengali", "Beng", "low"),
        Language("sw", "Swahili", "Latn", "low", ("swh", "swc")),
        Language("jv", "Javanese", "Latn", "low"),
    )
}


def define(entry: Language) -> None:
    """Makes a language known that the table above lacks.

    Raises:
        BadInputError: the code is known as something else.
    """
    if LANGUAGES.setdefault(entry.code, entry) != entry:
        raise BadInputError(
            f"{entry.code!r} is known as {LANGUAGES[entry.code].name}, with other facts",
            where="languages",
            mend="Use it as it is, or take another code.",
        )


def language(code: str, *, where: str = "languages") -> Language:
    """The entry of `code`.

    Raises:
        BadInputError: the code is not known.
    """
    try:
        return LANGUAGES[code]
    except KeyError:
        known = ", ".join(LANGUAGES)
        raise BadInputError(f"unknown language {code!r}", where=where, mend=f"Known: {known}.") from None


def canonical(identified: str) -> str:
    """Our code for what a language identifier said (`wuu` → `zh`); unknown codes stay."""
    for entry in LANGUAGES.values():
        if identified in entry.identified_as:
            return entry.code
    return identified
