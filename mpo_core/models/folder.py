"""Checks of a model folder that load no weights: its files, and the headers of its weights."""

import codecs
import json
import re
import stat
from pathlib import Path
from typing import Any, NamedTuple

from mpo_core.contract.errors import BadInputError
from mpo_core.files.read import read_text
from mpo_core.models.library import reading, refuse_any

_AGAIN = "Fetch or save the model again."
_LARGEST = 64 * 2**20  # bytes of a JSON file that is parsed whole
_POINTER = b"version https://git-lfs"
_INDEX = "model.safetensors.index.json"
# Files that transformers reads where they exist; each holds one JSON object.
_OBJECTS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "vocab.json",
    _INDEX,
)
_OTHER_KINDS = ("*.onnx", "*.h5", "*.msgpack", "*.npz", "*.tflite")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)


class Weights(NamedTuple):
    """Shapes and number types of a model's tensors, from the headers of its weight files."""

    shapes: dict[str, tuple[int, ...]]
    """The shape of each tensor, by its name."""
    dtypes: dict[str, str]
    """The type of each tensor's numbers as safetensors calls it (`BF16`, `I8`), by its name."""


def check_folder(folder: Path) -> Weights:
    """Reads the headers of a model folder's weights, and refuses a folder that cannot be a language model.

    Raises:
        BadInputError: the folder is of another kind, or config, weights or tokenizer are missing or damaged.
    """
    where = f"model {folder}"
    try:
        names = {path.name for path in folder.iterdir() if path.exists()}
    except OSError as error:
        raise BadInputError(
            f"the folder cannot be read ({error.strerror})", where=where, fix="Name a folder that you may read."
        ) from None
    if not names:
        raise BadInputError("the folder is empty", where=where, fix="Give a Hugging Face model folder.")
    for name in sorted(names):
        _refuse_special(folder, name)
    _refuse_adapter(folder, names)
    for name in _OBJECTS:
        if name in names:
            json_object(folder, name)
    if "config.json" not in names:
        _refuse_other_weights(folder, names)
        inner = sorted([*folder.glob("*/config.json"), *folder.glob("snapshots/*/config.json")])
        fix = f"Did you mean {inner[0].parent}?" if inner else "Give a Hugging Face model folder."
        raise BadInputError("config.json is missing", where=where, fix=fix)
    weights = read_weights(folder)
    tokenizers = sorted(names.intersection(_TOKENIZERS))
    if not tokenizers:
        raise BadInputError("the tokenizer is missing", where=where, fix="Save the tokenizer into the same folder.")
    for name in [*tokenizers, *names.intersection(("chat_template.jinja",))]:
        _refuse_pointer(folder, name)
    return weights


def read_weights(folder: Path) -> Weights:
    """Reads the headers of a model folder's weights: those that transformers would load.

    Raises:
        BadInputError: they are missing, damaged, or of a kind that is not loaded.
    """
    return _read_headers(folder, _weight_files(folder, {path.name for path in folder.iterdir()}))


def json_object(folder: Path, name: str) -> dict[str, Any]:
    """Reads a file of the folder that holds one JSON object.

    Raises:
        BadInputError: the file cannot be read, is too large, or holds no JSON object.
    """
    path = folder / name
    where = f"model {folder}, {name}"
    _refuse_pointer(folder, name)
    if path.stat().st_size > _LARGEST:
        raise BadInputError(f"the file is larger than {_LARGEST // 2**20} MiB", where=where, fix=_AGAIN)
    text = read_text(path, fix=_AGAIN)
    with path.open("rb") as file:
        if file.read(3) == codecs.BOM_UTF8:
            raise BadInputError(
                "the file begins with a byte-order mark, which transformers cannot read",
                where=where,
                fix="Save it as UTF-8 without a byte-order mark.",
            )
    with reading("this is not JSON", where=where, fix=_AGAIN):
        data: Any = json.loads(text)
    if not isinstance(data, dict):
        raise BadInputError(f"this is a JSON {type(data).__name__}, not an object", where=where, fix=_AGAIN)
    return data


def _refuse_special(folder: Path, name: str) -> None:
    """Refuses pipes, sockets and devices: reading one could wait for ever, or never end."""
    try:
        mode = (folder / name).stat().st_mode
    except OSError:  # a link that leads to itself; nothing reads it
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise BadInputError(
            f"{name[:100]} is a pipe or a device, not a file",
            where=f"model {folder}",
            fix="Remove it from the folder.",
        )


def _refuse_pointer(folder: Path, name: str) -> None:
    path = folder / name
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError as error:
        raise BadInputError(f"{name} cannot be read ({error.strerror})", where=f"model {folder}", fix=_AGAIN) from None
    if start == _POINTER:
        raise BadInputError(
            f"{name} is a pointer of Git LFS, not the file itself",
            where=f"model {folder}",
            fix="Run `git lfs pull` in that folder.",
        )


def _refuse_adapter(folder: Path, names: set[str]) -> None:
    """Refuses an adapter: transformers would load the model that its config names in place of this folder."""
    if "adapter_config.json" not in names:
        return
    base = json_object(folder, "adapter_config.json").get("base_model_name_or_path")
    of = f" for {base}" if isinstance(base, str) and base else ", and it does not name the model that it belongs to"
    raise BadInputError(
        f"this is an adapter (adapter_config.json){of}",
        where=f"model {folder}",
        fix="Merge it first: PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(new_folder); "
        "save the tokenizer there too, and give the new folder.",
    )


def _refuse_other_weights(folder: Path, names: set[str]) -> None:
    """Refuses a folder without safetensors that has weights of another kind, and says which."""
    where = f"model {folder}"
    if any(name.lower().endswith(".safetensors") for name in names):
        return
    if any(name.lower().endswith(".gguf") for name in names):
        raise BadInputError(
            "the weights are GGUF, which holds no weights that can be trained",
            where=where,
            fix="Give the original model, or convert it: AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, "
            "quantization_config=GgufConfig(dequantize=True)).save_pretrained(new_folder), and the same for "
            "AutoTokenizer with gguf_file alone.",
        )
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise BadInputError(
            f"the weights are pickles ({pickles[0]}), which can run code when they are read; they are not loaded",
            where=where,
            fix="Where you trust them, convert them: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder).",
        )
    others = sorted(path.name for pattern in _OTHER_KINDS for path in folder.glob(pattern))
    if others:
        raise BadInputError(
            f"the weights are of a kind that is not loaded ({others[0][:100]})",
            where=where,
            fix="Give the model as *.safetensors, as save_pretrained of PyTorch's transformers writes it.",
        )


def _weight_files(folder: Path, names: set[str]) -> dict[str, set[str] | None]:
    """Returns the names of the weight files, each with the tensors that the index expects in it (None: no index)."""
    where = f"model {folder}"
    if "model.safetensors" in names:
        return {"model.safetensors": None}
    if _INDEX in names:
        return _files_of_index(folder, names)
    shards = sorted(name for name in names if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name))
    if shards:
        raise BadInputError(f"{_INDEX} is missing beside {shards[0]}", where=where, fix=_AGAIN)
    _refuse_other_weights(folder, names)
    others = sorted(name for name in names if name.endswith(".safetensors"))
    if "adapter_model.safetensors" in others:
        raise BadInputError(
            "these are the weights of an adapter (adapter_model.safetensors), not of a model",
            where=where,
            fix="Merge the adapter into its base model, and give the folder of the merged model.",
        )
    if others:
        raise BadInputError(
            f"there is no model.safetensors, only {others[0]}",
            where=where,
            fix="Save the model with save_pretrained, which names the file so.",
        )
    raise BadInputError("there is no *.safetensors file", where=where, fix="Save the model with save_pretrained.")


def _files_of_index(folder: Path, names: set[str]) -> dict[str, set[str] | None]:
    where = f"model {folder}, {_INDEX}"
    file_of = json_object(folder, _INDEX).get("weight_map")
    if not isinstance(file_of, dict) or not file_of or not all(isinstance(name, str) for name in file_of.values()):
        raise BadInputError("weight_map does not say which file holds which tensor", where=where, fix=_AGAIN)
    files: dict[str, set[str] | None] = {}
    for tensor, name in file_of.items():
        tensors = files.setdefault(name, set())
        assert tensors is not None  # noqa: S101 - sets alone are put in here
        tensors.add(tensor)
    refuse_any(set(files) - names, f"of {len(files)} weight files are missing", where=where, fix=_AGAIN)
    return files


def _read_headers(folder: Path, files: dict[str, set[str] | None]) -> Weights:
    from safetensors import safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for name, expected in sorted(files.items()):
        path = folder / name
        _refuse_pointer(folder, name)
        with (
            reading(f"{name} is damaged", where=f"model {folder}", fix=_AGAIN),
            safe_open(path, framework="np") as opened,
        ):
            slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118 - no mapping
            file_shapes = {key: tuple(part.get_shape()) for key, part in slices.items()}
            dtypes |= {key: part.get_dtype() for key, part in slices.items()}
        missing = (expected or set()) - file_shapes.keys()
        refuse_any(missing, f"tensors that {_INDEX} names are not in {name}", where=f"model {folder}", fix=_AGAIN)
        shapes |= file_shapes
    if not shapes:
        raise BadInputError("the weight files hold no tensor", where=f"model {folder}", fix=_AGAIN)
    return Weights(shapes, dtypes)
