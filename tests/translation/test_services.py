"""Services that fail, through the real client libraries: every row right or set aside for the right reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest

from mpo_core import microworld
from mpo_core.contract.errors import BadInputError, StageFailedError
from mpo_core.settings import TranslationSettings
from mpo_core.settings.translation import GateName
from mpo_core.translation.build import build_chain
from mpo_core.translation.replies import Replies
from mpo_core.translation.translate import Text, translate_texts
from tests.translation.service import FAULTS, PASSING, Service, sentences, serving

TARGETS = ("zh", "bn", "sw")
KEYS = (
    "DEEPL_API_KEY",
    "MICROSOFT_API_KEY",
    "BAIDU_APPID",
    "BAIDU_APPKEY",
    "PAPAGO_CLIENT_ID",
    "PAPAGO_CLIENT_SECRET",
)
# What a row may be set aside for, by what the service answered last.
REASONS = {
    "echo": {"echo"},
    "wrong language": {"wrong_language", "back_translation"},
    "truncated": {"truncated", "sentences_lost", "ending_lost", "back_translation"},
    "swapped": {"sentences_lost", "back_translation"},
}


def engine(service: Service, name: str = "google", **more: Any) -> dict[str, Any]:
    common = {"concurrency": 16, "timeout": 1.0, "retries": 8, **more}
    if name == "openai":
        return {"engine": "openai", "model": "tiny", "url": service.url, **common}
    path = "" if name in {"libre", "deepl"} else "/m"
    return {"engine": "deep_translator", "service": name, "url": service.url + path, **common}


def settings(*engines: dict[str, Any], attempt: int = 1, **gates: Any) -> TranslationSettings:
    return TranslationSettings.model_validate({"engines": list(engines), "gates": gates, "attempt": attempt})


def translated(
    chosen: TranslationSettings, replies_file: Path, texts: list[str], target: str = "sw"
) -> tuple[dict[str, str], dict[str, str]]:
    """Translations, and reasons, by text."""
    wanted = [Text(str(number), "prompt", text) for number, text in enumerate(texts)]
    with Replies(replies_file, attempt=chosen.attempt) as replies:
        rows, rejected = translate_texts(wanted, build_chain(chosen, replies, lambda: None), source="en", target=target)
    return _by_text(rows, "prompt_id", "text", texts), _by_text(rejected, "row_id", "reason", texts)


def _by_text(table: pa.Table, key: str, value: str, texts: list[str]) -> dict[str, str]:
    values = [(texts[int(row[key].split("/")[0])], row[value]) for row in table.to_pylist()]
    assert len(dict(values)) == len(values)  # none twice
    return dict(values)


@pytest.fixture
def replies_file(tmp_path: Path) -> Path:
    return tmp_path / "kept.sqlite"


@pytest.fixture
def clean() -> Iterator[Service]:
    with serving(Service()) as service:
        yield service


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.long)])
def test_at_twenty_percent_faults_every_row_is_right_or_rightly_rejected(
    replies_file: Path, clean: Service, count: int
) -> None:
    texts = sentences(count)
    with serving(Service(rate=0.2)) as faulty:
        chosen = settings(
            engine(
                faulty, timeout=2.5
            ),  # a right answer that comes too late on a busy machine would be asked for twice
            marked="drop",
            back_translation={"engine": engine(clean, "libre"), "min_chrf": 90.0},
        )
        right = rejected = 0
        for target in TARGETS:
            done, reasons = translated(chosen, replies_file, texts, target)
            assert set(done) | set(reasons) == set(texts)  # none lost
            assert not set(done) & set(reasons)
            wrong = [text for text, given in done.items() if given != microworld.translate(text, "en", target)]
            assert wrong == []
            for text, reason in reasons.items():
                assert reason in REASONS.get(faulty.last[text, target], ()), (faulty.last[text, target], reason, target)
            right, rejected = right + len(done), rejected + len(reasons)
        assert max(faulty.answered.values()) == 1
    assert all(faulty.requests[fault] for fault in FAULTS) or count < 1000
    # Only what the service answers wrongly is lost: 4 of the 15 faults.
    assert 0.01 * 3 * count < rejected < 0.12 * 3 * count
    assert right + rejected == 3 * count


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *((name, target) for name in ("google", "libre", "openai", "microsoft", "mymemory") for target in ("zh", "bn")),
        *((name, "ko") for name in ("deepl", "baidu", "papago")),
        ("google", "sw"),
        ("libre", "sw"),
    ],
)
def test_each_api_through_its_own_client(
    replies_file: Path, clean: Service, monkeypatch: pytest.MonkeyPatch, name: str, target: str
) -> None:
    for variable in KEYS:
        monkeypatch.setenv(variable, "key")
    texts = sentences(12)
    done, reasons = translated(settings(engine(clean, name)), replies_file, texts, target)
    assert reasons == {}
    assert done == {text: microworld.translate(text, "en", target) for text in texts}


def test_lines_markup_and_protected_items_come_back_as_they_were(replies_file: Path, clean: Service) -> None:
    first, second = sentences(2)
    url = "https://example.org/a?b=1&c=2"
    text = f"# {first}\n\n- {second}\n  1. {first} {url} `x = 1` {{name}}\n```\n{second}\n```\n| {first} | 42 |\n"
    known = {first: "Kichwa cha habari.", second: "Jambo la pili hapa."}

    def translate(text: str, _source: str, _target: str) -> str:
        for source, target in known.items():
            text = text.replace(source, target)
        return text.replace("⟦1⟧", "⟦ 1 ⟧")  # services put spaces in

    clean.translate = translate
    done, reasons = translated(settings(engine(clean)), replies_file, [text])
    assert reasons == {}
    a, b = known[first], known[second]
    assert done[text] == f"# {a}\n\n- {b}\n  1. {a} {url} `x = 1` {{name}}\n```\n{second}\n```\n| {a} | 42 |\n"
    assert len(clean.answered) == 3  # the heading and the cell are the same piece; code is nobody's business


def test_a_lost_item_is_reported(replies_file: Path, clean: Service) -> None:
    clean.translate = lambda *_: "Nenda kwenye ukurasa huu uone zaidi."
    _, reasons = translated(settings(engine(clean)), replies_file, ["Go to https://example.org and see more of it."])
    assert list(reasons.values()) == ["protected_lost"]


def test_nobody_asks_while_the_server_wants_quiet(replies_file: Path) -> None:
    with serving(Service()) as service:
        storm = iter(["429"] * 5)
        service.fault = lambda *_: (service.at.append(time.monotonic()), next(storm, ""))[1]  # type: ignore[method-assign]
        done, reasons = translated(settings(engine(service, concurrency=5)), replies_file, sentences(20))
    assert (len(done), reasons) == (20, {})
    first = service.at[:5]
    assert service.at[5] - first[-1] >= 0.19  # Retry-After is 0.2


def test_a_limit_of_requests_holds(replies_file: Path) -> None:
    first, *texts = sentences(61)
    with serving(Service(latency=0.05)) as service:
        limited = settings(engine(service, requests_per_second=40.0))
        translated(limited, replies_file, [first])  # what is loaded once takes no time below
        started = time.monotonic()
        translated(limited, replies_file, texts)
    # A request may arrive late on a busy machine, and never early: exact since the start, not since the first arrival.
    assert service.at[-1] - started >= 59 / 40
    assert (
        service.at[-1] - service.at[1] <= 59 / 40 / 0.7
    )  # used, too, on a busy machine; benchmarks/translation.py holds the nine tenths


def test_a_dead_service_ends_the_run_and_its_answers_stay(replies_file: Path) -> None:
    texts = sentences(200)
    with serving(Service()) as service:
        good = iter([""] * 50)
        service.fault = lambda *_: next(good, "reset")  # type: ignore[method-assign]
        dead = settings(engine(service, retries=1))
        with pytest.raises(StageFailedError, match=r"google does not answer any more \(connection_failed\)"):
            translated(dead, replies_file, texts)
        answered = len(service.answered)
        assert answered == 50
        del service.fault  # it is back
        done, reasons = translated(dead, replies_file, texts)
        assert (len(done), reasons) == (200, {})
        assert max(service.answered.values()) == 1


def test_the_next_engine_takes_over(replies_file: Path, clean: Service) -> None:
    texts = sentences(40)
    with serving(Service(rate=1.0, faults=("reset",))) as dead:
        done, reasons = translated(settings(engine(dead, retries=0), engine(clean, "libre")), replies_file, texts)
    assert (len(done), reasons) == (40, {})
    assert sum(dead.requests.values()) < 40  # given up before the end


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_tried_again(replies_file: Path, fault: str) -> None:
    with serving(Service()) as service:
        first = iter([fault])
        service.fault = lambda *_: next(first, "")  # type: ignore[method-assign]
        done, reasons = translated(settings(engine(service)), replies_file, sentences(2))
    assert (len(done), reasons) == (2, {})


def test_an_isolated_failure_is_rejected_with_its_reason(replies_file: Path) -> None:
    texts = sentences(5)
    with serving(Service()) as service:
        service.fault = lambda text, _: "hang" if text == texts[2] else ""  # type: ignore[method-assign]
        done, reasons = translated(settings(engine(service, retries=0, timeout=0.3)), replies_file, texts)
    assert reasons == {texts[2]: "timed_out"}
    assert len(done) == 4


def test_thresholds_ask_nobody_and_a_new_attempt_asks_for_what_was_refused(replies_file: Path) -> None:
    texts = sentences(10)
    with serving(Service()) as service:
        first = iter(["echo", "truncated"])
        service.fault = lambda *_: next(first, "")  # type: ignore[method-assign]
        single = settings(engine(service, concurrency=1))
        done, reasons = translated(single, replies_file, texts)
        assert len(done) + len(reasons) == 10
        assert "echo" in reasons.values()
        answered = sum(service.answered.values())
        for changed in (settings(engine(service), hard=["echo"]), settings(engine(service), max_length_factor=1.1)):
            translated(changed, replies_file, texts)
        assert sum(service.answered.values()) == answered
        done, reasons = translated(settings(engine(service), attempt=2), replies_file, texts)
        assert reasons == {}
        assert len(done) == 10
        assert sum(service.answered.values()) == answered + 2 - (2 - len({*reasons, *texts[:2]}))


def test_a_translator_that_declines_is_no_translation(replies_file: Path, clean: Service) -> None:
    clean.translate = lambda *_: "I'm sorry, but I can't help with that."
    _, reasons = translated(settings(engine(clean, "openai")), replies_file, sentences(1))
    assert list(reasons.values()) == ["refusal"]
    refusal = "I'm sorry, but I can't help with that."
    clean.translate = lambda *_: "Samahani, lakini siwezi kukusaidia na hilo."
    done, reasons = translated(settings(engine(clean, "openai")), replies_file, [refusal])
    assert (len(done), reasons) == (1, {})  # an answer that declines is translated as one


def test_keys_come_from_the_environment_and_none_may_be_missing(
    replies_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEEPL_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for chosen, variable in (
        ({"engine": "deep_translator", "service": "deepl"}, "DEEPL_API_KEY"),
        ({"engine": "openai", "model": "x"}, "OPENAI_API_KEY"),
    ):
        with pytest.raises(
            BadInputError, match=rf"environment variable {variable}: .*needs a key\. Set (it|this variable)"
        ):
            translated(settings(chosen), replies_file, ["x"], target="zh")


def test_stored_translations_need_no_key(replies_file: Path, clean: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    deepl, texts = settings(engine(clean, "deepl")), sentences(3)
    monkeypatch.setenv("DEEPL_API_KEY", "key")
    first = translated(deepl, replies_file, texts, target="zh")
    assert len(first[0]) == 3
    monkeypatch.delenv("DEEPL_API_KEY")
    requests = sum(clean.answered.values())
    assert translated(deepl, replies_file, texts, target="zh") == first
    for chain in (deepl, settings({"engine": "openai", "model": "x", "url": clean.url}, engine(clean, "deepl"))):
        with pytest.raises(BadInputError, match="environment variable DEEPL_API_KEY"):
            translated(chain, replies_file, sentences(4), target="zh")  # before the first engine translates anything
    assert sum(clean.answered.values()) == requests


def test_a_language_that_no_engine_knows_is_reported(replies_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPL_API_KEY", "k")
    with pytest.raises(BadInputError, match=r"the engine deepl does not know the language 'sw'"):
        translated(settings({"engine": "deep_translator", "service": "deepl"}), replies_file, ["x"])


def test_the_same_answer_for_everybody_is_no_translation(replies_file: Path, clean: Service) -> None:
    clean.translate = lambda *_: "Tafadhali nisaidie na jambo hili leo."
    done, reasons = translated(settings(engine(clean)), replies_file, sentences(20))
    assert done == {}
    assert "shared" in reasons.values()


def test_a_models_thoughts_and_our_wrapper_are_no_translation(replies_file: Path, clean: Service) -> None:
    (text,) = sentences(1)
    right = str(microworld.translate(text, "en", "sw"))
    clean.translate = lambda *_: f"<think>\nwhat is\nasked?</think>\n\n<TEXT>{right}</TEXT>"
    done, _ = translated(settings(engine(clean, "openai")), replies_file, [text])
    assert done == {text: right}


def test_a_text_of_nothing_but_items_may_stay_as_it_is(replies_file: Path, clean: Service) -> None:
    done, reasons = translated(settings(engine(clean)), replies_file, ["https://example.org/a"])
    assert (done, reasons) == ({"https://example.org/a": "https://example.org/a"}, {})
    assert not clean.answered


def test_an_engine_that_is_down_is_reported_where_the_next_takes_over(
    replies_file: Path, clean: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Service(rate=1.0, faults=("reset",))) as dead:
        translated(settings(engine(dead, retries=0), engine(clean, "libre")), replies_file, sentences(30))
    assert "google does not answer any more (connection_failed); the next one is used" in caplog.text


def test_a_row_has_every_gates_verdict_once(replies_file: Path, clean: Service) -> None:
    (text,) = sentences(1)
    chosen = settings(engine(clean), back_translation={"engine": engine(clean, "libre")})
    with Replies(replies_file) as replies:
        rows, _ = translate_texts(
            [Text("0", "prompt", text)], build_chain(chosen, replies, lambda: None), source="en", target="sw"
        )
    named = [verdict["gate"] for verdict in rows["gates"].to_pylist()[0]]
    assert sorted(named) == sorted(get_args(GateName))
