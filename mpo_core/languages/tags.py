"""Codes of languages (BCP 47): what is well formed, and which codes mean the same language."""

from __future__ import annotations

from functools import cache

import langcodes
from langcodes.data_dicts import MACROLANGUAGES
from langcodes.tag_parser import LanguageTagError

_OLDER = {"hbo": "he", "grc": "el"}
"""Older forms of a language, in which an identifier may see a text of today."""


def is_code(code: str) -> bool:
    """Whether every part of the code is registered (IANA), such as `sw`, `zh-Hant` or `pt-BR`."""
    return bool(langcodes.tag_is_valid(code))


@cache
def standard(code: str) -> str:
    """The shortest code of today for the same language: `he` for `iw`, `sw` for `swh`; an unknown one stays."""
    try:
        return str(langcodes.standardize_tag(code, macro=True))
    except LanguageTagError:
        return code


@cache
def family(code: str) -> str:
    """The language that a text can show, without script and region: macro-languages are one.

    `yue`, `cmn` and `zh-TW` are Chinese, `arz` is Arabic, `nb` is Norwegian; `hr`, `bs` and `sr` are one language in
    the eyes of an identifier, and so are `ms` and `id`.
    """
    base = standard(code).split("-")[0]
    base = _OLDER.get(base, base)
    return MACROLANGUAGES.get(base, base)


def same_language(a: str, b: str) -> bool:
    """Whether two codes mean one language as far as a text can show."""
    return a == b or family(a) == family(b)
