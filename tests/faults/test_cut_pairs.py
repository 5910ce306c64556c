"""What `training.cutoff` takes from pairs is counted: in the command's result, the training's log and the report."""

import json

import pytest

from mpo_core.training.cuts import Cuts
from mpo_core.training.encoding import Cut, PairText, encode_with_cut
from tests.faults.test_bad_input import FAST

pytestmark = pytest.mark.usefixtures("prefect_server")  # or each process would start one of its own


class Words:
    """A tokenizer of words; its template adds nothing."""

    eos_token_id, added_tokens_decoder, chat_template = 1, {}, "x"
    all_special_tokens, unk_token_id = [], None

    def __len__(self):
        return 4

    def __call__(self, text, **_options):
        return {"input_ids": [2] * len(text.split())}

    def apply_chat_template(self, turns, **_options):
        return {"input_ids": [3] * len(turns[-1]["content"].split())}


# Words of prompt, chosen and rejected (each answer has an end token more), and what a cut-off of 16 takes.
CASES = [
    ((4, 4, 4), Cut()),
    ((11, 4, 4), Cut()),  # 11 + 5 = 16
    ((12, 4, 4), Cut(prompt=True)),
    ((4, 11, 4), Cut()),
    ((4, 12, 4), Cut(end=True)),
    ((4, 4, 30), Cut(prompt=True, answer=True, end=True)),  # in proportion
    ((30, 30, 4), Cut(prompt=True, answer=True, end=True)),
]


@pytest.mark.parametrize(("words", "expected"), CASES, ids=str)
def test_what_a_cut_takes(monkeypatch, words, expected):
    monkeypatch.setattr("mpo_core.training.encoding.encode_prompt", lambda _t, text, **_: [3] * len(text.split()))
    text = PairText("id", "sw", *("w " * count for count in words))
    assert encode_with_cut(Words(), text, cutoff=16, system=None)[1] == expected


def test_the_warning_comes_above_a_twentieth():
    cuts = Cuts()
    for number in range(20):
        cuts.add("sw", Cut(prompt=number == 0))
    assert cuts.warning(64) is None
    cuts.add("ko", Cut(answer=True, end=True))
    assert "2 of 21 pairs (10%) were cut at training.cutoff 64" in cuts.warning(64)
    assert "1 prompt, 1 answer, 1 end token (ko 1/1, sw 1/20)" in cuts.warning(64)
    assert cuts.figures()["cut/end_lost/ko"] == 1
    assert Cuts().warning(64) is None


def test_a_language_that_loses_much_is_enough_for_the_warning():
    cuts = Cuts()
    for number in range(10):
        cuts.add("th", Cut(answer=number < 2, end=number < 2))
        for code in ("en", "sw", "zh", "ar"):
            cuts.add(code, Cut())
    assert "2 of 50 pairs (4%) were cut at training.cutoff 64" in cuts.warning(64)
    assert "(th 2/10)" in cuts.warning(64)


def test_train_counts_them(mpo, write_pairs, profile, tmp_path):
    options = [*FAST, "--set", "training.cutoff=12", "--out", tmp_path / "out", "--json"]
    outcome = mpo("train", profile, "--pairs", write_pairs(), "--model", "microworld", *options)
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["cut"]["pairs"] == 8  # four pairs, and four dominant ones
    assert result["cut"]["cut"] > 0
    assert sum(counts["cut"] for counts in result["cut_by_language"].values()) == result["cut"]["cut"]
    assert f"{result['cut']['cut']} of 8 pairs" in result["warning"]
    log = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    assert {f"cut/{name}": count for name, count in result["cut"].items()}.items() <= log[-1].items()


@pytest.mark.parametrize(("cut", "shown"), [(5, False), (6, True)])
def test_the_report_cautions(cut, shown):
    from types import SimpleNamespace

    from mpo_core.reporting.findings import _cut_caution

    log = {"step": 9, "cut/pairs": 100, "cut/cut": cut, "cut/prompt_cut": 1, "cut/answer_cut": 2, "cut/end_lost": 3}
    sentence = _cut_caution(SimpleNamespace(training=[{"step": 1, "loss": 0.5}, log]))
    assert sentence.startswith("6 of 100 training pairs were cut") if shown else sentence == ""
