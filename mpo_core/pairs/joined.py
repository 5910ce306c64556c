"""Joins preference rows that hold one language each: the dominant row of an id with its rows in other languages."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mpo_core.languages.known import named_language
from mpo_core.pairs.gates import Row, Texts
from mpo_core.pairs.language import source_language
from mpo_core.pairs.turns import BadRowError

_IDS = ("id", "prompt_id", "source_id")


class Joining(NamedTuple):
    """How rows of one language each are joined to pairs."""

    dominant: str = "en"
    """Code of the language of the source rows."""
    id_column: str | None = None
    """Column with the id that a source row and its target rows share. Default: `id`, `prompt_id` or `source_id`."""
    language_column: str = "language"
    """Column with a row's language. Where it is missing or its code unknown, the language is identified."""


class Half(NamedTuple):
    """A row in one language: its number in the file, the shared id, the language, texts and labels."""

    number: int
    id: str
    language: str
    texts: Texts
    labels: Row


def read_half(number: int, item: Mapping[str, Any], texts: Texts, labels: Row, joining: Joining) -> Half:
    """Returns a row in one language with the id and the language by which it is joined.

    Raises:
        BadRowError: it has no id.
    """
    names = _IDS if joining.id_column is None else (joining.id_column,)
    key = next(filter(None, (_key(item.get(name)) for name in names)), None)
    if key is None:
        raise BadRowError(
            "one_language",
            "prompt, chosen and rejected lack the prefixes source_ and target_, and the row has no id that joins it "
            f"with its row in another language (column {' or '.join(names)})",
        )
    language = named_language(item.get(joining.language_column)) or source_language(texts)
    return Half(number, key, language, texts, labels)


def _key(value: object) -> str:
    """Returns an id as text; 1.0 is 1, since columns of whole numbers with gaps become floats."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def joined(halves: Sequence[Half], dominant: str) -> Iterator[tuple[int, Row | BadRowError]]:
    """Yields each row's number with the pair that it makes, or why it makes none; a joined dominant row yields nothing.

    Args:
        halves: the rows in one language, in the order of the file.
        dominant: code of the language of the source rows.
    """
    sources: dict[str, Half] = {}
    for half in halves:
        if half.language == dominant:
            sources.setdefault(half.id, half)
    answered = {half.id for half in halves if half.language != dominant}
    for half in halves:
        source = sources.get(half.id)
        if half.language != dominant:
            yield half.number, _pair(source, half) if source is not None else _alone("no_source", f"in {dominant}")
        elif source is not half:
            yield half.number, BadRowError("repeated_source", f"an earlier row in {dominant} has the same id")
        elif half.id not in answered:
            yield half.number, _alone("no_target", "in another language")


def _alone(reason: str, where: str) -> BadRowError:
    return BadRowError(reason, f"no row {where} has the id of this row")


def _pair(source: Half, target: Half) -> Row:
    shared = {name: value for name, value in source.labels.items() if name in {"kind", "split"}}
    texts = {
        f"{side}_{name}": text
        for side, half in (("source", source), ("target", target))
        for name, text in half.texts._asdict().items()
    }
    languages = {"source_language": source.language, "language": target.language}
    return {**shared, **target.labels, **texts, **languages}
