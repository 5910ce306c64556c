"""A model folder is whole, or refused before anything is computed."""

import json
import shutil
from pathlib import Path

import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.microworld import checkpoint_dir
from mpo_core.models import check_folder, load_model, load_tokenizer, pick_device, resolve, shared_model
from mpo_core.settings import ModelSettings

SETTINGS = ModelSettings(device="cpu")


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(checkpoint_dir(), tmp_path / "model"))


def rewrite(path, change):
    """A JSON file, changed."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def without_template(folder):
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    rewrite(folder / "tokenizer_config.json", lambda data: data.pop("chat_template", None))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES = {
    "config missing": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "weights missing": (lambda f: (f / "model.safetensors").unlink(), r"no \*\.safetensors file"),
    "weights truncated": (lambda f: truncated(f / "model.safetensors"), r"model\.safetensors is damaged"),
    "weights no safetensors": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "is damaged"),
    "weights empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "is damaged"),
    "tokenizer missing": (lambda f: (f / "tokenizer.json").unlink(), "the tokenizer is missing"),
    "no chat template": (without_template, "has no chat template"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_an_incomplete_folder_is_refused(folder, case):
    damage, message = DAMAGES[case]
    damage(folder)
    with pytest.raises(BadInputError, match=rf"model {folder}: .*{message}"):
        resolve(ModelSettings(path=str(folder)))


def test_the_shipped_model_and_a_copy_of_it_are_whole(folder):
    assert resolve(ModelSettings()) == checkpoint_dir()
    assert resolve(ModelSettings(path=str(folder))) == folder
    check_folder(folder)


def test_a_template_of_the_settings_replaces_the_tokenizers(folder, tmp_path):
    without_template(folder)
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}Q: {{ m['content'] }}\n{% endfor %}A:")
    settings = ModelSettings(path=str(folder), chat_template=str(template))
    assert resolve(settings) == folder
    rendered = load_tokenizer(folder, settings).apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert rendered == "Q: x\nA:"
    with pytest.raises(BadInputError, match=r"model\.chat_template .*none: no such file"):
        resolve(settings.model_copy(update={"chat_template": str(tmp_path / "none")}))


@pytest.mark.parametrize("path", ["./none", "/none/at/all"])
def test_a_missing_folder_is_no_hub_id(path):
    with pytest.raises(BadInputError, match=rf"model\.path {path}: no such folder"):
        resolve(ModelSettings(path=path))


def test_a_hub_id_that_the_hub_does_not_give():
    with pytest.raises(BadInputError, match=r"model\.path nobody/nothing: neither a local folder nor a model"):
        resolve(ModelSettings(path="nobody/nothing"))


def test_a_template_that_does_not_render(folder, tmp_path):
    with pytest.raises(BadInputError, match=r"model\.system: the chat template takes no system message"):
        load_tokenizer(folder, ModelSettings(system="Be brief."))
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}")
    with pytest.raises(BadInputError, match=r"model\.chat_template .*t\.jinja: the chat template cannot be rendered"):
        load_tokenizer(folder, ModelSettings(chat_template=str(template)))


def test_a_damaged_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(BadInputError, match="the tokenizer cannot be read"):
        load_tokenizer(folder, SETTINGS)


def test_a_tokenizer_without_an_end_is_refused_and_pad_falls_back_to_it(folder):
    rewrite(folder / "tokenizer_config.json", lambda data: data.pop("pad_token", None))
    tokenizer = load_tokenizer(folder, SETTINGS)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    rewrite(folder / "tokenizer_config.json", lambda data: data.pop("eos_token", None))
    with pytest.raises(BadInputError, match="has no end token"):
        load_tokenizer(folder, SETTINGS)


def test_weights_of_another_architecture_are_refused(folder):
    rewrite(folder / "config.json", lambda data: data.update(hidden_size=data["hidden_size"] * 2))
    with pytest.raises(BadInputError, match=r"\d+ weights are missing or of another shape, the first is model\."):
        load_model(folder, SETTINGS)
    rewrite(folder / "config.json", lambda data: data.update(model_type="no_such_thing"))
    with pytest.raises(BadInputError, match="the model cannot be loaded"):
        load_model(folder, SETTINGS)


def test_weights_that_are_missing_a_tensor_are_refused(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    gone = max(tensors)
    del tensors[gone]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(BadInputError, match=f"1 weights are missing or of another shape, the first is {gone}"):
        load_model(folder, SETTINGS)


def test_a_model_is_loaded_once_and_in_the_precision_that_is_wanted(folder):
    import torch

    first, tokenizer, lock = shared_model(folder, SETTINGS)
    assert shared_model(folder, SETTINGS) == (first, tokenizer, lock)
    # Sampling names no precision, and the reference that of training: the same one is the same model.
    assert shared_model(folder, SETTINGS, "float32") == (first, tokenizer, lock)
    assert not first.training
    assert {parameter.dtype for parameter in first.parameters()} == {torch.float32}
    half = load_model(folder, SETTINGS.model_copy(update={"dtype": "bfloat16"}))
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    if torch.cuda.is_available():
        assert pick_device("cuda:0") == "cuda:0"
    else:
        with pytest.raises(BadInputError, match="no CUDA device is available"):
            pick_device("cuda:0")
    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
