"""Checks that config, weights and tokenizer of a folder belong together, without loading the weights."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mpo_core.contract.errors import BadInputError, quantity
from mpo_core.models.context import context_length, rope_scalings
from mpo_core.models.folder import Weights, json_object
from mpo_core.models.library import reading, refuse_any
from mpo_core.models.load import LOADING, TOGETHER, load_tokenizer
from mpo_core.settings import ModelSettings, TrainingSettings

_SIZES = {
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("intermediate_size", "max_position_embeddings", "n_embd", "n_layer", "n_layers", "n_head", "n_positions"),
    *("d_model", "ffn_dim", "num_layers", "num_heads", "sliding_window"),
}
_COUNTED = re.compile(r"(num|n)_.*(layer|block|expert|head|label)s?")  # numbers of modules or tensors
_FLOATING = ("F64", "F32", "F16", "BF16")
_TALKS = ("ForCausalLM", "LMHeadModel", "WithLMHeadModel", "ForConditionalGeneration")


def check_model(folder: Path, settings: ModelSettings, weights: Weights, *, cutoff: int | None = None) -> None:
    """Refuses a model whose config, weights and tokenizer do not belong together, or whose context is too short.

    Args:
        folder: a model folder.
        settings: settings of the model.
        weights: the headers of the folder's weights.
        cutoff: maximum length of a training sequence in tokens, if this model is trained.

    Raises:
        BadInputError: the files do not belong together, or the model's context is shorter than `cutoff`, or than the
            chat template around an empty prompt.
    """
    from mpo_core.models.chat import encode_prompt

    model = check_config(folder, settings, weights)
    tokenizer = load_tokenizer(folder, settings)
    check_tokens(folder, tokenizer, model)
    limit = context_length(model.config)
    if limit is None:
        return
    needed = len(encode_prompt(tokenizer, "", system=settings.system))
    if needed >= limit:
        raise BadInputError(
            f"an empty prompt takes {needed} tokens, but the model can read only {limit}",
            where="model.system" if settings.system else f"model {folder}, chat template",
            fix="Shorten it, or give a model with a longer context.",
        )
    # Most texts are far shorter than the default; `refuse_longer` refuses those that are longer than the context.
    if cutoff is not None and cutoff > limit and cutoff != TrainingSettings().cutoff:
        raise BadInputError(
            f"the cutoff is above the {limit} tokens that the model {folder} can read",
            where=f"training.cutoff {cutoff}",
            fix=f"Set training.cutoff={limit}, or give a model with a longer context.",
        )


def check_config(folder: Path, settings: ModelSettings, weights: Weights) -> Any:
    """Returns the model that config.json describes, on the meta device, where weights take no memory.

    Raises:
        BadInputError: config.json describes no language model, one that transformers does not know, or one that is
            not that of the weights.
    """
    raw = json_object(folder, "config.json")
    where = f"model {folder}, config.json"
    _refuse_sizes(raw, weights, where)
    _refuse_unknown(raw, where, remote=settings.trust_remote_code)
    from transformers import AutoConfig, GenerationConfig

    with reading("this configuration cannot be used", where=where, fix="Fix it, or download the model again."):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=settings.trust_remote_code)
    if (folder / "generation_config.json").is_file():
        with reading(
            "this file cannot be used", where=f"model {folder}, generation_config.json", fix="Fix it, or remove it."
        ):
            GenerationConfig.from_pretrained(folder)
    _refuse_other_kinds(config, raw, where)
    _refuse_quantised(config, where)
    _refuse_scaling(config, where)
    model = _on_meta(config, settings, where)
    if getattr(config, "quantization_config", None) is None:  # packed weights have other names and shapes
        _refuse_other_shapes(model, weights, folder)
    return model


def _refuse_sizes(raw: dict[str, Any], weights: Weights, where: str) -> None:
    """Refuses sizes that are not positive whole numbers, and more layers or heads than the weights can hold."""
    tensors = len(weights.shapes)
    widest = max((max(shape, default=1) for shape in weights.shapes.values()), default=1)
    for key, value in _entries(raw):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if key in _SIZES and value is not None and not isinstance(value, list) and not (whole and value > 0):
            raise BadInputError(
                f"{key} is {str(value)[:40]!r}, not a whole number above 0",
                where=where,
                fix="Correct it, or download the model again.",
            )
        # Each layer has a tensor of its own; heads and experts may lie in one.
        if whole and _COUNTED.fullmatch(key) and value > (tensors if "layer" in key else max(tensors, widest)):
            raise BadInputError(
                f"{key} is {str(value)[:40]}, but the weights hold {tensors} tensors", where=where, fix=TOGETHER
            )


def _entries(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the keys and values of a configuration and of those nested in it, such as `text_config`."""
    for key, value in config.items():
        yield key, value
        if isinstance(value, dict) and key.endswith("_config"):
            yield from _entries(value)


def _refuse_unknown(raw: dict[str, Any], where: str, *, remote: bool) -> None:
    import transformers
    from transformers import CONFIG_MAPPING

    kind = raw.get("model_type")
    if isinstance(kind, str) and kind in CONFIG_MAPPING:
        return
    if "auto_map" in raw:
        if not remote:
            raise BadInputError(
                f"the model {str(kind)[:40]!r} needs code that comes with it",
                where=where,
                fix="If you trust that code, set model.trust_remote_code=true.",
            )
        return
    if kind is None:
        raise BadInputError("model_type is missing", where=where, fix="Give the config.json that belongs to the model.")
    raise BadInputError(
        f"transformers {transformers.__version__} does not know the model_type {str(kind)[:40]!r}",
        where=where,
        fix="Correct model_type, or install a transformers that knows it: pip install -U transformers.",
    )


def _refuse_other_kinds(config: Any, raw: dict[str, Any], where: str) -> None:
    """Refuses encoders, classifiers and encoder-decoders, some of which transformers would load as a causal model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as DECODERS
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as ENCODERS

    kind, fix = config.model_type, "Give a decoder-only language model, such as Llama, Qwen or Gemma."
    if getattr(config, "is_encoder_decoder", False):
        raise BadInputError(f"mpo cannot align a {kind} model: it is an encoder-decoder", where=where, fix=fix)
    if "auto_map" in raw:
        return
    if kind in ENCODERS and not getattr(config, "is_decoder", False):
        raise BadInputError(
            f"mpo cannot align a {kind} model: it is an encoder, which writes no text", where=where, fix=fix
        )
    if kind not in DECODERS:
        raise BadInputError(f"{kind} is no causal language model", where=where, fix=fix)
    architectures = raw.get("architectures")
    for name in architectures if isinstance(architectures, list) else []:
        if isinstance(name, str) and "For" in name and not name.endswith(_TALKS):
            raise BadInputError(f"the weights are of a {name[:60]}, which writes no text", where=where, fix=fix)


def _refuse_quantised(config: Any, where: str) -> None:
    """Refuses quantised weights that this machine cannot read, with the reason that transformers gives."""
    quantization = getattr(config, "quantization_config", None)
    if quantization is None:
        return
    from transformers.quantizers.auto import AutoHfQuantizer

    method = (
        quantization.get("quant_method")
        if isinstance(quantization, dict)
        else getattr(quantization, "quant_method", None)
    )
    with reading(
        f"the weights are quantised ({str(method)[:40]}), and cannot be read here",
        where=where,
        fix="Give the model that is not quantised; training.weights=nf4 quantises it while it is loaded.",
    ):
        AutoHfQuantizer.from_config(quantization, pre_quantized=True).validate_environment(device_map=None)


def _refuse_scaling(config: Any, where: str) -> None:
    """Refuses invalid scaling of rotary positions, about which transformers only warns."""
    for scaling in rope_scalings(config):
        for key in ("factor", "rope_theta"):
            value = scaling.get(key)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 1.0 <= value < math.inf):
                raise BadInputError(
                    f"{key} of rope_parameters is {str(value)[:40]!r}, not a number of at least 1",
                    where=where,
                    fix="Correct it, or download the model again.",
                )


def _on_meta(config: Any, settings: ModelSettings, where: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with (
        LOADING,
        reading("transformers cannot build a model from it", where=where, fix="Fix it, or download the model again."),
        torch.device("meta"),
    ):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=settings.trust_remote_code)


def _refuse_other_shapes(model: Any, weights: Weights, folder: Path) -> None:
    """Refuses a model that is far larger than its weights, or whose tensors have other sizes than theirs.

    Tensors may have other names, since transformers renames and joins those of some models as it loads them; missing
    ones are reported by `load_model`.
    """
    by_config = sum(parameter.numel() for parameter in model.parameters())
    in_weights = sum(math.prod(shape) for shape in weights.shapes.values())
    if by_config > 2 * in_weights:
        raise BadInputError(
            f"config.json describes {by_config:,} parameters, but the weights hold {in_weights:,}",
            where=f"model {folder}",
            fix=TOGETHER,
        )
    types = {name: weights.dtypes.get(name, "F32") for name, _ in model.named_parameters()}
    packed = {name: kind for name, kind in types.items() if kind not in _FLOATING}
    kinds = ", ".join(sorted(set(packed.values())))
    refuse_any(
        packed,
        f"weights are stored as {kinds} and config.json says nothing of a quantisation",
        where=f"model {folder}",
        fix="Give the model that is not quantised, or the config.json that belongs to these weights.",
    )
    refuse_any(
        (
            f"{name}: {list(weights.shapes[name])} in the file, {list(value.shape)} by config.json"
            for name, value in model.state_dict().items()
            if name in weights.shapes and value.numel() != math.prod(weights.shapes[name])
        ),
        "weights are of another shape than config.json says",
        where=f"model {folder}",
        fix=TOGETHER,
    )


def check_tokens(folder: Path, tokenizer: Any, model: Any) -> None:
    """Refuses token ids that the model has no embedding for.

    A special token may lack one, such as that of images in the small models of Gemma 3, which read none: marks in a
    prompt, an answer or a passage are encoded as plain text. lm-eval does not do so, and would fail on an item that
    holds such a mark. The tokens that frame texts, and those of the template, do occur.

    Raises:
        BadInputError: the tokenizer, config.json or generation_config.json names such an id.
    """
    known = int(model.get_input_embeddings().weight.shape[0])
    framing = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    unused = {
        number
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special and number not in framing and token.content not in str(tokenizer.chat_template)
    }
    beyond = sorted(
        (number, token)
        for token, number in tokenizer.get_vocab().items()
        if not 0 <= number < known and number not in unused
    )
    if beyond:
        raise BadInputError(
            f"the tokenizer gives {quantity(len(beyond), 'token id')} that the model has no embedding for: ids up to "
            f"{beyond[-1][0]}, and the embeddings end at {known - 1}",
            where=f"model {folder}",
            fix="Give the tokenizer that belongs to the model, or save the model after "
            "model.resize_token_embeddings(len(tokenizer)).",
        )
    for name in ("config.json", "generation_config.json"):
        if not (folder / name).is_file():
            continue
        ends = json_object(folder, name).get("eos_token_id")
        for end in ends if isinstance(ends, list) else [] if ends is None else [ends]:
            if not isinstance(end, int) or isinstance(end, bool) or not 0 <= end < known:
                raise BadInputError(
                    f"eos_token_id {str(end)[:40]!r} is no token id of the model (0 to {known - 1})",
                    where=f"model {folder}, {name}",
                    fix="Correct it: it is the id of the token that ends an answer.",
                )
