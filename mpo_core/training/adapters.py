"""Low-rank adapters: put on a model before the training, merged into its weights after it."""

from __future__ import annotations

from typing import Any

import torch

from mpo_core.contract.errors import BadInputError
from mpo_core.settings import LoraSettings

_SETTING = "training.lora.target_modules"


def add_adapters(model: Any, lora: LoraSettings) -> Any:
    """Returns the model with fresh adapters, which change nothing yet.

    Raises:
        BadInputError: a name of `target_modules` fits no module, or one that cannot have an adapter.
    """
    from peft import LoraConfig, get_peft_model

    choices = f"Use all-linear, or some of {_linear_names(model)}."
    if not isinstance(lora.target_modules, str):
        _refuse_unknown_names(model, lora.target_modules, choices)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float works; peft 0.21 only annotates int
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        adapted: Any = get_peft_model(model, config)
    except ValueError as error:
        reason = " ".join(str(error).split(". ")[0].split())[:160].rstrip(".")  # names modules, no text of pairs
        raise BadInputError(
            f"adapters cannot be put on these modules: {reason}",
            where=_SETTING,
            # PEFT 0.21 has no dropout for the experts of a mixture, which are one tensor of a layer.
            fix="Set training.lora.dropout to 0." if "lora_dropout" in reason else choices,
        ) from None
    if hasattr(adapted.get_base_model().get_output_embeddings(), "base_layer"):
        raise BadInputError(
            "an adapter on the output head cannot be trained here",
            where=_SETTING,
            fix="Remove lm_head from the list, or use all-linear, which does not contain it.",
        )
    return adapted


def _refuse_unknown_names(model: Any, names: list[str], choices: str) -> None:
    """Refuses names that fit no module: PEFT would put adapters on the others alone."""
    modules = [name for name, _ in model.named_modules()]
    unknown = [name for name in names if not any(f".{module}".endswith(f".{name}") for module in modules if module)]
    if unknown or not names:
        raise BadInputError(
            f"no module of the model is called {', '.join(map(repr, unknown))}"
            if names
            else "the list of modules to adapt is empty",
            where=_SETTING,
            fix=choices,
        )


def _linear_names(model: Any) -> str:
    """Returns the last parts of the names of the linear layers, without the output head."""
    from transformers.pytorch_utils import Conv1D  # GPT-2's kind of linear layer

    head = model.get_output_embeddings()
    kinds = (torch.nn.Linear, Conv1D)
    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, kinds) and module is not head
    }
    return ", ".join(sorted(names)) or "the linear layers, of which the model has none"


def merge_adapters(model: Any) -> Any:
    """Returns the bare model with its adapters added to the weights."""
    untie_embeddings(model)
    return model.merge_and_unload()


def untie_embeddings(model: Any) -> None:
    """Gives the output head weights of its own where adapters change the input embeddings that it shares.

    Merged into shared weights, the update of the embeddings would change the head too, which was trained without it.

    Args:
        model: with adapters, before they are merged.
    """
    bare = model.get_base_model()
    table, head = bare.get_input_embeddings(), bare.get_output_embeddings()
    shared = getattr(table, "base_layer", table).weight
    if not hasattr(table, "base_layer") or head is None or head.weight is not shared:
        return
    head.weight = torch.nn.Parameter(shared.detach().clone(), requires_grad=False)
    for config in {id(config): config for config in (bare.config, bare.config.get_text_config())}.values():
        config.tie_word_embeddings = False
    # transformers 5.23 reads it when it saves and when PEFT hands the model back (modeling_utils.py).
    bare.all_tied_weights_keys = {}
