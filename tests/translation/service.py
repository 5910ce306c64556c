"""A translation service on loopback that fails as real ones do, and counts what it answered.

It speaks Google's page as deep-translator reads it, LibreTranslate's API and OpenAI's. What it translates is the
embedded world, whose sentences it knows exactly in seven languages.
"""

from __future__ import annotations

import contextlib
import html
import json
import random
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mpo_core import microworld

PASSING = ("429", "429 without a word", "500", "error page", "hang", "reset", "empty", "broken page")
HARMLESS = ("slow", "escaped twice", "<br>")
LASTING = ("echo", "truncated", "wrong language", "swapped")
FAULTS = PASSING + HARMLESS + LASTING
_CODES = {"zh-CN": "zh", "zh-Hans": "zh", "jw": "jv", "jp": "ja", "kor": "ko", "ara": "ar"}
_PAGE = '<!DOCTYPE html><html><body><div class="t1">x</div><div class="result-container">{}</div></body></html>'
_ERROR = "Error 500 (Server Error)!!1500.That’s an error.There was an error. Please try again later."


class Service:
    """The server's state: what was asked, what was answered, which fault comes next.

    Args:
        rate: share of requests with a fault.
        faults: which ones.
        latency: seconds until an answer.
        seed: of the draw.
    """

    def __init__(
        self, *, rate: float = 0.0, faults: tuple[str, ...] = FAULTS, latency: float = 0.0, seed: int = 0
    ) -> None:
        self.rate, self.faults, self.latency = rate, faults, latency
        self.requests: Counter[str] = Counter()
        self.answered: Counter[tuple[str, str]] = Counter()
        self.last: dict[tuple[str, str], str] = {}
        self.at: list[float] = []
        self.bodies: list[dict[str, Any]] = []
        self.url = ""
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._before: dict[tuple[str, str], str] = defaultdict(str)
        self.translate: Callable[[str, str, str], str | None] = microworld.translate

    def fault(self, text: str, target: str) -> str:
        """The fault of this request, or an empty word."""
        with self._lock:
            self.at.append(time.monotonic())
            drawn = self._random.choice(self.faults) if self.faults and self._random.random() < self.rate else ""
            self.requests[drawn] += 1
            return drawn

    def answer(self, text: str, source: str, target: str, fault: str) -> str:
        """What is given as the translation; notes it if it is one."""
        right = self.translate(text, source, target) or f"[{target}] {text}"
        with self._lock:
            other = self._before.get((source, target)) or right
            self._before[source, target] = right
        words = right.split() if " " in right else list(right)
        given = {
            "echo": text,
            "truncated": (" " if " " in right else "").join(words[: max(1, len(words) // 2)]),
            "wrong language": self.translate(text, source, "ko" if target != "ko" else "ja") or right,
            "swapped": other,
            "error page": _ERROR,
            "empty": "",
        }.get(fault, right)
        if fault not in PASSING:
            with self._lock:
                self.answered[text, target] += 1
                self.last[text, target] = "" if given == right else fault
        return given


Form = Callable[[str, str], bytes]


def _json(shape: Callable[[str], Any]) -> Form:
    return lambda given, _fault: json.dumps(shape(given)).encode()


_MICROSOFT = _json(lambda given: [{"translations": [{"text": given, "to": "x"}]}])
_MYMEMORY = _json(lambda given: {"responseData": {"translatedText": given}, "matches": []})
_DEEPL = _json(lambda given: {"translations": [{"text": given}]})
_BAIDU = _json(lambda given: {"trans_result": [{"dst": given}]})
_PAPAGO = _json(lambda given: {"message": {"result": {"translatedText": given}}})


def _code(own: str) -> str:
    return _CODES.get(own, own.split("-", maxsplit=1)[0])


class _Handler(BaseHTTPRequestHandler):
    service: Service
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._dispatch(None)

    def do_POST(self) -> None:
        self._dispatch(self.rfile.read(int(self.headers["Content-Length"] or 0)).decode())

    def _dispatch(self, body: str | None) -> None:
        """The API that is spoken, by what only it has in a request."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        is_json = "json" in (self.headers["Content-Type"] or "")
        form = {name: values[0] for name, values in parse_qs(body or "").items()} if not is_json else {}
        request = query | form
        if self.path.endswith("/chat/completions"):
            self._serve(*self._chat(json.loads(body or "")), self._openai)
        elif is_json:
            self._serve(json.loads(body or "")[0]["text"], _code(request["from"]), _code(request["to"]), _MICROSOFT)
        elif "langpair" in request:
            source, target = map(_code, request["langpair"].replace("|", "-to-").split("-to-"))
            self._serve(request["q"], source, target, _MYMEMORY)
        elif "source_lang" in request:
            assert not query
            assert self.headers["Authorization"] == "DeepL-Auth-Key key"
            self._serve(request["text"], _code(request["source_lang"]), _code(request["target_lang"]), _DEEPL)
        elif "appid" in request:
            self._serve(request["q"], _code(request["from"]), _code(request["to"]), _BAIDU)
        elif "X-Naver-Client-Id" in self.headers:
            self._serve(request["text"], _code(request["source"]), _code(request["target"]), _PAPAGO)
        elif "sl" in request:
            self._serve(request["q"], _code(request["sl"]), _code(request["tl"]), self._google)
        else:
            assert not query  # texts and keys stay out of the address
            self._serve(request["q"], request["source"], request["target"], self._libre)

    def _chat(self, request: dict[str, Any]) -> tuple[str, str, str]:
        self.service.bodies.append(request)
        names = {entry: code for code, entry in _names().items()}
        source, target = (names[name] for name in _after(request["messages"][0]["content"], "from ", " into "))
        return request["messages"][1]["content"].removeprefix("<text>").removesuffix("</text>"), source, target

    def _serve(self, text: str, source: str, target: str, form: Form) -> None:
        fault = self.service.fault(text, target)
        time.sleep(self.service.latency + (0.3 if fault == "slow" else 0.0))
        if fault == "hang":
            time.sleep(3.0)
        if fault in {"reset", "hang"}:
            # Close with an RST, as a crashed server's machine does.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        given = self.service.answer(text, source, target, fault)
        if fault == "429":
            self._send(429, b"", {"Retry-After": "0.2"})
        elif fault == "429 without a word":
            self._send(429, b"")
        elif fault == "500":
            self._send(503, b"unavailable")
        elif fault == "broken page":
            self._send(200, b"<html><body>no such element")
        else:
            self._send(200, form(given, fault))

    def _google(self, given: str, fault: str) -> bytes:
        shown = html.escape(given)
        if fault == "escaped twice":
            shown = html.escape("".join(f"&#{ord(c)};" if n % 5 == 0 else c for n, c in enumerate(given)))
        if fault == "<br>":
            shown = f"<br>{shown}<br>"
        return _PAGE.format(shown).encode()

    def _libre(self, given: str, fault: str) -> bytes:
        shown = "".join(f"&#{ord(c)};" for c in given) if fault == "escaped twice" else given
        return json.dumps({"translatedText": shown}).encode()

    def _openai(self, given: str, fault: str) -> bytes:
        choice = {"message": {"role": "assistant", "content": given}, "finish_reason": "stop"}
        return json.dumps({"choices": [choice]}).encode()

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        with contextlib.suppress(OSError):  # the client may have given up
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)


def _names() -> dict[str, str]:
    from mpo_core.languages.known import LANGUAGES

    return {code: "Simplified Chinese" if code == "zh" else entry.name for code, entry in LANGUAGES.items()}


def _after(instructions: str, before: str, between: str) -> tuple[str, str]:
    source, _, rest = instructions.partition(before)[2].partition(between)
    return source, rest.partition(".")[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are part of the test."""


@contextlib.contextmanager
def serving(service: Service) -> Iterator[Service]:
    """The service on a free port of loopback."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": service}))
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sentences(count: int) -> list[str]:
    """So many different English sentences of the embedded world, harmless ones."""
    texts = dict.fromkeys(
        text
        for split in ("train", "validation", "test")
        for item in microworld.items(split, "harmless")
        for text in (item.prompt("en"), item.help("en"))
    )
    assert len(texts) >= count
    return list(texts)[:count]
