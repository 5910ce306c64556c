"""Hostile replies: every one is bounded in bytes, time and depth, for each service and by the one client."""

import asyncio
import gzip
import json
import resource
import time
import zlib
from functools import cache
from itertools import product
from types import SimpleNamespace

import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.http.address import ServiceUrl, is_loopback
from mpo_core.http.client import HttpClient
from mpo_core.http.errors import LastingError, PassingError, RefusedError
from mpo_core.http.retries import retry_after
from mpo_core.translation.build import build_chain
from mpo_core.translation.replies import Replies
from mpo_core.translation.translate import Text, translate_texts
from tests.faults.fault_service import Given, chat, right, serving
from tests.faults.test_refusals import translate, translate_here  # noqa: F401 - fixtures
from tests.translation.service import sentences
from tests.translation.test_services import settings

ENDLESS_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def endless(send):
    send(ENDLESS_HEAD + b"\r\n")
    for _ in range(400):
        send(b" " * (1 << 20))


def drip(send):
    send(ENDLESS_HEAD + b"\r\n")
    while True:
        send(b" ")
        time.sleep(0.1)


def slow_headers(send):
    send(ENDLESS_HEAD)
    while True:
        send(b"X-A: b\r\n")
        time.sleep(0.1)


def early_hints(send):
    while True:
        send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        time.sleep(0.02)


def endless_headers(send):
    send(ENDLESS_HEAD)
    for _ in range(400):
        send(b"X-A: " + b"b" * (1 << 20))


@cache
def bomb(wbits=31, size=300 << 20):
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


# A bomb takes seconds to pack: only a test that serves one does so.
SERVED = {
    "gzip bomb": (lambda: Given(200, bomb(), {"Content-Encoding": "gzip"}), "reply_too_large"),
    "deflate bomb": (lambda: Given(200, bomb(15, 30 << 20), {"Content-Encoding": "deflate"}), "reply_too_large"),
    "gzip of a bomb": (
        lambda: Given(200, gzip.compress(bomb()), {"Content-Encoding": "gzip, gzip"}),
        "unreadable_reply",
    ),
    "a bomb of another kind": (Given(200, b"x", {"Content-Encoding": "br"}), "unreadable_reply"),
    "damaged gzip": (Given(200, b"\x1f\x8bxx", {"Content-Encoding": "gzip"}), "unreadable_reply"),
    "half a gzip": (Given(200, gzip.compress(bytes(9999))[:30], {"Content-Encoding": "gzip"}), "unreadable_reply"),
    "a bomb as error": (lambda: Given(400, bomb(), {"Content-Encoding": "gzip"}), "reply_too_large"),
    "a reply of 5 MB": (Given(200, bytes(5 << 20)), "reply_too_large"),
    "an endless reply": (Given(raw=endless), "reply_too_large"),
    "a byte now and then": (Given(raw=drip), "timed_out"),
    "slow headers": (Given(raw=slow_headers), "timed_out"),
    "hints without end": (Given(raw=early_hints), "timed_out"),
    "endless headers": (Given(raw=endless_headers), "connection_failed"),
    "a bomb in the second part": (
        lambda: Given(200, gzip.compress(b" ") + bomb(), {"Content-Encoding": "gzip"}),
        "reply_too_large",
    ),
    "gzip and a rest": (Given(200, gzip.compress(b"{}") + b"rest", {"Content-Encoding": "gzip"}), "unreadable_reply"),
    "deep JSON": (Given(200, b"[" * 1_000_000), "no_answer"),
    "deep objects": (Given(200, b'{"a":' * 500_000), "no_answer"),
    "a number of 5,000 digits": (Given(200, b"9" * 5000), "no_answer"),
    "a list": (Given(200, b"[]"), "no_answer"),
    "null": (Given(200, b"null"), "no_answer"),
    "choices that are text": (Given(200, b'{"choices":"no"}'), "no_answer"),
    "a message that is null": (Given(200, b'{"choices":[{"message":null}]}'), "no_answer"),
    "a choice that is null": (Given(200, b'{"choices":[null]}'), "no_answer"),
    "nothing": (Given(200), "no_answer"),
    "a translation of 3 MB": (chat("Habari ya leo. " * 200_000), "reply_too_long"),
}


def reasons(name, url, texts=("Bread is baked in the morning.",), timeout=20.0):
    """The reasons for which texts were rejected, and the seconds that it took."""
    engine = {"engine": "openai", "model": "tiny"} if name == "openai" else {"engine": "deep_translator"}
    engine |= {"service": name} if name != "openai" else {}
    chosen = settings({**engine, "url": url + ("/m" if name == "google" else ""), "timeout": timeout, "retries": 0})
    wanted = [Text(str(number), "text", text) for number, text in enumerate(texts)]
    started = time.monotonic()
    with Replies(reasons.folder / "kept.sqlite") as replies:
        chain = build_chain(chosen, replies, lambda: None)
        _, rejected = translate_texts(wanted, chain, source="en", target="sw")
    return rejected["reason"].to_pylist(), time.monotonic() - started


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setattr(reasons, "folder", tmp_path, raising=False)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        *(("openai", case) for case in SERVED),
        *product(["libre", "google"], ["gzip bomb", "an endless reply", "a byte now and then", "slow headers"]),
        *product(["libre"], ["deep JSON", "null", "a list"]),
    ],
)
def test_a_reply_is_bounded(name, case):
    given, reason = SERVED[case]
    given = given() if callable(given) else given
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with serving(lambda _: given) as server:
        rejected_for, seconds = reasons(name, server.url, timeout=0.6 if reason == "timed_out" else 20.0)
    assert rejected_for in ([reason], ["no_answer"], ["http_400"])
    if reason in {"timed_out", "reply_too_large"}:
        assert rejected_for == [reason]
    assert seconds < 60.0  # and not without end
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 100 << 10  # KiB


def test_a_page_of_nested_elements_ends_in_time():
    with serving(lambda _: Given(200, b"<html>" + b"<div><p><b>" * 5_000)) as server:
        rejected_for, seconds = reasons("google", server.url)
    assert rejected_for == ["no_answer"]
    assert seconds < 120.0


def test_a_packed_reply_is_read():
    packed = gzip.compress(chat("Habari.").body)
    for coding, body in {
        "gzip": packed,
        "x-gzip": gzip.compress(chat("Habari.").body[:9]) + gzip.compress(chat("Habari.").body[9:]) + b"\0\0",
        "deflate": zlib.compress(chat("Habari.").body),
        "Deflate": zlib.compress(chat("Habari.").body, wbits=-15),
    }.items():
        with serving(lambda _, c=coding, b=body: Given(200, b, {"Content-Encoding": c})) as server:
            assert requested(server.url).json() == json.loads(chat("Habari.").body)


def requested(url, method="GET", to=None, headers=None, **more):
    """One request through the client."""

    async def run():
        client = HttpClient(ServiceUrl(url), timeout=5.0, connections=1, headers=headers)
        try:
            return await client.request(method, to or url, **more)
        finally:
            await client.close()

    return asyncio.run(run())


# -- redirects -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "name"),
    [*product([301, 302, 303, 307, 308], ["openai"]), *product([302, 307], ["libre", "google"])],
)
def test_a_redirect_to_another_host_is_refused_and_that_host_receives_nothing(translate_here, status, name):  # noqa: F811
    with (
        serving(right) as other,
        serving(lambda _: Given(status, b"", {"Location": f"{other.url}/x?token=s"})) as server,
        pytest.raises(BadInputError) as refusal,
    ):
        translate_here(server, sentences(20), name=name)
    assert f"it redirects to {other.url}" in str(refusal.value)
    assert "token" not in str(refusal.value)
    assert other.received == []


@pytest.mark.parametrize(("status", "engine"), [(307, "openai=tiny"), (302, "libre")])
def test_a_redirect_to_another_host_ends_the_run(translate, status, engine):  # noqa: F811
    with (
        serving(right) as other,
        serving(lambda _: Given(status, b"", {"Location": f"{other.url}/x?token=s"})) as server,
    ):
        outcome, rows, _ = translate(server, sentences(20), engine=engine)
    assert outcome.code == 2
    assert f"it redirects to {other.url}" in outcome.err
    assert "token" not in outcome.err
    assert (rows, other.received) == ({}, [])


@pytest.mark.parametrize("location", ["https://127.0.0.1/v1", "//other.invalid/", "http://[::1", "file:///etc/passwd"])
def test_other_schemes_and_malformed_places_are_refused_too(location):
    with serving(lambda _: Given(307, b"", {"Location": location})) as server:
        with pytest.raises((RefusedError, PassingError)):
            requested(server.url, "POST", body={"a": 1})
        assert len(server.received) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_on_the_same_host_is_followed_with_method_and_body(status):
    moved = lambda r: Given(200, b"1") if r.path == "/new" else Given(status, b"", {"Location": "/new"})  # noqa: E731
    with serving(moved) as server:
        assert requested(server.url, "POST", body={"a": 1}).json() == 1
    assert server.received[-1].data == {"a": 1}


def test_a_circle_of_redirects_ends():
    with serving(lambda r: Given(307, b"", {"Location": r.path})) as server:
        with pytest.raises(RefusedError, match="redirected"):
            requested(server.url, "POST", body={})
        assert len(server.received) == 4


# -- addresses and keys ----------------------------------------------------------------

URLS = {
    "http://[::1": "malformed",
    "http://h:99999": "port is not a number",
    "http://h:0": "port is not a number",
    "http://h:p": "port is not a number",
    "h:8000/v1": "must begin with http",
    "ftp://h/": "must begin with http",
    "http://": "names no valid host",
    "http:///v1": "names no valid host",
    "http://a b/": "contains a space",
    " http://a": "contains a space",
    "http://a\\nb": "contains a space",
    "http://ex..com": "names no valid host",
    "http://1.2.3.999": "names no valid host",
    "http://\\u2024\\u2024/": "names no valid host",
    "http://\uff11\uff12\uff17.0.0.1/": "names no valid host",
    "http://☃.org/": "names no valid host",
    "http://xn--zzzzzz-.org/": "names no valid host",
    "http://127.1/": "names no valid host",
    "http://[127.0.0.1]/": "malformed",
    "http://me:s3cret@h:99999": "port is not a number",
    "me:s3cret@host/v1": "must begin with http",
    "http://me:s3 cret@host/v1": "contains a space",
    "http://me:s3/cret@host": "port is not a number",
}


@pytest.mark.parametrize("url", URLS)
def test_a_malformed_url_is_a_single_line(mpo, tmp_path, url):
    (tmp_path / "t.txt").write_text("Hello.\n")
    setting = f'translation.engines.0.url="{url}"'
    outcome = mpo(
        *("translate", tmp_path / "t.txt", "--to", "sw", "--engine", "openai=tiny", "--set", setting),
        *("--out", tmp_path / "o.csv", "--set", f"run.root={tmp_path / 'r'}"),
    )
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert f"translation.engines.0.url: the URL{' is' if URLS[url] == 'malformed' else ''}" in outcome.err
    assert URLS[url] in outcome.err
    assert "s3" not in outcome.err


@pytest.mark.parametrize(
    ("name", "variable", "key"),
    [
        *product(["openai"], ["OPENAI_API_KEY"], ["clé", "a\nb", "a\x01b", "\u200bkey", "k" * 9 + "\udcff"]),
        ("deepl", "DEEPL_API_KEY", "clé"),
        ("libre", "LIBRE_API_KEY", "a\nb"),
    ],
)
def test_a_key_that_no_header_carries_is_refused(translate_here, monkeypatch, name, variable, key):  # noqa: F811
    monkeypatch.setenv(variable, key)
    with pytest.raises(BadInputError) as refusal:
        translate_here(SimpleNamespace(url="http://127.0.0.1:9"), ["Hello."], target="zh", name=name)
    message = str(refusal.value)
    assert message.startswith(f"environment variable {variable}: the key contains a line break")
    assert message.isprintable()
    assert key.strip() not in message


def test_a_key_that_no_header_carries_is_a_single_line(translate, monkeypatch):  # noqa: F811
    with serving(right) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "a\nb")
        outcome, _, _ = translate(server, ["Hello."])
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert "environment variable OPENAI_API_KEY: the key contains a line break" in outcome.err
    assert server.received == []


def test_white_space_around_a_key_is_not_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " sk-x\n")
    with serving(lambda _: chat("Habari ya asubuhi, rafiki yangu.")) as server:
        reasons("openai", server.url)
    assert server.received[0].headers["Authorization"] == "Bearer sk-x"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("1e999", float("inf")), ("nan", None), ("-5", 0.0), ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0), ("9" * 400, None)],
)
def test_retry_after_of_any_kind(header, seconds):
    assert retry_after(header) == seconds or header == "9" * 400


def test_a_server_that_wants_quiet_for_a_day_is_given_up_at_once(translate):  # noqa: F811
    started = time.monotonic()
    with serving(lambda _: Given(429, b"", {"Retry-After": "86400"})) as server:
        # Patience with a service that is busy is a multiple of the timeout.
        outcome, _, _ = translate(server, sentences(30), "--set", "translation.engines.0.timeout=1.0")
    assert outcome.code == 1
    assert "too_many_requests" in outcome.err
    assert time.monotonic() - started < 60.0


@pytest.mark.parametrize(
    ("url", "host"),
    [("http://Bücher.org", "xn--bcher-kva.org"), ("http://[::1]:1/", "::1"), ("http://127。0。0。1:1", "127.0.0.1")],
)
def test_the_host_of_a_url_is_what_a_name_server_knows(url, host):
    assert ServiceUrl(url).host == host


@pytest.mark.parametrize("path", ["/v1", "/v1/", "//v1//", "/v1#part", "/v1/chat/completions", "/v0/../v1"])
def test_the_same_address_however_it_is_written(path):
    with serving(right) as server:
        assert reasons("openai", f"{server.url}{path}", sentences(1))[0] == []
    assert server.received[0].path == "/v1/chat/completions"


def test_what_loopback_is():
    assert all(map(is_loopback, ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "a.localhost"]))
    assert not any(map(is_loopback, ["localhost.org", "128.0.0.1", "10.0.0.1", "", "::2"]))


def test_a_text_that_cannot_be_sent_is_an_error_of_the_text():
    with pytest.raises(LastingError, match="invalid_text"):
        requested("http://127.0.0.1:9", "POST", body={"a": "\ud800"})
