"""Splits a text so that only its words go to a translator, and puts the translations back into its layout."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from mpo_core.languages.defects import INVISIBLE
from mpo_core.languages.sentences import split_sentences
from mpo_core.translation.protect import Masked, before_mark, marks, mask, restore, unescaped

_FENCE = re.compile(r"^\s*(```|~~~)")
_LEAD = re.compile(r"^\s*(?:(?:[-*+•>]|#{1,6}|\(?\d{1,3}[.):]|\(?[a-zA-Z][.)])\s+)*")
_ROW = re.compile(r"^\s*\|.*\|\s*$")


class Piece(NamedTuple):
    """A part of a text that goes to a translator, with marks in place of its protected items."""

    text: str
    items: tuple[str, ...]


class Layout(NamedTuple):
    """A text split into parts: strings that stay as they are, and pieces to translate."""

    parts: tuple[str | Piece, ...]

    @property
    def pieces(self) -> list[Piece]:
        """The parts of the text that are translated, in their order in the text."""
        return [part for part in self.parts if isinstance(part, Piece)]

    def rebuilt(self, translations: Mapping[str, str]) -> str:
        """Returns the text with each piece's translation in its place."""
        return "".join(_put(part, translations) if isinstance(part, Piece) else part for part in self.parts)


def _put(piece: Piece, translations: Mapping[str, str]) -> str:
    return restore(unescaped(translations[piece.text]).strip().strip(INVISIBLE).strip(), piece.items)


def take_apart(text: str, limit: int | None = None, *, sentences: bool = False) -> Layout:
    """Splits a text into its lines, list items, headings and table cells; parts without words stay as they are.

    Args:
        text: the text.
        limit: maximum length of a piece in characters; a longer one is cut between sentences, else between words.
        sentences: whether each sentence is a piece of its own, as for models that were trained on sentences.
    """
    parts: list[str | Piece] = []
    fenced = False
    for line in text.splitlines(keepends=True):
        fence = bool(_FENCE.match(line))
        if fence or fenced:
            parts.append(line)
            fenced ^= fence
        elif _ROW.match(line):
            for cell in re.split(r"((?<!\\)\|)", line):
                parts += _words(cell, limit, sentences=sentences)
        else:
            lead = _LEAD.match(line)
            start = lead.end() if lead else 0
            parts += [line[:start], *_words(line[start:], limit, sentences=sentences)]
    return Layout(tuple(part for part in parts if part))


def _words(text: str, limit: int | None, *, sentences: bool) -> list[str | Piece]:
    stripped = text.strip()
    masked = mask(stripped)
    if not masked.is_words:
        return [text]
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    inner: list[str | Piece] = []
    for gap, chunk in _chunks(masked, limit, sentences=sentences):
        inner += [gap, _piece(chunk, masked)]
    return [before, *inner, after]


def _piece(chunk: str, masked: Masked) -> str | Piece:
    """Makes a piece of a chunk; numbers its marks from 0, so that equal sentences become equal pieces."""
    numbers = marks(chunk) if masked.items else []
    for new, old in enumerate(numbers):
        chunk = chunk.replace(f"⟦{old}⟧", f"⟦{new}⟧", 1) if new != old else chunk
    piece = Piece(chunk, tuple(masked.items[old] for old in numbers))
    return piece if Masked(chunk, ()).is_words else restore(chunk, piece.items)


def _chunks(masked: Masked, limit: int | None, *, sentences: bool) -> list[tuple[str, str]]:
    """Splits a text into chunks of at most `limit` characters, or into sentences, each with the space before it."""
    if not sentences and (limit is None or len(masked.text) <= limit):
        return [("", masked.text)]
    chunks: list[tuple[str, str]] = []
    for space, sentence in split_sentences(masked.text):
        fits = limit is None or len(sentence) <= limit
        if not sentences and chunks and limit and len(chunks[-1][1]) + len(space) + len(sentence) <= limit:
            chunks[-1] = (chunks[-1][0], chunks[-1][1] + space + sentence)
        elif fits:
            chunks.append((space, sentence))
        else:
            chunks += _cut(space, sentence, limit or len(sentence))
    return chunks


def _cut(space: str, sentence: str, limit: int) -> list[tuple[str, str]]:
    """Cuts a sentence that is too long between words, or within a word that is itself too long."""
    cut: list[tuple[str, str]] = []
    while len(sentence) > limit:
        at = sentence.rfind(" ", 1, limit + 1)
        head = sentence[: before_mark(sentence, at if at > 0 else limit)].rstrip()
        cut.append((space, head))
        rest = sentence[len(head) :]
        sentence = rest.lstrip()
        space = rest[: len(rest) - len(sentence)]
    return [*cut, (space, sentence)] if sentence else cut
