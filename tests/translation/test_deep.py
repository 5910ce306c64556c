"""What deep-translator raises, sorted: try again, not this text, not this service, or the user's to fix."""

import asyncio
import inspect

import pytest
from deep_translator import exceptions as errors_of

from mpo_core.contract.translation import EngineDownError
from mpo_core.http.client import Answer
from mpo_core.http.errors import LastingError, PassingError, RefusedError
from mpo_core.http.retries import retry_after
from mpo_core.translation.deep import DeepTranslatorClient, _out_of_url
from mpo_core.translation.engines.deep_translator import DeepTranslatorSource

RAISED = {
    "LanguageNotSupportedException": (EngineDownError, ("x",)),
    "NotValidPayload": (LastingError, ("x",)),
    "InvalidSourceOrTargetLanguage": (EngineDownError, ("x",)),
    "TranslationNotFound": (PassingError, ("x",)),
    "ElementNotFoundInGetRequest": (PassingError, ("x",)),
    "NotValidLength": (LastingError, ("x", 0, 5000)),
    "RequestError": (PassingError, ()),
    "MicrosoftAPIerror": (PassingError, ("x",)),
    "TooManyRequests": (PassingError, ()),
    "ServerException": (PassingError, (503,)),
    "ApiKeyException": (RefusedError, ("X",)),
    "AuthorizationException": (RefusedError, ("the key",)),
    "BaiduAPIerror": (PassingError, ("x",)),
}


def classified(error, service="deepl", status=None, body=b""):
    async def made():
        return DeepTranslatorClient(DeepTranslatorSource(engine="deep_translator", service=service))

    client = asyncio.run(made())
    client._own.answer = None if status is None else Answer(status, {}, body)
    return client._classify(error, "a text")


def test_every_exception_of_the_library_is_sorted():
    own = {
        name
        for name, kind in inspect.getmembers(errors_of, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == errors_of.__name__ and name != "BaseError"
    }
    assert own == set(RAISED)
    for name, (wanted, arguments) in RAISED.items():
        assert isinstance(classified(getattr(errors_of, name)(*arguments)), wanted), name


@pytest.mark.parametrize(
    ("status", "wanted", "reason"),
    [
        (429, PassingError, "too_many_requests"),
        (529, PassingError, "too_many_requests"),
        (500, PassingError, "server_error"),
        (503, PassingError, "server_error"),
        (408, PassingError, "server_error"),
        (400, RefusedError, "http_400"),
        (413, RefusedError, "too_long"),
        (456, RefusedError, "quota_spent"),
        (451, RefusedError, "http_451"),
        (200, PassingError, "no_answer"),
    ],
)
def test_what_a_status_says(status, wanted, reason):
    error = classified(errors_of.ServerException(status), status=status)
    assert isinstance(error, wanted)
    assert error.reason == reason
    assert getattr(error, "crowded", False) == (reason == "too_many_requests")


def test_a_reply_that_lacks_its_parts_is_no_answer():
    error = classified(KeyError("translations"), status=200)
    assert isinstance(error, PassingError)
    assert error.reason == "no_answer"


@pytest.mark.parametrize("error", [PassingError("timed_out"), LastingError("invalid_text")])
def test_what_the_client_raises_stays_as_it_is(error):
    assert classified(error) is error


def test_a_refused_key_is_never_shown(monkeypatch):
    monkeypatch.setenv("DEEPL_API_KEY", "secret-key")
    error = classified(errors_of.AuthorizationException("secret-key"), status=403, body=b"bad key secret-key")
    assert isinstance(error, RefusedError)
    assert (error.status, error.words) == (403, "bad key …")
    assert "secret-key" not in str(error)
    # Google's page has no key: a 403 there is a mood.
    assert isinstance(classified(errors_of.RequestError(), service="google", status=403), PassingError)


def test_a_language_that_a_server_refuses_ends_its_part():
    error = classified(errors_of.ServerException(400), "libre", 400, b"xx is not supported")
    assert error.reason == "language_not_supported"


def test_texts_and_keys_stay_out_of_addresses():
    method, request = _out_of_url("GET", "https://x/v2/translate", {"params": {"auth_key": "k", "text": "t"}})
    assert (method, request) == ("POST", {"data": {"text": "t"}, "headers": {"Authorization": "DeepL-Auth-Key k"}})
    method, request = _out_of_url("POST", "https://x/translate", {"params": {"q": "t", "api_key": "k"}})
    assert (method, request) == ("POST", {"data": {"q": "t", "api_key": "k"}})
    unchanged = {"params": {"q": "t", "sl": "en"}}
    assert _out_of_url("GET", "https://x/m", unchanged) == ("GET", unchanged)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("3", 3.0), ("0.5", 0.5), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("nix", None)],
)
def test_retry_after_in_seconds_or_as_a_date(header, seconds):
    assert retry_after(header) == seconds
