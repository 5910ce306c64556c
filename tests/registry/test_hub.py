"""Pushing a version, against a server that speaks the hub's own protocol."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.contract.errors import BadInputError
from mpo_core.registry import Entry, push
from tests.registered import register


class Hub(ThreadingHTTPServer):
    """What was created and committed; `refuses` is a status that every request gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self.refuses: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, reply: Any, status: int = 200) -> None:
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.answer({"error": "not found"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers.get("Authorization", ""))
        if self.server.refuses is not None:
            self.answer({"error": "no"}, self.server.refuses)
        elif self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self.answer({"url": f"{self.server.url}/me/aligned"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            reply = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            self.answer({"files": reply})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self.server.url}/me/aligned/commit/0"
            self.answer({"commitUrl": url, "commitOid": "0" * 40, "pullRequestUrl": None})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        else:
            self.answer({"error": self.path}, 404)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import huggingface_hub.constants

    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    made = ArtifactStore(str(tmp_path / "root"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "config.json").write_text("{}")
    ref = made.write_folder("training", model)
    register(
        made, Entry(run="demo", model=ref, base="b" * 64, targets=["sw", "no"], figures={"median_unsafe_after": 0.003})
    )
    return made


def test_the_folder_and_its_card_arrive(hub: Hub, store: ArtifactStore) -> None:
    assert push(store, "v1", "me/aligned", private=True) == f"{hub.url}/me/aligned"
    assert hub.files["model.safetensors"] == b"weights"
    assert set(hub.files) == {"model.safetensors", "config.json", "README.md"}
    card = hub.files["README.md"].decode()
    front = yaml.safe_load(card.split("---")[1])
    assert front["language"] == ["sw", "no"]  # Norwegian, which YAML 1.1 would read as false
    assert front["library_name"] == "transformers"
    assert "b" * 64 in card
    assert "| median unsafe after | 0.003 |" in card
    assert hub.created[0]["visibility"] == "private"
    assert hub.tokens == {"Bearer hf_test"}


def test_what_the_hub_refuses_is_a_single_line(hub: Hub, store: ArtifactStore) -> None:
    hub.refuses = 403
    with pytest.raises(BadInputError, match="me/aligned: the hub answered 403"):
        push(store, "v1", "me/aligned", private=True)
    with pytest.raises(BadInputError, match=r"unknown version 'v9'.*Known: v1"):
        push(store, "v9", "me/aligned", private=True)


def test_an_absent_hub_is_a_single_line(hub: Hub, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BadInputError, match="me/aligned: nothing was pushed"):
        push(store, "v1", "me/aligned", private=True)
