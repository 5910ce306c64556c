"""What the user gets to read where a service refuses every request."""

from __future__ import annotations

from collections.abc import Sequence

from mpo_core.contract.errors import BadInputError
from mpo_core.http.errors import RefusedError

_FOREIGN = "foreign_reply"
"""The reason where a server answers with success, and yet not as its kind of service does."""
KEY_REFUSED = {401, 403}
"""Statuses of a refused key."""
_HTTP = range(100, 600)
"""Statuses of HTTP; others are a service's own codes."""


def refused_service(
    name: str, error: RefusedError, *, key_variables: Sequence[str], where: str, fix: str
) -> BadInputError:
    """Returns what the user gets to read of a service that refuses everything.

    Args:
        name: what the service is called.
        error: its refusal of a request that holds nothing of the user's, as its words are shown.
        key_variables: environment variables that hold its keys.
        where: the setting that names it.
        fix: what to do where the status says nothing more.
    """
    said = f": {error.words.rstrip('.')}" if error.words else ""
    if error.reason == _FOREIGN:
        return BadInputError(
            f"the service {name} answers, but not as its kind of server does{said}",
            where=where,
            fix="Check the address (url; most servers want /v1 at its end), and whether one must log in there.",
        )
    status = f" ({'HTTP' if error.status in _HTTP else 'code'} {error.status})"
    if error.status in KEY_REFUSED and key_variables:
        return BadInputError(
            f"the service {name} refuses the key{status}{said}",
            where=f"environment variable {', '.join(key_variables)}",
            fix="Check that it is set, and to this service's key.",
        )
    fixes = {
        401: "Check the user and the password in its url.",
        402: "Check the account there.",
        404: "Check the address (url; most servers want /v1 at its end) and the model's name.",
        429: "The quota is spent: check the account there.",
    }
    return BadInputError(
        f"the service {name} refuses every request{status}{said}",
        where=where,
        fix=fixes.get(error.status, fix),
    )
