"""Protects what a translator must not change: masks it before, restores and checks it after the translation."""

import html
import re
from collections import Counter
from typing import NamedTuple

_UNITS = (
    "%%?|°[CF]?|[kKMGT]i?B|bits?|[kMG]?Hz|[mk]?V|[kMG]?Wh?|m?A|[µmk]?g|[mc]?l|L|[nµmck]?m|mph|km/h|m/s"
    "|ppm|k?cal|k?J|h?Pa|bar|psi|dB|€|\\$|£"
)
# Two levels of braces within an ICU message are enough for a plural in a choice.
_ICU = (
    r"\{\s*\w+\s*,\s*(?:plural|select|selectordinal|number|date|time|spellout|ordinal|duration|choice|list)\b"
    r"(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*\}"
)
_PLACEHOLDER = "|".join(  # noqa: FLY002 - one kind a line
    (
        _ICU,
        r"\{\{\{?[^{}\n]{1,80}\}\}\}?|\{%[^{}%\n]{1,80}%\}|<%[^<>%\n]{1,80}%>",  # Mustache, Jinja, ERB
        r"\$\{\{[^{}\n]{1,80}\}\}|[#%$@]\{[\w.:\[\]-]{1,60}\}|\$\(\w+\)",  # ${{ x }}, ${x}, #{x}, %{x}, $(x)
        r"\{\s{0,9}[$-]?[\w.\[\]-]*\s{0,9}(?:![rsa])?(?::[^{}\s]{0,20})?\}",  # {0}, {name}, {x:.2f}, {}
        r"%\(\w+\)[-+#0]*\d*(?:\.\d+)?[a-zA-Z]",  # %(name)s
        r"%(?:\d+\$)?[-+#0]*\d*(?:\.\d+)?(?:hh?|ll?|[qjzt])?[sdiufFeEgGxXoc@](?![\w])",  # %s, %1$s, %5.2f, %@
        r"(?<![\w$])\$[A-Za-z_]\w*",  # $x
        r"%%?[A-Z_][A-Z0-9_]*%%?(?!\w)|(?<!\w)__[A-Z][A-Z0-9_]*__(?!\w)",  # %PATH%, %%NAME%%, __NAME__
        r"</?\d{1,3}\s?/?>",  # <0>, </0>, <1/>
        r"%%",
    )
)
_EXACT = (
    r"`[^`\n]+`",  # code
    r"(?:https?://|www\.)[^\s<>\"'`。，）】」]*[^\s<>\"'`。，）】」.,;:!?)\]]",
    r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+",  # e-mail
    r"<\|[^|<>\n]{1,40}\|>|</?s>|\[/?(?:INST|SYS)\]|<</?SYS>>|<(?:start|end)_of_turn>",  # chat control tokens
    r"</?[a-zA-Z][\w-]{0,40}(?:\s+[\w:-]+=(?:\"[^\"<>\n]*\"|'[^'<>\n]*'|[^\s<>\"']+))*\s*/?>",  # tags
    _PLACEHOLDER,
    r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});",  # HTML entities of the source
)
_MEASURE = rf"[$€£¥]\s?\d+(?:[.,]\d+)*+|(?<!\d)\d{{1,40}}(?:[.,]\d{{1,40}}){{0,9}}\s?(?:{_UNITS})(?!\w)"
_PROTECTED = re.compile("|".join((*_EXACT, _MEASURE)))
_LASTING = re.compile("|".join(_EXACT))
# Translators add spaces and write digits and brackets of their own script; int() reads every script's digits.
_MARK = re.compile(r"[⟦〚]{1,2}\s*(\d{1,3})\s*[⟧〛]{1,2}")


_PLACEHOLDERS = re.compile(_PLACEHOLDER)
_ICU_HEAD = re.compile(r"\{\s*(\w+)\s*,\s*(\w+)")


def is_placeholder(text: str) -> bool:
    """Returns whether a text is nothing but a placeholder, such as `{0}` or `%1$s`."""
    return _PLACEHOLDERS.fullmatch(text.strip()) is not None


class Masked(NamedTuple):
    """A text with marks ⟦0⟧, ⟦1⟧ … in place of its protected items, and these items."""

    text: str
    items: tuple[str, ...]

    @property
    def is_words(self) -> bool:
        """Whether the text holds any letters to translate."""
        return any(map(str.isalpha, _MARK.sub("", self.text)))


def mask(text: str) -> Masked:
    """Puts a mark in place of code, URLs, e-mail addresses, chat control tokens, tags, placeholders and measures."""
    if any(bracket in text for bracket in "⟦⟧〚〛"):  # these would be mistaken for our marks
        return Masked(text, ())
    items: list[str] = []

    def replace(match: re.Match[str]) -> str:
        items.append(match.group())
        return f"⟦{len(items) - 1}⟧"

    return Masked(_PROTECTED.sub(replace, text), tuple(items))


def marks(text: str) -> list[int]:
    """Returns the numbers of the marks in a text, in order."""
    return [int(match.group(1)) for match in _MARK.finditer(text)]


def before_mark(text: str, at: int) -> int:
    """Returns where to cut a text: at `at`; if that is in a mark, before it, or after it where it begins the text."""
    cut = (match for match in _MARK.finditer(text) if match.start() < at < match.end())
    return next((match.start() or match.end() for match in cut), at)


def restore(text: str, items: tuple[str, ...]) -> str:
    """Replaces each mark by its item. A mark that has no item stays in the text; `protected_lost` counts these."""
    return _MARK.sub(
        lambda match: items[int(match.group(1))] if int(match.group(1)) < len(items) else match.group(), text
    )


def unescaped(text: str) -> str:
    """Replaces all HTML entities in a reply, escaped once or more often; those of the source are masked before."""
    for _ in range(3):
        plain = html.unescape(text)
        if plain == text:
            break
        text = plain
    return text


def protected_lost(source: str, translation: str, *, measures: bool) -> int:
    """Counts the protected items that a translation lacks or repeats, and the marks that were not replaced.

    Numbers with units count if `measures`; human translators may write those as their language does.
    """
    pattern = _PROTECTED if measures else _LASTING
    expected = Counter(match.group() for match in pattern.finditer(source))
    if not measures:  # people translate the inside of an ICU message: only its head must be the same
        heads = {item: head.group() for item in expected if (head := _ICU_HEAD.match(item)) is not None}
        expected = Counter({heads.get(item, item): count for item, count in expected.items()})
    count_lost = sum(
        abs(count - translation.count(item)) for item, count in expected.items() if not _within(item, expected)
    )
    return count_lost + (len(_MARK.findall(translation)) if not _MARK.search(source) else 0)


def _within(item: str, others: Counter[str]) -> bool:
    """Returns whether an item is part of another one, and so is already counted there."""
    return any(item in other and item != other for other in others)
