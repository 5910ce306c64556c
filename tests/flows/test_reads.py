"""What a run reads of its own tables: the prompts that were trained on, those that were asked, a task's languages."""

from concurrent.futures import Future

import pytest

from flows.benchmarks import training_prompts
from flows.run import Run, Step
from flows.stages.evaluation import prompt_keys
from flows.stages.utility import utility_cards
from mpo_core.contract.artifacts import ArtifactStore, Shard
from mpo_core.contract.tables import METRICS, PROMPTS, TRANSLATIONS
from mpo_core.settings.profiles import parse_config
from tests.flows.conftest import small_settings


@pytest.fixture
def run(tmp_path):
    """A run that has submitted nothing."""
    settings = small_settings(tmp_path, evaluation__lm_eval={"tasks": ["mgsm_{language}", "gsm8k", "quiz_sw"]})
    return Run(parse_config(settings, where="test"), ArtifactStore(str(tmp_path)), None)


def done(shard):
    future = Future()
    future.set_result(shard)
    return future


def prompt_table(**splits):
    about = {"category": None, "source": "hand", "row": 0, "chosen": None, "rejected": None}
    rows = [
        {"prompt_id": text.lower(), "text": text, "kind": kind, "split": split} | about
        for split, texts in splits.items()
        for text, kind in texts.items()
    ]
    return PROMPTS.build(rows)


def test_training_prompts_are_those_of_the_split_train(run):
    tables = prompt_table(train={"Bake  Bread!": "harmless"}, test={"Plant trees": "harmless"})
    rows = run.store.write_table("prompts", PROMPTS, tables)
    run.steps.append(Step("prompts", "read", "en", done(Shard(rows=rows))))
    run.steps.append(Step("translation", "translate", "sw", None))
    assert training_prompts(run) == {"bake bread!"}
    assert training_prompts(Run(run.config, run.store, None)) == set()


def test_prompts_are_asked_whether_or_not_they_are_answered(run):
    block = run.store.write_table("prompts", PROMPTS, prompt_table(test={"A": "harmful", "B": "harmless"}))
    row = {"prompt_id": "b", "role": "prompt", "language": "sw", "text": "Be", "engine": "hand", "weight": 1.0}
    translated = TRANSLATIONS.build([row | {"marks": [], "gates": []}])
    shard = Shard(rows=run.store.write_table("translation", TRANSLATIONS, translated, language="sw"))
    keys = prompt_keys(run, {("en", block): block, ("sw", block): done(shard)})
    assert list(keys) == [("en", "harmful", "a"), ("en", "harmless", "b"), ("sw", "harmless", "b")]


def test_a_task_lacks_only_languages_that_it_was_to_have(run):
    cards = {card.name: card for card in utility_cards(run, METRICS.build([]))}
    missing = {name: cards[name].missing for name in ("mgsm", "gsm8k", "quiz_sw")}
    assert missing == {"mgsm": ["en", "sw", "zh"], "gsm8k": ["en"], "quiz_sw": ["sw"]}
    rows = [
        {"benchmark": name, "model": "after", "language": code, "metric": "accuracy", "count": None, "n": 9}
        | {"value": 0.5, "low": 0.4, "high": 0.6}
        for name, code in [("mgsm", "en"), ("gsm8k", "en"), ("quiz_sw", "sw")]
    ]
    cards = {card.name: card for card in utility_cards(run, METRICS.build(rows))}
    missing = {name: cards[name].missing for name in ("mgsm", "gsm8k", "quiz_sw")}
    assert missing == {"mgsm": ["sw", "zh"], "gsm8k": [], "quiz_sw": []}
