"""Reads JSON files value by value, from lines of JSON or an array; one that cannot be read does not affect others."""

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
_LONGEST_INT = 4000  # digits; Python cannot convert more than 4300 to an int


_FORMS = "Write an array of objects, or one object per line."


class JsonValue(NamedTuple):
    """A value of a file with its place; `too_deep` if it is nested too deeply to be read."""

    place: str
    value: Any
    too_deep: bool = False


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _LONGEST_INT else Decimal(digits)


_DECODER = json.JSONDecoder(parse_int=_integer)


def json_lines(path: Path, *, fix: str) -> Iterator[JsonValue]:
    """Yields the value of each line that is not blank, read as it is needed.

    Raises:
        BadInputError: the file cannot be read (`fix` says what to do), is not UTF-8, or a line is not JSON.
    """
    # Only \n ends a line: JSON strings may contain other line separators, such as U+2028.
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
    """Yields the items of the array in a file; or its values, where they follow one another without an array.

    Raises:
        BadInputError: the file cannot be read (`fix` says what to do), is not UTF-8, or is not JSON (`forms` says
            what is expected).
    """
    text = files.read_text(path, fix=fix)
    at = _after_space(text, 0)
    is_array = text.startswith("[", at)
    at = _after_space(text, at + 1) if is_array else at
    number = 0
    try:
        while at < len(text) and not (is_array and text[at] == "]"):
            value, at, too_deep = _next_value(text, at)
            yield JsonValue(f"row {number}", value, too_deep)
            number, at = number + 1, _after_space(text, at)
            if is_array and text[at : at + 1] != "]":
                _expect(text, at, ",")
                at = _after_space(text, at + 1)
        if is_array:
            _expect(text, at, "]")
            _expect(text, _after_space(text, at + 1), "")
    except json.JSONDecodeError as error:
        raise BadInputError(
            "this is not JSON",
            where=f"{path}, line {error.lineno}",
            fix=forms,
        ) from None


def _expect(text: str, at: int, expected: str) -> None:
    if text[at : at + 1] != expected:
        raise json.JSONDecodeError(f"Expecting {expected or 'the end'}", text, at)


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
