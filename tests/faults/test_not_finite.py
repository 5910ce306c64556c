"""Numbers that are not finite: refused in every setting, by its key, and never written as the default."""

import json
import math
from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from mpo_core import settings
from mpo_core.contract.training import TRAINING_METHODS
from mpo_core.settings import ModelSettings, Settings
from mpo_core.training.launch import TrainingJob
from tests.faults.test_bad_input import check_single_line
from tests.test_settings import every_model

OVERRIDES = [
    ("training.beta=.inf", "training.beta"),
    ("training.beta=-.inf", "training.beta"),
    ("training.beta={sw: .nan}", "training.beta.sw"),
    ("training.epochs=1e999", "training.epochs"),
    ("training.learning_rate=.nan", "training.learning_rate"),
    ("training.max_grad_norm=.inf", "training.max_grad_norm"),
    ("training.retention.weight=.inf", "training.retention.weight"),
    ("training.lora={alpha: .inf}", "training.lora.alpha"),
    ("training.batch_size=.inf", "training.batch_size"),
    ("gate.max_invalid=.nan", "gate.max_invalid"),
    ("run.retry_delay=.inf", "run.retry_delay"),
    ("translation.gates.max_length_factor=.inf", "translation.gates.max_length_factor"),
    ("compare.flipped=[.nan]", "compare.flipped.0"),
    ("compare.methods={mpo: {beta: .inf}}", "compare.methods.mpo.beta"),
    ("compare.methods={mpo: {retention: {weight: .nan}}}", "compare.methods.mpo.retention.weight"),
]


@pytest.mark.parametrize(("override", "key"), OVERRIDES, ids=[override for override, _ in OVERRIDES])
def test_a_number_that_is_not_finite_is_refused_by_its_key(mpo, profile, tmp_path, override, key):
    line = check_single_line(mpo("run", profile, "--set", override), f" {key}: ")
    assert any(value in line for value in ("given inf", "given -inf", "given nan"))
    assert not (tmp_path / "root").exists()


def _takes_a_float(annotation):
    return annotation is float or any(_takes_a_float(inner) for inner in get_args(annotation))


def _float_settings():
    """Every setting of every section that takes a number with a fraction."""
    named = [*vars(settings).values(), *every_model()]
    named += TRAINING_METHODS.implementations.values()
    models = {model for model in named if isinstance(model, type) and issubclass(model, Settings)}
    return [(model, name) for model in models for name, f in model.model_fields.items() if _takes_a_float(f.annotation)]


@pytest.mark.parametrize("seed", [-1, 2**32, 99999999999])
def test_a_seed_that_numpy_does_not_take_is_refused(mpo, profile, seed):
    check_single_line(mpo("run", profile, "--set", f"training.seed={seed}"), " training.seed: ")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_no_setting_takes_it(value):
    float_settings = _float_settings()
    names = {name for _, name in float_settings}
    assert {"max_unsafe", "min_chrf", "beta", "temperature", "max_target_unsafe"} <= names
    for model, name in float_settings:
        with pytest.raises(ValidationError) as caught:
            model.model_validate_json(json.dumps({name: value}))
        errors = [error for error in caught.value.errors() if error["loc"][0] == name]
        assert {error["type"] for error in errors} & {"finite_number", "list_type"}, name


def test_a_number_that_came_in_past_the_checks_never_becomes_the_default():
    spoilt = TRAINING_METHODS.parse({"method": "mpo"}).model_copy(update={"beta": math.inf})
    files = {"model_folder": "m", "pairs": "p", "references": "r", "out": "o", "work": "w"}
    job = TrainingJob(model=ModelSettings(), training=spoilt, **files)
    assert TypeAdapter(dict).validate_python(json.loads(job.model_dump_json()))["training"]["beta"] == math.inf
    with pytest.raises(ValidationError, match=r"training\.mpo\.beta"):
        TrainingJob.model_validate_json(job.model_dump_json())
    with pytest.raises(ValidationError, match="beta"):
        type(spoilt).model_validate_json(spoilt.model_dump_json())


def test_clipping_can_be_switched_off(mpo, profile):
    from mpo_core.settings.profiles import load_config

    training = load_config(profile, ["training.max_grad_norm=null", "training.device=cpu"]).training
    assert training.max_grad_norm is None
