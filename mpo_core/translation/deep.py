"""Online services through deep-translator, with what that library lacks: time limits, Retry-After, several threads."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import requests
from deep_translator import exceptions as told
from requests.adapters import HTTPAdapter

from mpo_core.errors import BadInputError
from mpo_core.settings import DeepTranslatorSource
from mpo_core.translation.engines import EngineDownError
from mpo_core.translation.remote import LastingError, PassingError, RemoteBackend, retry_after

_MOST_BYTES = 4 << 20
"""A reply that is longer is no translation."""


class _Service(NamedTuple):
    """How deep-translator offers a service: class, limit in characters, environment variables of the keys."""

    kind: str
    limit: int
    keys: Mapping[str, str] = {}
    optional: Mapping[str, str] = {}
    # What its `translate` asks for beside the text.
    asked: Mapping[str, str] = {}
    # Languages that its constructor lets pass; the real ones are set afterwards, for its lists are old.
    start: tuple[str, str] = ("en", "it")


_SERVICES: dict[str, _Service] = {
    "google": _Service("GoogleTranslator", 4900),
    "mymemory": _Service("MyMemoryTranslator", 450, start=("en-GB", "it-IT")),
    "deepl": _Service("DeeplTranslator", 20_000, {"api_key": "DEEPL_API_KEY"}),
    "libre": _Service("LibreTranslator", 2000, optional={"api_key": "LIBRE_API_KEY"}),
    "microsoft": _Service(
        "MicrosoftTranslator", 10_000, {"api_key": "MICROSOFT_API_KEY"}, {"region": "MICROSOFT_REGION"}
    ),
    "baidu": _Service("BaiduTranslator", 1500, {"appid": "BAIDU_APPID", "appkey": "BAIDU_APPKEY"}),
    "papago": _Service(
        "PapagoTranslator",
        4900,
        {"client_id": "PAPAGO_CLIENT_ID", "secret_key": "PAPAGO_CLIENT_SECRET"},
        start=("en", "ko"),
    ),
    "qcri": _Service(
        "QcriTranslator", 2000, {"api_key": "QCRI_API_KEY"}, asked={"domain": "general"}, start=("en", "ar")
    ),
    "yandex": _Service("YandexTranslator", 9000, {"api_key": "YANDEX_API_KEY"}),
}

# HTTP statuses after which the same request may succeed; DeepL and others add their own to the standard ones.
_CROWDED, _PASSING = {429, 529}, {408, 409, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524}
_KEY_REFUSED, _SPENT, _TOO_LONG, _NOT_THIS = (
    {401, 403},
    {402, 456},
    {413, 414},
    {400, 404, 406, 410, 413, 414, 422, 451},
)


def deep_translator_backend(settings: DeepTranslatorSource) -> RemoteBackend:
    """The service as a backend.

    Raises:
        BadInputError: its key is not in the environment.
    """
    service = _SERVICES[settings.service]
    missing = [variable for variable in service.keys.values() if not os.environ.get(variable)]
    if missing:
        raise BadInputError(
            f"the service {settings.service} needs a key", where=f"environment variable {missing[0]}", mend="Set it."
        )
    return RemoteBackend(
        lambda: DeepTranslatorClient(settings),
        name=settings.service,
        codes=settings.service,
        identity=identity(settings),
        limit=service.limit,
        settings=settings,
    )


def identity(settings: DeepTranslatorSource) -> str:
    """Whose answers these are."""
    return f"{settings.service}@{settings.version}" if settings.version else settings.service


class DeepTranslatorClient:
    """Asks a service from threads, each with a translator and a connection of its own."""

    def __init__(self, settings: DeepTranslatorSource) -> None:
        self.name, self._settings, self._service = settings.service, settings, _SERVICES[settings.service]
        self._pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix=self.name)
        self._own = threading.local()

    async def ask(self, text: str, source: str, target: str) -> str | None:
        """The translation, or None where the service gave nothing.

        Raises:
            PassingError, LastingError, EngineDownError, BadInputError: as `Client.ask`.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, text, source, target)

    async def close(self) -> None:
        """Lets the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, text: str, source: str, target: str) -> str | None:
        translator = self._translator()
        try:
            translator.source, translator.target = source, target
            found = translator.translate(text, **self._service.asked)
        except Exception as error:  # noqa: BLE001 - the library raises bare `Exception`, too
            raise self._classify(error) from None
        return "\n".join(found) if isinstance(found, list) else found  # Yandex gives a list

    def _translator(self) -> Any:
        """This thread's translator; the library's are not made for several threads."""
        if not hasattr(self._own, "translator"):
            self._own.http = _Http(self._settings.timeout)
            self._own.translator = self._made(self._own.http)
        return self._own.translator

    def _made(self, http: _Http) -> Any:
        module: Any = importlib.import_module(f"deep_translator.{self.name}")
        # The library calls `requests.get` and `.post` without a time limit: for this module we answer them.
        module.requests = _Requests
        _Requests.here.http = http
        kind = getattr(module, self._service.kind)
        keys = {name: os.environ[variable] for name, variable in self._service.keys.items()}
        keys |= {n: os.environ[v] for n, v in self._service.optional.items() if os.environ.get(v)}
        more: dict[str, Any] = {}
        if self.name == "deepl":
            more["use_free_api"] = keys["api_key"].endswith(":fx")
        if self.name == "libre":
            more["api_key"] = keys.pop("api_key", "none")  # it will not be made without one
        start = dict(zip(("source", "target"), self._service.start, strict=True))
        made = kind(**start, **keys, **more)
        if self.name == "libre" and not os.environ.get("LIBRE_API_KEY"):
            made.api_key = None
        if self._settings.url is not None:
            slash = "/" if self.name in {"deepl", "libre"} else ""  # these put a word behind it
            made._base_url = self._settings.url.rstrip("/") + slash  # noqa: SLF001 - no other way in
        return made

    def _classify(self, error: Exception) -> Exception:
        """What the library or `requests` raised, as one of our errors; the text never goes along."""
        last: _Last = getattr(getattr(self._own, "http", None), "last", _Last(None, None))
        for kinds, made in (
            (requests.Timeout, PassingError("timed_out")),
            (requests.RequestException | ConnectionError, PassingError("connection_failed")),
            (told.NotValidLength | told.NotValidPayload, LastingError("too_long")),
            (
                told.LanguageNotSupportedException | told.InvalidSourceOrTargetLanguage,
                EngineDownError(self.name, "language_not_supported"),
            ),
        ):
            if isinstance(error, kinds):
                return made
        if isinstance(error, told.TooManyRequests) or last.status in _CROWDED:
            return PassingError("too_many_requests", after=last.after, crowded=True)
        if last.status in _KEY_REFUSED or isinstance(error, told.ApiKeyException | told.AuthorizationException):
            return self._key_refused(last)
        if last.status in _SPENT or last.unsupported:
            return EngineDownError(self.name, "language_not_supported" if last.unsupported else "quota_spent")
        if last.status in _NOT_THIS:
            return LastingError("too_long" if last.status in _TOO_LONG else f"http_{last.status}")
        # Server errors, and pages that are no translation: TranslationNotFound, JSON that is none, keys that lack.
        return PassingError("server_error" if last.status in _PASSING else "no_answer", after=last.after)

    def _key_refused(self, last: _Last) -> Exception:
        variables = [*self._service.keys.values(), *self._service.optional.values()]
        if not variables:
            return PassingError("access_denied", after=last.after)
        return BadInputError(
            f"the service {self.name} refuses the key",
            where=f"environment variable {', '.join(variables)}",
            mend="Check it.",
        )


class _Last(NamedTuple):
    """What the last response said."""

    status: int | None
    after: float | None
    unsupported: bool = False
    """The request was refused because of its language."""


class _Http:
    """One thread's connection: the time limit is for the whole reply, and texts and keys stay out of addresses."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=1))
        self.last = _Last(None, None)

    def request(self, method: str, url: str, **asked: Any) -> requests.Response:
        """As `requests.request`; the body is read within the time limit.

        Raises:
            requests.RequestException: also `ReadTimeout` for a reply that trickles in.
        """
        self.last = _Last(None, None)
        ends = time.monotonic() + self._timeout
        method, asked = _discreet(method, url, asked)
        with self._session.request(method, url, timeout=self._timeout, stream=True, **asked) as response:
            self.last = _Last(response.status_code, retry_after(response.headers.get("Retry-After")))
            body = bytearray()
            for chunk in response.iter_content(1 << 14):
                body += chunk
                if time.monotonic() > ends:
                    raise requests.ReadTimeout
                if len(body) > _MOST_BYTES:
                    raise requests.ConnectionError
        if response.status_code == requests.codes.bad_request:
            self.last = self.last._replace(unsupported=b"not supported" in body)
        response._content = bytes(body)  # noqa: SLF001 - what `response.text` reads
        return response


def _discreet(method: str, url: str, asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """DeepL and LibreTranslate take texts and keys in the body, too: there no proxy's log has them."""
    params = dict(asked.get("params") or {})
    if "auth_key" in params:
        # DeepL has given up keys among the parameters; it wants this header.
        headers = {"Authorization": f"DeepL-Auth-Key {params.pop('auth_key')}"}
        return "POST", {"data": params, "headers": headers}
    if url.endswith("/translate") and "q" in params and method == "POST":
        return "POST", {"data": params}
    return method, asked


class _Requests:
    """What the library finds under the name `requests`: get and post of the thread that calls."""

    here = threading.local()
    exceptions = requests.exceptions

    @classmethod
    def get(cls, url: str, **asked: Any) -> Any:
        """A GET within the time limit."""
        if "microsofttranslator.com/languages" in url:
            return _KnownLanguages()
        return cls._request("GET", url, **asked)

    @classmethod
    def post(cls, url: str, **asked: Any) -> Any:
        """A POST within the time limit."""
        return cls._request("POST", url, **asked)

    @classmethod
    def _request(cls, method: str, url: str, **asked: Any) -> Any:
        http = getattr(cls.here, "http", None)  # somebody else in this process may use the library, too
        return requests.request(method, url, **asked) if http is None else http.request(method, url, **asked)  # noqa: S113


class _KnownLanguages:
    """Microsoft's translator asks for a list of languages when it is made; ours are in `mpo_core.languages`."""

    @staticmethod
    def json() -> Any:
        """As the service answers."""
        return {"translation": {code: {"name": code} for code in ("en", "it")}}
