"""Weights that are no numbers are named wherever a model is loaded."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.faults.test_bad_input import FAST, check_single_line

pytestmark = pytest.mark.usefixtures("prefect_server")  # or each process would start one of its own


def spoil(path, value, name=None):
    """Puts a value into one weight of a tensor of the model; returns the tensor's name."""
    file = path / "model.safetensors"
    weights = load_file(file)
    name = name or sorted(weights)[len(weights) // 2]
    weights[name].view(-1)[-1] = value
    save_file(weights, file, {"format": "pt"})
    return name


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_evaluate_names_the_tensor(mpo, profile, prompts_csv, model_copy, value):
    name = spoil(model_copy, value)
    outcome = mpo("evaluate", profile, "--model", model_copy, "--prompts", prompts_csv)
    check_single_line(
        outcome, r"model .*: the weights hold NaN or infinite numbers \(tensor " + name.replace(".", r"\.") + r"\)"
    )


def test_train_names_the_tensor(mpo, profile, write_pairs, model_copy, tmp_path):
    name = spoil(model_copy, float("nan"))
    outcome = mpo("train", profile, "--pairs", write_pairs(), "--model", model_copy, "--out", tmp_path / "o", *FAST)
    check_single_line(outcome, "the weights hold NaN or infinite numbers", name)
    assert not (tmp_path / "o" / "model").exists()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_tensor_is_looked_at(model_copy, dtype):
    from mpo_core.contract.errors import BadInputError
    from mpo_core.models import load_model
    from mpo_core.settings import ModelSettings

    settings = ModelSettings(device="cpu")
    model = load_model(model_copy, settings, dtype=dtype)
    from mpo_core.models.finite import refuse_not_finite

    for name, weight in model.named_parameters():
        with torch.no_grad():
            original = weight.view(-1)[0].clone()
            weight.view(-1)[0] = float("nan")
            with pytest.raises(BadInputError) as caught:
                refuse_not_finite(model, "model x")
            assert f"tensor {name})" in caught.value.what
            weight.view(-1)[0] = original
    refuse_not_finite(model, "model x")
