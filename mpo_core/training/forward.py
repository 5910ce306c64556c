"""One forward pass that gives what MPO needs: last hidden states, and logits only where asked."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from mpo_core.training.objective import mean_log_probability, predicting


class Forward(NamedTuple):
    """What comes out: B sequences, T tokens, D width, N asked positions, V vocabulary."""

    hidden: Tensor
    """[B, T, D], last hidden layer after the final norm."""
    logits: Tensor
    """[N, V], with the model's own scaling and soft-capping (Gemma-2, Cohere, Granite)."""


def backbone(model: Any) -> Any:
    """The model below the output head, whatever wraps it (adapters, a parallel wrapper)."""
    model = getattr(model, "module", model)
    if hasattr(model, "get_base_model"):  # peft
        model = model.get_base_model()
    return model.base_model


def forward(model: Any, input_ids: Tensor, attention_mask: Tensor, asked: Tensor) -> Forward:
    """Runs `model.forward`, with the output head at the `asked` positions alone.

    The whole pass stays inside `model.forward`, so that the hooks of autocast, DDP and FSDP
    run; the hidden states are picked up on their way by a hook on the backbone
    (`output_hidden_states` would keep those of every layer).

    Args:
        model: a causal language model, bare or wrapped.
        input_ids: [B, T].
        attention_mask: [B, T].
        asked: bool [B, T], positions whose logits are wanted; none at all is fine and free.
    """
    caught: list[Tensor] = []
    handle = backbone(model).register_forward_hook(lambda _m, _i, out: caught.append(out.last_hidden_state))
    try:
        # A boolean [B, T] mask selects before the head: [N, D] -> [N, V].
        output = model(input_ids=input_ids, attention_mask=attention_mask, logits_to_keep=asked, use_cache=False)
    finally:
        handle.remove()
    return Forward(hidden=caught[0], logits=output.logits)


def response_rewards(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Rewards of answers (eq. 1) and the hidden states of their sequences.

    Args:
        model: a causal language model.
        batch: `input_ids`, `attention_mask`, `labels`, each [B, T].

    Returns:
        rewards [B] in nats per token, hidden states [B, T, D].
    """
    labels = batch["labels"]
    out = forward(model, batch["input_ids"], batch["attention_mask"], predicting(labels))
    return mean_log_probability(out.logits, labels), out.hidden
