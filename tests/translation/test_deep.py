"""What deep-translator raises, sorted: try again, not this text, not this service, or the user's to mend."""

import inspect
import types

import pytest
import requests
from deep_translator import exceptions as told

from mpo_core.errors import BadInputError
from mpo_core.settings import DeepTranslatorSource
from mpo_core.translation.deep import DeepTranslatorClient, _discreet, _Last
from mpo_core.translation.engines import EngineDownError
from mpo_core.translation.remote import LastingError, PassingError, retry_after

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
    "ApiKeyException": (BadInputError, ("X",)),
    "AuthorizationException": (BadInputError, ("the key",)),
    "BaiduAPIerror": (PassingError, ("x",)),
}


def classified(error, service="deepl", status=None, **more):
    client = DeepTranslatorClient(DeepTranslatorSource(engine="deep_translator", service=service))
    client._own.http = types.SimpleNamespace(last=_Last(status, None, **more))
    return client._classify(error)


def test_every_exception_of_the_library_is_sorted():
    own = {
        name
        for name, kind in inspect.getmembers(told, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == told.__name__ and name != "BaseError"
    }
    assert own == set(RAISED)
    for name, (wanted, arguments) in RAISED.items():
        assert isinstance(classified(getattr(told, name)(*arguments)), wanted), name


@pytest.mark.parametrize(
    ("status", "wanted", "reason"),
    [
        (429, PassingError, "too_many_requests"),
        (529, PassingError, "too_many_requests"),
        (500, PassingError, "server_error"),
        (503, PassingError, "server_error"),
        (408, PassingError, "server_error"),
        (400, LastingError, "http_400"),
        (413, LastingError, "too_long"),
        (456, EngineDownError, "quota_spent"),
        (200, PassingError, "no_answer"),
    ],
)
def test_what_a_status_says(status, wanted, reason):
    error = classified(told.ServerException(status), status=status)
    assert isinstance(error, wanted)
    assert error.reason == reason
    assert getattr(error, "crowded", False) == (reason == "too_many_requests")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (requests.ReadTimeout(), "timed_out"),
        (requests.ConnectTimeout(), "timed_out"),
        (requests.ConnectionError(), "connection_failed"),
        (requests.exceptions.ChunkedEncodingError(), "connection_failed"),
        (ConnectionResetError(), "connection_failed"),
        (KeyError("translations"), "no_answer"),
    ],
)
def test_what_the_network_does_passes(error, reason):
    found = classified(error)
    assert isinstance(found, PassingError)
    assert found.reason == reason


def test_a_refused_key_is_the_users_to_mend_and_is_never_told():
    error = classified(told.AuthorizationException("secret-key"), status=403)
    assert isinstance(error, BadInputError)
    assert "DEEPL_API_KEY" in str(error)
    assert "secret-key" not in str(error)
    # Google's page has no key: a 403 there is a mood.
    assert isinstance(classified(told.RequestError(), service="google", status=403), PassingError)


def test_a_language_that_a_server_refuses_ends_its_part():
    assert classified(told.ServerException(400), "libre", 400, unsupported=True).reason == "language_not_supported"


def test_texts_and_keys_stay_out_of_addresses():
    method, asked = _discreet("GET", "https://x/v2/translate", {"params": {"auth_key": "k", "text": "t"}})
    assert (method, asked) == ("POST", {"data": {"text": "t"}, "headers": {"Authorization": "DeepL-Auth-Key k"}})
    method, asked = _discreet("POST", "https://x/translate", {"params": {"q": "t", "api_key": "k"}})
    assert (method, asked) == ("POST", {"data": {"q": "t", "api_key": "k"}})
    unchanged = {"params": {"q": "t", "sl": "en"}}
    assert _discreet("GET", "https://x/m", unchanged) == ("GET", unchanged)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("3", 3.0), ("0.5", 0.5), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("nix", None)],
)
def test_retry_after_in_seconds_or_as_a_date(header, seconds):
    assert retry_after(header) == seconds
