"""A server on loopback that answers every request as a test tells it to, and notes what it received."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

from mpo_core import microworld


class Received(NamedTuple):
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: str

    @property
    def data(self) -> Any:
        """Its JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The text to translate, of an OpenAI request."""
        return re.search(r".*<text>(.*)</text>", self.data["messages"][-1]["content"], re.DOTALL)[1]


class Given(NamedTuple):
    """A reply; `raw` is written to the connection instead, piece by piece."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})
    raw: Callable[[Callable[[bytes], None]], None] | None = None


def error(status: int, message: Any, **more: Any) -> Given:
    """An error in OpenAI's form."""
    return Given(status, json.dumps({"error": {"message": message, **more}}).encode())


def chat(text: Any, **more: Any) -> Given:
    """An answer in OpenAI's form."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"} | more
    return Given(200, json.dumps({"choices": [choice]}).encode(), {"Content-Type": "application/json"})


def right(received: Received) -> Given:
    """The embedded world's own translation into Swahili."""
    return chat(microworld.translate(received.text, "en", "sw") or "Habari.")


class Server:
    """Where it listens and what it received."""

    def __init__(self, answer: Callable[[Received], Given]) -> None:
        self.answer, self.received, self.url, self.port = answer, [], "", 0


@contextlib.contextmanager
def serving(answer: Callable[[Received], Given]) -> Iterator[Server]:
    """A server with one answer for all."""
    server = Server(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

        def do_GET(self) -> None:
            length = int(self.headers["Content-Length"] or 0)
            received = Received(self.path, dict(self.headers), self.rfile.read(length).decode(errors="replace"))
            server.received.append(received)
            given = server.answer(received)
            with contextlib.suppress(OSError):
                if given.raw is not None:
                    self.close_connection = True
                    given.raw(self.connection.sendall)
                    self.connection.shutdown(socket.SHUT_WR)
                    return
                self.send_response(given.status)
                for name, value in {"Content-Length": str(len(given.body)), **given.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(given.body)

        do_POST = do_CONNECT = do_GET  # noqa: N815

    class Listener(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            """Clients that hang up are part of the tests."""

    listener = Listener(("127.0.0.1", 0), Handler)
    server.port = listener.server_address[1]
    server.url = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
