"""Reads TMX, the exchange format of translation memories: units of the same text in several languages."""

import codecs
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from mpo_core.contract.errors import BadInputError
from mpo_core.files.compression import open_plain
from mpo_core.files.read import readable
from mpo_core.translation.protect import is_placeholder

_CODES = {"bpt", "ept", "ph", "it", "ut", "sub"}
"""Elements whose content is code of a file format and not text; the content of `hi` is text."""
_BREAK = re.compile(r"<\s*/?\s*(?:br|p|lb|hr|li|tr|td|div|w:br)\b|\\(?:line|par|n)\b|\A\s*\\?\n\s*\Z", re.IGNORECASE)
"""Codes that separate words: a line break, or the end of a paragraph."""
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\x00?\x00", "utf-16-le"),
    (b"\x00<\x00?", "utf-16-be"),
)
_DECLARED = re.compile(r"""\A\s*<\?xml[^>]*?\sencoding\s*=\s*["']([^"'>]*)["']""")
_NO_ENCODINGS = {"punycode", "idna", "undefined", "unicode_escape", "raw_unicode_escape"}
"""Codecs of Python that are no encodings of XML files."""
_HEAD = 400
"""A file declares its encoding within this many bytes."""


def read_units(path: Path, *, fix: str) -> Iterator[list[dict[str, str]]]:
    """Yields the units of a TMX file, each as a list of variants: dictionaries with the text by language tag.

    Inline codes are removed from the texts. After its first variant a unit has another one for each further text in the
    same language, and one with the codes that are placeholders, such as `{0}`, since a text to translate may have them.

    Raises:
        BadInputError: the file cannot be read, is not XML, or its encoding is unknown or not the declared one.
    """
    try:
        with readable(path, fix):
            encoding = _encoding(path)
            with open_plain(path) as plain, io.TextIOWrapper(plain, encoding=encoding, newline="") as file:
                # The parser (expat) limits how far entities may grow.
                for _, element in ET.iterparse(_AsUtf8(file)):  # noqa: S314
                    if _local(element.tag) == "tu":
                        yield _variants(element)
                        element.clear()
    except ET.ParseError as error:
        line, column = error.position
        raise BadInputError(
            "this is not XML", where=f"{path}, line {line}, column {column + 1}", fix="Give a TMX file."
        ) from None
    except UnicodeError:
        raise BadInputError(
            f"the file is not in the encoding {encoding}",
            where=str(path),
            fix="Save it as UTF-8, and declare UTF-8 in its first line.",
        ) from None


class _AsUtf8:
    """A text file as the UTF-8 bytes that the parser reads, without a declaration of another encoding."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._is_start = file, True

    def read(self, size: int = -1) -> bytes:
        text = self._file.read(max(size, _HEAD) if size >= 0 else -1)
        if self._is_start:
            self._is_start = False
            declaration = _DECLARED.search(text)
            if declaration:
                text = text[: declaration.start(1)] + "utf-8" + text[declaration.end(1) :]
        return text.encode()


def _encoding(path: Path) -> str:
    """Returns the encoding of an XML file: by its first bytes, else by its declaration, else UTF-8."""
    with open_plain(path) as file:
        head = file.read(_HEAD)
    marked = next((name for mark, name in _BOMS if head.startswith(mark)), None)
    declared = _DECLARED.search(head.decode("latin-1"))
    if marked is not None or declared is None:
        return marked or "utf-8"
    name = declared.group(1)
    try:
        codec = codecs.lookup(name) if re.fullmatch(r"[A-Za-z][\w.-]{0,40}", name) else None
        "".encode(name)  # Python also has codecs that are no text encodings, such as hex
    except (LookupError, UnicodeError):
        codec = None
    if codec is None or codec.name.replace("-", "_") in _NO_ENCODINGS:
        raise BadInputError(
            f"unknown encoding {name[:40]!r}",
            where=f"{path}, line 1",
            fix="Save the file as UTF-8, and declare UTF-8 in its first line.",
        )
    if codec.name.startswith(("utf-16", "utf-32")):
        raise BadInputError(
            f"the file declares {name} and is in another encoding",
            where=f"{path}, line 1",
            fix="Save the file as UTF-8, and declare UTF-8 in its first line.",
        )
    return codec.name


def _local(tag: str) -> str:
    """Returns the name of an element or attribute without its namespace, in lower case."""
    return tag.rpartition("}")[2].rpartition(":")[2].lower()


def _variants(unit: ET.Element) -> list[dict[str, str]]:
    """Returns the variants of a unit: its first texts, then one for each further text, all with placeholders after."""
    segments: list[tuple[str, ET.Element]] = []
    for variant in unit:
        if _local(variant.tag) == "tuv":
            tag = next((value.strip() for name, value in variant.items() if _local(name) == "lang"), "")
            segment = next((child for child in variant if _local(child.tag) == "seg"), None)
            if tag and segment is not None:
                segments.append((tag, segment))
    plain = [(tag, _text(segment, placeholders=False)) for tag, segment in segments]
    whole = [(tag, _text(segment, placeholders=True)) for tag, segment in segments]
    variants: list[dict[str, str]] = []
    for texts in (plain,) if whole == plain else (plain, whole):
        first: dict[str, str] = {}
        for tag, text in texts:
            first.setdefault(tag, text)
        variants += [first, *(first | {tag: text} for tag, text in texts if first[tag] != text)]
    return variants


def _text(segment: ET.Element, *, placeholders: bool) -> str:
    """Returns the text of a segment without its inline codes, or with those that are placeholders."""
    parts: list[str] = []
    dropped = False
    waiting: list[tuple[ET.Element, bool]] = [(segment, False)]
    while waiting:  # no recursion: a hostile file may nest elements without end
        element, is_over = waiting.pop()
        if is_over:
            parts.append(element.tail or "")
            continue
        if element is not segment:
            waiting.append((element, True))
            is_code = _local(element.tag) in _CODES
            if is_code and not (placeholders and is_placeholder(element.text or "")):
                dropped = True
                parts.append(" " if element.get("type") == "lb" or _BREAK.search(element.text or "") else "")
                continue
        parts.append(element.text or "")
        waiting += [(child, False) for child in reversed(element)]
    text = "".join(parts)
    return re.sub(r"[ \t]{2,}", " ", text).strip() if dropped else text
