"""Engines in order, gates on every result, and the memory's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PROMPTS, QUARANTINE, SOURCE_PAIRS, TRANSLATIONS
from mpo_core.contract.translation import Engine, Reply
from mpo_core.settings import TranslationGates, TranslationSettings
from mpo_core.translation.build import build_chain, fingerprint
from mpo_core.translation.engines.memory import MemorySource
from mpo_core.translation.engines.microworld import MicroworldEngine, MicroworldSource
from mpo_core.translation.memory import MemoryEngine
from mpo_core.translation.replies import Replies
from mpo_core.translation.translate import Chain, Text, answer_texts, prompt_texts, translate_texts

MULTIJAIL = Path(__file__).parents[3] / "shared" / "data" / "MultiJail.csv"


class Fixed:
    """An engine that knows what it was given, and remembers what it was asked."""

    masks = True

    def __init__(self, name: str, known: dict[str, str]) -> None:
        self.name, self.known = name, known
        self.requests: list[str] = []
        self.refused: list[str] = []

    def check(self, source: str, target: str) -> None:
        assert (source, target) == ("en", "it")

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Reply]:
        self.requests += texts
        return [Reply(self.known.get(text), "no_translation") for text in texts]

    def judge(self, texts: Sequence[str], source: str, target: str, *, refused: bool) -> None:
        self.refused += texts if refused else []


def run(
    texts: list[str], *engines: Engine, gates: TranslationGates | None = None
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    wanted = [Text(f"p{i}", "prompt", text) for i, text in enumerate(texts)]
    done, rejected = translate_texts(wanted, Chain(engines, gates or TranslationGates()), source="en", target="it")
    assert done.schema.equals(TRANSLATIONS.schema)
    assert rejected.schema.equals(QUARANTINE.schema)
    return done.to_pylist(), rejected.to_pylist()


def test_first_engine_that_knows_wins_and_the_next_gets_the_rest() -> None:
    first = Fixed("first", {"bread": "pane", "rain": "Rain", "snow": " "})
    second = Fixed("second", {"bread": "wrong", "tea": "tè", "rain": "pioggia"})
    done, rejected = run(["tea", "bread", "rain", "snow", "fog"], first, second)
    assert [(row["prompt_id"], row["text"], row["engine"]) for row in done] == [
        ("p0", "tè", "second"),
        ("p1", "pane", "first"),
        ("p2", "pioggia", "second"),  # the first engine's echo did not count
    ]
    assert second.requests == ["tea", "rain", "snow", "fog"]
    assert [(row["row_id"], row["language"], row["reason"]) for row in rejected] == [
        ("p3/prompt", "it", "empty_translation"),
        ("p4/prompt", "it", "no_translation"),
    ]
    assert [row["detail"] for row in rejected] == [
        "first empty_translation 0; second no_translation",
        "first no_translation; second no_translation",
    ]
    assert first.refused == ["rain", "snow"]


def test_echo_counts_only_where_there_are_letters() -> None:
    done, rejected = run(
        ["Caf\u00e9  noir", "42 + 7"], Fixed("e", {"Caf\u00e9  noir": "cafe\u0301 noir", "42 + 7": "42 + 7"})
    )
    assert [row["prompt_id"] for row in done] == ["p1"]
    assert [(row["row_id"], row["reason"]) for row in rejected] == [("p0/prompt", "echo")]


def test_texts_of_prompts_and_answers() -> None:
    prompts = PROMPTS.build(
        [{"prompt_id": "a", "text": "A?", "kind": "harmless", "split": "train", "source": "s", "row": 0}]
    )
    pair = {"prompt_id": "a", "kind": "harmless", "split": "train", "prompt": "A?", "chosen": "Yes.", "rejected": "No."}
    pairs = SOURCE_PAIRS.build([pair | {"chosen_origin": "sampled", "rejected_origin": "sampled"}])
    assert prompt_texts(prompts) == [Text("a", "prompt", "A?")]
    assert answer_texts(pairs) == [Text("a", "chosen", "Yes."), Text("a", "rejected", "No.")]


def given(engine: Engine, texts: list[str], source: str, target: str) -> list[str | None]:
    return [reply.text for reply in engine.translate(texts, source, target)]


def test_memory_compares_normalised_text_and_takes_the_first_translation(tmp_path: Path) -> None:
    path = tmp_path / "memory.csv"
    rows = [
        "id,en,italiano",
        '1,"Good  caf\u00e9",',
        "2,Good cafe\u0301,Buon caff\u00e8",
        "3,Good caf\u00e9,altro",
        "4,Rain,",
    ]
    path.write_text("\ufeff" + "\n".join(rows), encoding="utf-8")
    engine = MemoryEngine(path, columns={"it": "italiano"})
    assert given(engine, [" Good caf\u00e9\n", "Rain", "Snow"], "en", "it") == ["Buon caff\u00e8", "", None]
    assert given(engine, ["Buon caff\u00e8"], "it", "en") == ["Good cafe\u0301"]


def test_memory_from_parquet(tmp_path: Path) -> None:
    path = tmp_path / "memory.parquet"
    pq.write_table(pa.table({"id": [1, 2], "en": ["tea", "fog"], "sw": ["chai", None]}), path)
    assert given(MemoryEngine(path), ["tea", "fog"], "en", "sw") == ["chai", ""]
    with pytest.raises(BadInputError, match=r"no column 'id'.*Columns present: en, sw"):
        MemoryEngine(path, columns={"it": "id"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"en,sw\ntea\n", r"m\.csv, line 2: 1 column where the header has 2"),
        (b'en,sw\n"tea,chai\n', r"m\.csv, line \d: this is not CSV"),
        (b"en,en\na,b\n", "names a column twice"),
        (b"en,sw\n\xff,a\n", r"m\.csv, line 2: not UTF-8"),
        (b"en,sw\ntea,chai\n", r"no column 'it' for language 'it'.*Columns present: en, sw"),
    ],
)
def test_bad_memory(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        MemoryEngine(path).translate(["tea"], "en", "it")


def test_missing_memory(tmp_path: Path) -> None:
    settings = TranslationSettings(engines=[MemorySource(engine="memory", path=str(tmp_path / "none.csv"))])
    with pytest.raises(BadInputError, match="cannot be read"):
        build_chain(settings, Replies(tmp_path / "kept"), lambda: None)
    with pytest.raises(BadInputError, match="cannot be read"):
        fingerprint(settings)


def test_microworld_is_exact_in_every_language() -> None:
    from mpo_core import microworld

    items = microworld.items("validation", "harmful", limit=5) + microworld.items("validation", "harmless", limit=5)
    engine = MicroworldEngine(MicroworldSource(engine="microworld"))
    for code in microworld.LANGUAGES[1:]:
        texts = [text for item in items for text in (item.prompt("en"), item.refusal("en"), item.help("en"))]
        wanted = [text for item in items for text in (item.prompt(code), item.refusal(code), item.help(code))]
        assert given(engine, texts, "en", code) == wanted
    assert given(engine, ["Nothing of this world."], "en", "sw") == [None]
    with pytest.raises(BadInputError, match="does not speak 'it'"):
        engine.translate(["x"], "en", "it")


def test_build_and_fingerprint_follow_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("en,sw\ntea,chai\n")
    settings = TranslationSettings(
        engines=[MemorySource(engine="memory", path=str(path)), MicroworldSource(engine="microworld")]
    )
    chain = build_chain(settings, Replies(tmp_path / "kept"), lambda: None)
    assert [engine.name for engine in chain.engines] == ["memory", "microworld"]
    assert not (tmp_path / "kept").exists()  # nobody was asked that would be kept
    before = fingerprint(settings)
    path.write_text("en,sw\ntea,majani\n")
    after = fingerprint(settings)
    assert before[0] != after[0]
    assert before[1] == after[1]


@pytest.mark.skipif(not MULTIJAIL.is_file(), reason="shared/data/MultiJail.csv is not here")
def test_multijail_is_a_memory() -> None:
    import csv

    rows = list(csv.DictReader(MULTIJAIL.open(encoding="utf-8-sig", newline="")))
    texts = [Text(row["id"], "prompt", row["en"]) for row in rows]
    for code in ("bn", "jv", "th"):
        done, rejected = translate_texts(texts, Chain([MemoryEngine(MULTIJAIL)]), source="en", target=code)
        assert (done.num_rows, rejected.num_rows) == (315, 0)
        texts_out = dict(zip(done["prompt_id"].to_pylist(), done["text"].to_pylist(), strict=True))
        wrong = sum(texts_out[row["id"]] != row[code].strip() for row in rows)  # a count: rows are never printed
        assert wrong == 0
