"""The small parts: masks, layout, gates, throttle, kept answers, memory files."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpo_core.contract.errors import BadInputError
from mpo_core.http.throttle import Throttle
from mpo_core.settings import TranslationGates
from mpo_core.translation.gates import verdicts
from mpo_core.translation.layout import take_apart
from mpo_core.translation.memory import MemoryEngine
from mpo_core.translation.protect import mask, protected_lost, restore, unescaped
from mpo_core.translation.replies import Direction, Replies

SW = Direction("google", "en", "sw")


@pytest.mark.parametrize(
    "item",
    [
        "`rm -rf x`",
        "https://example.org/a?b=c&d=1",
        "www.example.org",
        "who@example.org",
        "<|im_end|>",
        "[INST]",
        "<start_of_turn>",
        "</s>",
        '<a href="x">',
        "{name}",
        "{{ name }}",
        "${NAME}",
        "%(count)d",
        "%s",
        "&amp;",
        "5 mg",
        "37.5 °C",
        "$1,000",
        "20 %",
        "3 GB",
    ],
)
def test_protected_items_are_masked_and_restored(item: str) -> None:
    text = f"Please use {item} for that."
    masked = mask(text)
    assert masked.text == "Please use ⟦0⟧ for that."
    assert masked.items == (item,)
    assert restore("Tumia ⟦ ০ ⟧ kwa hilo.", masked.items) == f"Tumia {item} kwa hilo."  # in Bengali digits
    assert protected_lost(text, f"Tumia {item} kwa hilo.", measures=True) == 0
    assert protected_lost(text, "Tumia kwa hilo.", measures=True) == 1


@pytest.mark.parametrize("text", ["I am 5 metres tall", "a < b and c > d", "<delete this please>", "100 people", "x"])
def test_ordinary_words_are_not_masked(text: str) -> None:
    assert mask(text).items == ()


def test_marks_of_the_text_itself_are_left_alone() -> None:
    text = "A ⟦0⟧ and https://example.org in one."
    assert mask(text).items == ()
    assert take_apart(text).rebuilt({text: text}) == text


@pytest.mark.parametrize(
    ("reply", "plain"), [("it&#39;s", "it's"), ("it&amp;#39;s", "it's"), ("a &lt; b", "a < b"), ("R&D", "R&D")]
)
def test_entities_are_unescaped_however_often_they_were_escaped(reply: str, plain: str) -> None:
    assert unescaped(reply) == plain


@example("111111111111a\t1", 7)  # a tab where a long word is cut
@example("11a`1`", 5)  # a mark there
@example("a`1`⟧", 5)  # a mark beside a bracket of the text
@given(st.text(alphabet="ab .!?。\n\t-*#|`&;{}<>1⟦⟧你", max_size=80), st.integers(5, 30))
def test_a_text_taken_apart_and_put_together_is_itself(text: str, limit: int) -> None:
    layout = take_apart(text, limit)
    same = {piece.text: piece.text for piece in layout.pieces}
    if "&" not in text:  # entities of a reply are unescaped
        assert layout.rebuilt(same) == text
    assert all(len(piece.text) <= limit or "⟦" in piece.text for piece in layout.pieces)


def failed(text: str, translation: str, target: str = "sw", **settings: object) -> set[str]:
    gates = TranslationGates.model_validate(settings)
    own_verdicts = verdicts(text, translation, source="en", target=target, settings=gates, measures=True)
    return {verdict.gate for verdict in own_verdicts if not verdict.passed}


GOOD = ("How do I bake bread at home without an oven?", "Ninawezaje kuoka mkate nyumbani bila tanuri?")


@pytest.mark.parametrize(
    ("gate", "translation"),
    [
        ("empty_translation", " \n"),
        ("echo", GOOD[0].upper()),
        ("error_page", "Error 500 (Server Error)!!1500.That’s an error."),
        ("wrong_language", "Wie kann ich zu Hause ohne Ofen ein gutes Brot backen?"),
        ("refusal", "Samahani, siwezi kukusaidia na ombi hili hata kidogo."),
        ("repetition", "Ninawezaje kuoka mkate " * 12 + "?"),
        ("truncated", "Ninawezaje kuoka mk"),
        ("ending_lost", "Ninawezaje kuoka mkate nyumbani bila tanuri"),
        ("entities", "Ninawezaje kuoka mkate &quot;nyumbani&quot; bila tanuri?"),
        ("markup_lost", "**Ninawezaje** kuoka mkate nyumbani bila tanuri?"),
        ("lines_lost", "Ninawezaje kuoka mkate\nnyumbani bila tanuri?"),
        ("length_ratio", GOOD[1] + " Nitumie viungo gani ili mkate huo uwe mtamu na laini kwa ajili ya watoto wangu?"),
        ("protected_lost", "Ninawezaje kuoka mkate ⟦0⟧ nyumbani bila tanuri?"),
    ],
)
def test_each_gate_finds_its_flaw(gate: str, translation: str) -> None:
    assert failed(*GOOD) == set()
    assert gate in failed(GOOD[0], translation)


def test_a_gate_has_its_score_and_threshold() -> None:
    longer = GOOD[1] * 2
    assert "length_ratio" not in failed(GOOD[0], longer, max_length_factor=4.0)
    own_verdicts = verdicts(*GOOD, source="en", target="sw", settings=TranslationGates(), measures=True)
    scores = {verdict.gate: verdict.score for verdict in own_verdicts}
    assert scores["length_ratio"] == pytest.approx(len(GOOD[1]) / (len(GOOD[0]) * 1.10))
    assert len(scores) == len(own_verdicts) == 14


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_requests_and_characters_are_spaced_evenly() -> None:
    clock = Clock()
    throttle = Throttle(10.0, None, clock=clock)
    assert [round(throttle.reserve(1), 3) for _ in range(4)] == [0.0, 0.1, 0.2, 0.3]
    throttle = Throttle(10.0, 100.0, clock=clock)
    assert [round(throttle.reserve(50), 3) for _ in range(3)] == [0.0, 0.5, 1.0]  # characters are the tighter limit
    throttle = Throttle(None, None, clock=clock)
    assert [throttle.reserve(1) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_too_many_requests_halve_the_rate_once_and_answers_bring_it_back() -> None:
    clock = Clock()
    throttle = Throttle(10.0, None, clock=clock)
    for _ in range(5):  # those under way together
        throttle.refused(None)
    assert throttle.rate == 5.0
    clock.now += 2.0
    throttle.refused(3.0)
    assert throttle.rate == 2.5
    assert throttle.held() == 3.0
    assert throttle.reserve(1) == 3.0
    for _ in range(200):
        throttle.answered()
    assert throttle.rate == 10.0


def test_replies_are_stored_by_engine_direction_and_text(tmp_path: Path) -> None:
    path = tmp_path / "a" / "kept.sqlite"
    with Replies(path) as replies:
        replies.save(SW, "tea", "chai")
        assert replies.find(SW, ["tea", "bread"]) == {"tea": "chai"}
        for other in (SW._replace(engine="libre"), SW._replace(source="fr"), SW._replace(target="zh")):
            assert replies.find(other, ["tea"]) == {}
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"bread" not in path.read_bytes()


def test_what_a_gate_refused_is_requested_again_under_a_later_attempt_only(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    with Replies(path) as replies:
        replies.save(SW, "tea", "tea")
        replies.save(SW, "bread", "mkate")
        replies.judge(SW, ["tea"], refused=True)
        replies.judge(SW, ["bread"], refused=False)
        assert set(replies.find(SW, ["tea", "bread"])) == {"tea", "bread"}
    with Replies(path, attempt=2) as later:
        assert set(later.find(SW, ["tea", "bread"])) == {"bread"}
        later.save(SW, "tea", "chai")
        assert later.find(SW, ["tea"]) == {"tea": "chai"}


def test_a_damaged_file_of_replies_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 40)
    with pytest.raises(
        BadInputError, match=r"kept\.sqlite: the file of saved translations cannot be used .*delete the file"
    ):
        Replies(path).find(SW, ["tea"])
    assert issubclass(sqlite3.DatabaseError, Exception)


TMX = """<?xml version="1.0"?><!DOCTYPE tmx SYSTEM "tmx14.dtd"><tmx version="1.4"><header/><body>
<tu><tuv xml:lang="en-US"><seg>Good <bpt i="1"/>tea</seg></tuv><tuv xml:lang="sw-KE"><seg>Chai nzuri</seg></tuv></tu>
<tu><tuv xml:lang="en-US"><seg>Rain</seg></tuv><tuv xml:lang="zh-TW"><seg>雨</seg></tuv></tu>
</body></tmx>"""


def test_memory_from_tmx(tmp_path: Path) -> None:
    path = tmp_path / "m.tmx"
    path.write_text(TMX, encoding="utf-8")
    engine = MemoryEngine(path)
    assert [reply.text for reply in engine.translate(["Good tea", "Rain", "Fog"], "en", "sw")] == [
        "Chai nzuri",
        "",
        None,
    ]
    with pytest.raises(BadInputError, match=r"no column 'zh'.*Columns present: en-US, sw-KE, zh-TW\."):
        engine.check("en", "zh")  # traditional characters are not what zh means here
    named = MemoryEngine(path, columns={"zh": "zh-TW"})
    assert named.translate(["Rain"], "en", "zh")[0].text == "雨"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<tmx><body><tu>", r"m\.tmx, line 1, column \d+: this is not XML"),
        ("<tmx/>", r"m\.tmx: the file holds no translation unit"),
    ],
)
def test_unreadable_tmx(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "m.tmx"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BadInputError, match=message):
        MemoryEngine(path)
