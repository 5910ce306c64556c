"""Translates with online services through deep-translator, and adds time limits, Retry-After and several threads."""

import asyncio
import importlib
import os
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx
import requests
from deep_translator import exceptions as errors_of

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.translation import EngineDownError
from mpo_core.http.address import ServiceUrl
from mpo_core.http.client import Answer, HttpClient, header_value
from mpo_core.http.errors import LastingError, PassingError, RefusedError
from mpo_core.http.words import server_words
from mpo_core.translation.engines.deep_translator import DeepTranslatorSource
from mpo_core.translation.remote import RemoteBackend


class _Service(NamedTuple):
    """A service of deep-translator: its class, the maximum length of a request, the variables that hold its keys."""

    kind: str
    limit: int
    keys: Mapping[str, str] = {}
    optional: Mapping[str, str] = {}
    # Further arguments that its `translate` needs.
    extra_arguments: Mapping[str, str] = {}
    # Languages that its constructor accepts; the real ones are set afterwards, since its lists are out of date.
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
        "QcriTranslator", 2000, {"api_key": "QCRI_API_KEY"}, extra_arguments={"domain": "general"}, start=("en", "ar")
    ),
    "yandex": _Service("YandexTranslator", 9000, {"api_key": "YANDEX_API_KEY"}),
}

# HTTP statuses after which the same request may succeed; DeepL and others add their own to the standard ones.
_CROWDED, _PASSING = {429, 529}, {408, 409, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524}
_REASONS = {402: "quota_spent", 456: "quota_spent", 413: "too_long", 414: "too_long"}
_BAIDU_PASSING = {52001, 52002, 54003, 54005}
"""Baidu's codes for time-outs, server errors and too many requests."""
_MICROSOFT_LANGUAGES = b'{"translation": {"en": {"name": "en"}, "it": {"name": "it"}}}'
"""The reply to Microsoft's translator when its constructor asks for the list of languages; ours is in
`mpo_core.languages.known`."""
_MAX_BYTES = 1 << 20
"""Maximum size of a reply in bytes: the library needs seconds to parse a larger page."""
_KEY_REFUSED, _FIRST_ERROR = {401, 403}, 400


def deep_translator_backend(settings: DeepTranslatorSource) -> RemoteBackend:
    """Makes the backend that translates with an online service through the library deep-translator."""
    return RemoteBackend(
        lambda: DeepTranslatorClient(settings),
        name=settings.service,
        codes=settings.service,
        limit=_SERVICES[settings.service].limit,
        settings=settings,
    )


def require_keys(name: str) -> None:
    """Checks that the keys of a service are in the environment.

    Raises:
        BadInputError: the environment variable of a key is not set, or the key is malformed.
    """
    service = _SERVICES[name]
    for variable in service.keys.values():
        if not os.environ.get(variable):
            raise BadInputError(
                f"the service {name} needs a key",
                where=f"environment variable {variable}",
                fix="Set this variable to your key.",
            )
    _keys(service)


def _keys(service: _Service) -> dict[str, str]:
    """Reads a service's keys from the environment, by the library's names for them."""
    variables = {**service.keys, **service.optional}
    return {
        name: header_value(os.environ[variable], where=f"environment variable {variable}")
        for name, variable in variables.items()
        if os.environ.get(variable)
    }


class DeepTranslatorClient:
    """A client that calls the library in several threads, whose requests all go through one HTTP client."""

    def __init__(self, settings: DeepTranslatorSource) -> None:
        self.name, self._settings, self._service = settings.service, settings, _SERVICES[settings.service]
        self.key_variables = [*self._service.keys.values(), *self._service.optional.values()]
        self._keys = _keys(self._service)
        self._url = settings.url if isinstance(settings.url, ServiceUrl) else ServiceUrl("https://service.invalid")
        self._http = HttpClient(
            self._url, timeout=settings.timeout, connections=settings.concurrency, max_bytes=_MAX_BYTES
        )
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix=self.name)
        self._own = threading.local()

    async def ask(self, text: str, source: str, target: str) -> str | None:
        """Translates a piece in a thread; None where the service gave no translation."""
        return await self._loop.run_in_executor(self._pool, self._ask, text, source, target)

    async def close(self) -> None:
        """Stops the threads and closes the connections."""
        await self._http.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, text: str, source: str, target: str) -> str | None:
        translator = self._translator()
        try:
            translator.source, translator.target = source, target
            translation = translator.translate(text, **self._service.extra_arguments)
        except Exception as error:  # noqa: BLE001 - the library raises bare `Exception`, too
            raise self._classify(error, text) from None
        return "\n".join(translation) if isinstance(translation, list) else translation  # Yandex returns a list

    def _translator(self) -> Any:
        """Returns the translator of this thread; the library's translators are not safe to share between threads."""
        if not hasattr(self._own, "translator"):
            self._own.translator = self._new_translator()
        return self._own.translator

    def request(self, method: str, url: str, **arguments: Any) -> "_Response":
        """Sends a request like `requests.request`, within the client's limits, and with no text or key in its URL."""
        self._own.answer = None
        method, arguments = _out_of_url(method, url, arguments)
        request = self._http.request(
            method,
            url,
            headers=arguments.get("headers"),
            params=arguments.get("params"),
            data=arguments.get("data"),
            body=arguments.get("json"),
        )
        self._own.answer = asyncio.run_coroutine_threadsafe(request, self._loop).result()
        return _Response(*self._own.answer)

    def _new_translator(self) -> Any:
        module: Any = importlib.import_module(f"deep_translator.{self.name}")
        # The library calls `requests.get` and `.post` without a time limit, so its module gets ours instead.
        module.requests = _Requests
        _Requests.here.client = self
        kind = getattr(module, self._service.kind)
        keys = dict(self._keys)
        options: dict[str, Any] = {}
        if self.name == "deepl":
            options["use_free_api"] = keys["api_key"].endswith(":fx")
        if self.name == "libre":
            options["api_key"] = keys.pop("api_key", "none")  # the constructor insists on one
        start = dict(zip(("source", "target"), self._service.start, strict=True))
        translator = kind(**start, **keys, **options)
        if self.name == "libre" and not os.environ.get("LIBRE_API_KEY"):
            translator.api_key = None
        if self._settings.url is not None:
            slash = "/" if self.name in {"deepl", "libre"} else ""  # these append a path to it
            translator._base_url = self._url.base + slash  # noqa: SLF001 - there is no public setting
        return translator

    def _classify(self, error: Exception, text: str) -> Exception:
        """Turns an exception of the library or of our client into one of our errors, which never holds the text."""
        if isinstance(error, PassingError | LastingError | EngineDownError | BadInputError):
            return error
        answer: Answer | None = getattr(self._own, "answer", None)  # to this thread's last request
        status, after = (None, None) if answer is None else (answer.status, answer.after)
        if isinstance(error, errors_of.NotValidLength | errors_of.NotValidPayload):
            return LastingError("too_long")
        if isinstance(error, errors_of.LanguageNotSupportedException | errors_of.InvalidSourceOrTargetLanguage) or (
            answer is not None and status == requests.codes.bad_request and b"not supported" in answer.body
        ):
            return EngineDownError(self.name, "language_not_supported")
        if isinstance(error, errors_of.TooManyRequests) or status in _CROWDED:
            return PassingError("too_many_requests", after=after, crowded=True)
        if isinstance(error, errors_of.ApiKeyException | errors_of.AuthorizationException):
            status = status or 401
        if status is not None and status >= _FIRST_ERROR and status not in _PASSING:
            return self._refusal(status, answer, text)
        return self._without_translation(answer, text)

    def _without_translation(self, answer: Answer | None, text: str) -> Exception:
        """Returns the error for a server error, and for a reply of status 200 that holds an error or no translation."""
        code, after = _error_inside(answer), None if answer is None else answer.after
        if code in _BAIDU_PASSING:
            return PassingError("too_many_requests", after=after, crowded=True)
        if code is not None:
            return self._refusal(code, answer, text)
        failed = answer is not None and answer.status in _PASSING
        return PassingError("server_error" if failed else "no_answer", after=after)

    def _refusal(self, status: int, answer: Answer | None, text: str) -> Exception:
        if answer is None:
            return RefusedError(f"http_{status}", status=status)
        if status in _KEY_REFUSED and not self.key_variables and self._url.user is None:
            return PassingError("access_denied", after=answer.after)  # a service without keys: it may answer later
        words = server_words(answer.body, hidden=[text, *self._keys.values()])
        return RefusedError(_REASONS.get(status, f"http_{status}"), status=status, words=words)


def _error_inside(answer: Answer | None) -> int | None:
    """Returns the code of an error inside a reply of status 200 (Baidu, Yandex, LibreTranslate); None without one."""
    try:
        data = None if answer is None or not httpx.codes.is_success(answer.status) else answer.json()
    except (PassingError, LastingError):
        return None
    if not isinstance(data, dict):
        return None
    code = str(data.get("error_code") or data.get("code") or "")
    is_error = data.get("error") or data.get("error_code") or re.fullmatch("[45][0-9][0-9]", code)
    return (int(code) if re.fullmatch("[0-9]{3,6}", code) else _FIRST_ERROR) if is_error else None


class _Response(Answer):
    """An answer with the names that the library expects of a response of `requests`."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        return self.status

    def close(self) -> None:
        """Does nothing: the connection is closed already."""


def _out_of_url(method: str, url: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Moves texts and keys from the URL of DeepL and LibreTranslate into body and header: proxies log URLs."""
    params = dict(arguments.get("params") or {})
    if "auth_key" in params:
        # DeepL no longer accepts the key as a parameter; it expects this header.
        headers = {"Authorization": f"DeepL-Auth-Key {params.pop('auth_key')}"}
        return "POST", {"data": params, "headers": headers}
    if url.endswith("/translate") and "q" in params and method == "POST":
        return "POST", {"data": params}
    return method, arguments


class _Requests:
    """Replaces the module `requests` in the library: its requests go through the client of the calling thread."""

    here = threading.local()
    exceptions = requests.exceptions

    @classmethod
    def get(cls, url: str, **arguments: Any) -> Any:
        """Sends a GET request within the time limit."""
        if "microsofttranslator.com/languages" in url:
            return _Response(200, {}, _MICROSOFT_LANGUAGES)
        return cls._request("GET", url, **arguments)

    @classmethod
    def post(cls, url: str, **arguments: Any) -> Any:
        """Sends a POST request within the time limit."""
        return cls._request("POST", url, **arguments)

    @classmethod
    def _request(cls, method: str, url: str, **arguments: Any) -> Any:
        client = getattr(cls.here, "client", requests)  # other code in this process may use the library as well
        return client.request(method, url, **arguments)
