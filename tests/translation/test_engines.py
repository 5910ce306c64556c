"""Engines as an extension point: a new one is one class, and nothing compares engines."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pytest

from flows.translate import engine_settings
from mpo_core.contract.translation import ENGINES, Backend, Engine, Keep, Reply, TranslationEngine
from mpo_core.settings import TranslationSettings
from mpo_core.translation.build import build_chain, fingerprint
from mpo_core.translation.replies import Replies
from mpo_core.translation.translate import Text, translate_texts


class Capitals(TranslationEngine):
    """A backend that another package could bring."""

    engine: Literal["capitals"]
    suffix: str = "!"

    def open(self, machine: Callable[[Backend], Engine]) -> Engine:
        return machine(CapitalsBackend(self.suffix))

    def identity(self) -> str:
        return "capitals:1"


class CapitalsBackend:
    name = identity = "capitals"
    limit = None

    def __init__(self, suffix: str) -> None:
        self.suffix, self.requests = suffix, 0

    def code(self, language: str) -> str:
        return language

    def check(self, source: str, target: str) -> None:
        pass

    def translate(self, pieces: Sequence[str], source: str, target: str, keep: Keep) -> dict[str, Reply]:
        replies = {piece: Reply(f"{target} {piece.upper()}{self.suffix}") for piece in pieces}
        for piece, reply in replies.items():
            keep(piece, reply.text or "")
        return replies


def test_an_engine_of_another_package_works_like_ours(tmp_path: Path) -> None:
    settings = TranslationSettings.model_construct(engines=[Capitals(engine="capitals", suffix="?")])
    assert fingerprint(settings) == ["capitals:1"]
    answers: list[int] = []
    with Replies(tmp_path / "replies.sqlite") as replies:
        for _ in range(2):  # the second time from what is stored
            chain = build_chain(settings, replies, lambda: answers.append(1))
            done, _ = translate_texts([Text("1", "text", "Bread")], chain, source="en", target="sw")
            assert done["text"].to_pylist() == ["sw BREAD?"]
    assert answers == [1]


def test_each_engine_is_found_and_read_by_its_name() -> None:
    assert sorted(ENGINES.implementations) == ["deep_translator", "memory", "microworld", "openai", "seq2seq"]
    profile = [
        {"engine": "memory", "path": "m.tmx", "columns": {"sw": "swahili"}},
        {"engine": "microworld"},
        {"engine": "deep_translator"},
        {"engine": "openai", "model": "x", "url": "http://h/v1"},
        {"engine": "seq2seq", "path": "nllb"},
    ]
    settings = TranslationSettings.model_validate({"engines": profile})
    assert [type(engine) for engine in settings.engines] == [ENGINES.implementations[e["engine"]] for e in profile]  # type: ignore[index]
    assert TranslationSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("named", "settings"),
    [
        ("google", {"engine": "deep_translator", "service": "google"}),
        ("memory=a=b.tmx", {"engine": "memory", "path": "a=b.tmx"}),
        ("openai=m", {"engine": "openai", "model": "m"}),
        ("seq2seq=a/b", {"engine": "seq2seq", "path": "a/b"}),
        ("microworld", {"engine": "microworld"}),
    ],
)
def test_the_command_names_an_engine(named: str, settings: dict[str, str]) -> None:
    assert engine_settings(named) == settings
