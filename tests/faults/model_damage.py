"""Ways to damage a good tiny model folder, and what the product says of it."""

import json
import os
import shutil

import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.models import resolve
from mpo_core.settings import ModelSettings

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 4\n"
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"


def write(name, content):
    """Damage: a file with this text, or with this value as JSON."""
    return lambda folder: (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def change(name, **values):
    """Damage: these keys of a JSON file."""

    def damage(folder):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return damage


def config(**values):
    return change("config.json", **values)


def scaled(**values):
    """Damage: other rotary positions."""
    return config(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4} | values)


def template(text):
    """Damage: another chat template."""
    return change("tokenizer_config.json", chat_template=text)


def removed(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def only(name, content=b"x"):
    """Damage: this file in place of the weights."""

    def damage(folder):
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content)

    return damage


def sharded(index=None, drop_file=False, drop_tensor=False):
    """Damage: two shards with an index, one of which lacks something."""

    def damage(folder):
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = sorted(tensors)
        parts = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
        placed = {name: file for file, part in parts.items() for name in part}
        for file, part in parts.items():
            held = part[1:] if drop_tensor else part
            save_file({name: tensors[name] for name in held}, folder / file, metadata={"format": "pt"})
        if drop_file:
            (folder / "model-00002-of-00002.safetensors").unlink()
        if index != "none":
            (folder / INDEX).write_text(json.dumps({"weight_map": placed}) if index is None else json.dumps(index))

    return damage


def more_tokens(folder):
    """Damage: a tokenizer that knows more tokens than the model."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<extra>", "<more>"])
    tokenizer.save_pretrained(folder)


def stored_as(dtype):
    """Damage: weights of another type of numbers, as a quantiser leaves them."""

    def damage(folder):
        import torch
        from safetensors.torch import load_file, save_file

        tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in load_file(folder / WEIGHTS).items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def beside(name, *shape):
    """Damage: one more tensor in the weights."""

    def damage(folder):
        import torch
        from safetensors.torch import load_file, save_file

        save_file(load_file(folder / WEIGHTS) | {name: torch.ones(shape)}, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def pipe(name):
    """Damage: a named pipe that nobody writes to."""

    def damage(folder):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return damage


def device(name):
    """Damage: a link to a file that never ends."""

    def damage(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/zero")

    return damage


def with_mark(name):
    """Damage: a byte-order mark before the file's text."""
    return lambda folder: (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())


def renamed(name, new):
    return lambda folder: (folder / name).rename(folder / new)


def in_a_folder(name):
    """Damage: the model lies in a folder of the folder."""

    def damage(folder):
        files = list(folder.iterdir())
        (folder / name).mkdir(parents=True)
        for file in files:
            file.rename(folder / name / file.name)

    return damage


def encoder(folder):
    config(model_type="bert", architectures=["BertForMaskedLM"])(folder)


def refusal(folder, **settings):
    with pytest.raises(BadInputError) as caught:
        resolve(ModelSettings(path=str(folder), device="cpu", **settings))
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1000
    return line
