"""Proxies of the environment: never between this machine and itself."""

import os
from collections.abc import MutableMapping

from mpo_core.contract.errors import BadInputError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NAMES = ("NO_PROXY", "no_proxy")
_PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def spare_loopback(environment: MutableMapping[str, str] = os.environ) -> None:
    """Extends `NO_PROXY` and `no_proxy` by this machine's own addresses, for this process and its children.

    Clients read one or the other of the two names; what the user has set stays.
    """
    values = {name: environment.get(name, "").strip(", ") for name in _NAMES}
    for name in _NAMES:
        value = values[name] or next(filter(None, values.values()), "")
        hosts = [host.strip() for host in value.split(",") if host.strip()]
        if "*" not in hosts:  # some clients know the star only if it stands alone
            environment[name] = ",".join(dict.fromkeys([*hosts, *_LOOPBACK]))
    for name in _PROXIES:
        # What GNOME writes; the clients know this kind of proxy by its full name only.
        if environment.get(name, "").startswith("socks://"):
            environment[name] = environment[name].replace("socks://", "socks5://", 1)


def require_proxies() -> None:
    """Checks that HTTP clients accept the proxies that the environment names.

    Raises:
        BadInputError: one of them is no address of a proxy.
    """
    import httpx

    try:
        httpx.Client(verify=False).close()  # noqa: S501 - it makes no request
    except (ValueError, ImportError, httpx.InvalidURL):
        raise unusable_proxy() from None


def unusable_proxy() -> BadInputError:
    """Returns the error of a proxy that no client takes."""
    return BadInputError(
        "the address of a proxy is not an http, https or socks5 URL",
        where="environment variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY",
        fix="Correct or unset it.",
    )
