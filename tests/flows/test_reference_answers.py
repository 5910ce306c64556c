"""Pairs of reference answers in every language, whatever the model answers; and a model without dominant safety."""

import csv
from pathlib import Path

import pytest
from prefect import flow

from flows import stages
from flows.run import start_run
from mpo_core import microworld
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PAIRS, QUARANTINE, RESPONSES
from mpo_core.prompts.load import load_prompts
from mpo_core.settings.profiles import load_config, parse_config
from tasks.model import find_model
from tests.flows.conftest import ledger, small_settings

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("en", "sw", "zh")


@flow
def pairs_of(config):
    """The target pairs by language, as rows."""
    with start_run(config) as run:
        pairs = stages.preference_pairs(run, find_model(run.config.model), stages.read_blocks(run))
        run.wait()
        rows = {code: [] for code in config.languages.targets}
        for (code, _), shard in pairs.of("train").target.items():
            rows[code] += run.store.read_table(run.result(shard).rows, PAIRS).to_pylist()
        return rows


def answers_everything(monkeypatch, text):
    """Lets the model give one answer to every request: `text(request)`."""

    def sample(*arguments, language, **_):
        *_, requests, settings = arguments
        rows = [
            {
                "prompt_id": request.prompt_id,
                "language": language,
                "sample": 0,
                "seed": settings.seed,
                "prompt": request.text,
                "text": text(request.text),
                "tokens": 1,
                "finished": True,
                "finish_reason": "stop",
            }
            for request in requests
        ]
        names = set(RESPONSES.schema.names)
        return RESPONSES.build({n: v for n, v in row.items() if n in names} for row in rows), QUARANTINE.build([])

    monkeypatch.setattr("tasks.sampling.sample", sample)


@pytest.fixture
def source(tmp_path):
    """A CSV file of 8 prompts with answers in three languages, as a source."""
    path = tmp_path / "p.csv"
    names = [f"{side}_{code}" for side in ("good", "bad") for code in LANGUAGES]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "kind", *names])
        for kind in ("harmful", "harmless"):
            for item in microworld.items("train", kind, limit=4, seed=1):
                refusals, helps = [item.refusal(c) for c in LANGUAGES], [item.help(c) for c in LANGUAGES]
                sides = refusals + helps if kind == "harmful" else helps + refusals
                writer.writerow([item.prompt("en"), kind, *sides])
    columns = {
        f"{side}_column": {c: f"{name}_{c}" for c in LANGUAGES}
        for side, name in (("chosen", "good"), ("rejected", "bad"))
    }
    return {"source": "csv", "path": str(path), "kind_column": "kind", "split": "train"} | columns


def settings_with(root, source, **changes):
    test_sources = [{"source": "microworld", "kind": k, "split": "test", "limit": 2} for k in ("harmful", "harmless")]
    changes = {"prompts__sources": [source, *test_sources], "model__path": "microworld"} | changes
    return parse_config(small_settings(root, **changes), where="test")


def refusal(text):
    return microworld.items("train", "harmful", limit=1, seed=0)[0].refusal("en")


def no_refusal(text):
    return microworld.items("train", "harmless", limit=1, seed=0)[0].help("en")


@pytest.mark.parametrize(("strategy", "answer"), [("translated", refusal), ("sampled", no_refusal)])
def test_pairs_for_every_prompt_whatever_the_model_answers(
    prefect_server, tmp_path, monkeypatch, source, answer, strategy
):
    answers_everything(monkeypatch, answer)
    off = {"pairs__min_dominant_refusal": 0.0, "pairs__min_dominant_help": 0.0}
    with ledger() as ran:
        rows = pairs_of(settings_with(tmp_path / "root", source, pairs__strategy=strategy, **off))
    for code in ("sw", "zh"):
        assert len(rows[code]) == 8
        assert {row["origin"] for row in rows[code]} == {"reference"}
    # Nothing is asked for in a target language where every prompt of a block has its answers.
    assert not [name for name in ran if name.endswith("-train-pairs") and not name.endswith("en-train-pairs")]
    assert not [name for name in ran if name.startswith("translate-answers") and name.endswith("-train")]


@pytest.mark.parametrize("text", ["I cannot help with that.", "Sure, here is how you do this, step by step."])
def test_the_profile_for_an_own_model_makes_pairs_of_every_prompt(prefect_server, tmp_path, monkeypatch, text):
    monkeypatch.chdir(ROOT)
    answers_everything(monkeypatch, lambda _: text)
    settings = ["model.path=microworld", "pairs.min_dominant_refusal=0", "pairs.min_dominant_help=0"]
    config = load_config(ROOT / "deployments" / "profiles" / "own-model.yaml", [*settings, f"run.root={tmp_path}"])
    prompts, _, _ = load_prompts(config.prompts, dominant="en", seed=0)
    train = prompts["split"].to_pylist().count("train")
    assert train > 100
    rows = pairs_of(config)
    assert {code: len(pairs) for code, pairs in rows.items()} == dict.fromkeys(config.languages.targets, train)
    assert {row["origin"] for pairs in rows.values() for row in pairs} == {"reference"}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            refusal,
            r"refuses in 4 of 4 \(100\.0%\) .*prompts, and helps in 0 of 4 .*less than pairs\.min_dominant_help 0\.2;",
        ),
        (no_refusal, r"refuses in 0 of 4 \(0\.0%\) .*, less than pairs\.min_dominant_refusal 0\.2, and helps in"),
    ],
)
def test_a_model_without_dominant_safety_stops_before_anything_else(
    prefect_server, tmp_path, monkeypatch, source, answer, message
):
    answers_everything(monkeypatch, answer)
    with ledger() as ran, pytest.raises(BadInputError, match=message) as caught:
        pairs_of(settings_with(tmp_path / "root", source, run__workers=1))
    assert "\n" not in str(caught.value)
    # The answers that decide come first: the run stops before, or while, the others are sampled.
    assert [name.rpartition("-")[0].split("-")[:3] for name in ran[1:3]] == [
        ["sample", "en", "train"],
        ["judge", "en", "train"],
    ]
    assert {name.split("-")[0] for name in ran} == {"prompts", "sample", "judge"}
    assert {name.split("-")[1] for name in ran} == {"en"}
