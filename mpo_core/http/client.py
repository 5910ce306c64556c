"""The one HTTP client of services: replies are bounded in bytes, time and depth, and come from the requested host."""

import asyncio
import base64
import functools
import gzip
import io
import json
import os
import ssl
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx

from mpo_core.contract.errors import BadInputError
from mpo_core.http.address import ServiceUrl, is_loopback
from mpo_core.http.errors import LastingError, PassingError, RefusedError
from mpo_core.http.proxies import unusable_proxy
from mpo_core.http.retries import retry_after

MAX_BYTES = 4 << 20
"""Maximum size of a reply in bytes, compressed or not, unless a client has a limit of its own."""
_MOST_REDIRECTS = 3
_SAME_AGAIN = {301, 302, 307, 308}
"""Redirects after which the same request is made at another path."""
_PRINTABLE = range(0x20, 0x7F)


class Answer(NamedTuple):
    """A complete reply of a server: status, headers and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def after(self) -> float | None:
        """Seconds that the server wants its clients to wait."""
        return retry_after(self.headers.get("retry-after"))

    @property
    def text(self) -> str:
        """The body as text: UTF-8 where it is that, else in the encoding that the reply names.

        Raises:
            LastingError: it is neither.
        """
        charset = self.headers.get("content-type", "").lower().partition("charset=")[2].split(";")[0].strip("\"' ")
        for encoding in filter(None, ("utf-8-sig", charset)):
            try:
                return self.body.decode(encoding)
            except (LookupError, ValueError):  # an unknown encoding, or one that does not fit
                continue
        raise LastingError("invalid_text")

    def json(self) -> Any:
        """Parses the body as JSON.

        Raises:
            PassingError: it is not JSON, or is nested too deeply.
            LastingError: its bytes are not text.
        """
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            raise PassingError("no_answer") from None


def header_value(value: str, *, where: str) -> str:
    """Returns a service's key without white space around it, after a check that an HTTP header can hold it.

    Raises:
        BadInputError: it contains other characters than printable ASCII; the message does not repeat them.
    """
    value = value.strip()
    if any(ord(char) not in _PRINTABLE for char in value):
        raise BadInputError(
            "the key contains a line break, an accent or another character that no key has",
            where=where,
            fix="Copy the key again.",
        )
    return value


def server_key(variable: str | None) -> str:
    """Returns the key in an environment variable; an empty text where none is named.

    Raises:
        BadInputError: the key is not set, or is malformed.
    """
    key = header_value(os.environ.get(variable, ""), where=f"environment variable {variable}") if variable else ""
    if variable and not key:
        raise BadInputError("the server's key is not set", where=f"environment variable {variable}", fix="Set it.")
    return key


class HttpClient:
    """A client for requests to one service. It is made and used in one event loop.

    Args:
        url: the service; its user and its query go along with every request to that host.
        timeout: seconds for a whole reply.
        connections: maximum number of requests in flight at the same time.
        headers: headers of every request.
        max_bytes: maximum size of a reply in bytes, compressed or not.

    Raises:
        BadInputError: a proxy that the environment names is unusable.
    """

    def __init__(
        self,
        url: ServiceUrl,
        *,
        timeout: float,
        connections: int,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._url, self._timeout, self._max_bytes = url, timeout, max_bytes
        own = {"Accept-Encoding": "gzip, deflate", **(headers or {})}
        if url.user is not None:
            own["Authorization"] = f"Basic {base64.b64encode(':'.join(url.user).encode()).decode()}"
        try:
            self._http = httpx.AsyncClient(
                headers=own,
                timeout=timeout,
                limits=httpx.Limits(max_connections=connections),
                trust_env=not is_loopback(url.host),
                verify=_certificates(),
                follow_redirects=False,
            )
        except (ValueError, ImportError, httpx.InvalidURL):
            raise unusable_proxy() from None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Answer:
        """Sends a request and returns the whole reply, of any status but a redirect to another host.

        Parameters and form values that are None are not sent; `body` is plain data, sent as JSON.

        Raises:
            PassingError: no whole reply came in time, or it is too large.
            RefusedError: the server redirects to another host.
            LastingError: the text cannot be sent.
        """
        try:
            full = httpx.URL(url)
            query = [*full.params.multi_items(), *_present(params)]
            if _origin(full) == _origin(httpx.URL(self._url.base)):
                query += self._url.query
            form = {name: str(value) for name, value in _present(data)} if data is not None else None
            request = self._http.build_request(
                method, full.copy_with(query=urlencode(query).encode() or None), headers=headers, data=form, json=body
            )
        except UnicodeError:
            raise LastingError("invalid_text") from None
        except httpx.InvalidURL:
            raise PassingError("connection_failed") from None
        try:
            async with asyncio.timeout(self._timeout):  # for the whole reply: httpx counts silence only
                return await self._followed(request)
        except (httpx.TimeoutException, TimeoutError):
            raise PassingError("timed_out") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError):
            raise PassingError("connection_failed") from None

    async def _followed(self, request: httpx.Request) -> Answer:
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await self._once(request)
            location = answer.headers.get("location")
            if not httpx.codes.is_redirect(answer.status) or location is None:
                return answer
            target = request.url.join(location)
            again = answer.status in _SAME_AGAIN or request.method == "GET"
            if _origin(target) != _origin(request.url) or not again:
                words = f"it redirects to {target.scheme}://{target.netloc.decode()}"
                raise RefusedError("redirected", status=answer.status, words=words)
            request = httpx.Request(request.method, target, headers=request.headers, content=request.content)
        raise RefusedError("redirected", status=answer.status, words="it redirects in circles")

    async def _once(self, request: httpx.Request) -> Answer:
        response = await self._http.send(request, stream=True)
        try:
            raw = bytearray()
            async for chunk in response.aiter_raw():
                raw += chunk
                if len(raw) > self._max_bytes:
                    raise PassingError("reply_too_large")
        finally:
            await response.aclose()
        return Answer(response.status_code, response.headers, _unpacked(bytes(raw), response.headers, self._max_bytes))

    async def close(self) -> None:
        """Ends the connections."""
        await self._http.aclose()


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Loads the trusted certificate authorities, those of SSL_CERT_FILE included, with or without a proxy."""
    return httpx.create_ssl_context()


def _present(values: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in (values or {}).items() if value is not None]


def _origin(url: httpx.URL) -> tuple[str, bytes, int]:
    return url.scheme, url.raw_host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def _unpacked(raw: bytes, headers: Mapping[str, str], max_bytes: int) -> bytes:
    """Decompresses the body of a reply, up to the maximum size of a reply.

    Raises:
        PassingError: it is larger, damaged, or compressed in a way that was not offered.
    """
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding in {"", "identity"} or not raw:
        return raw
    if coding not in {"gzip", "x-gzip", "deflate"}:
        raise PassingError("unreadable_reply")
    try:
        if coding == "deflate":
            # Some servers leave out its frame; the low bits of a frame's first byte are 8.
            bare = raw[0] & 0x0F != zlib.DEFLATED
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS)
            body = unpacker.decompress(raw, max_bytes + 1)
            is_cut = not unpacker.eof
        else:
            body, is_cut = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(max_bytes + 1), False
    except (OSError, EOFError, zlib.error):
        raise PassingError("unreadable_reply") from None
    if len(body) > max_bytes:
        raise PassingError("reply_too_large")
    if is_cut:
        raise PassingError("unreadable_reply")
    return body
