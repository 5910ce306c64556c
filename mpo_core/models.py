"""A model and its tokenizer: found, checked, loaded. Shared by sampling, training and evaluation."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpo_core.artifacts import file_digests, folder_digest
from mpo_core.errors import BadInputError
from mpo_core.settings import ModelSettings

_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")

LOADING = threading.Lock()
"""Held while a model is loaded: transformers does it under a global meta-device context, which is not thread-safe."""

forgetting: list[Callable[[], None]] = []
"""What else keeps models, such as translation: called by `forget_models`."""


def resolve(settings: ModelSettings) -> Path:
    """The local folder of the model; a hub id is fetched at its pinned revision.

    Raises:
        BadInputError: no such folder or hub model, or the folder is no complete chat model.
    """
    if settings.path == "microworld":
        from mpo_core.microworld import checkpoint_dir

        folder = checkpoint_dir()
    else:
        patterns = [*_FILES, *(["*.py"] if settings.trust_remote_code else [])]
        folder = local_folder(settings.path, settings.revision, patterns, where="model.path")
    check_folder(folder, template=settings.chat_template is not None)
    if settings.chat_template is not None and not Path(settings.chat_template).is_file():
        raise BadInputError(
            "no such file", where=f"model.chat_template {settings.chat_template}", mend="Name a Jinja file."
        )
    return folder


def local_folder(path: str, revision: str | None, patterns: list[str], *, where: str) -> Path:
    """A model's folder: the one that is named, or what the hub has under this id, of these files.

    Raises:
        BadInputError: there is neither.
    """
    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or path.startswith("."):
        raise BadInputError("no such folder", where=f"{where} {path}", mend="Name a model folder or a hub id.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise BadInputError(
            f"neither a folder here nor a model that the hub gives ({type(error).__name__})",
            where=f"{where} {path}",
            mend="Check the id, the network, and HF_TOKEN for a gated model.",
        ) from None


def check_folder(folder: Path, *, template: bool = False) -> None:
    """Refuses a folder that cannot be a chat model, before anything is computed.

    Args:
        folder: a Hugging Face model folder.
        template: the chat template comes from elsewhere, so the folder needs none.

    Raises:
        BadInputError: config, weights, tokenizer or chat template are missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    where = f"model {folder}"
    if not (folder / "config.json").is_file():
        raise BadInputError("config.json is missing", where=where, mend="Give a Hugging Face model folder.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise BadInputError("no *.safetensors file", where=where, mend="Save the model with safe_serialization.")
    for file in weights:
        try:
            with safe_open(file, framework="np") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise BadInputError(
                f"{file.name} is damaged ({type(error).__name__})", where=where, mend="Fetch or save the model again."
            ) from None
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise BadInputError("the tokenizer is missing", where=where, mend="Save the tokenizer into the same folder.")
    has_template = (folder / "chat_template.jinja").is_file() or (
        (folder / "tokenizer_config.json").is_file()
        and '"chat_template"' in (folder / "tokenizer_config.json").read_text(encoding="utf-8")
    )
    if not (template or has_template):
        raise BadInputError(
            "the tokenizer has no chat template", where=where, mend="Give one with --set model.chat_template=FILE."
        )


def model_digest(folder: Path, settings: ModelSettings) -> str:
    """What a model is: the digest of its files, and of the chat template that the settings put over them."""
    files = file_digests(folder)
    if settings.chat_template is not None:
        files["model.chat_template"] = hashlib.sha256(Path(settings.chat_template).read_bytes()).hexdigest()
    return folder_digest(files)


def load_tokenizer(folder: Path, settings: ModelSettings) -> Any:
    """The tokenizer, with the template of the settings and a pad token (end-of-turn if it has none).

    Raises:
        BadInputError: it cannot be read, has no end-of-turn token, or its chat template cannot be rendered.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(
            f"the tokenizer cannot be read ({type(error).__name__})",
            where=f"model {folder}",
            mend="Save the tokenizer again.",
        ) from None
    if settings.chat_template is not None:
        tokenizer.chat_template = Path(settings.chat_template).read_text(encoding="utf-8")
    if tokenizer.eos_token_id is None:
        raise BadInputError("the tokenizer has no end token", where=f"model {folder}", mend="Set its eos_token.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    _try_template(tokenizer, settings, folder)
    return tokenizer


def _try_template(tokenizer: Any, settings: ModelSettings, folder: Path) -> None:
    """Renders a request once: Gemma's template refuses a system message, a user's own may be no Jinja."""
    from jinja2 import TemplateError

    turns = [{"role": "user", "content": "x"}]
    named = f"model.chat_template {settings.chat_template}" if settings.chat_template else f"model {folder}"
    for where, extra in ((named, []), ("model.system", [{"role": "system", "content": settings.system}])):
        if extra and settings.system is None:
            continue
        try:
            tokenizer.apply_chat_template([*extra, *turns], add_generation_prompt=True, tokenize=False)
        except (TemplateError, ValueError, TypeError) as error:
            what = "the chat template takes no system message" if extra else "the chat template cannot be rendered"
            raise BadInputError(
                f"{what} ({type(error).__name__})", where=where, mend="Mend it, or leave it out."
            ) from None


def load_model(folder: Path, settings: ModelSettings, *, dtype: str | None = None) -> Any:
    """The causal language model in evaluation mode on its device.

    `dtype` overrides that of the settings (training loads fp32 master weights); `nf4` quantises
    the linear layers but the head to four bits and keeps the rest in fp32.

    Raises:
        BadInputError: the weights are damaged or are not of this architecture; bitsandbytes is missing.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        with LOADING:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                **_stored(dtype or settings.dtype, pick_device(settings.device)),
                trust_remote_code=settings.trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below: by itself this is a RuntimeError like any other
            )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BadInputError(
            f"the model cannot be loaded ({type(error).__name__})",
            where=f"model {folder}",
            mend="Check that config.json and the weights belong together.",
        ) from None
    model, told = loaded
    # transformers would go on with random weights in their place.
    unfit = sorted([*told["missing_keys"], *(key for key, *_ in told["mismatched_keys"])])
    if unfit:
        raise BadInputError(
            f"{len(unfit)} weights are missing or of another shape, the first is {unfit[0]}",
            where=f"model {folder}",
            mend="Check that config.json and the weights belong together.",
        )
    if dtype != "nf4":
        model.to(device=pick_device(settings.device))
    return model.eval()


def _stored(dtype: str, device: str) -> dict[str, Any]:
    """How `from_pretrained` keeps the weights."""
    import torch

    if dtype != "nf4":
        return {"dtype": getattr(torch, dtype)}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInputError(
            "bitsandbytes is not installed", where="training.weights nf4", mend="pip install bitsandbytes."
        )
    from transformers import BitsAndBytesConfig

    # Computed in float32, unless autocast says otherwise.
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    return {"dtype": torch.float32, "quantization_config": four_bit, "device_map": {"": device}}


@functools.lru_cache(maxsize=2)
def _loaded(folder: Path, settings_json: str, dtype: str | None) -> tuple[Any, Any, threading.Lock]:
    settings = ModelSettings.model_validate_json(settings_json)
    return load_model(folder, settings, dtype=dtype), load_tokenizer(folder, settings), threading.Lock()


_CACHE = threading.Lock()


def shared_model(folder: Path, settings: ModelSettings, dtype: str | None = None) -> tuple[Any, Any, threading.Lock]:
    """Model, tokenizer and a lock, loaded once per process and folder (the last two are kept).

    Folders are content-addressed and never change, so the path is the identity. `dtype` is that of `load_model`.
    """
    with _CACHE:
        return _loaded(folder, settings.model_dump_json(), dtype)


def forget_models() -> None:
    """Drops the loaded models that nobody uses: training wants the memory."""
    with _CACHE:
        _loaded.cache_clear()
    for forget in forgetting:
        forget()


def pick_device(name: str, *, where: str = "model.device") -> str:
    """`auto` → `cuda` if there is one, else `cpu`; anything else stays.

    On CUDA attention is kept from cuDNN's kernels: they plan anew for each shape, and here
    every batch has its own.
    """
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadInputError("no CUDA device is here", where=f"{where} {name}", mend="Use auto or cpu.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu":
        torch.backends.cuda.enable_cudnn_sdp(False)
    return name
