"""What a translator must leave alone: masked before, restored and checked after."""

from __future__ import annotations

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
    r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});",  # entities of the source's own
)
_MEASURE = rf"[$€£¥]\s?\d+(?:[.,]\d+)*+|(?<!\d)\d{{1,40}}(?:[.,]\d{{1,40}}){{0,9}}\s?(?:{_UNITS})(?!\w)"
_PROTECTED = re.compile("|".join((*_EXACT, _MEASURE)))
_LASTING = re.compile("|".join(_EXACT))
# Translators put spaces and their own digits and brackets in; int() reads every script's digits.
_MARK = re.compile(r"[⟦〚]{1,2}\s*(\d{1,3})\s*[⟧〛]{1,2}")


_PLACEHOLDERS = re.compile(_PLACEHOLDER)
_ICU_HEAD = re.compile(r"\{\s*(\w+)\s*,\s*(\w+)")


def is_placeholder(text: str) -> bool:
    """Whether a text is nothing but a placeholder, such as `{0}` or `%1$s`."""
    return _PLACEHOLDERS.fullmatch(text.strip()) is not None


class Masked(NamedTuple):
    """A text with marks ⟦0⟧, ⟦1⟧ … in place of the items."""

    text: str
    items: tuple[str, ...]

    @property
    def is_words(self) -> bool:
        """Whether anything is left to translate."""
        return any(map(str.isalpha, _MARK.sub("", self.text)))


def mask(text: str) -> Masked:
    """Puts a mark in place of code, URLs, e-mail addresses, chat control tokens, tags, placeholders and measures."""
    if any(bracket in text for bracket in "⟦⟧〚〛"):  # its own would be taken for ours, or for a part of them
        return Masked(text, ())
    items: list[str] = []

    def replace(match: re.Match[str]) -> str:
        items.append(match.group())
        return f"⟦{len(items) - 1}⟧"

    return Masked(_PROTECTED.sub(replace, text), tuple(items))


def marks(text: str) -> list[int]:
    """The numbers of the marks in a text, in order."""
    return [int(match.group(1)) for match in _MARK.finditer(text)]


def before_mark(text: str, at: int) -> int:
    """Where to cut a text instead of at `at`, if that is in a mark: before it, or behind one that begins the text."""
    cut = (match for match in _MARK.finditer(text) if match.start() < at < match.end())
    return next((match.start() or match.end() for match in cut), at)


def restore(text: str, items: tuple[str, ...]) -> str:
    """Puts the items back; a mark without one stays, and `protected_lost` finds it."""
    return _MARK.sub(
        lambda match: items[int(match.group(1))] if int(match.group(1)) < len(items) else match.group(), text
    )


def unescaped(text: str) -> str:
    """A service's reply without HTML entities, escaped twice or not: the source's own are masked, so none is meant."""
    for _ in range(3):
        plain = html.unescape(text)
        if plain == text:
            break
        text = plain
    return text


def protected_lost(source: str, translation: str, *, measures: bool) -> int:
    """Items of the source that the translation lacks, has too often, or shows as a bare mark.

    Args:
        source: the original.
        translation: its translation, items restored.
        measures: whether numbers with units count; people rightly write those as their language does.
    """
    pattern = _PROTECTED if measures else _LASTING
    wanted = Counter(match.group() for match in pattern.finditer(source))
    if not measures:  # people translate what is inside an ICU message: only its head must come back
        heads = {item: head.group() for item in wanted if (head := _ICU_HEAD.match(item)) is not None}
        wanted = Counter({heads.get(item, item): count for item, count in wanted.items()})
    lost = sum(abs(count - translation.count(item)) for item, count in wanted.items() if not _within(item, wanted))
    return lost + (len(_MARK.findall(translation)) if not _MARK.search(source) else 0)


def _within(item: str, others: Counter[str]) -> bool:
    """Whether an item is part of another one, whose count would count it too."""
    return any(item in other and item != other for other in others)
