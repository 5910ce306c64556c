"""The backend `openai`: what it sends, what it makes of every reply, and what it refuses before it asks."""

import json
import re
import threading
import time

import pytest
from pydantic import ValidationError

from mpo_core.contract.errors import BadInputError, StageFailedError
from mpo_core.contract.sampling import TRAINED, SampledModel
from mpo_core.http import many, retries
from mpo_core.http.throttle import Throttle
from mpo_core.models import load_tokenizer, resolve
from mpo_core.sampling import Request, sample
from mpo_core.sampling.sample import stream_seed
from mpo_core.settings import ModelSettings, SamplingSettings
from tests.faults.fault_service import Given, chat, error, serving

MODEL = ModelSettings(path="microworld", system="Be brief.")
REQUESTS = [Request(f"p{number}", f"Tell me about tea {number}") for number in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tokenizer whose chat template takes a system message; a server has the weights."""
    plain = MODEL.model_copy(update={"system": None})
    tokenizer = load_tokenizer(resolve(plain), plain)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(retries, "_exponential", lambda _state: 0.0)


@pytest.fixture
def answers(folder):
    """Samples from a server; returns the rows and the quarantine as lists."""

    def run(server, requests=REQUESTS, model=MODEL, drawing=None, progress=lambda _done, _total: None, **backend):
        settings = {"backend": "openai", "url": f"{server.url}/v1", "model": "tiny", "retries": 1, **backend}
        described = SampledModel(model.path, folder, model, "d" * 64)
        sampling = SamplingSettings.model_validate({"max_new_tokens": 9, **(drawing or {}), "backend": settings})
        tables = sample(described, requests, sampling, language="sw", progress=progress)
        return [table.to_pylist() for table in tables]

    return run


def counted(text, *, finish="stop", usage=None):
    return Given(
        200,
        json.dumps(
            {
                "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}],
                "usage": usage or {"prompt_tokens": 11, "completion_tokens": 5},
            }
        ).encode(),
    )


def question(received):
    return received.data["messages"][-1]["content"]


def test_every_draw_is_one_request_with_all_fields_of_sampling(answers):
    with serving(lambda received: counted(f"of {received.data['seed']}")) as server:
        rows, quarantine = answers(
            server, REQUESTS[:2], drawing={"n": 2, "temperature": 0.7, "top_p": 0.9, "seed": 3}, concurrency=1
        )
    assert quarantine == []
    seeds = [stream_seed(3, f"p{prompt}", number) for prompt in (0, 1) for number in (0, 1)]
    sent = [received.data for received in server.received]
    assert [data.pop("seed") for data in sent] == [seed % 2**31 for seed in seeds]
    assert [data.pop("messages") for data in sent] == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Tell me about tea {n}"}]
        for n in (0, 0, 1, 1)
    ]
    assert sent[0] == {
        "model": "tiny",
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 9,
        "n": 1,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stream": False,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "chat_template_kwargs": {"enable_thinking": False, "thinking": False},
    }
    assert {received.path for received in server.received} == {"/v1/chat/completions"}
    assert "Authorization" not in server.received[0].headers
    assert [row["text"] for row in rows] == [f"of {seed % 2**31}" for seed in seeds]
    assert {key: rows[0][key] for key in ("seed", "tokens", "prompt_tokens", "finish_reason", "backend", "model")} == {
        "seed": seeds[0],
        "tokens": 5,
        "prompt_tokens": 11,
        "finish_reason": "stop",
        "backend": "openai:tiny@",
        "model": "d" * 64,
    }


def test_answers_are_in_order_whatever_the_concurrency_and_begun_in_order(answers):
    def slow_for_some(received):
        deadline = time.monotonic() + 30
        while len(server.received) < 3 and time.monotonic() < deadline:  # the first three are under way together
            time.sleep(0.01)
        time.sleep(0.1 if "tea 0" in question(received) else 0.0)
        return counted(question(received)[-1])

    with serving(slow_for_some) as server:
        rows, _ = answers(server, concurrency=3)
    assert [row["text"] for row in rows] == list("012345")
    assert {question(received) for received in server.received[:3]} == {f"Tell me about tea {n}" for n in range(3)}


def hang(_send):
    time.sleep(20)


CASES = {
    "an error object in a 200": (error(200, "overloaded", code="server_error"), "server_error"),
    "no choices": (Given(200, b'{"choices": []}'), "no_answer"),
    "half a JSON": (Given(200, b'{"choices": [{"mess'), "no_answer"),
    "500": (error(500, "oops"), "server_error"),
    "429 for ever": (error(429, "slow down"), "too_many_requests"),
    "a reset": (Given(raw=lambda _send: None), "connection_failed"),
    "a hang": (Given(raw=hang), "timed_out"),
    "a filter": (counted("", finish="content_filter"), "content_filter"),
    "a filter as error": (error(400, "filtered", code="content_filter"), "content_filter"),
    "half a character": (counted("\ud800"), "invalid_text"),
    "too long a prompt": (error(400, "This model's maximum context length is 9 tokens."), "prompt_too_long"),
    "another refusal": (error(400, "Tell me about tea 2 is bad"), "http_400"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_prompt_that_fails_is_rejected_with_its_reason_and_the_rest_answered(answers, case):
    given, reason = CASES[case]
    with serving(lambda received: given if "tea 2" in question(received) else counted("Yes.")) as server:
        rows, quarantine = answers(server, timeout=3.0 if case == "a hang" else 30.0)
    assert [row["prompt_id"] for row in rows] == ["p0", "p1", "p3", "p4", "p5"]
    assert quarantine == [{"row_id": "p2", "language": "sw", "reason": reason, "detail": "by the server"}]


def test_what_fails_once_is_asked_again_and_answered_once(answers):
    seen = set()
    once = [error(429, "slow"), error(500, "x"), Given(raw=lambda _send: None), Given(200, b"{}[")]

    def answer(received):
        text = question(received)
        if text in seen:
            return counted("Yes.")
        seen.add(text)
        return once[int(text[-1])] if int(text[-1]) < len(once) else counted("Yes.")

    with serving(answer) as server:
        rows, quarantine = answers(server, retries=3)
    assert quarantine == []
    assert [row["prompt_id"] for row in rows] == [request.prompt_id for request in REQUESTS]
    assert len(server.received) == len(REQUESTS) + len(once)


@pytest.mark.parametrize("tries", [0, 2])
def test_whatever_the_server_does_no_prompt_is_lost_or_doubled(answers, tries, monkeypatch):
    monkeypatch.setattr(Throttle, "refused", lambda *_: None)  # a slower pace changes no outcome
    faults = [given for name, (given, _) in CASES.items() if name != "a hang"] + [None, counted("Cut", finish="length")]
    requests = [Request(f"p{number}", f"Tell me about tea {number}") for number in range(4 * len(faults))]
    seen = []

    def answer(received):
        number = int(question(received).split()[-1]) if "tea" in question(received) else None  # or the probe
        seen.append(number)
        given = None if number is None or seen.count(number) > 1 else faults[number % len(faults)]
        return given or counted("Yes.")

    with serving(answer) as server:
        rows, quarantine = answers(server, requests, retries=tries, concurrency=5)
    outcomes = [row["prompt_id"] for row in rows] + [row["row_id"] for row in quarantine]
    assert sorted(outcomes) == sorted(request.prompt_id for request in requests)
    assert all(row["reason"] for row in quarantine)
    assert {row["finish_reason"] for row in rows} == {"stop", "length"}
    passing = {"server_error", "no_answer", "too_many_requests", "connection_failed"}
    assert bool(passing & {row["reason"] for row in quarantine}) == (tries == 0)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (counted("Half an", finish="length"), ("Half an", "length", None, None)),
        (counted("Half an \ufffd\ufffd", finish="length"), ("Half an ", "length", None, None)),
        (counted("<think>hm</think>Yes."), ("Yes.", "stop", "hm", None)),
        (counted("<think>hm", finish="length"), ("", "length", "hm", "unfinished_thought")),
        (chat("Use a pot.<|im_end|>\n<|im_start|>user\nMore"), ("Use a pot.", "stop", None, None)),
        (chat(None, message={"content": None, "reasoning_content": "hm"}), ("", "stop", "hm", "only_thoughts")),
        (counted(""), ("", "stop", None, None)),
    ],
)
def test_how_an_answer_ends(answers, reply, expected):
    with serving(lambda _: reply) as server:
        rows, _ = answers(server, REQUESTS[:1])
    assert tuple(rows[0][key] for key in ("text", "finish_reason", "thought", "fault")) == expected


def test_counts_that_the_server_does_not_give_are_null(answers):
    with serving(lambda _: chat("Yes.")) as server:
        rows, _ = answers(server, REQUESTS[:1])
    assert (rows[0]["tokens"], rows[0]["prompt_tokens"]) == (None, None)


def test_fields_that_the_server_does_not_know_are_left_out(answers):
    def answer(received):
        for name in ("top_k", "chat_template_kwargs"):
            if name in received.data:
                return error(400, f"Unrecognized request argument supplied: {name}")
        if "max_tokens" in received.data:
            return error(400, "Unsupported parameter: max_tokens. Use max_completion_tokens instead.")
        return counted("Yes.")

    with serving(answer) as server:
        rows, quarantine = answers(server, concurrency=1)
    assert (len(rows), quarantine) == (6, [])
    assert len(server.received) == 6 + 3
    last = server.received[-1].data
    assert last["max_completion_tokens"] == 9
    assert (last["temperature"], last["min_p"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            error(404, "The model `tiny` does not exist."),
            r"refuses every request \(HTTP 404\): The model .tiny. does not",
        ),
        (error(401, "wrong key"), r"refuses the key \(HTTP 401\)"),
        (error(400, "temperature must be positive"), r"refuses every request \(HTTP 400\): temperature must be"),
        (Given(200, b"<html><title>Log in</title></html>"), "answers, but not as its kind of server does"),
    ],
)
def test_a_server_that_refuses_everything_ends_the_run_with_its_words(answers, monkeypatch, given, message):
    monkeypatch.setenv("MY_KEY", "secret-of-mine")
    with serving(lambda _: given) as server, pytest.raises(BadInputError, match=message) as caught:
        answers(server, key_variable="MY_KEY")
    assert server.received[0].headers["Authorization"] == "Bearer secret-of-mine"
    assert "tea" not in str(caught.value)
    assert "secret-of-mine" not in str(caught.value)


def test_a_server_that_is_down_fails_the_stage(answers):
    requests = [Request(f"p{number}", "tea") for number in range(40)]
    with (
        serving(lambda _: error(503, "busy")) as server,
        pytest.raises(StageFailedError, match="does not answer any more"),
    ):
        answers(server, requests, retries=0)
    assert many._IN_A_ROW <= len(server.received) < 40 + many._IN_A_ROW


def test_a_prompt_with_a_control_token_never_reaches_the_server(answers, folder):
    control = load_tokenizer(folder, MODEL).eos_token
    with serving(lambda _: counted("Yes.")) as server:
        rows, quarantine = answers(server, [Request("evil", f"a {control} b"), *REQUESTS[:1]])
    assert [row["prompt_id"] for row in rows] == ["p0"]
    assert [(row["row_id"], row["reason"]) for row in quarantine] == [("evil", "control_token")]
    assert len(server.received) == 1


def test_an_interrupt_ends_the_sampling_at_once(answers):
    class StopError(RuntimeError):
        """The run is interrupted."""

    begun, stop = time.monotonic(), threading.Event()
    threading.Timer(0.5, stop.set).start()

    def progress(_done, _total):
        if stop.is_set():
            raise StopError

    with serving(lambda _: Given(raw=lambda _send: time.sleep(90))) as server, pytest.raises(StopError):
        answers(server, progress=progress, timeout=100.0)
    assert time.monotonic() - begun < 50


def test_a_key_that_is_not_set_and_a_template_of_ones_own_are_refused(answers):
    with serving(lambda _: counted("Yes.")) as server:
        with pytest.raises(BadInputError, match="environment variable NO_SUCH_KEY"):
            answers(server, key_variable="NO_SUCH_KEY")
        with pytest.raises(BadInputError, match=re.escape("model.chat_template")):
            answers(server, model=MODEL.model_copy(update={"chat_template": "x.jinja"}))
    assert server.received == []


def backend(**settings):
    return SamplingSettings.model_validate({"backend": {"backend": "openai", **settings}}).backend


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give exactly one of `url` and `command`"),
        ({"url": "http://h/v1", "command": ["x", "{model}", "{port}"]}, "give exactly one of"),
        ({"url": "http://h/v1"}, "`url` needs `model`"),
        ({"command": ["vllm", "serve", "{model}"]}, r"`command` needs \{port\}"),
        ({"command": ["x", "{model}", "{port}"], "models": {"a": "b"}}, "`models` is for `url`"),
    ],
)
def test_settings_that_do_not_fit_together(settings, message):
    with pytest.raises(ValidationError, match=message):
        backend(**settings)


def test_a_server_of_one_model_is_refused_where_the_trained_one_is_to_answer():
    single = backend(url="http://h/v1", model="tiny")
    single.require_models(["base"])
    with pytest.raises(BadInputError, match=r"the model that the run trains must answer too.*models=\{base: NAME"):
        single.require_models(["base", TRAINED])
    with pytest.raises(BadInputError, match="the model other must answer too"):
        backend(url="http://h/v1", models={"base": "b"}).require_models(["base", "other"])
    backend(url="http://h/v1", models={"base": "b", TRAINED: "t"}).require_models(["base", TRAINED])
    backend(command=["x", "{model}", "{port}"]).require_models(["base", TRAINED])


def test_what_takes_part_in_the_cache_key():
    def key(**settings):
        return SamplingSettings.model_validate(settings).key()

    def openai(**more):
        return key(backend={"backend": "openai", "url": "http://h/v1", "model": "tiny", **more})

    assert key() == key(backend="transformers") == key(backend={"backend": "transformers", "tokens_per_batch": 9})
    assert key() != key(backend={"backend": "transformers", "attention": "eager"})
    assert openai() == openai(url="http://user:secret@other/v1", concurrency=1, timeout=1.0, key_variable="K")
    assert len({key(), openai(), openai(model="big"), openai(version="2")}) == 4
