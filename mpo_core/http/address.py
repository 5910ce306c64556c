"""The address of a service: checked when the settings are read, and shown without its credentials."""

import ipaddress
import re
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from pydantic import ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

_PUBLIC = re.compile(r"(?:api[-_])?version", re.IGNORECASE)
"""Parameters of a query that are no secret; any other may be a key, whatever its name."""
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_PORTS = range(1, 1 << 16)


class ServiceUrl(str):
    """An http or https URL. As a string it is what may be shown and stored; `full` has its credentials, too.

    Raises:
        ValueError: the URL is malformed; the message does not repeat it.
    """

    __slots__ = ("base", "full", "host", "query", "user")
    full: str
    base: str
    """The URL without credentials, query and closing slash."""
    host: str
    """The host's name or address as a name server knows it, without brackets."""
    user: tuple[str, str] | None
    """User and password, if the URL has them."""
    query: list[tuple[str, str]]
    """The parameters that every request gets."""

    def __new__(cls, url: str) -> "ServiceUrl":
        """Checks the URL and hides its credentials."""
        _check(url)
        parts = urlsplit(url)
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
        query = parse_qsl(parts.query, keep_blank_values=True)
        public = urlencode([(name, value) for name, value in query if _PUBLIC.fullmatch(name)])
        self = super().__new__(cls, plain._replace(query=public).geturl())
        self.full, self.base, self.query = url, plain.geturl().rstrip("/"), query
        self.host = _ascii(parts.hostname or "") or ""
        self.user = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets a copy in another process have the credentials, too."""
        return ServiceUrl, (self.full,)

    def __deepcopy__(self, _memo: Any) -> "ServiceUrl":
        return self


def is_loopback(host: str) -> bool:
    """Returns whether a host is this machine."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or address.is_unspecified or (mapped is not None and mapped.is_loopback)


def _check(url: str) -> None:
    if any(char <= " " or char in "\x7f\\" or char.isspace() or "\ud800" <= char <= "\udfff" for char in url):
        raise ValueError("the URL contains a space, a backslash or a control character")
    if not re.match(r"https?://", url, re.IGNORECASE):
        raise ValueError("the URL must begin with http:// or https://")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise ValueError("the URL is malformed") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is not None and port not in _PORTS:
        raise ValueError("the URL's port is not a number from 1 to 65535")
    if not _is_host(host, in_brackets="[" in parts.netloc.rpartition("@")[2]):
        raise ValueError("the URL names no valid host")


def _is_host(host: str, *, in_brackets: bool) -> bool:
    name = host if in_brackets else _ascii(host)
    if name is None:
        return False
    if in_brackets or re.fullmatch(r"[0-9.]+", name):
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
    return len(name) < 254 and all(map(_LABEL.fullmatch, name.removesuffix(".").split(".")))  # noqa: PLR2004 - of DNS


def _ascii(host: str) -> str | None:
    """Returns a host as it is sent, such as `xn--bcher-kva.org`; None for a name that has no such form."""
    if host.isascii():
        return host
    import idna

    try:
        return idna.encode(host.lower()).decode()  # as httpx does
    except idna.IDNAError:
        return None


def _service_url(value: Any, handler: ValidatorFunctionWrapHandler) -> ServiceUrl:
    if isinstance(value, ServiceUrl):
        return value
    text = handler(value)
    try:
        return ServiceUrl(text)
    except ValueError as error:
        raise PydanticCustomError("secret_url", "{why}", {"why": str(error)}) from None


Url = Annotated[str, WrapValidator(_service_url)]
"""The type of a setting that is a service's address: its value is a `ServiceUrl`, its dump has no credentials."""
