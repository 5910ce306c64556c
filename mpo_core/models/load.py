"""Loads tokenizer and model from a folder that `check_folder` has passed."""

import importlib.util
import math
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mpo_core.contract.errors import BadInputError, installation
from mpo_core.files.read import read_text
from mpo_core.models.described import as_described
from mpo_core.models.finite import refuse_not_finite
from mpo_core.models.folder import read_weights
from mpo_core.models.library import reading, refuse_any
from mpo_core.models.templates import try_template
from mpo_core.settings import ModelSettings

TOGETHER = "Check that config.json and the weights belong together."

LOADING = threading.Lock()
"""Held while a model is loaded: transformers does it under a global meta-device context, which is not thread-safe."""


def load_tokenizer(
    folder: Path, settings: ModelSettings, *, arguments: Mapping[str, Any] = MappingProxyType({})
) -> Any:
    """Loads a model's tokenizer, with the chat template of the settings.

    A tokenizer without a pad token pads with its end token. `arguments` are further ones that its chat template needs.

    Raises:
        BadInputError: it cannot be read, has no end-of-turn token, or its chat template cannot be rendered.
    """
    from transformers import AutoTokenizer

    where = f"model {folder}"
    try:
        with reading("the tokenizer cannot be read", where=where, fix="Save the tokenizer again."):
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=settings.trust_remote_code)
            tokenizer = as_described(folder, tokenizer)
            tokenizer("x", add_special_tokens=False)
            has_end, has_pad = tokenizer.eos_token_id is not None, tokenizer.pad_token_id is not None
    except BadInputError:
        _refuse_newer_tokenizer(folder)
        raise
    if settings.chat_template is not None:
        where = f"model.chat_template {settings.chat_template}"
        tokenizer.chat_template = read_text(Path(settings.chat_template), fix="Name a Jinja file.")
    elif tokenizer.chat_template is None:
        raise BadInputError(
            "the tokenizer has no chat template", where=where, fix="Give one with --set model.chat_template=FILE."
        )
    if not has_end:
        raise BadInputError("the tokenizer has no end token", where=f"model {folder}", fix="Set its eos_token.")
    if not has_pad:
        tokenizer.pad_token = tokenizer.eos_token
    try_template(tokenizer, settings.system, where=where, arguments=arguments)
    return tokenizer


def _refuse_newer_tokenizer(folder: Path) -> None:
    """Refuses a tokenizer.json that the installed library `tokenizers` cannot read."""
    import tokenizers

    if (folder / "tokenizer.json").is_file():
        with reading(
            f"the tokenizer cannot be read by tokenizers {tokenizers.__version__}",
            where=f"model {folder}, tokenizer.json",
            fix="Save it again; if a newer library wrote it: pip install -U tokenizers transformers.",
        ):
            tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def load_model(
    folder: Path,
    settings: ModelSettings,
    *,
    dtype: str | None = None,
    attention: str | None = None,
    device_map: str | None = None,
) -> Any:
    """Loads a causal language model, tries it on three tokens, and returns it in evaluation mode on its device.

    `dtype` replaces that of the settings (training loads weights in fp32); `nf4` quantises all linear layers except the
    output head to four bits, and loads the rest in fp32. `attention` is transformers' name of an implementation. The
    device map `auto` spreads the layers over all devices.

    Raises:
        BadInputError: the weights are damaged, are not of this architecture, or are larger than the memory;
            bitsandbytes is missing.
    """
    from transformers import AutoModelForCausalLM

    where, device = f"model {folder}", pick_device(settings.device)
    options = _options(dtype or settings.dtype, device)
    if device_map is not None:
        options["device_map"] = device_map
    elif dtype != "nf4":
        _refuse_larger_than_memory(folder, options["dtype"], device)
    if attention is not None:
        options["attn_implementation"] = attention
    with LOADING, reading("the model cannot be loaded", where=where, fix=TOGETHER):
        model, unexpected = whole_model(
            AutoModelForCausalLM, folder, where=where, trust_remote_code=settings.trust_remote_code, **options
        )
    _refuse_left_out(model, unexpected, where)
    refuse_not_finite(model, where)
    if dtype == "nf4":
        _compute_alike_on_every_cpu(model)
    elif device_map is None:
        with reading(f"the model cannot be moved to {device}", where=where, fix="Use another model.device."):
            model.to(device=device)
    _try_once(model.eval(), where)
    return model


def whole_model(kind: Any, folder: Path, *, where: str, **options: Any) -> tuple[Any, list[str]]:
    """Loads a model, and rejects a folder without all of its weights, for which transformers would use random ones.

    The names are those of the tensors that the model has no place for.

    Raises:
        BadInputError: weights are missing or of another shape.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    model, loading_info = kind.from_pretrained(
        folder,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # refused below: by itself this is a RuntimeError like any other
        **options,
    )
    unfit = [*loading_info["missing_keys"], *(key for key, *_ in loading_info["mismatched_keys"])]
    refuse_any(unfit, "weights are missing or of another shape", where=where, fix=TOGETHER)
    return model, list(loading_info["unexpected_keys"])


def _compute_alike_on_every_cpu(model: Any) -> None:
    """Keeps four-bit layers from repacking their weights for processors with AVX-512 BF16.

    There bitsandbytes (0.50, `Linear4bit.forward`) would convert the weights in place as soon as a model in
    evaluation mode is called without gradients, compute in bfloat16 from then on, and fail for a layer whose width is
    no multiple of 64. The reference would then differ from the policy. It can go when bitsandbytes has a switch.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _refuse_left_out(model: Any, unexpected: list[str], where: str) -> None:
    """Refuses a model that has no place for a bias, a scale or an adapter of one of its layers.

    transformers would ignore them. Weights of a separate part, such as a value head, change no answer and are allowed.
    """
    known = {re.sub(r"\d+", "0", name) for name, _ in model.named_parameters()}
    known |= {name.rpartition(".")[0] for name in known}
    left_out = [name for name in unexpected if known & _prefixes(re.sub(r"\d+", "0", name))]
    refuse_any(left_out, "tensors have no place in the model that config.json describes", where=where, fix=TOGETHER)


def _prefixes(name: str) -> set[str]:
    """Returns a tensor's name and the names of all modules that contain it: `a.b.c` gives `a.b.c`, `a.b`, `a`."""
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts) + 1)}


def _try_once(model: Any, where: str) -> None:
    """Refuses a model that cannot read three tokens, or gives scores that are NaN or infinite.

    This finds what shows only in computing: positions that make NaN, a precision that overflows, outputs without names.

    Raises:
        BadInputError: the model raises, or its scores are NaN or infinite.
    """
    import torch

    if any(parameter.is_meta or not parameter.numel() for parameter in model.parameters()):
        return  # a part of it lies in another process
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]], device=model.device)  # the first row is padded, as in sampling
    with reading("the model cannot be run", where=where, fix=TOGETHER), torch.inference_mode():
        scores = model(input_ids=torch.zeros_like(mask), attention_mask=mask).logits[:, -1]
        finite = bool(torch.isfinite(scores).all())
    if not finite:
        raise BadInputError(
            f"the model's scores are NaN or infinite when it computes in {str(scores.dtype).removeprefix('torch.')}",
            where=where,
            fix="Check config.json; where model.dtype is float16, use bfloat16 or float32.",
        )


def _refuse_larger_than_memory(folder: Path, dtype: Any, device: str) -> None:
    import torch

    weights = read_weights(folder)
    needed = sum(math.prod(shape) for shape in weights.shapes.values()) * dtype.itemsize
    if device.startswith("cuda"):
        memory = torch.cuda.mem_get_info(device)[1]
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise BadInputError(
            f"the weights take {needed / 2**30:.1f} GiB as {str(dtype).removeprefix('torch.')}, and the memory of "
            f"{device} is {memory / 2**30:.1f} GiB",
            where=f"model {folder}",
            fix="Use a smaller model, or model.dtype=bfloat16 where it is float32.",
        )


def _options(dtype: str, device: str) -> dict[str, Any]:
    """Returns the arguments of `from_pretrained` for weights of this number format."""
    import torch

    if dtype != "nf4":
        return {"dtype": getattr(torch, dtype)}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInputError("bitsandbytes is not installed", where="training.weights nf4", fix=installation("qlora"))
    from transformers import BitsAndBytesConfig

    # Computed in float32, unless autocast says otherwise.
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    return {"dtype": torch.float32, "quantization_config": four_bit, "device_map": {"": device}}


def pick_device(name: str, *, where: str = "model.device") -> str:
    """Returns the device that a setting names: for `auto`, `cuda` where there is one, else `cpu`.

    On CUDA it turns off cuDNN's kernels of attention: they plan anew for each shape, and here every batch has its own.

    Raises:
        BadInputError: it names CUDA, and there is none.
    """
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadInputError("no CUDA device is available", where=f"{where} {name}", fix="Use auto or cpu.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu":
        torch.backends.cuda.enable_cudnn_sdp(False)
    return name
