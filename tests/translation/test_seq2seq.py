"""Models of transformers as engines, on tiny ones of each family that know a dozen sentences by heart."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.translation import Reply, UnknownLanguageError
from mpo_core.languages import known as languages
from mpo_core.settings import TranslationSettings
from mpo_core.translation import seq2seq
from mpo_core.translation.build import build_chain, fingerprint
from mpo_core.translation.engines.seq2seq import Seq2SeqSource
from mpo_core.translation.machine import MachineEngine
from mpo_core.translation.replies import Replies
from mpo_core.translation.seq2seq import Seq2SeqBackend, licence
from tests.translation.tiny_seq2seq import LONG, MAKERS, PAPA, ROWS

MANY = ["nllb", "m2m100", "madlad", "marian_many"]
TARGETS = dict.fromkeys(MANY, ("sw", "bn")) | {"marian": ("sw",)}

Folders = Callable[[str], Path]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The model folder of a family, made when it is first wanted."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            path = tmp_path_factory.mktemp("seq2seq") / name
            MAKERS[name](path)
            made[name] = path
        return made[name]

    return folder


@pytest.fixture(params=list(TARGETS))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def source_of(folder: Path, **options: Any) -> Seq2SeqSource:
    return Seq2SeqSource(**{"engine": "seq2seq", "path": str(folder), "device": "cpu", "max_new_tokens": 60} | options)


def replies_of(folder: Path, pieces: list[str], source: str, target: str, **options: Any) -> list[Reply]:
    """The backend's replies in order, and that it told of exactly those that are translations."""
    backend = Seq2SeqBackend(source_of(folder, **options))
    codes = [backend.code(language) for language in (source, target)]
    stored: dict[str, str] = {}
    replies = backend.translate(pieces, str(codes[0]), str(codes[1]), stored.__setitem__)
    assert stored == {piece: reply.text for piece, reply in replies.items() if reply.text is not None}
    return [replies[piece] for piece in pieces]


def engine_of(
    folder: Path, replies_file: Path, on_reply: Callable[[], None] = lambda: None, **options: Any
) -> MachineEngine:
    return MachineEngine(Seq2SeqBackend(source_of(folder, **options)), Replies(replies_file), on_reply, lambda: None)


def changed(folder: Path, to: Path, name: str, **options: Any) -> Path:
    """A copy of a model folder with other entries in a JSON file."""
    shutil.copytree(folder, to)
    before = json.loads((to / name).read_text("utf-8"))
    (to / name).write_text(json.dumps(before | options), "utf-8")
    return to


ENGLISH = [row.en for row in ROWS]


@pytest.mark.parametrize("options", [{"batch_size": 32}, {"batch_size": 5}, {"batch_size": 1}, {"beams": 3}], ids=str)
def test_each_sentence_in_each_language_in_batches_and_alone(folders: Folders, family: str, options: Any) -> None:
    for target in TARGETS[family]:
        wanted = [Reply(getattr(row, target)) for row in ROWS]
        assert replies_of(folders(family), ENGLISH, "en", target, **options) == wanted


def test_bfloat16(folders: Folders) -> None:
    replies = replies_of(folders("nllb"), ENGLISH[:6], "en", "sw", dtype="bfloat16")
    assert [reply.text for reply in replies] == [row.sw for row in ROWS[:6]]


@pytest.mark.parametrize("name", ["nllb", "m2m100"])
def test_the_source_language_reaches_the_model(folders: Folders, name: str) -> None:
    """The same word in two languages."""
    for source, target, text, translation in PAPA:
        assert replies_of(folders(name), [text], source, target) == [Reply(translation)]


def test_two_directions_at_once(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer is told its language by an attribute: another thread must not change it in between."""
    real = seq2seq._ModelTokenizer.inputs

    def slow(*given: Any) -> Any:
        prepared = real(*given)
        time.sleep(0.03)
        return prepared

    monkeypatch.setattr(seq2seq._ModelTokenizer, "inputs", slow)
    with ThreadPoolExecutor(2) as threads:
        futures = [
            threads.submit(replies_of, folders("nllb"), [text], source, target) for source, target, text, _ in PAPA * 4
        ]
        assert [future.result()[0].text for future in futures] == [translation for *_, translation in PAPA * 4]


@pytest.mark.parametrize("extra", ["tokenizer_config.json", "special_tokens_map.json"])
def test_m2m100_whose_languages_are_special_tokens(folders: Folders, tmp_path: Path, extra: str) -> None:
    """As facebook/m2m100_418M has them; without, they are in no vocabulary."""
    codes = AutoTokenizer.from_pretrained(folders("m2m100")).lang_code_to_token
    assert "__sw__" not in AutoTokenizer.from_pretrained(folders("m2m100")).get_vocab()
    folder = tmp_path / "m2m100"
    shutil.copytree(folders("m2m100"), folder)
    entries = json.loads((folder / extra).read_text("utf-8")) if (folder / extra).is_file() else {}
    entries.pop("extra_special_tokens", None)
    (folder / extra).write_text(json.dumps(entries | {"additional_special_tokens": list(codes.values())}), "utf-8")
    assert replies_of(folder, ENGLISH[:3], "en", "bn") == [Reply(row.bn) for row in ROWS[:3]]


@pytest.mark.parametrize(("name", "form"), [("nllb", "[{}]"), ("madlad", "⟦{}⟧"), ("marian", "[{}]")])
def test_how_a_mark_is_spelled(folders: Folders, name: str, form: str) -> None:
    tokenizer = seq2seq._model_tokenizer(folders(name))
    text, back = tokenizer.spell("Pour ⟦0⟧ into ⟦1⟧.")
    assert text == f"Pour {form.format(0)} into {form.format(1)}."
    # Spaces and digits as models put them; a number that the piece does not have is the text's own.
    assert back(f"{form.format(' 1 ')} a {form.format('০')} {form.format(7)}") == f"⟦1⟧ a ⟦0⟧ {form.format(7)}"


def test_a_text_with_brackets_of_its_own(folders: Folders) -> None:
    tokenizer = seq2seq._model_tokenizer(folders("nllb"))
    text, back = tokenizer.spell("See [0].")
    assert (text, back("[0] and <0>")) == ("See [0].", "[0] and <0>")
    text, back = tokenizer.spell("Page [0] tells of ⟦0⟧.")
    assert (text, back(text)) == ("Page [0] tells of <0>.", "Page [0] tells of ⟦0⟧.")
    text, back = tokenizer.spell("[0] <0> (0) #0# ⟦0⟧")  # nothing is left: the gates will see it
    assert text == "[0] <0> (0) #0# [0]"


DOCUMENT = (
    "# Good morning, friend.\n\n- I eat bread.\n- Open https://example.org/a_b and read.\n\n"
    "Pour 5 ml of milk into 200 ml of tea.\n```\nI eat bread.\n```\nSee page [0] of the book.\n"
)
TRANSLATED = {
    "sw": "# Habari za asubuhi, rafiki.\n\n- Ninakula mkate.\n- Fungua https://example.org/a_b na usome.\n\n"
    "Mimina 5 ml ya maziwa katika 200 ml ya chai.\n```\nI eat bread.\n```\nTazama ukurasa [0] wa kitabu.\n",
    "bn": "# সুপ্রভাত, বন্ধু।\n\n- আমি রুটি খাই।\n- https://example.org/a_b খুলে পড়ুন।\n\n"
    "200 ml চায়ে 5 ml দুধ দিন।\n```\nI eat bread.\n```\nবইয়ের পাতা [0] দেখুন।\n",
}


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts went into the model, call by call."""
    counts: list[int] = []
    real = seq2seq._Model._generate

    def counting(self: Any, texts: list[str], *more: Any) -> Any:
        counts.append(len(texts))
        return real(self, texts, *more)

    monkeypatch.setattr(seq2seq._Model, "_generate", counting)
    return counts


def test_a_document_through_the_engine_and_nothing_twice(
    folders: Folders, family: str, tmp_path: Path, generated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[int] = []
    engine = engine_of(folders(family), tmp_path / "kept", lambda: answers.append(1), batch_size=4)
    assert engine.load([DOCUMENT], "en", "sw").requests == 5
    for number, target in enumerate(TARGETS[family], start=1):
        assert engine.translate([DOCUMENT, "I eat bread."], "en", target)[0] == Reply(TRANSLATED[target])
        assert (generated, len(answers)) == ([4, 1] * number, 5 * number)
    # Another process, which does not even load the model.
    monkeypatch.setattr(seq2seq, "_load", None)
    again = engine_of(folders(family), tmp_path / "kept")
    assert again.load([DOCUMENT], "en", "sw") == (0, 0, 5)
    for target in TARGETS[family]:
        assert again.translate([DOCUMENT], "en", target) == [Reply(TRANSLATED[target])]


def test_an_unknown_language(folders: Folders, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    klingon = languages.Language("tlh", "Klingon", "Latn", "low")
    monkeypatch.setitem(languages.LANGUAGES, "tlh", klingon)
    engine = engine_of(folders(family), tmp_path / "kept")
    for target in TARGETS[family]:
        engine.check("en", target)
    for pair in (("en", "tlh"), ("tlh", "sw"), *([] if family in {"nllb", "m2m100"} else [("en", "ko")])):
        with pytest.raises(UnknownLanguageError, match=rf"seq2seq:{family} does not know the language '(tlh|ko)'"):
            engine.check(*pair)


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [("marian", "sw", "en"), ("marian", "sw", "sw"), ("marian_many", "sw", "bn"), ("marian_many", "en", "en")],
)
def test_marian_goes_in_a_single_direction(
    folders: Folders, tmp_path: Path, name: str, source: str, target: str
) -> None:
    engine = engine_of(folders(name), tmp_path / "kept")
    for ask in (engine.check, lambda *pair: engine.translate(["Maji ni baridi."], *pair)):
        with pytest.raises(UnknownLanguageError, match=r"translates from 'en\w*' into '(sw|mul)', not from"):
            ask(source, target)


def test_marian_of_many_sources(folders: Folders, tmp_path: Path) -> None:
    folder = changed(folders("marian_many"), tmp_path / "mul", "tokenizer_config.json", source_lang="mul")
    assert replies_of(folder, ENGLISH[:1], "sw", "bn") == [Reply(ROWS[0].bn)]


@pytest.mark.parametrize(
    ("named", "code"), [("eng", "en"), ("zho", "zh"), ("ara", "ar"), ("swa", "sw"), ("vie", "vi"), ("ben", "bn")]
)
def test_marian_names_languages_by_two_letters_or_three(
    folders: Folders, tmp_path: Path, named: str, code: str
) -> None:
    entries = {"source_lang": named, "target_lang": "jav"}
    backend = Seq2SeqBackend(
        source_of(changed(folders("marian"), tmp_path / named, "tokenizer_config.json", **entries))
    )
    assert (backend.code(code), backend.code("jv")) == (named, "jav")


def test_an_output_that_does_not_end(folders: Folders, family: str) -> None:
    """Marian's own generation config would end it by force."""
    pieces = [ROWS[7].en, ROWS[8].en]
    assert replies_of(folders(family), pieces, "en", "sw", max_new_tokens=3) == [Reply(None, "truncated")] * 2


def test_only_the_output_that_does_not_end_is_lost(folders: Folders) -> None:
    replies = replies_of(folders("madlad"), [ROWS[7].en, ROWS[1].en], "en", "sw", max_new_tokens=6)
    assert replies == [Reply(None, "truncated"), Reply(ROWS[1].sw)]


def test_an_output_beyond_the_positions_of_the_model(folders: Folders, family: str, tmp_path: Path) -> None:
    ends = json.loads((folders(family) / "config.json").read_text("utf-8"))["eos_token_id"]
    entries = {"suppress_tokens": [ends], "forced_eos_token_id": None}
    folder = changed(folders(family), tmp_path / "endless", "generation_config.json", **entries)
    assert replies_of(folder, ENGLISH[:2], "en", "sw", max_new_tokens=90) == [Reply(None, "truncated")] * 2


def test_a_piece_beyond_the_model_takes_no_other_with_it(folders: Folders, family: str) -> None:
    pieces = [ROWS[0].en, LONG, ROWS[7].en]
    wanted = [Reply(ROWS[0].sw), Reply(None, "too_long"), Reply(ROWS[7].sw)]
    assert replies_of(folders(family), pieces, "en", "sw") == wanted
    assert replies_of(folders(family), [LONG], "en", "sw") == [Reply(None, "too_long")]


def test_a_tokenizer_without_a_limit_has_that_of_the_model(folders: Folders, tmp_path: Path) -> None:
    folder = changed(folders("marian"), tmp_path / "free", "tokenizer_config.json", model_max_length=10**30)
    assert replies_of(folder, [LONG, ROWS[0].en], "en", "sw") == [Reply(None, "too_long"), Reply(ROWS[0].sw)]


def test_identity_and_licence(folders: Folders, tmp_path: Path) -> None:
    folder = folders("nllb")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    identity = Seq2SeqBackend(source_of(folder)).identity
    assert identity == Seq2SeqBackend(source_of(elsewhere)).identity
    assert fingerprint(TranslationSettings(engines=[source_of(folder)])) == [identity]
    others = [{"beams": 2}, {"dtype": "bfloat16"}, {"max_new_tokens": 61}]
    other = changed(folder, tmp_path / "other", "generation_config.json", length_penalty=2.0)
    identities = {identity, *(Seq2SeqBackend(source_of(folder, **options)).identity for options in others)}
    assert len(identities | {Seq2SeqBackend(source_of(other)).identity}) == 5
    engine = build_chain(TranslationSettings(engines=[source_of(folder)]), Replies(tmp_path / "k"), lambda: None)
    assert (engine.engines[0].name, engine.engines[0].licence) == ("seq2seq:nllb", "cc-by-nc-4.0")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("card", "named"),
    [
        ("---\nlanguage: en\nlicense: mit\n---\n", "mit"),
        ("---\nlicense: [mit\n---\n", None),
        ("---\n- mit\n---\n", None),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
        ("", None),
    ],
)
def test_licence_of_a_card(tmp_path: Path, card: str, named: str | None) -> None:
    assert licence(tmp_path) is None
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert licence(tmp_path) == named


def refused(path: Path | str) -> str:
    """The one line in which a model is refused; whether at the start, at a language, or at the first piece."""
    with pytest.raises(BadInputError) as caught:
        replies_of(path if isinstance(path, Path) else Path(path), ["I eat bread."], "en", "sw")
    assert not isinstance(caught.value, UnknownLanguageError)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"translation.engines {path}: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nowhere/model", "no such folder"),
        ("./nowhere", "no such folder"),
        ("nobody/nothing", r"neither a local folder nor a model on the hub \(LocalEntryNotFoundError\)"),
        ("nobody/no thing", r"neither a local folder nor a model on the hub \(HFValidationError\)"),
        ("a/b/c", "no such folder"),
    ],
)
def test_no_such_model(path: str, message: str) -> None:
    with pytest.raises(BadInputError, match=rf"^translation\.engines {path}: {message}\. [^\n]+$"):
        Seq2SeqBackend(Seq2SeqSource(engine="seq2seq", path=path))
    with pytest.raises(BadInputError, match=message):
        seq2seq.identity(Seq2SeqSource(engine="seq2seq", path=path))


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "config.json is missing" in refused(tmp_path)


def test_pickled_weights(folders: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(folders("nllb"), folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickled weights are not read" in refused(folder)


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("nllb", "tokenizer.json", "the tokenizer is missing"),
        ("madlad", "tokenizer.json", "the tokenizer is missing"),
        ("m2m100", "vocab.json", "cannot be loaded"),
        ("m2m100", "sentencepiece.bpe.model", "the tokenizer is missing"),
        ("marian", "vocab.json", "cannot be loaded"),
        ("marian", "source.spm", "cannot be loaded"),
        ("marian", "target.spm", "cannot be loaded"),
    ],
)
def test_a_part_of_the_tokenizer_is_missing(
    folders: Folders, tmp_path: Path, name: str, file: str, message: str
) -> None:
    folder = tmp_path / "lacking"
    shutil.copytree(folders(name), folder)
    (folder / file).unlink()
    assert message in refused(folder)


@pytest.mark.parametrize(
    ("name", "file"),
    [("nllb", "config.json"), ("nllb", "tokenizer.json"), ("nllb", "model.safetensors"), ("marian", "source.spm")],
)
def test_a_damaged_file(folders: Folders, tmp_path: Path, name: str, file: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(folders(name), folder)
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in refused(folder)


@pytest.mark.parametrize("entries", [{"encoder_layers": 3}, {"vocab_size": 999}], ids=str)
def test_weights_that_do_not_fit_are_not_made_up(folders: Folders, tmp_path: Path, entries: dict[str, int]) -> None:
    folder = changed(folders("nllb"), tmp_path / "unfit", "config.json", **entries)
    assert "weights are missing or of another shape" in refused(folder)


def test_code_in_a_model_folder_is_not_run(folders: Folders, tmp_path: Path) -> None:
    code = {"AutoConfig": "theirs.Config", "AutoModelForSeq2SeqLM": "theirs.Model"}
    folder = changed(folders("nllb"), tmp_path / "code", "config.json", model_type="theirs", auto_map=code)
    (folder / "theirs.py").write_text("raise SystemExit('it was run')", "utf-8")
    assert "contains custom code" in refused(folder)


def test_models_of_another_kind(folders: Folders, tmp_path: Path) -> None:
    small = {"vocab_size": 100, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    bart = BartConfig(
        d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, decoder_attention_heads=1, **small
    )
    gpt2 = GPT2Config(n_layer=1, n_embd=8, n_head=1, **small)
    for model in (GPT2LMHeadModel(gpt2), BartForConditionalGeneration(bart)):
        folder = tmp_path / model.config.model_type
        shutil.copytree(folders("nllb"), folder)
        model.save_pretrained(folder)
        assert f"this is not a supported translation model (model_type {folder.name} in config.json)" in refused(folder)


def test_without_sentencepiece(folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: Any, **__: Any) -> None:
        raise ImportError("\nMarianTokenizer requires the SentencePiece library\nbut it was not found.")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lacking)
    folder = tmp_path / "marian"
    shutil.copytree(folders("marian"), folder)
    assert "pip install -c constraints.txt -e '.[sentencepiece]'" in refused(folder)


def test_weights_that_are_nan_translate_nothing(folders: Folders, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(folders("nllb"), tmp_path / "nan"))
    tensors = load_file(folder / "model.safetensors")
    first = min(tensors)
    save_file(tensors | {first: tensors[first] * float("nan")}, folder / "model.safetensors", metadata={"format": "pt"})
    assert "the weights hold NaN or infinite numbers" in refused(folder)
