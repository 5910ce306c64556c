"""The errors of this project: bad input, which a user can fix, failed stages, and damaged artifacts."""

import re
from collections.abc import Iterable

from mpo_core.contract.redact import redact

_NAME = re.compile(r"[\w.+/#()-]{1,40}", re.ASCII)
_MOST_NAMES = 30
_MOST_WORDS = 2


def installation(extra: str) -> str:
    """Returns the command that installs an optional part of mpo, as a sentence for `fix`."""
    return f"In mpo's own folder: pip install -c constraints.txt -e '.[{extra}]'."


def quantity(number: int, noun: str) -> str:
    """Returns a number with its noun in the singular or the plural, such as `1 row`, `2 entries` or `3 processes`."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{number:,} {noun[:-1]}ies"
    return f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"


class BadInputError(ValueError):
    """Bad input of the user's: what is wrong, where, and how to fix it, on one line.

    The command prints the line and exits with code 2; a stage never retries it. `what` and `where` hold no harmful
    text: ids, counts, names only.
    """

    def __init__(self, what: str, *, where: str, fix: str) -> None:
        what, where, fix = redact(what), redact(where), redact(fix)
        line = " ".join(f"{where}: {what}. {fix}".split())
        # Names of columns and files may hold halves of surrogate pairs, which no terminal takes.
        super().__init__(line.encode("utf-8", "backslashreplace").decode())
        self.what, self.where, self.fix = what, where, fix

    def __reduce__(self) -> tuple[object, ...]:
        """Keeps the keyword arguments when the error crosses a process."""
        return (_rebuild, (type(self), self.what, self.where, self.fix))


def _rebuild(kind: type[BadInputError], what: str, where: str, fix: str) -> BadInputError:
    return kind(what, where=where, fix=fix)


def shortened(text: str, limit: int = 100) -> str:
    """Cuts a text of the user's to a length that a message can show; control characters become visible escapes."""
    text = text if len(text) <= limit else f"{text[:limit]}…"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def is_name(text: str) -> bool:
    """Returns whether a text is certainly a name or a label, and no prompt or answer.

    That is one word of ASCII. In other scripts a few letters may be a whole sentence.
    """
    return _NAME.fullmatch(text) is not None


def column_names(names: Iterable[str]) -> str:
    """Returns the names of a user's columns for a message; those of more than two words may be texts, and are counted.

    A file without a header has texts in place of the names.
    """
    names = list(names)
    known = [name for name in names if len(words := name.split(" ")) <= _MOST_WORDS and all(map(is_name, words))]
    parts = [", ".join(known[:_MOST_NAMES])]
    if len(known) > _MOST_NAMES:
        parts.append(f"{len(known) - _MOST_NAMES:,} more")
    if hidden := len(names) - len(known):
        parts.append(f"{hidden:,} that may be texts and so are not shown (is there a header?)")
    return " and ".join(filter(None, parts)) or "none"


class StageFailedError(RuntimeError):
    """A failure of a stage or of its process; the message says where to look, without text of prompts or answers."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class DamagedError(RuntimeError):
    """An artifact is missing or its bytes are not the ones that were written."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))
