"""The error that the user sees where a service refuses every request."""

from collections.abc import Sequence

from mpo_core.contract.errors import BadInputError
from mpo_core.http.errors import FOREIGN, RefusedError

KEY_REFUSED = {401, 403}
"""Statuses of a refused key."""
_HTTP = range(100, 600)
"""Statuses of HTTP; others are a service's own codes."""


def refused_service(
    name: str, error: RefusedError, *, key_variables: Sequence[str], where: str, fix: str
) -> BadInputError:
    """Returns the error to show for a service that refuses every request.

    Its words are shown, so `error` must be the refusal of a request without the user's texts.
    """
    quote = f": {error.words.rstrip('.')}" if error.words else ""
    if error.reason == FOREIGN:
        return BadInputError(
            f"the service {name} answers, but not as its kind of server does{quote}",
            where=where,
            fix="Check the address (url; most servers want /v1 at its end), and whether one must log in there.",
        )
    status = f" ({'HTTP' if error.status in _HTTP else 'code'} {error.status})"
    if error.status in KEY_REFUSED and key_variables:
        return BadInputError(
            f"the service {name} refuses the key{status}{quote}",
            where=f"environment variable {', '.join(key_variables)}",
            fix="Check that it is set to the key of this service.",
        )
    fixes = {
        401: "Check the user and the password in its url.",
        402: "Check your account with the service.",
        404: "Check the address (url; most servers want /v1 at its end) and the model's name.",
        429: "The quota is spent: check your account with the service.",
    }
    return BadInputError(
        f"the service {name} refuses every request{status}{quote}",
        where=where,
        fix=fixes.get(error.status, fix),
    )
