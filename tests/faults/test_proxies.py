"""Proxies that the environment names: this machine is never asked through one."""

import os
import subprocess
import sys

import httpx
import pytest
import yaml

from mpo_core.http.proxies import spare_loopback
from tests.faults.fault_service import Given, right, serving
from tests.faults.test_refusals import translate  # noqa: F401 - a fixture
from tests.flows.conftest import small_settings
from tests.translation.service import sentences

NAMES = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
OWN = ["localhost", "127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("before", "upper", "lower"),
    [
        ({}, OWN, OWN),
        ({"NO_PROXY": "a.org, b.org"}, ["a.org", "b.org", *OWN], ["a.org", "b.org", *OWN]),
        ({"no_proxy": "a.org"}, ["a.org", *OWN], ["a.org", *OWN]),
        (
            {"NO_PROXY": "a.org", "no_proxy": "b.org,127.0.0.1"},
            ["a.org", *OWN],
            ["b.org", "127.0.0.1", "localhost", "::1"],
        ),
    ],
)
def test_what_is_set_is_extended(before, upper, lower):
    environment = dict(before)
    spare_loopback(environment)
    assert environment == {"NO_PROXY": ",".join(upper), "no_proxy": ",".join(lower)}
    again = dict(environment)
    spare_loopback(again)
    assert again == environment


def test_a_star_stays_alone_and_gnomes_socks_gets_its_full_name():
    environment = {"no_proxy": "*", "all_proxy": "socks://h:1"}
    spare_loopback(environment)
    assert environment == {"no_proxy": "*", "all_proxy": "socks5://h:1"}


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that all variables name and that fails; what it was asked for."""
    with serving(lambda _: Given(502)) as server:
        for name in NAMES:
            monkeypatch.setenv(name, server.url)
        yield server


@pytest.mark.parametrize("engine", ["openai=tiny", "libre"])
def test_a_service_on_loopback_gets_requests_directly(translate, proxy, engine):  # noqa: F811
    with serving(right) as server:
        outcome, _, _ = translate(server, sentences(2), engine=engine)
    assert server.received
    assert not proxy.received
    assert "Traceback" not in outcome.err


def test_another_host_gets_requests_through_the_proxy(translate, proxy):  # noqa: F811
    with serving(right) as server:
        server.url = "http://service.invalid"
        outcome, _, _ = translate(server, sentences(1))
    assert proxy.received[0].path == "http://service.invalid/chat/completions"
    assert outcome.code == 1


@pytest.mark.parametrize(
    "value", ["socks5://127.0.0.1:9", "socks://127.0.0.1:9", "127.0.0.1:9", "http://u:pw@127.0.0.1:9"]
)
def test_any_kind_of_proxy_may_be_set(translate, monkeypatch, value):  # noqa: F811
    for name in ("NO_PROXY", "no_proxy", *NAMES):
        monkeypatch.setenv(name, value if name in NAMES else "")
    spare_loopback()  # as the command does first
    with serving(right) as server:
        outcome, rows, _ = translate(server, sentences(2))
    assert (outcome.code, len(rows)) == (0, 2), outcome.err


@pytest.mark.parametrize("value", ["gopher://h:1", "http://[::1"])
def test_a_proxy_that_is_none_is_a_single_line(translate, monkeypatch, value):  # noqa: F811
    monkeypatch.setenv("ALL_PROXY", value)
    with serving(right) as server:
        server.url = "http://service.invalid"
        outcome, _, _ = translate(server, sentences(1))
    assert outcome.code == 2
    assert "environment variables HTTP_PROXY" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_prefects_clients_and_children_spare_this_machine(proxy, monkeypatch):
    """Prefect makes its clients with httpx, which reads the environment."""
    from flows.cli import quiet_surroundings

    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "a.org")
    quiet_surroundings()
    with serving(lambda _: Given(200, b"1")) as server:
        for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
            assert httpx.get(url).status_code == 200
        code = f"import urllib.request as r; print(r.urlopen({server.url!r}).status)"
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
        assert child.stdout == "200\n"
    assert not proxy.received


@pytest.mark.long
@pytest.mark.parametrize(("kind", "no_proxy"), [("http", None), ("socks5", "a.org")])
def test_a_run_with_a_proxy_set(tmp_path, kind, no_proxy):
    """The whole command with Prefect's temporary server, which starts anew in it."""
    profile = tmp_path / "profile.yaml"
    profile.write_text(yaml.safe_dump(small_settings(tmp_path / "root")))
    with serving(lambda _: Given(502)) as proxy:
        environment = {k: v for k, v in os.environ.items() if k.upper() != "NO_PROXY"}
        environment |= dict.fromkeys(NAMES, proxy.url.replace("http", kind)) | {"PREFECT_HOME": str(tmp_path / "home")}
        environment |= {} if no_proxy is None else {"NO_PROXY": no_proxy}
        command = [sys.executable, "-m", "flows.cli", "run", str(profile), "--set", "training.max_steps=1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode in {0, 3}, done.stderr
        assert not proxy.received
