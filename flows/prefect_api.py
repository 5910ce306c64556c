"""Checks in bounded time that the Prefect server of PREFECT_API_URL answers and is of our version."""

import asyncio
import base64
import re
from pathlib import Path
from traceback import extract_tb

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.redact import redact
from mpo_core.http.address import ServiceUrl
from mpo_core.http.client import Answer, HttpClient
from mpo_core.http.errors import LastingError, PassingError
from mpo_core.http.proxies import require_proxies

_SECONDS = 10.0
"""Limit for a whole reply, however slowly its bytes come."""
_MAX_BYTES = 1 << 20
_NO_ACCESS = {401, 403}
REPEATED_STATUS = "500"
"""Status codes, separated by commas, after which Prefect's client repeats a call beside those of its own choice: a
server answers 500 while its database is away. The value of PREFECT_CLIENT_RETRY_EXTRA_CODES."""


def server() -> str | None:
    """Returns the address of the Prefect server that PREFECT_API_URL names, or None for a temporary one."""
    from prefect.settings import PREFECT_API_URL

    address: str | None = PREFECT_API_URL.value()
    return address


def server_failure(error: Exception) -> str | None:
    """Describes an error of Prefect's client: the server was lost during the run, or kept failing; else None."""
    from httpx import TransportError
    from prefect.exceptions import PrefectHTTPStatusError

    if isinstance(error, PrefectHTTPStatusError):
        what = f"kept answering with status {error.response.status_code}"
    elif isinstance(error, TransportError) and any(
        "prefect" in Path(frame.filename).parts for frame in extract_tb(error.__traceback__)
    ):
        what = f"could not be reached any more ({type(error).__name__})"
    else:
        return None
    address = server()
    place = f"PREFECT_API_URL {address}" if address else "Prefect's temporary server"
    log = "The server's log says more. " if address else ""
    return redact(f"{place}: the server {what}. {log}Finished work is kept: run the command again.")


def is_healthy(address: str) -> bool:
    """Returns whether a server answers at this address."""
    try:
        return 200 <= asyncio.run(_get(address, "health"))[0].status < 300  # noqa: PLR2004 - success in HTTP
    except (PassingError, LastingError):
        return False


def require_server() -> None:
    """Checks the Prefect server of PREFECT_API_URL before a run relies on it: Prefect itself would retry for minutes.

    Without one, it makes sure that the temporary server ends with this process.

    Raises:
        BadInputError: a proxy that the environment names is unusable, no whole reply comes within ten seconds, or what
            answers is no Prefect server of our version.
    """
    from prefect.settings import PREFECT_CLOUD_API_URL

    require_proxies()
    address = server()
    if address is None:
        from flows.temporary_server import watch

        watch()
        return
    where = f"PREFECT_API_URL {address}"
    fix = "Start one with `make up`, or unset the variable to run without a server."
    try:
        health, version = asyncio.run(_get(address, "health", "admin/version"))
    except PassingError as error:
        raise BadInputError(f"no Prefect server answers ({error.reason})", where=where, fix=fix) from None
    except LastingError as error:
        raise BadInputError(f"this is no Prefect server's API ({error.reason})", where=where, fix=fix) from None
    if version.status in _NO_ACCESS:
        keys = "Set PREFECT_API_AUTH_STRING or PREFECT_API_KEY to the server's credentials."
        raise BadInputError(f"the server refuses access (status {version.status})", where=where, fix=keys)
    if health.status == 200 and address.startswith(PREFECT_CLOUD_API_URL.value()):  # noqa: PLR2004
        return  # Prefect Cloud works with every version
    if version.status != 200:  # noqa: PLR2004
        raise BadInputError(f"the server answers with status {version.status}", where=where, fix=fix)
    _require_version(version, where)


async def _get(address: str, *paths: str) -> list[Answer]:
    """Requests each path in turn; after a failed reply, the remaining paths get the same reply without a request."""
    try:
        url = ServiceUrl(address)
    except ValueError as error:
        raise BadInputError(str(error), where="PREFECT_API_URL", fix="Write http://HOST:PORT/api.") from None
    client = HttpClient(url, timeout=_SECONDS, connections=1, headers=_authorization(), max_bytes=_MAX_BYTES)
    try:
        answers: list[Answer] = []
        for path in paths:
            failed = answers and answers[-1].status != 200  # noqa: PLR2004
            answers.append(answers[-1] if failed else await client.request("GET", f"{url.base}/{path}"))
        return answers
    finally:
        await client.close()


def _authorization() -> dict[str, str]:
    """Returns the header that Prefect would send for the credentials in its settings."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

    if (pair := PREFECT_API_AUTH_STRING.value()) is not None:
        return {"Authorization": f"Basic {base64.b64encode(pair.get_secret_value().encode()).decode()}"}
    if (key := PREFECT_API_KEY.value()) is not None:
        return {"Authorization": f"Bearer {key.get_secret_value()}"}
    return {}


def _require_version(answer: Answer, where: str) -> None:
    """Rejects a server of another major version, or one whose reply holds no version, such as a web page."""
    import prefect

    try:
        text = answer.text.strip()
    except (PassingError, LastingError):
        text = ""
    version = re.fullmatch(r'"(\d+)\.\d[\w.+-]*"', text)
    if version is None:
        raise BadInputError("this is no Prefect server's API", where=where, fix="Name its address, ending in /api.")
    if version[1] != prefect.__version__.split(".")[0]:
        raise BadInputError(
            f"the server has Prefect {text}, this machine {prefect.__version__}",
            where=where,
            fix="Use the same major version on both sides.",
        )
