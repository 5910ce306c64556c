"""Reads JSON files value by value: lines of JSON, or an array; a value that cannot be read spoils no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from mpo_core.contract.errors import BadInputError
from mpo_core.files import read as files

_SPACE = re.compile(r"[ \t\r\n]*")
_MARKS = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)
_LONGEST_INT = 4000  # digits; Python refuses to make an int of more than 4300


_FORMS = "Write an array of objects, or one object per line."


class JsonValue(NamedTuple):
    """A value of a file, and its place; `too_deep` if it is nested so deeply that it cannot be read."""

    place: str
    value: Any
    too_deep: bool = False


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _LONGEST_INT else Decimal(digits)


_DECODER = json.JSONDecoder(parse_int=_integer)


def json_lines(path: Path, *, fix: str) -> Iterator[JsonValue]:
    """Yields the value of each line, read as it is needed; blank lines have none.

    Raises:
        BadInputError: the file cannot be read (`fix` says what to do), is not UTF-8, or a line is no JSON.
    """
    # Lines end with \n alone: JSON strings may hold U+2028 and its kin unescaped.
    for number, line in enumerate(files.text_lines(path, fix=fix, newline="\n"), start=1):
        if not line.strip():
            continue
        try:
            yield JsonValue(f"line {number}", _DECODER.decode(line))
        except RecursionError:
            yield JsonValue(f"line {number}", None, too_deep=True)
        except json.JSONDecodeError:
            raise BadInputError(
                "this line is not JSON", where=f"{path}, line {number}", fix="Write one object per line."
            ) from None


def json_items(path: Path, *, fix: str, forms: str = _FORMS) -> Iterator[JsonValue]:
    """Yields the items of a file that holds one array; or its values, where they follow one another without one.

    Raises:
        BadInputError: the file cannot be read (`fix` says what to do), is not UTF-8, or is no JSON (`forms` says
            what is expected).
    """
    text = files.read_text(path, fix=fix)
    at = _after_space(text, 0)
    array = text.startswith("[", at)
    at = _after_space(text, at + 1) if array else at
    number = 0
    try:
        while at < len(text) and not (array and text[at] == "]"):
            value, at, too_deep = _next_value(text, at)
            yield JsonValue(f"row {number}", value, too_deep)
            number, at = number + 1, _after_space(text, at)
            if array and text[at : at + 1] != "]":
                _expect(text, at, ",")
                at = _after_space(text, at + 1)
        if array:
            _expect(text, at, "]")
            _expect(text, _after_space(text, at + 1), "")
    except json.JSONDecodeError as error:
        raise BadInputError(
            "this is not JSON",
            where=f"{path}, line {error.lineno}",
            fix=forms,
        ) from None


def _expect(text: str, at: int, wanted: str) -> None:
    if text[at : at + 1] != wanted:
        raise json.JSONDecodeError(f"Expecting {wanted or 'the end'}", text, at)


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _next_value(text: str, at: int) -> tuple[Any, int, bool]:
    """Returns the value that starts at `at`, where it ends, and whether it is nested too deeply to be read."""
    try:
        return *_DECODER.raw_decode(text, at), False
    except RecursionError:
        pass
    depth = 0
    for mark in _MARKS.finditer(text, at):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark.group(), 0)
        if depth == 0:
            return None, mark.end(), True
    raise json.JSONDecodeError("Unterminated value", text, at)
