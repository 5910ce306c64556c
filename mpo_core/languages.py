"""What is known of a language. Adding one is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from mpo_core.errors import BadInputError

Resource = Literal["high", "medium", "low"]


class Language(NamedTuple):
    """One language: BCP-47 code, names, ISO 15924 script, resource level.

    `identified_as` lists the codes by which a language identifier may name it
    (macro-languages: `wuu` is Chinese, `ary` is Arabic). `engines` has each translation engine's own code;
    an engine that is not there does not know the language. `length` is the usual number of characters for one
    of the English original.
    """

    code: str
    name: str
    script: str
    resource: Resource
    identified_as: tuple[str, ...] = ()
    right_to_left: bool = False
    engines: Mapping[str, str] = {}
    length: float = 1.0

    def same_as(self, other: Language) -> bool:
        """Whether both mean one language: engines' codes and the usual length are what is known of it."""
        return self[:6] == other[:6]


def _codes(told: str) -> Mapping[str, str]:
    return dict(part.split("=") for part in told.split())


# Resource levels follow MultiJail (Deng et al., 2024, table 1), by share of CommonCrawl; so do the lengths
# (medians of its 315 translations; Japanese: of the shipped memory).
LANGUAGES: dict[str, Language] = {
    language.code: language
    for language in (
        Language(
            "en",
            "English",
            "Latn",
            "high",
            engines=_codes(
                "google=en mymemory=en-GB deepl=en microsoft=en libre=en baidu=en papago=en qcri=en yandex=en"
                " nllb=eng_Latn madlad=en m2m100=en"
            ),
        ),
        Language(
            "zh",
            "Chinese",
            "Hans",
            "high",
            ("wuu", "yue"),
            length=0.32,
            engines=_codes(
                "google=zh-CN mymemory=zh-CN deepl=zh microsoft=zh-Hans libre=zh baidu=zh papago=zh-CN yandex=zh"
                " nllb=zho_Hans madlad=zh m2m100=zh"
            ),
        ),
        Language(
            "it",
            "Italian",
            "Latn",
            "high",
            length=1.16,
            engines=_codes(
                "google=it mymemory=it-IT deepl=it microsoft=it libre=it baidu=it yandex=it"
                " nllb=ita_Latn madlad=it m2m100=it"
            ),
        ),
        Language(
            "vi",
            "Vietnamese",
            "Latn",
            "high",
            length=1.03,
            engines=_codes(
                "google=vi mymemory=vi-VN deepl=vi microsoft=vi libre=vi baidu=vie papago=vi yandex=vi"
                " nllb=vie_Latn madlad=vi m2m100=vi"
            ),
        ),
        Language(
            "ja",
            "Japanese",
            "Jpan",
            "high",
            length=0.49,
            engines=_codes(
                "google=ja mymemory=ja-JP deepl=ja microsoft=ja libre=ja baidu=jp papago=ja yandex=ja"
                " nllb=jpn_Jpan madlad=ja m2m100=ja"
            ),
        ),
        Language(
            "ar",
            "Arabic",
            "Arab",
            "medium",
            ("ary", "arz", "apc", "acm"),
            right_to_left=True,
            length=0.9,
            engines=_codes(
                "google=ar mymemory=ar-SA deepl=ar microsoft=ar libre=ar baidu=ara qcri=ar yandex=ar"
                " nllb=arb_Arab madlad=ar m2m100=ar"
            ),
        ),
        Language(
            "ko",
            "Korean",
            "Hang",
            "medium",
            length=0.47,
            engines=_codes(
                "google=ko mymemory=ko-KR deepl=ko microsoft=ko libre=ko baidu=kor papago=ko yandex=ko"
                " nllb=kor_Hang madlad=ko m2m100=ko"
            ),
        ),
        Language(
            "th",
            "Thai",
            "Thai",
            "medium",
            length=1.0,
            engines=_codes(
                "google=th mymemory=th-TH deepl=th microsoft=th libre=th baidu=th papago=th yandex=th"
                " nllb=tha_Thai madlad=th m2m100=th"
            ),
        ),
        Language(
            "bn",
            "Bengali",
            "Beng",
            "low",
            length=1.11,
            engines=_codes(
                "google=bn mymemory=bn-IN microsoft=bn libre=bn yandex=bn nllb=ben_Beng madlad=bn m2m100=bn"
            ),
        ),
        Language(
            "sw",
            "Swahili",
            "Latn",
            "low",
            ("swh", "swc"),
            length=1.1,
            engines=_codes(
                "google=sw mymemory=sw-KE microsoft=sw libre=sw yandex=sw nllb=swh_Latn madlad=sw m2m100=sw"
            ),
        ),
        Language(
            "jv",
            "Javanese",
            "Latn",
            "low",
            length=1.02,
            engines=_codes("google=jw mymemory=jv-ID yandex=jv nllb=jav_Latn madlad=jv m2m100=jv"),
        ),
    )
}


def define(entry: Language) -> None:
    """Makes a language known that the table above lacks; of one that it has, the table knows best.

    Raises:
        BadInputError: the code is known as something else.
    """
    if not LANGUAGES.setdefault(entry.code, entry).same_as(entry):
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


def engine_code(code: str, engine: str) -> str | None:
    """What a translation engine calls the language; None if it does not know it.

    A language model is told the language's name, so `openai` knows them all by our codes.
    A language that was defined without a word on engines is called by its own code everywhere: the engine itself
    says whether that is right.

    Raises:
        BadInputError: the language is not known.
    """
    entry = language(code, where="translation")
    return entry.engines.get(engine) if entry.engines and engine != "openai" else code
