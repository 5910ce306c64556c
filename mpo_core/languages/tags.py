"""Compares codes of languages (BCP 47): which ones are well formed, and which ones mean the same language."""

from functools import cache

import langcodes
from langcodes.data_dicts import MACROLANGUAGES
from langcodes.tag_parser import LanguageTagError

_OLDER = {"hbo": "he", "grc": "el"}
"""Codes of old languages that an identifier may give for a text in the modern language."""


def is_code(code: str) -> bool:
    """Returns whether every part of a code is registered with IANA, as in `sw`, `zh-Hant` or `pt-BR`."""
    return bool(langcodes.tag_is_valid(code))


@cache
def standard(code: str) -> str:
    """Returns the shortest current code of a language: `he` for `iw`, `sw` for `swh`; an unknown code as it is."""
    try:
        return str(langcodes.standardize_tag(code, macro=True))
    except LanguageTagError:
        return code


@cache
def family(code: str) -> str:
    """Returns the macro-language of a code, without script and region: what can be recognised from a text.

    `yue`, `cmn` and `zh-TW` are Chinese, `arz` is Arabic, `nb` is Norwegian; an identifier cannot tell `hr`, `bs` and
    `sr` apart, so they are one language, and so are `ms` and `id`.
    """
    base = standard(code).split("-")[0]
    base = _OLDER.get(base, base)
    return MACROLANGUAGES.get(base, base)


def same_language(a: str, b: str) -> bool:
    """Returns whether two codes mean one language, as far as it can be recognised from a text."""
    return a == b or family(a) == family(b)
