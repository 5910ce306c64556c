"""Passwords and keys inside URLs: used, and never shown or stored."""

import base64
import json
import pickle
import sys
from pathlib import Path

import pytest
import yaml

from mpo_core.contract.errors import BadInputError, DamagedError, StageFailedError
from mpo_core.contract.redact import redact
from mpo_core.http.address import ServiceUrl
from mpo_core.settings.profiles import load_config, with_overrides
from tests.faults.fault_service import chat, right, serving
from tests.faults.test_refusals import translate  # noqa: F401 - a fixture
from tests.flows.conftest import ledger, small_settings
from tests.translation.service import Service, sentences
from tests.translation.service import serving as translating

pytestmark = pytest.mark.usefixtures("prefect_server")  # or each process would start one of its own

SHOWN = {
    "http://me:s3cret@h:4200/api": "http://h:4200/api",
    "http://me@h/": "http://h/",
    "see http://me:s3/cret@h/x and https://h2": "see http://h/x and https://h2",
    "given 'http://me:s3 cret@h/v1', so": "given 'http://h/v1', so",
    "s3://key:s3cret@bucket/a": "s3://bucket/a",
    "postgresql+asyncpg://u:s3cret@db/x": "postgresql+asyncpg://db/x",
    "http://h/v1?api_key=s3cret&x=1": "http://h/v1?api_key=…&x=1",
    "http://h/?x=1&KEY=s3cret": "http://h/?x=1&KEY=…",
    "http://h/?sig=s3cret and http://h/?access_token=s3cret": "http://h/?sig=… and http://h/?access_token=…",
    "http://h:80/a@b": "http://h:80/a@b",
    "http://[::1]:80/a@b": "http://[::1]:80/a@b",
    "no URL: a@b": "no URL: a@b",
}


@pytest.mark.parametrize("text", SHOWN)
def test_a_url_is_shown_without_its_credentials(text):
    assert redact(text) == SHOWN[text]
    for shown in (
        str(BadInputError(text, where=text, fix=text)),
        str(StageFailedError(text)),
        str(DamagedError(text)),
    ):
        assert "s3" not in shown.replace("s3://", "")


def profile_with(profile, url):
    data = yaml.safe_load(profile.read_text())
    data["translation"]["engines"] = [{"engine": "openai", "model": "tiny", "url": url}, {"engine": "microworld"}]
    profile.write_text(yaml.safe_dump(data))
    return profile


def test_settings_hold_credentials_and_dump_none(profile):
    url = "http://me:s3cret@h:1/v1?api_key=s3cret&api-version=2"
    config = load_config(profile_with(profile, url))
    config = with_overrides(config, {"training.max_steps": 3})
    for same in (config, pickle.loads(pickle.dumps(config)), config.model_copy(deep=True)):  # noqa: S301 - our own
        held = same.translation.engines[0].url
        assert isinstance(held, ServiceUrl)
        assert held.full == url
        assert held == "http://h:1/v1?api-version=2"
        assert "s3cret" not in same.model_dump_json() + repr(same) + str(same.model_dump())


@pytest.mark.parametrize("engine", ["openai=tiny", "libre", "google"])
def test_a_service_gets_the_credentials_of_its_url(translate, engine):  # noqa: F811
    with serving(lambda r: right(r) if "openai" in engine else chat("x")) as server:
        server.url = server.url.replace("http://", "http://me:s3%40cret@")
        outcome, rows, _ = translate(server, sentences(2), engine=engine, path="/m?api_key=s3cret")
    for received in server.received:
        assert received.headers["Authorization"] == f"Basic {base64.b64encode(b'me:s3@cret').decode()}"
        assert "api_key=s3cret" in received.path
    assert server.received
    assert len(rows) == (2 if "openai" in engine else 0)
    assert "s3cret" not in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run.root", "ftp://me:s3cret@h/x"),
        ("run.root", "simplecache::sftp://me:s3cret@h/x"),
        ("model.path", "https://me:s3cret@hub/m"),
        ("prompts.sources.0.path", "https://me:s3cret@h/p.csv"),
    ],
)
def test_other_urls_with_a_password_are_refused_before_anything_stores_them(mpo, profile, key, value):
    outcome = mpo("run", profile, "--set", f"{key}={value}")
    assert outcome.code == 2
    assert f"{key} is a URL with a password" in outcome.err
    assert "through the environment" in outcome.err
    assert "s3cret" not in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_the_address_of_a_prefect_server_is_shown_without_its_password(mpo, profile, monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://me:s3cret@127.0.0.1:9/api"}):
        outcome = mpo("run", profile)
    assert outcome.code == 2
    assert "127.0.0.1:9/api" in outcome.err
    assert "s3cret" not in outcome.err


KEYLESS = {
    "judge in an ensemble": (
        'judging={"judge": "ensemble", "judges": [{"judge": "microworld"}, {"judge": "openai", "model": "m"}]}',
        "OPENAI_API_KEY",
    ),
    "service": ('translation.engines=[{"engine": "deep_translator", "service": "deepl"}]', "DEEPL_API_KEY"),
    "backend": (
        'sampling.backend={"backend": "openai", "url": "http://h/v1", "model": "m", "key_variable": "MY_KEY"}',
        "MY_KEY",
    ),
}


@pytest.mark.parametrize("case", KEYLESS)
def test_a_missing_key_is_reported_before_anything_is_sampled(case, mpo, profile, monkeypatch):
    override, variable = KEYLESS[case]
    monkeypatch.delenv(variable, raising=False)
    root = Path(yaml.safe_load(profile.read_text())["run"]["root"])
    outcome = mpo("run", profile, "--set", override)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()[-1:]
    assert f"environment variable {variable}" in line
    assert "Set" in line
    assert not any((root / stage).exists() for stage in ("sampling", "translation", "judging"))


@pytest.mark.long
def test_a_finished_run_needs_no_key(mpo, tmp_path, monkeypatch):
    """Judge, engine and backend have keys; what the cache has is used without them."""
    profile = tmp_path / "profile.yaml"
    command = [sys.executable, str(Path(__file__).parents[1] / "sampling" / "small_server.py"), "{model}", "{port}"]
    backend = {"backend": "openai", "command": command, "key_variable": "MY_KEY"}
    variables = ("MY_KEY", "OPENAI_API_KEY", "MICROSOFT_API_KEY")
    for variable in variables:
        monkeypatch.setenv(variable, "key")
    refuses = chat(json.dumps({"verdict": "safe", "refusal": True}))
    with serving(lambda _: refuses) as judge, translating(Service()) as service:
        monkeypatch.setattr("mpo_core.http.greedy._URL", f"{judge.url}/v1")
        engine = {"engine": "deep_translator", "service": "microsoft", "url": f"{service.url}/m"}
        settings = small_settings(
            tmp_path / "root", judging={"judge": "openai", "model": "m"}, translation__engines=[engine]
        )
        settings["pairs"] = {"min_dominant_help": 0.0}
        settings["sampling"]["backend"] = settings["evaluation"]["sampling"]["backend"] = backend
        profile.write_text(yaml.safe_dump(settings))
        outcome = mpo("run", profile)
        assert outcome.code in {0, 3}, outcome.err
    for variable in variables:
        monkeypatch.delenv(variable)
    with ledger() as ran:
        again = mpo("run", profile)
    assert (again.code, ran) == (outcome.code, [])
    with ledger() as ran:
        changed = mpo("run", profile, "--set", "training.max_steps=1")
    assert changed.code == 2
    assert "environment variable OPENAI_API_KEY" in changed.err
    assert {name.partition("-")[0] for name in ran} == {"train"}  # it has not begun
    assert not list((tmp_path / "root" / "training").glob(".*/checkpoint-*"))


@pytest.mark.long
def test_a_whole_run_leaves_no_password_anywhere(mpo, tmp_path, prefect_server):
    """Neither in the run's files nor in Prefect's database."""
    profile = tmp_path / "profile.yaml"
    profile.write_text(yaml.safe_dump(small_settings(tmp_path / "root")))
    import os
    from pathlib import Path

    with serving(right) as server:
        url = server.url.replace("http://", "http://me:s3cretword@") + "/v1?api_key=s3cretword"
        outcome = mpo("run", profile_with(profile, url), "--set", "training.max_steps=1", "--json")
    assert outcome.code in {0, 3}, outcome.err
    assert server.received
    files = [p for f in (tmp_path, Path(os.environ["PREFECT_HOME"])) for p in f.rglob("*") if p.is_file()]
    holding = [str(p) for p in files if b"s3cretword" in p.read_bytes() and p != profile]
    assert holding == []
    assert json.loads(outcome.out)["config"]["translation"]["engines"][0]["url"].endswith("/v1")
