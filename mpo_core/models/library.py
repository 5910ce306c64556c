"""Turns whatever a library raises over a user's model into one clear error."""

import contextlib
import re
from collections.abc import Iterable, Iterator

from mpo_core.contract.errors import BadInputError

_LONGEST = 200  # characters of a library's own words


@contextlib.contextmanager
def reading(what: str, *, where: str, fix: str) -> Iterator[None]:
    """Turns any exception of a library into one `BadInputError` that says `what` and quotes the library.

    Wrap single calls into a library, never code of ours: a mistake of ours must stay a traceback.

    Raises:
        BadInputError: the library raised something.
    """
    try:
        yield
    except BadInputError:
        raise
    except Exception as error:  # a damaged file makes libraries raise anything
        raise BadInputError(f"{what} ({words_of(error)})", where=where, fix=fix) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what the Rust code of tokenizers and safetensors raises
            raise
        raise BadInputError(f"{what} ({words_of(error)})", where=where, fix=fix) from error


def refuse_any(names: Iterable[str], what: str, *, where: str, fix: str) -> None:
    """Refuses a model that has such tensors or files: the message says how many there are, and names the first.

    Raises:
        BadInputError: there is at least one.
    """
    first, *others = sorted(names) or [""]
    if first:
        raise BadInputError(f"{1 + len(others)} {what}, the first is {first[:100]}", where=where, fix=fix)


def words_of(error: BaseException) -> str:
    """Returns the type of an error and the start of its message, on one line."""
    message = re.sub(r"[\s\x00-\x1f\x7f]+", " ", str(error)).strip()
    if not message:
        return type(error).__name__
    cut = message if len(message) <= _LONGEST else message[:_LONGEST].rstrip() + " …"
    return f"{type(error).__name__}: {cut.rstrip('.')}"
