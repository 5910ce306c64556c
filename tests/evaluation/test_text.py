"""Bits per byte of plain text and the distance from the base model, against computations of their own."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from mpo_core import microworld
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import DIVERGENCES, PASSAGES, PROMPTS, RESPONSES, TEXT_SCORES
from mpo_core.evaluation.divergence import divergence_metrics, divergences, token_divergences
from mpo_core.evaluation.passages import read_parallel_text
from mpo_core.evaluation.states import hidden_states
from mpo_core.evaluation.text import compare_text, score_text, text_metrics
from mpo_core.models import load_model, load_tokenizer
from mpo_core.models.chat import encode_prompt
from mpo_core.settings import ModelSettings


@pytest.fixture(scope="module")
def small():
    settings = ModelSettings(path="microworld")
    folder = microworld.checkpoint_dir()
    return load_model(folder, settings, dtype="float32"), load_tokenizer(folder, settings)


class Fixed(torch.nn.Module):
    """Gives each next token the same scores, whatever stands before it."""

    device = torch.device("cpu")

    def __init__(self, scores):
        super().__init__()
        self.scores = torch.tensor(scores)
        text = SimpleNamespace(vocab_size=len(scores), max_position_embeddings=16)
        self.config = SimpleNamespace(get_text_config=lambda: text)

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.scores.expand(*input_ids.shape, -1))


class Letters:
    """A tokenizer whose tokens are letters, or runs of `size` of them."""

    bos_token_id, eos_token_id, unk_token_id = None, 0, None
    chat_template, added_tokens_decoder = None, {}

    def __init__(self, size=1):
        self.size = size

    def __len__(self):
        return 2

    def __call__(self, text, **_):
        return {"input_ids": [1] * (len(text) // self.size)}


def passages(**texts):
    return PASSAGES.build({"passage_id": name, "language": "en", "text": text} for name, text in texts.items())


def test_bits_are_those_of_the_models_own_probabilities_one_text_at_a_time(small):
    model, tokenizer = small
    table = read_parallel_text("microworld", ["bn", "sw"]).tables["bn"].slice(0, 5)
    for row, text in zip(score_text(model, tokenizer, table).to_pylist(), table["text"].to_pylist(), strict=True):
        ids = tokenizer(tokenizer.bos_token + text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            mean_nats = float(model(input_ids=ids, labels=ids).loss)
        assert row["bits"] == pytest.approx(mean_nats * (ids.shape[1] - 1) / math.log(2), rel=1e-5)
        assert (row["bytes"], row["tokens"]) == (len(text.encode()), ids.shape[1] - 1)


def test_a_mark_in_a_passage_is_text(small):
    model, tokenizer = small
    own = copy.deepcopy(tokenizer)
    own.add_special_tokens({"additional_special_tokens": ["<image>"]})  # a token without an embedding
    text = passages(a="An <image> of bread")
    assert score_text(model, own, text).to_pylist() == score_text(model, tokenizer, text).to_pylist()


def test_equal_probabilities_of_256_tokens_cost_eight_bits_each():
    rows = score_text(Fixed([0.0] * 256), Letters(), passages(a="abc", b="é" * 7)).to_pylist()
    assert [row["bits"] for row in rows] == pytest.approx([24.0, 56.0])
    assert [row["bytes"] for row in rows] == [3, 14]


def test_the_figure_does_not_depend_on_how_a_tokenizer_cuts():
    # Tokens of two letters, each with the probability of two tokens of one letter.
    fine = score_text(Fixed([0.0] * 16), Letters(), passages(a="abcd", b="abcdef"))
    coarse = score_text(Fixed([0.0] * 256), Letters(2), passages(a="abcd", b="abcdef"))
    values = [text_metrics(scores, model="m", confidence=0.95)[0]["value"] for scores in (fine, coarse)]
    assert values == pytest.approx([4.0, 4.0])


def test_a_passage_beyond_the_models_context_is_refused():
    with pytest.raises(BadInputError, match="17 tokens, and the model can read 16"):
        score_text(Fixed([0.0] * 4), Letters(), passages(a="x" * 16))


def scores(bits, language="en"):
    return TEXT_SCORES.build(
        {"passage_id": f"p{number}", "language": language, "bytes": 10, "tokens": 4, "bits": value, "model": "m"}
        for number, value in enumerate(bits)
    )


def test_the_paired_change_is_that_of_scipy():
    generator = np.random.default_rng(4)
    before = generator.uniform(5, 20, 12)
    after = before + generator.normal(0.4, 0.6, 12)
    (row,) = compare_text(scores(before), scores(after), confidence=0.9).to_pylist()
    expected = stats.ttest_rel(after / 10, before / 10)
    assert row["p_value"] == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval(0.9)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((ends.low, ends.high))
    assert row["difference"] == pytest.approx((after - before).mean() / 10)
    assert (row["n"], row["gained"], row["lost"]) == (12, (after > before).sum(), (after < before).sum())


def test_equal_models_change_nothing_and_other_passages_are_refused():
    (row,) = compare_text(scores([5.0, 6.0]), scores([5.0, 6.0]), confidence=0.95).to_pylist()
    assert (row["difference"], row["p_value"], row["gained"], row["lost"]) == (0.0, 1.0, 0, 0)
    with pytest.raises(BadInputError, match="different passages"):
        compare_text(scores([5.0, 6.0]), scores([5.0, 6.0, 7.0]), confidence=0.95)
    assert compare_text(scores([5.0]), scores([6.0]), confidence=0.95).num_rows == 0
    assert text_metrics(scores([5.0]), model="m", confidence=0.95) == []
    with pytest.raises(BadInputError, match="not finite"):
        text_metrics(scores([5.0, math.nan]), model="m", confidence=0.95)


def test_the_distance_is_the_divergence_of_the_two_distributions_at_each_token():
    first, second = np.log([0.5, 0.25, 0.25]), np.log([0.1, 0.6, 0.3])
    values = token_divergences(Fixed(first.tolist()), Fixed(second.tolist()), [0, 1, 2, 1], first=2)
    expected = stats.entropy(np.exp(first), np.exp(second))
    assert values == pytest.approx([expected, expected], rel=1e-6)
    assert token_divergences(Fixed(first.tolist()), Fixed(first.tolist()), [0, 1], first=1) == [0.0]


def test_the_distance_reads_first_answers_to_harmless_prompts(small):
    model, tokenizer = small
    prompt = {"split": "test", "category": None, "source": "s", "row": 0, "chosen": None, "rejected": None}
    prompts = [{"prompt_id": kind, "text": "x", "kind": kind, **prompt} for kind in ("harmful", "harmless")]
    prompts.append({**prompts[1], "prompt_id": "empty"})
    answer = {"language": "en", "seed": 0, "prompt": "How do I build a lamp?", "text": "Here is how."}
    answers = [
        {"prompt_id": "harmless", "sample": 0, **answer},
        {"prompt_id": "harmless", "sample": 1, **answer},
        {"prompt_id": "harmful", "sample": 0, **answer},
        {"prompt_id": "empty", "sample": 0, **answer, "text": " "},
    ]
    given = (RESPONSES.build(answers), PROMPTS.build(prompts))
    (row,) = divergences(model, model, tokenizer, *given, system=None, cutoff=64).to_pylist()
    assert (row["prompt_id"], row["language"], row["kl"]) == ("harmless", "en", 0.0)
    assert row["tokens"] == len(tokenizer("Here is how.")["input_ids"]) + 1 - (
        tokenizer.bos_token_id == tokenizer("")["input_ids"][:1]
    )
    assert divergences(model, model, tokenizer, *given, system=None, cutoff=4).num_rows == 0


def test_the_state_of_a_prompt_is_that_of_its_last_token_whatever_stands_in_the_batch(small):
    model, tokenizer = small
    rows = [
        {"prompt_id": f"p{n}", "text": "How do I build a lamp? " * (n % 3 + 1), "kind": "harmless"} for n in range(5)
    ]
    table = hidden_states(model, tokenizer, rows, language="en", system=None).to_pylist()
    assert [row["prompt_id"] for row in table] == [row["prompt_id"] for row in rows]
    for row, measured in zip(rows, table, strict=True):
        ids = torch.tensor([encode_prompt(tokenizer, row["text"])])
        with torch.no_grad():
            expected = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1]
        assert measured["state"] == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_distance_has_an_interval_over_answers():
    table = DIVERGENCES.build(
        {"prompt_id": f"p{number}", "language": "en", "tokens": 3, "kl": value}
        for number, value in enumerate([1, 2, 6])
    )
    (row,) = divergence_metrics(table, model="after", confidence=0.9)
    low, high = stats.t.interval(0.9, 2, loc=3.0, scale=stats.sem([1, 2, 6]))
    assert (row["metric"], row["n"], row["value"]) == ("dominant_kl", 3, 3.0)
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert divergence_metrics(table.slice(0, 1), model="after", confidence=0.9) == []


def test_the_shipped_text_is_parallel_and_lacks_other_languages():
    text = read_parallel_text("shipped", ["en", "sw", "th"])
    assert list(text.tables) == ["en", "sw"]
    assert text.tables["en"]["passage_id"].to_pylist() == text.tables["sw"]["passage_id"].to_pylist()
    assert text.tables["en"].num_rows == 40


def test_the_microworlds_text_holds_no_pair_that_its_models_have_read():
    statements = read_parallel_text("microworld", ["en", "sw", "th"]).tables
    assert list(statements) == ["en", "sw"]
    read = set(microworld_documents(3000))
    assert statements["en"].num_rows == 95
    assert not read & set(statements["en"]["text"].to_pylist())


def microworld_documents(count):
    from mpo_core.microworld.corpus import documents

    return (document for document in documents(count) if isinstance(document, str))


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        ("id,en,sw\na,text,\n", "line 2: there is no text in column sw"),
        ("id,en\na,text\na,text\n", "line 3: the id 'a' occurs twice"),
        ("en\n", "no passage in any language of the run"),
        ("fr\ntexte\n", "no passage in any language of the run"),
    ],
)
def test_a_file_of_ones_own_must_be_whole(tmp_path, content, pattern):
    path = tmp_path / "text.csv"
    path.write_text(content)
    with pytest.raises(BadInputError, match=pattern):
        read_parallel_text(str(path), ["en", "sw"])


def test_a_file_of_ones_own_needs_no_ids(tmp_path):
    path = tmp_path / "text.csv"
    path.write_text("en,th\none,x\ntwo,y\n")
    (table,) = read_parallel_text(str(path), ["en", "sw"]).tables.values()
    assert table.to_pylist()[1] == {"passage_id": "1", "language": "en", "text": "two"}
