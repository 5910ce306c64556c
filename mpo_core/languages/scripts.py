"""Counts and finds the letters of a script: any script of Unicode, by its ISO 15924 code."""

from collections import Counter
from functools import cache

import regex

HAN = ("Hani",)
"""Chinese characters, which Chinese, Japanese and old Korean texts share."""
KANA = ("Hira", "Kana")
"""Letters that only Japanese has."""
_PARTS = {
    "Hans": HAN,
    "Hant": HAN,
    "Hanb": (*HAN, "Bopo"),
    "Jpan": (*HAN, *KANA),
    "Hrkt": KANA,
    "Kore": ("Hang", *HAN),
    "Jamo": ("Hang",),
    "Latf": ("Latn",),
    "Latg": ("Latn",),
    "Cyrs": ("Cyrl",),
    "Aran": ("Arab",),
    "Syre": ("Syrc",),
    "Syrj": ("Syrc",),
    "Syrn": ("Syrc",),
    "Geok": ("Geor",),
}
"""Codes of ISO 15924 that mean several scripts of Unicode, or one style of writing a script."""
_NONE = {"Zyyy", "Zinh", "Zzzz"}
"""Unicode's codes for digits, punctuation and unassigned code points, which belong to no script."""
WORDY = {"Hans", "Hant", "Hani", "Hanb", "Jpan"}
"""Scripts in which one letter carries as much meaning as about three letters of an alphabet."""

_PLAIN = 3
"""A text with this many characters of one form only counts as simplified or traditional Chinese."""
_LENGTHS = {"Jpan": 0.49, "Hang": 0.47, "Kore": 0.47} | dict.fromkeys(WORDY - {"Jpan"}, 0.32)


def usual_length(code: str) -> float:
    """Returns how many characters a text in this script usually has per character of its English original.

    An alphabet needs about as many as English: 1. The figures are those of the languages of the table.
    """
    return _LENGTHS.get(code, 1.0)


def is_script(code: str) -> bool:
    """Returns whether Unicode has letters of this script."""
    try:
        letters(code)
    except KeyError:
        return False
    return True


@cache
def letters(code: str) -> regex.Pattern[str]:
    """Returns a pattern that matches one letter of a script.

    Raises:
        KeyError: Unicode has no such script.
    """
    parts = _PARTS.get(code, (code,))
    if not all(part.isascii() and part.isalpha() for part in parts) or set(parts) & _NONE:
        raise KeyError(code)
    try:
        # A letter of several scripts (such as the mark of a long vowel in kana) is one of each.
        return _letter("".join(rf"\p{{Script_Extensions={part}}}" for part in parts))
    except regex.error:
        raise KeyError(code) from None


@cache
def _forms() -> dict[str, str]:
    """Returns `Hans` or `Hant` by character, for those that are in GB 2312 alone or in Big5 alone."""
    characters = {codec: set(map(chr, range(0x4E00, 0xA000))) & _characters(codec) for codec in ("gb2312", "big5")}
    simplified, traditional = (characters[a] - characters[b] for a, b in (("gb2312", "big5"), ("big5", "gb2312")))
    return dict.fromkeys(simplified, "Hans") | dict.fromkeys(traditional, "Hant")


def _characters(codec: str) -> set[str]:
    pairs = (bytes((lead, trail)) for lead in range(0x81, 0xFF) for trail in range(0x40, 0xFF))
    return {pair.decode(codec, "ignore")[:1] for pair in pairs}


def chinese_form(text: str) -> str | None:
    """Returns `Hans` or `Hant` for a text that is plainly in simplified or in traditional characters, else None.

    Plainly: at least three characters are of this form only, and more than three times as many as of the other.
    """
    counts = Counter(_forms().get(character) for character in text)
    fewer, more = sorted(("Hans", "Hant"), key=lambda form: counts[form])
    return more if counts[more] >= _PLAIN and counts[more] > _PLAIN * counts[fewer] else None


def _letter(scripts: str) -> regex.Pattern[str]:
    return regex.compile(rf"[\p{{L}}&&[{scripts}]]", regex.VERSION1)


def count_letters(code: str, text: str) -> int:
    """Counts the letters of a script in a text.

    Raises:
        KeyError: Unicode has no such script.
    """
    return sum(1 for _ in letters(code).finditer(text))


def letters_in(code: str, text: str) -> int:
    """Counts the letters of a script in a text; a text in the other form of Chinese characters has 0.

    Raises:
        KeyError: Unicode has no such script.
    """
    other = code in {"Hans", "Hant"} and chinese_form(text) not in {code, None}
    return 0 if other else count_letters(code, text)


def keep_letters(code: str, text: str) -> str:
    """Returns a text with a space in place of each letter of another script; digits and punctuation stay.

    Raises:
        KeyError: Unicode has no such script.
    """
    own = letters(code)
    return "".join(c if not c.isalpha() or own.match(c) else " " for c in text)
