"""Strict settings, overrides, and what of them is content."""

import json
import re

import pytest
import yaml

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import PROMPT_SOURCES
from mpo_core.contract.training import TRAINING_METHODS
from mpo_core.settings import (
    EvaluationSettings,
    ModelSettings,
    PipelineConfig,
    RunSettings,
    SamplingSettings,
    Settings,
    TranslationSettings,
)
from mpo_core.settings.profiles import OptionOverride, load_config, parse_config
from tests.flows.conftest import small_settings


def every_model(model=PipelineConfig):
    """The settings' classes, models through their fields."""
    models, queue = [], [model]
    while queue:
        current = queue.pop()
        models.append(current)
        for field in current.model_fields.values():
            parts = [field.annotation, *getattr(field.annotation, "__args__", ())]
            queue += [part for part in parts if isinstance(part, type) and issubclass(part, Settings)]
    return models


def training(**changes):
    return TRAINING_METHODS.parse({"method": "mpo", **changes})


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("\ufeff" + yaml.safe_dump(small_settings("root")), encoding="utf-8")
    return path


@pytest.mark.parametrize("model", every_model(), ids=lambda model: model.__name__)
def test_every_field_is_described_and_unknown_keys_are_refused(model):
    assert [name for name, field in model.model_fields.items() if not field.description] == []
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["strict"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.betta=1", r"--set training\.betta: unknown settings key 'training\.betta'\. Known.*: lora, epochs"),
        ("trainning.beta=1", r"unknown settings key 'trainning'\. Known here: run, languages,"),
        (
            "training.retention.wait=1",
            r"unknown settings key 'training\.retention\.wait'\. Known here: weight, pooling",
        ),
        ("training.lora={rank: 4, alfa: 1}", r"unknown settings key 'training\.lora\.alfa'.*rank, alpha"),
        ("prompts.sources.1.columns=1", r"unknown settings key 'prompts\.sources\.1\.columns'.*here: source, .*split"),
        ("training.beta=high", r"training\.beta: Input should be a valid number, given 'high'\. See training\.beta in"),
        ("training.beta=0", r"training\.beta: Input should be greater than 0, given 0"),
        ("training.epochs='2'", r"training\.epochs: Input should be a valid number, given '2'"),
        ("training.batch_size=1.5", r"training\.batch_size: Input should be a valid integer"),
        ("training.beta={sw: 0}", r"training\.beta\.sw: Input should be greater than 0, given 0\. See"),
        ("languages.without_pairs=[ja]", r"`without_pairs` names ja, which is not among the targets"),
        ("languages.without_pairs=[sw, zh]", r"`without_pairs` names every target, so nothing is left to train on"),
        ("training.beta={sx: 1.5}", r"training\.beta: unknown language 'sx'\. Known: en,"),
        ("training.order=random", r"training\.order: Input should be 'grouped', 'shuffled' or 'file', given 'random'"),
        ("training.tensorboard=1", r"training\.tensorboard: Input should be a valid boolean, given 1"),
        ("training.schedule=step", r"training\.schedule: Input should be 'cosine', 'linear' or 'constant'"),
        ("training.lora.target_modules=all", r"training\.lora\.target_modules: Input should be a valid list"),
        (
            "training.layout=packed training.retention.pooling=padded_mean",
            r"`retention\.pooling: padded_mean` counts pads",
        ),
        (
            "training.layout=padded training.retention.pooling=padded_mean training.retention.distance=kl",
            r"`retention\.distance: kl` pools nothing",
        ),
        (
            "training.retention.distance=kl training.processes=2 training.parallel=fsdp2",
            r"`retention\.distance: kl` needs the whole model in each process",
        ),
        ("training.weights=bfloat16 training.learning_rate=6e-7", r"would round away the updates .* under 4e-05"),
        ("training.weights=nf4", r"training: `weights: nf4` cannot train by itself; it is the base under `lora`"),
        (
            "training.weights=nf4 training.lora={} training.processes=2 training.parallel=fsdp2",
            r"training: `weights: nf4` cannot be sharded: `parallel: ddp`",
        ),
        ("training.patience=2", r"training: `patience` needs `evaluate_every`"),
        ("languages.targets=[sw, xx]", r"languages\.targets: unknown language 'xx'\. Known: en,"),
        ("languages.targets=[sw, sw]", r"languages: a target language is listed twice"),
        ("languages.targets=[en]", r"the dominant language 'en' is among the targets"),
        ("languages.targets=sw", r"languages\.targets: Input should be a valid list, given 'sw'"),
        ("sampling.n=3", r"sampling: several greedy samples are all the same"),
        ("run.name=../up", r"run\.name: String should match pattern"),
        ("prompts.test=0.95", r"prompts: validation \+ test leave no prompts"),
        ("translation.engines=[{engine: memory}]", r"translation\.engines\.0\.path: Field required"),
        (
            "translation.engines=[{engine: microworld, path: x}]",
            r"`translation\.engines\.0\.path` is a setting of memory, seq2seq, not of microworld\.",
        ),
        (
            "training.method=dpo training.cpo_alpha=0.5",
            r"`training\.cpo_alpha` is a setting of cpo, not of dpo\. Remove it, or set training\.method to cpo\.",
        ),
        (
            "training.method=sft training.beta=2",
            r"`training\.beta` is a setting of .*cpo, .*simpo, not of sft\.",
        ),
        ("training.label_smoothing=0.1", r"`training\.label_smoothing` is a setting of rdpo, not of mpo\."),
        ("training.method=ppo", r"training: method 'ppo' is not known; known: .*mpo"),
        (
            "compare.methods={dpo/long: {simpo_gamma: 1}}",
            r"methods\.dpo/long: `simpo_gamma` is a setting of simpo, not of",
        ),
    ],
)
def test_a_wrong_setting_is_reported_with_its_path(profile, override, message):
    with pytest.raises(BadInputError, match=message) as caught:
        load_config(profile, re.split(r" (?=training)", override))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"source": "csv", "kind": "harmful"}, r"csv\.path\s+Field required"),
        ({"source": "csv", "path": "x"}, "exactly one of `kind` and `kind_column`"),
        ({"source": "csv", "path": "x", "kind": "harmful", "kind_column": "k"}, "exactly one of"),
        ({"source": "microworld", "kind": "harmful"}, r"microworld\.split\s+Field required"),
        (
            {"source": "microworld", "kind": "harmful", "split": "train", "path": "x"},
            r"`path` is a setting of dataset, csv, .*, not of microworld",
        ),
    ],
)
def test_a_source_is_complete_or_refused(source, message):
    with pytest.raises(ValueError, match=message):
        PROMPT_SOURCES.parse(source)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.learning_rate=1e-4", 1e-4),
        ("training.learning_rate=6E-7", 6e-7),
        ("training.learning_rate=2.5e+0", 2.5),
        ("training.max_steps=null", None),
        ("training.lora.rank=4", 4),
        ("languages.targets=[zh, ko]", ["zh", "ko"]),
        ("prompts.sources.1.limit=3", 3),
        ("model.system='a: b, #1'", "a: b, #1"),
        ("run.root=s3://bucket/x=y", "s3://bucket/x=y"),
        (" training.beta =2", 2.0),
        ("training.beta={sw: 1.5, default: 1}", {"sw": 1.5, "default": 1.0}),
    ],
)
def test_an_override_sets_its_leaf_and_nothing_else(profile, override, value):
    *parents, leaf = override.partition("=")[0].strip().split(".")
    plain, changed = (load_config(profile, overrides).model_dump() for overrides in ([], [override]))
    node, other = changed, plain
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
        other = (other[int(part)] if isinstance(other, list) else other[part]) if other else {}
    assert node[leaf if isinstance(node, dict) else int(leaf)] == value
    if other:
        node[leaf] = other[leaf]
        assert changed == plain


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.beta", r"--set training\.beta: the override has no `key=` before its value"),
        ("=1", "the override has no `key=` before its value"),
        ("training.epochs.x=1", r"training\.epochs: Input should be a valid number"),
        ("run.name.first=1", "'name' has no keys below it"),
        ("prompts.sources.9.limit=1", "'9' is no index of this list, which has 4 entries"),
        ("prompts.sources.first.limit=1", "'first' is no index of this list, which has 4 entries"),
        ("training.beta=[1", "the value is not YAML"),
    ],
)
def test_a_malformed_override_is_reported(profile, override, message):
    with pytest.raises(BadInputError, match=message):
        load_config(profile, [override])


def test_the_last_override_wins(profile):
    assert load_config(profile, ["training.beta=2", "training.beta=3"]).training.beta == 3.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", r"p\.yaml, line \d: this is not YAML"),
        (b"- a\n- b\n", "the profile is not a mapping"),
        (b"", "the profile is not a mapping"),
        (b"\xff", "not UTF-8 text"),
        (b"run: {name: x}\n", r"prompts: Field required"),
        (b"run: {name: x}\nrun: {name: y}\n", r"line 2: the key 'run' occurs twice"),
        (b"run: !!python/object:os.system {}\n", "this YAML is not accepted"),
    ],
)
def test_a_profile_that_is_none(tmp_path, content, message):
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        load_config(path)


def test_a_missing_profile(tmp_path):
    with pytest.raises(BadInputError, match=r"none\.yaml: cannot read the profile \(No such file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("settings", "operational", "content"),
    [
        (
            SamplingSettings(),
            {"batch_size": 7},
            {"n": 2, "temperature": 0.5, "top_p": 0.9, "max_new_tokens": 9, "seed": 1},
        ),
        (
            training(evaluate_every=5),
            {"save_every": 7, "tensorboard": True, "device": "cpu", "threads": 3, "layout": "padded"}
            | {"tokens_per_forward": 9, "logit_memory": 0, "memory_share": 0.5, "gradient_checkpointing": False}
            | {"compile_layers": True},
            {"beta": 2.0, "learning_rate": 1e-3, "seed": 1, "anchor_gap": "own", "patience": 3, "epochs": 1.0}
            | {"order": "file", "weights": "bfloat16", "gradient_checkpointing": True},
        ),
        (
            ModelSettings(),
            {"path": "elsewhere", "revision": "abc", "device": "cpu", "chat_template": "file"},
            {"dtype": "bfloat16", "system": "Be kind.", "trust_remote_code": True},
        ),
        (
            RunSettings(),
            {"name": "b", "root": "elsewhere", "workers": 9, "retries": 0, "retry_delay": 0.0},
            {"block_size": 1},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_key_changes_with_content_and_with_nothing_else(settings, operational, content):
    for name, value in operational.items():
        assert getattr(settings, name) != value
        assert settings.model_copy(update={name: value}).key() == settings.key(), name
    keys = {settings.model_copy(update={name: value}).key() for name, value in content.items()}
    assert len(keys | {settings.key()}) == len(content) + 1


def test_the_key_does_not_depend_on_the_number_of_devices_that_share_a_step():
    eight = training(batch_size=2, gradient_accumulation=4)
    assert eight.key() == training(batch_size=2, gradient_accumulation=1, processes=4).key()
    assert eight.key() != training(batch_size=2, gradient_accumulation=4, processes=2).key()
    padded = {"retention": {"pooling": "padded_mean"}, "batch_size": 2}  # its batches are not those of fewer processes
    assert training(**padded, gradient_accumulation=2).key() != training(**padded, processes=2).key()
    dropout = {"lora": {"dropout": 0.1}, "batch_size": 2}  # each process draws its own numbers
    assert training(**dropout, gradient_accumulation=2).key() != training(**dropout, processes=2).key()


def test_the_key_reaches_into_nested_settings():
    plain = parse_config(small_settings("a"), where="test")
    same = parse_config(small_settings("b", evaluation__sampling={"max_new_tokens": 32, "batch_size": 1}), where="test")
    other = parse_config(small_settings("a", evaluation__sampling={"max_new_tokens": 33}), where="test")
    assert plain.key() == same.key() != other.key()
    variants = [training(), training(lora={"rank": 2}), training(lora={"rank": 3}), training(method="dpo", beta=1.0)]
    assert len({settings.key() for settings in variants}) == 4


def test_a_new_setting_with_its_default_leaves_every_key_as_it_was():
    class Old(Settings):
        """Settings of today."""

        rank: int = 8
        """Rank."""

    class New(Old):
        """The same settings with two more."""

        dropout: float = 0.0
        """Dropout."""
        nested: Old | None = None
        """More."""

    assert Old().key() == New().key() == Old(rank=8).key()
    assert Old(rank=4).key() == New(rank=4).key()
    variants = [New(), New(rank=4), New(dropout=0.1), New(nested=Old()), New(nested=Old(rank=4))]
    assert len({variant.key() for variant in variants}) == len(variants)


def test_two_engines_at_their_defaults_have_two_keys():
    memory, model = {"engine": "memory", "path": "x"}, {"engine": "seq2seq", "path": "x"}
    assert len({TranslationSettings.model_validate({"engines": [engine]}).key() for engine in (memory, model)}) == 2


def test_an_operational_change_in_a_default_section_leaves_the_key():
    assert EvaluationSettings().key() == EvaluationSettings(sampling=SamplingSettings(batch_size=1)).key()


def test_defaults_are_not_shared_between_runs():
    first, second = (parse_config(small_settings("root"), where="test") for _ in range(2))
    first.languages.targets.append("ko")
    first.pairs.rejected_verdicts.append("invalid")
    first.training.retention.weight = 9.0
    assert second.languages.targets == ["sw", "zh"]
    assert training().retention.weight == 1.0
    assert parse_config(small_settings("root"), where="test").pairs.rejected_verdicts == ["unsafe"]


def test_resolved_settings_read_back_as_they_were(tmp_path):
    config = parse_config(small_settings("root"), where="test")
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    assert load_config(path) == config
    assert PipelineConfig.model_validate_json(json.dumps(config.model_dump(mode="json"))) == config


def test_limits_and_places_of_a_translation_service_take_no_part_in_a_key():
    def key(**changes):
        engine = {"engine": "deep_translator", **changes}
        return TranslationSettings.model_validate({"engines": [engine]}).key()

    for change in (
        {"url": "http://127.0.0.1:1/m"},
        {"requests_per_second": 3.0},
        {"characters_per_second": 9.0},
        {"concurrency": 2},
        {"timeout": 1.0},
        {"retries": 0},
    ):
        assert key(**change) == key()
    assert len({key(), key(service="libre"), key(version="2")}) == 3


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        (["gate.max_target_unsafe=20"], "--set gate.max_target_unsafe"),
        (["training={beta: abc}", "training.epochs=1"], "--set training"),
        (["training.beta=2", "training.beta=abc"], "--set training.beta"),
        (["training.bet=2"], "--set training.bet"),
        (["training.retention={waight: 2}"], "--set training.retention"),
        (["prompts.sources.1.limit=no"], "--set prompts.sources.1.limit"),
        (
            ["training.method=dpo", "training.cpo_alpha=0.5"],
            "PROFILE, changed by --set training.method, --set training.cpo_alpha",
        ),
        (
            ["training.evaluate_every=null", "training.patience=2"],
            "PROFILE, changed by --set training.evaluate_every, --set training.patience",
        ),
        (["run.name=x", "languages.without_pairs=[xx]"], "PROFILE, changed by --set languages.without_pairs"),
        ([OptionOverride("languages.targets=[xx]", "--languages")], "--languages"),
        (["languages.targets=[xx]", OptionOverride("languages.targets=[yy]", "--languages")], "--languages"),
    ],
)
def test_an_error_names_what_set_the_key(profile, overrides, where):
    for path, place in ((profile, str(profile)), (None, "the demo's settings")):
        with pytest.raises(BadInputError) as caught:
            load_config(path, overrides)
        assert caught.value.where == where.replace("PROFILE", place)


def test_an_error_of_the_profile_names_the_profile(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("training: {beta: abc}")
    with pytest.raises(BadInputError) as caught:
        load_config(wrong, ["run.name=x"])
    assert caught.value.where == str(wrong)
