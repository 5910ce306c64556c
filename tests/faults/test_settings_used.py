"""Every command uses every setting of a profile that concerns what it does, or refuses it."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from flows.compare import seeded
from flows.evaluate_files import prompt_source, read_file
from flows.pair_files import usable_pairs
from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import PROMPT_SOURCES
from mpo_core.contract.tables import PROMPTS
from mpo_core.contract.training import TRAINING_METHODS
from mpo_core.prompts.columns import ColumnSource
from mpo_core.settings import CompareSettings
from mpo_core.settings.profiles import load_config
from tests.faults.conftest import pair_rows

pytestmark = pytest.mark.usefixtures("prefect_server")  # or each process would start one of its own

# A value of each setting of a source that differs from its default. A new setting needs a line here.
CHANGED = {
    "source": "csv",
    "path": "other.csv",
    "revision": "abc",
    "subset": "small",
    "dataset_split": "dev",
    "delimiter": ";",
    "licence": "MIT",
    "kind": "harmless",
    "kind_column": "label",
    "kind_map": {"a": "harmful"},
    "text_column": "prompt",
    "category_column": "topic",
    "chosen_column": "good",
    "rejected_column": "bad",
    "where": {"lang": "en"},
    "split": "train",
    "limit": 3,
}
# Where the prompts lie is what the command itself names.
OF_THE_COMMAND = {"source", "path", "revision", "subset", "dataset_split", "split"}


@pytest.fixture
def with_sources(profile):
    """The valid profile with other sources of prompts: `with_sources({...}, {...})`."""

    def load(*sources):
        data = yaml.safe_load(profile.read_text()) | {"prompts": {"sources": list(sources)}}
        profile.write_text(yaml.safe_dump(data))
        return load_config(profile)

    return load


def test_every_setting_of_a_source_is_in_the_walk():
    tables = [source for source in PROMPT_SOURCES.implementations.values() if issubclass(source, ColumnSource)]
    assert set(CHANGED) == {name for source in tables for name in source.model_fields}


@pytest.mark.parametrize("name", sorted(set(CHANGED) - OF_THE_COMMAND))
def test_an_evaluation_uses_every_setting_of_the_source(with_sources, name):
    source = {"source": "csv", "path": "x.csv", "kind_column": "kind", name: CHANGED[name]}
    if name == "kind":
        del source["kind_column"]
    source_read = prompt_source(with_sources(source), Path("y.csv"))
    assert getattr(source_read, name) == CHANGED[name]
    assert (source_read.path, source_read.split) == ("y.csv", "test")


@pytest.mark.parametrize("name", sorted(set(CHANGED) - {"source", "path", "kind", "split", "limit", "licence"}))
@pytest.mark.parametrize("kind", ["microworld", "jsonl", "parquet", "csv"])
def test_a_source_refuses_a_setting_that_it_would_not_look_at(kind, name):
    source = {"source": kind, "kind_column": "kind", "path": "x", name: CHANGED[name]}
    if kind == "microworld":
        source = {"source": kind, "kind": "harmful", "split": "train", name: CHANGED[name]}
    idle = kind == "microworld" or name in {"revision", "subset", "dataset_split"}
    if not idle and (name != "delimiter" or kind == "csv"):
        assert getattr(PROMPT_SOURCES.parse(source), name) == CHANGED[name]
        return
    with pytest.raises(ValueError, match=rf"{name}\s+Extra inputs are not permitted|`{name}` is a setting of"):
        PROMPT_SOURCES.parse(source)


def test_which_source_shows_how_a_file_is_read(with_sources, tmp_path):
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    sources = [{"source": "csv", "path": str(good), "kind": "harmless"}]
    sources.append({"source": "csv", "path": str(bad), "kind": "harmful"})
    config = with_sources(*sources)
    assert (prompt_source(config, good).kind, prompt_source(config, bad).kind) == ("harmless", "harmful")
    with pytest.raises(BadInputError, match=r"--prompts .*2 sources are read in different ways\. .*--source 0"):
        prompt_source(config, tmp_path / "other.csv")
    assert prompt_source(config, tmp_path / "other.csv", 1).kind == "harmful"
    for number in (-1, 2):
        with pytest.raises(BadInputError, match=f"--source {number}"):
            prompt_source(config, good, number)


def test_a_file_of_another_form_is_read_with_the_same_columns(with_sources):
    config = with_sources({"source": "csv", "path": "x.csv", "kind_column": "label", "delimiter": ";", "limit": 2})
    for name, kind in (("a.json.gz", "json"), ("a.NDJSON", "jsonl"), ("a.arrow", "parquet"), ("a.tsv", "csv")):
        source_read = prompt_source(config, Path(name))
        assert (source_read.source, source_read.kind_column, source_read.limit) == (kind, "label", 2)


def test_an_evaluation_reads_the_rows_that_where_names(with_sources, tmp_path):
    path = tmp_path / "two.csv"
    path.write_text("prompt,label,lang\nBake bread.,safe,en\nPour tea.,unsafe,en\nBrot backen.,unsafe,de\n")
    source = {"source": "csv", "path": "x.csv", "text_column": "prompt", "kind_column": "label"}
    config = with_sources(source | {"where": {"lang": "en"}})
    store = ArtifactStore(str(tmp_path / "root"))
    prompts = store.read_table(read_file(config, store, path).rows, PROMPTS)
    assert prompts["text"].to_pylist() == ["Bake bread.", "Pour tea."]


def test_the_evaluation_prints_the_kinds(mpo, profile, tmp_path):
    path = tmp_path / "two.csv"
    path.write_text("text,kind,is_safe\nBake bread.,x,True\nPour tea.,x,False\nPlant beans.,x,True\n")
    sets = ["kind_column=is_safe", "limit=2"]
    short = [f"prompts.sources.0.{setting}" for setting in sets]
    short += ["evaluation.sampling.max_new_tokens=1", "judging.judge=refusal_rules"]
    command = ["evaluate", profile, "--model", "microworld", "--prompts", path]
    outcome = mpo(*command, *(part for setting in short for part in ("--set", setting)))
    assert outcome.code == 0, outcome
    assert "Prompts of two.csv: 1 harmful, 1 harmless" in outcome.out
    outcome = mpo(*command, *(part for setting in short for part in ("--set", setting)), "--json")
    assert json.loads(outcome.out)["kinds"] == {"two.csv": {"harmful": 1, "harmless": 1}}


def test_the_evaluation_prints_the_kinds_before_the_work(mpo, profile, tmp_path, monkeypatch):
    path = tmp_path / "two.csv"
    path.write_text("text,kind\nBake bread.,safe\n")

    def broken(*_, progress, **__):
        progress(1, 100)
        raise BadInputError("stop", where="here", fix="Go on.")

    monkeypatch.setattr("tasks.sampling.sample", broken)
    outcome = mpo("evaluate", profile, "--model", "microworld", "--prompts", path)
    assert (outcome.code, outcome.out) == (2, "Prompts of two.csv: 0 harmful, 1 harmless\n")


@pytest.mark.parametrize(
    ("model", "against", "settings", "revisions"),
    [
        ("microworld", "me/own", [], [("me/own", "abc"), ("microworld", None)]),  # the profile's own model, pinned
        ("me/own", "microworld", [], [("microworld", None), ("me/own", "abc")]),
        ("me/own", None, [], [("me/own", "abc")]),
        ("you/model", None, [], [("you/model", None)]),
        ("you/model", "me/own", ["model.revision=def"], [("me/own", "def"), ("you/model", "def")]),
    ],
)
def test_a_revision_is_of_the_profiles_own_model(
    mpo, profile, tmp_path, monkeypatch, model, against, settings, revisions
):
    data = yaml.safe_load(profile.read_text())
    profile.write_text(yaml.safe_dump(data | {"model": {"path": "me/own", "revision": "abc"}}))
    (tmp_path / "p.csv").write_text("text,kind\nBake bread.,safe\n")
    seen = []

    def stopped(settings):
        seen.append((settings.path, settings.revision))
        if len(seen) == len(revisions):
            raise BadInputError("stop", where="here", fix="Go on.")

    monkeypatch.setattr("flows.evaluate_models.find_model", stopped)
    command = ["evaluate", profile, "--model", model, "--prompts", tmp_path / "p.csv"]
    command += [] if against is None else ["--against", against]
    mpo(*command, *(part for setting in settings for part in ("--set", setting)))
    assert seen == revisions


# -- training ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("with_profile", "settings", "trained", "rejected"),
    [
        (False, [], 8, {}),  # the demo's languages are no choice of the user's
        (False, ["languages.targets=[bn]"], 4, {"other_language": 4}),
        (True, ["languages.targets=[sw]"], 4, {"other_language": 4}),
        (True, ["languages.targets=[sw, bn]"], 8, {}),
        (True, ["languages.targets=[en, sw]", "languages.dominant=bn"], 0, {"other_language": 8}),
    ],
)
def test_a_training_uses_the_languages_of_the_profile(
    mpo, profile, tmp_path, monkeypatch, with_profile, settings, trained, rejected
):
    path, seen = tmp_path / "pairs.json", []
    path.write_text(json.dumps(pair_rows(4, "sw") + pair_rows(4, "bn")))

    def read(file, languages, **options):
        imported = usable_pairs(file, languages, **options)
        seen.append((imported.pairs.num_rows, dict(Counter(imported.rejected["reason"].to_pylist()))))
        return imported

    def stopped(*_):
        raise BadInputError("stop", where="here", fix="Go on.")

    monkeypatch.setattr("flows.train_files.usable_pairs", read)
    monkeypatch.setattr("flows.train_files.train_pairs", stopped)
    command = ["train", *([profile] if with_profile else []), "--pairs", path, "--validation", path]
    command += ["--model", "microworld", "--out", tmp_path / "out"]
    outcome = mpo(*command, *(part for setting in settings for part in ("--set", setting)))
    assert outcome.code == 2
    if trained:
        assert seen == [(trained, rejected)] * 2, outcome
    else:
        assert "no pair can be used (other_language 8)" in outcome.err


# -- translation ---------------------------------------------------------------------

MEMORY = "qaa,sw,qab\nBrot backen.,Oka mkate.,x\n"


def test_a_translation_uses_the_languages_of_the_profile(mpo, profile, tmp_path):
    data = yaml.safe_load(profile.read_text())
    defined = [{"code": code, "name": code, "script": "Latn"} for code in ("qaa", "qab")]
    data["languages"] = {"dominant": "qaa", "targets": ["sw"], "defined": defined}
    profile.write_text(yaml.safe_dump(data))
    (tmp_path / "m.csv").write_text(MEMORY)
    (tmp_path / "t.csv").write_text("text\nBrot backen.\n")
    command = ["translate", tmp_path / "t.csv", "--profile", profile, "--engine", f"memory={tmp_path / 'm.csv'}"]
    for target in ("sw", "qab"):
        outcome = mpo(*command, "--to", target, "--dry-run", "--json")
        assert outcome.code == 0, outcome
        assert json.loads(outcome.out)[0]["known"] == 1
    assert "--to xx: unknown language 'xx'" in mpo(*command, "--to", "xx", "--dry-run").err
    assert "--from qaa --to qaa: a language is named twice" in mpo(*command, "--to", "qaa", "--dry-run").err


def test_a_translation_without_a_profile_takes_settings_of_languages(mpo, tmp_path):
    (tmp_path / "m.csv").write_text("sw;en\nOka mkate.;Bake bread.\n")
    (tmp_path / "t.csv").write_text("n;text\n1;Oka mkate.\n")
    command = ["translate", tmp_path / "t.csv", "--engine", f"memory={tmp_path / 'm.csv'}", "--to", "en", "--dry-run"]
    settings = ["--set", "languages.dominant=sw", "--set", "translation.engines.0.delimiter=;", "--json"]
    outcome = mpo(*command, *settings, "--delimiter", ";")
    assert outcome.code == 0, outcome
    assert json.loads(outcome.out)[0]["known"] == 1
    outcome = mpo(*command, *settings, "--delimiter", ";;")
    assert (outcome.code, outcome.err.startswith("mpo: --delimiter ;;: the delimiter is not a single character")) == (
        2,
        True,
    )


# -- comparison ----------------------------------------------------------------------


def test_a_comparison_adds_its_seeds_to_those_of_the_profile(profile):
    config = load_config(profile, ["prompts.seed=7", "sampling.seed=5", "training.seed=3"])
    assert (seeded(config, 2).prompts.seed, seeded(config, 2).sampling.seed) == (9, 7)
    compare = CompareSettings(methods={"mpo": {}, "dpo": {"seed": 20}})
    base = TRAINING_METHODS.parse({"method": "mpo", "seed": 3})
    assert [compare.training(name, base, 2).seed for name in ("mpo", "dpo")] == [5, 22]


def test_a_comparison_takes_settings_of_a_method_from_that_method_only():
    base = TRAINING_METHODS.parse({"method": "mpo", "beta": 3.0, "anchor_gap": "own", "learning_rate": 1e-3})
    compare = CompareSettings(methods={"mpo": {}, "mpo/last": {"retention": {"pooling": "last"}}, "dpo": {}, "sft": {}})
    mpo, last, dpo, sft = (compare.training(name, base, 0) for name in compare.methods)
    assert mpo == base
    assert (last.beta, last.anchor_gap, last.pooling) == (3.0, "own", "last")
    assert dpo == TRAINING_METHODS.parse({"method": "dpo", "learning_rate": 1e-3})  # and so its own usual beta
    assert sft == TRAINING_METHODS.parse({"method": "sft", "learning_rate": 1e-3})
