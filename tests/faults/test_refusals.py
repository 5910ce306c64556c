"""Services that refuse: the run stops soon and shows the server's words, or it asks in a form that the server takes."""

import json

import pytest

from mpo_core import microworld
from mpo_core.contract.errors import BadInputError
from mpo_core.http.words import server_words
from tests.faults.fault_service import Given, chat, error, right, serving
from tests.translation.service import sentences
from tests.translation.test_services import engine, settings, translated


@pytest.fixture
def translate(prefect_server, mpo, tmp_path, monkeypatch):
    """`mpo translate` of so many sentences with this server; the outcome, and translations or reasons by row."""
    import pyarrow.parquet as pq

    monkeypatch.setenv("OPENAI_API_KEY", "sk-neutral-0123456789")

    def run(server, texts, *arguments, engine="openai=tiny", path=""):
        file, out = tmp_path / "texts.jsonl", tmp_path / "out.parquet"
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        address = f"translation.engines.0.url={server.url}{path}"
        fast = ["retries=0", "timeout=20.0"]  # nothing here hangs; a busy machine is slow
        outcome = mpo(
            *("translate", file, "--to", "sw", "--out", out, "--engine", engine, "--set", address, "--json"),
            *(item for setting in fast for item in ("--set", f"translation.engines.0.{setting}")),
            *("--set", f"run.root={tmp_path / 'root'}", *arguments),
        )
        rows = {row["row"]: row["text"] for row in pq.read_table(out).to_pylist()} if out.is_file() else {}
        quarantine = out.with_suffix(".quarantine.parquet")
        reasons = pq.read_table(quarantine).to_pylist() if quarantine.is_file() else []
        return outcome, rows, {int(row["row_id"].split("/")[0]): row["reason"] for row in reasons}

    return run


@pytest.fixture
def translate_here(tmp_path, monkeypatch):
    """The same without the command and its flow: translations and reasons, by text."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-neutral-0123456789")

    def run(server, texts, *, target="sw", name="openai", **more):
        chosen = settings(engine(server, name, **{"retries": 0, "timeout": 20.0, "concurrency": 8, **more}))
        return translated(chosen, tmp_path / "kept.sqlite", texts, target)

    return run


REFUSALS = {
    "400": (error(400, "The model is sleeping."), ["HTTP 400", "The model is sleeping"]),
    "422 of FastAPI": (
        Given(422, b'{"detail":[{"loc":["body","model"],"msg":"field required","input":"x"}]}'),
        ["HTTP 422", "body.model: field required"],
    ),
    "401": (error(401, "Invalid key."), ["environment variable OPENAI_API_KEY", "HTTP 401", "Invalid key"]),
    "402": (error(402, "Insufficient balance"), ["HTTP 402", "Insufficient balance"]),
    "403": (error(403, "Country not supported"), ["HTTP 403", "Country not supported"]),
    "404": (error(404, "The model `tiny` does not exist"), ["HTTP 404", "`tiny` does not exist", "/v1"]),
    "404 without a word": (Given(404), ["HTTP 404", "/v1"]),
    "405 as a page": (Given(405, b"<html><title>Not Allowed</title>x</html>"), ["HTTP 405.: Not Allowed"]),
    "plain text": (Given(400, b"unknown route"), ["unknown route"]),
    "bytes": (Given(400, b"\xff\xfe\x00\x1b[31mred"), ["HTTP 400"]),
    "deep": (Given(400, b"[" * 100_000), ["HTTP 400"]),
    "a spent quota": (error(429, "You exceeded your quota", code="insufficient_quota"), ["HTTP 429", "exceeded"]),
    "an error inside a 200": (error(200, "no such model", code="model_not_found"), ["HTTP 404", "no such model"]),
    "a text as error inside a 200": (Given(200, b'{"error":"model not loaded"}'), ["HTTP 400", "model not loaded"]),
    "an error without a frame inside a 200": (
        Given(200, b'{"object":"error","message":"no such model here","code":404}'),
        ["HTTP 404", "no such model here"],
    ),
    "an error in a list": (Given(200, b'[{"error":{"code":400,"message":"bad model"}}]'), ["HTTP 400", "bad model"]),
    "an error in a choice": (
        Given(200, b'{"choices":[{"error":{"code":402,"message":"no credits"}}]}'),
        ["HTTP 402", "no credits"],
    ),
    "a page to log in": (
        Given(200, b"<!DOCTYPE html><html><title>Sign in</title><body>x"),
        ["not as its kind of server does: Sign in", "/v1"],
    ),
    "another kind of API": (Given(200, b'{"message":{"content":"x"},"done":true}'), ["not as its kind"]),
    "a stream": (Given(200, b'data: {"choices":[{"delta":{}}]}\n\n'), ["not as its kind"]),
    "context": (error(400, "This model's maximum context length is 16 tokens."), ["maximum context length is 16"]),
}


@pytest.mark.parametrize(
    ("case", "count"), [*((case, 40) for case in REFUSALS), ("400", 1), ("404", 1), ("context", 2)]
)
def test_a_service_that_refuses_everything_stops_the_translation(translate_here, case, count):
    given, wanted = REFUSALS[case]
    with serving(lambda _: given) as server, pytest.raises(BadInputError) as refusal:
        translate_here(server, sentences(count))
    message = str(refusal.value)
    assert message.isprintable(), message
    for words in wanted:
        assert words.replace(".:", "):") in message
    assert len(server.received) <= 24  # 8 at once, and twice each where another form is tried


@pytest.mark.parametrize("case", ["401", "bytes"])
def test_a_service_that_refuses_everything_stops_the_run(translate, case):
    given, wanted = REFUSALS[case]
    with serving(lambda _: given) as server:
        outcome, rows, _ = translate(server, sentences(40))
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1, outcome.err
    for words in wanted:
        assert words in outcome.err
    assert rows == {}
    assert "\x1b" not in outcome.err
    assert len(server.received) <= 24


def test_the_servers_words_hold_nothing_of_the_request(translate):
    texts = sentences(5)
    echo = lambda received: error(400, f"cannot parse {received.body} with {received.headers['Authorization']}")  # noqa: E731
    with serving(echo) as server:
        outcome, _, _ = translate(server, texts)
    assert outcome.code == 2
    assert "cannot parse" in outcome.err
    for secret in (*texts, "sk-neutral", "translation engine", "never answer it"):
        assert secret not in outcome.err


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("bad: {}", "Tell me how bread is baked."),
        ("bad: {}", 'He said "no".\nThen é left.'),
        ("bad: {}", "请告诉我今天怎样烤面包。"),
        ("bad: {}", "Bread"),
    ],
)
@pytest.mark.parametrize(
    "escape",
    [str, json.dumps, lambda text: json.dumps(json.dumps(text)), ascii, str.upper, lambda text: f"{text[:30]}..."],
    ids=["as it is", "JSON", "JSON twice", "repr", "upper case", "cut"],
)
def test_an_echo_is_cut_out_of_words_however_it_is_escaped(said, sent, escape):
    words = server_words(json.dumps({"error": {"message": said.format(escape(sent))}}).encode(), hidden=[sent])
    assert words.startswith("bad: ")
    assert not set(words[4:]) & set("abcdefghijklmnopqrstuvwxyzBHT请告诉今天")


def test_words_are_short_and_printable():
    words = server_words(json.dumps({"message": "\x1b[31m" + "long " * 500 + "\x00"}).encode(), hidden=[])
    assert 150 < len(words) <= 200
    assert words.isprintable()
    assert server_words(b'{"error": {"message": "see http://u:pw@h/?key=abc"}}', hidden=[]) == "see http://h/?key=…"


def takes(**forms):
    """A server that complains about what it does not take, and translates the rest."""

    def answer(received):
        data = received.data
        roles = [message["role"] for message in data["messages"]]
        for name, complaint in forms.items():
            if name in data or name in roles:
                return complaint
        return right(received)

    return answer


PICKY = {
    "max_tokens": {
        "max_tokens": error(
            400, "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        )
    },
    "neither limit": {
        "max_tokens": error(400, "max_tokens is not supported"),
        "max_completion_tokens": error(422, "extra fields: max_completion_tokens"),
    },
    "temperature": {"temperature": error(400, "'temperature' does not support 0.0 with this model.")},
    "temperature named by FastAPI": {
        "temperature": Given(422, b'{"detail":[{"loc":["body","temperature"],"msg":"not permitted"}]}')
    },
    "system": {"system": error(400, "System role not supported")},
    "system in llama.cpp": {"system": error(500, "Jinja exception: System role not supported")},
    "roles": {"system": error(400, "Conversation roles must alternate user/assistant/user/assistant/...")},
    "an error inside a 200": {"system": error(200, "Developer instruction is not enabled")},
    "limit beyond the context": {
        "max_tokens": error(400, "'max_tokens' is too large: 2048. This model's maximum context length is 2048 tokens.")
    },
    "all of them": {
        "max_tokens": error(400, "max_tokens is not supported"),
        "temperature": error(400, "Unsupported value: 'temperature'"),
        "system": error(400, "System role not supported"),
    },
}


@pytest.mark.parametrize("case", PICKY)
def test_parameters_fall_back_to_what_the_server_takes(translate_here, case):
    texts = sentences(6)
    with serving(takes(**PICKY[case])) as server:
        rows, reasons = translate_here(server, texts, concurrency=1)
    assert reasons == {}
    assert rows == {text: microworld.translate(text, "en", "sw") for text in texts}
    # Once, not for each text; but a limit that one text leaves no room for may fit the next.
    tried_again = len(texts) if case == "limit beyond the context" else 3
    assert len(server.received) <= len(texts) + tried_again
    assert "translation engine" in server.received[-1].body


def test_texts_that_a_service_refuses_are_rejected_and_the_rest_goes_on(translate):
    texts = sentences(40)
    refused = set(texts[:15])  # in a row, and more than "a few"
    picky = lambda received: error(400, "too long for me") if received.text in refused else right(received)  # noqa: E731
    with serving(picky) as server:
        outcome, rows, reasons = translate(server, texts)
    assert outcome.code == 0, outcome.err
    assert reasons == dict.fromkeys(range(15), "http_400")
    assert set(rows) == set(range(15, 40))


def test_a_content_filter_is_about_the_text(translate):
    texts = sentences(20)
    codes = dict(zip(texts, ["content_filter", "content_policy_violation"] * 10, strict=True))
    with serving(lambda received: error(400, "filtered", code=codes[received.text])) as server:
        outcome, rows, reasons = translate(server, texts)
    assert outcome.code == 1  # nothing was translated
    assert (rows, reasons) == ({}, dict.fromkeys(range(20), "refusal"))
    assert len(server.received) == 20


def test_a_refused_engine_leaves_the_texts_to_the_next(translate):
    with serving(lambda _: error(400, "no")) as server:
        outcome, rows, _ = translate(server, sentences(10), "--engine", "microworld")
    assert outcome.code == 0
    assert len(rows) == 10


@pytest.mark.parametrize("engine", ["libre", "google"])
def test_deep_translators_services_refuse_too(translate, engine):
    with serving(lambda _: Given(400, b'{"error": "please wake me first"}')) as server:
        outcome, _, _ = translate(server, sentences(30), engine=engine, path="/m")
    assert outcome.code == 2
    assert "HTTP 400): please wake me first" in outcome.err
    assert len(server.received) <= 12


@pytest.mark.parametrize(
    ("name", "keys", "body", "words"),
    [
        ("libre", [], {"error": "wake me first"}, "wake me first"),
        (
            "baidu",
            ["BAIDU_APPID", "BAIDU_APPKEY"],
            {"error_code": "52003", "error_msg": "UNAUTHORIZED"},
            "(code 52003): UNAUTHORIZED",
        ),
        ("yandex", ["YANDEX_API_KEY"], {"code": 401, "message": "API key is invalid"}, "API key is invalid"),
    ],
)
def test_an_error_inside_a_200_of_another_service(translate_here, monkeypatch, name, keys, body, words):
    for key in keys:
        monkeypatch.setenv(key, "neutral")
    with serving(lambda _: Given(200, json.dumps(body).encode())) as server, pytest.raises(BadInputError) as refusal:
        translate_here(server, sentences(30), target="zh", name=name)
    assert words in str(refusal.value)
    assert len(server.received) <= 12


ENDS = {
    "length": "truncated",
    "MAX_TOKENS": "truncated",
    "model_length": "truncated",
    "content_filter": "refusal",
    "SAFETY": "refusal",
    "error": "server_error",
    "stop": None,
    "tool_calls": None,
    None: None,
}


@pytest.mark.parametrize("end", ENDS)
def test_how_an_answer_ends(translate_here, end):
    text = "Good morning, my friend."
    with serving(lambda _: chat("Habari ya asubuhi, rafiki.", finish_reason=end)) as server:
        rows, reasons = translate_here(server, [text])
    assert (reasons.get(text), len(rows)) == (ENDS[end], int(ENDS[end] is None))


def test_a_refusal_in_a_field_of_its_own(translate_here):
    message = {"content": None, "refusal": "I will not."}
    (text,) = sentences(1)
    with serving(lambda _: chat("", message=message)) as server:
        assert translate_here(server, [text]) == ({}, {text: "refusal"})


DAMAGED = {
    "half a character": chat("Habari \ud83d yako."),
    "the other half": chat("Habari \ude00 yako."),
    "NUL": chat("Habari\x00 yako."),
    "bytes that are no UTF-8": Given(200, b'{"choices":[{"message":{"content":"Habari \xff\xfe."}}]}'),
    "another charset than named": Given(200, b"\xff\xfe{\x00", {"Content-Type": "application/json; charset=klingon"}),
    "U+FFFD": chat("Habari \ufffd yako."),
    "a codec that unpacks": Given(200, b"\xff\x00", {"Content-Type": "application/json; charset=zlib"}),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_reply_that_no_file_takes_rejects_its_row(translate_here, case):
    texts = sentences(6)
    with serving(lambda received: DAMAGED[case] if received.text == texts[2] else right(received)) as server:
        rows, reasons = translate_here(server, texts)
    assert reasons == {texts[2]: "invalid_text"}
    assert set(rows) == {*texts} - {texts[2]}


def test_replies_that_no_file_takes_leave_a_run_whole(translate):
    texts = sentences(len(DAMAGED) + 1)
    damaged = dict(zip(texts, DAMAGED.values(), strict=False))
    with serving(lambda received: damaged.get(received.text) or right(received)) as server:
        outcome, rows, reasons = translate(server, texts)
    assert outcome.code == 0, outcome.err
    assert reasons == dict.fromkeys(range(len(DAMAGED)), "invalid_text")
    assert set(rows) == {len(DAMAGED)}


def test_a_text_that_cannot_be_sent_rejects_its_row(translate):
    texts = [*sentences(3), "Half a \ud83d here."]
    with serving(right) as server:
        outcome, rows, reasons = translate(server, texts)
    assert outcome.code == 0, outcome.err
    assert set(rows) == {0, 1, 2}
    assert set(reasons) == {3}
    assert len(server.received) == 3
