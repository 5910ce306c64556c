"""One forward pass that gives what training needs: log-probabilities of answers, pooled states."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.training import TrainingMethod
from mpo_core.training.attention import packable, use_packed_attention
from mpo_core.training.encoding import EncodedText
from mpo_core.training.head import Frozen, Head, describe_head, divergence, log_probability
from mpo_core.training.layout import Item, Layout, pack, pad
from mpo_core.training.top_tokens import TopTokens, distillation_loss

KEEP = 256 * 2**20  # bytes of probabilities kept for backward, see head.py


class Output(NamedTuple):
    """What comes out of a forward over s scored, k pooled and c compared items; D width, M tokens compared."""

    log_p: Tensor
    """[2s] in float64: summed log-probability of chosen and rejected of each item in turn; [3s] with prompts."""
    pooled: Tensor
    """[2k, D], in the same manner."""
    divergence: Tensor
    """[2c] in float64: summed KL(frozen ‖ policy) of chosen and rejected of each compared item in turn, nats; the
    distillation loss of each, where a teacher's top tokens are what it is compared with."""
    states: Tensor
    """[M, D], hidden states of the compared answers, where the layout has nothing to compare them with."""


def inner(model: Any) -> Any:
    """Returns the causal language model inside adapters and parallel wrappers."""
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextlib.contextmanager
def scoring(model: Any, *, packed: bool, keep: int = KEEP, layer: int | None = None) -> Iterator[None]:
    """Makes `model(layout=...)` return an `Output` while the context lasts; afterwards the model is as before."""
    attach(model, packed=packed, keep=keep, layer=layer)
    try:
        yield
    finally:
        detach(model)


def attach(model: Any, *, packed: bool, keep: int = KEEP, layer: int | None = None) -> None:
    """Makes `model(layout=...)` return an `Output`.

    The method `forward` is replaced on the instance, not wrapped from outside: so everything
    runs inside the forward that DDP, FSDP, autocast and adapters hook into. So is the head's,
    since FSDP and ZeRO-3 gather its weights when it is called.

    Args:
        model: a causal language model, bare or with adapters.
        packed: layouts will be packed; else padded.
        keep: bytes of probabilities kept for backward.
        layer: pools the states after this layer, from 1. Default: after the last one and the final norm.

    Raises:
        BadInputError: the model's logits are not a linear function of its last hidden states
            as `head.Head` describes it.
    """
    bare = inner(model)
    head = describe_head(bare.config)
    _check_head(bare, head)
    if packed:
        bare._mpo_attention = use_packed_attention(bare)  # noqa: SLF001 - ours

    def forward(self: Any, layout: Layout, **_: Any) -> Output:
        # PEFT passes the arguments of a usual forward along, all None.
        pooled_layer = layer if layout.layer is None else layout.layer
        wanted = {} if pooled_layer is None else {"output_hidden_states": True}
        out = self.base_model(**layout.inputs, use_cache=False, **wanted)
        hidden = out.last_hidden_state.flatten(0, 1)  # [R * T, D]
        log_p = self.get_output_embeddings()(hidden[layout.predicting], layout.targets)  # [N]
        # A sum of some thousand nats has too few digits in float32: 1e-6 of a mean over a few hundred tokens.
        sums = [part.sum(dtype=torch.float64) for part in log_p.split(layout.answers)]
        # Pooled in float32: autocast has left the states in bfloat16.
        pooled = layout.pool(hidden if pooled_layer is None else out.hidden_states[pooled_layer].flatten(0, 1))
        kl, states = hidden.new_zeros(0), hidden.new_zeros(0)
        if layout.frozen is not None:
            each = self.get_output_embeddings()(hidden[layout.compared], layout.frozen)  # [M]
            kl = torch.stack([part.sum(dtype=torch.float64) for part in each.split(layout.compared_answers)])
        elif layout.compared_answers:
            states = hidden[layout.compared]
        return Output(torch.stack(sums) if sums else log_p, pooled, kl, states)

    def predict(self: Any, hidden: Tensor, goal: Tensor | Frozen | TopTokens) -> Tensor:
        in_place, cast = vars(self).get("_mpo_in_place", False), vars(self).get("_mpo_cast")
        if isinstance(goal, Frozen):
            return divergence(hidden, self.weight, self.bias, goal, head, in_place=in_place)
        if isinstance(goal, TopTokens):
            return distillation_loss(hidden, self.weight, self.bias, goal, head, in_place=in_place)
        return log_probability(hidden, self.weight, self.bias, goal, head, keep=keep, in_place=in_place, cast=cast)

    bare.forward = MethodType(forward, bare)
    out = bare.get_output_embeddings()
    out.forward = MethodType(predict, out)


def detach(model: Any) -> None:
    """Gives the model its own forward and attention back."""
    bare = inner(model)
    for module in (bare, bare.get_output_embeddings()):
        vars(module).pop("forward", None)
    if "_mpo_attention" in vars(bare):
        bare.set_attn_implementation(vars(bare).pop("_mpo_attention"))


def frozen_head(model: Any) -> Frozen:
    """Returns the output layer of a model as it is now, without states; a copy of it where it is trained."""
    out = inner(model).get_output_embeddings()
    weight, bias = (
        part.detach().clone() if part is not None and part.requires_grad else part for part in (out.weight, out.bias)
    )
    return Frozen(weight.new_empty(0), weight, bias)


@contextlib.contextmanager
def adding_up(model: Any, narrow: torch.dtype | None = None) -> Iterator[None]:
    """Lets passes share copies and gradients of weights, so that none of [V, D] is made for each of them.

    Gradients of the output embeddings are added in place; of the input embeddings, only the rows of tokens that
    occurred are stored, and added at the end of the context. It is for training in a single process: DDP, FSDP and
    DeepSpeed must see the gradients of each pass.

    Args:
        model: the policy.
        narrow: number format that all passes compute in under autocast; None shares no copies of weights.
    """
    bare = inner(model)
    table, out = bare.get_input_embeddings(), bare.get_output_embeddings()
    plain = isinstance(table, torch.nn.Embedding)  # not inside an adapter
    out._mpo_in_place = True  # noqa: SLF001
    shared: Any = contextlib.nullcontext()
    if narrow is not None:
        out._mpo_cast = out.weight.detach().to(narrow)  # noqa: SLF001
        shared = torch.autocast(out.weight.device.type, enabled=False)  # the cache lasts until the outermost one ends
    if plain:
        table.sparse = True
    try:
        with shared:
            yield
    finally:
        out._mpo_in_place, out._mpo_cast = False, None  # noqa: SLF001
        if plain:
            table.sparse = False
            if table.weight.grad is not None:
                table.weight.grad = table.weight.grad.to_dense()


def packs(model: Any, settings: TrainingMethod) -> bool:
    """Says whether a training packs its sequences: by its settings, and by what the model can do."""
    if settings.layout == "packed" and not can_pack(model):
        raise BadInputError(
            "this model's attention cannot be packed", where="training.layout packed", fix="Use auto or padded."
        )
    return settings.layout != "padded" and settings.pooling != "padded_mean" and can_pack(model)


def can_pack(model: Any) -> bool:
    """Says whether layouts for this model may be packed: by its config, and by trying it."""
    return packable(inner(model)) and _packs_truly(inner(model))


def _packs_truly(model: Any) -> bool:
    """Compares the last states of two packed pairs with those of the sequences by themselves.

    Some models name the interface, but keep its arguments from it or need a mask all the same.
    """
    pairs = [EncodedText([1, 2, 3], [4, 5], [6]), EncodedText([7], [6], [5, 4, 3])]
    items = [Item(pair, scored=False, pooled=True) for pair in pairs]
    alone = [pad([item._replace(ids=pair)], "last", 0) for item, pair in zip(items, pairs, strict=True)]
    device, was_training = next(model.parameters()).device, model.training

    def last(layout: Layout) -> Tensor:
        out = model.base_model(**layout.to(device).inputs, use_cache=False)
        return layout.pool(out.last_hidden_state.flatten(0, 1))

    model.eval()
    with torch.no_grad():
        expected = torch.cat([last(layout) for layout in alone])
        attention = use_packed_attention(model)
        try:
            packed = last(pack(items, "last"))
        except TypeError:  # the segments did not arrive
            return False
        finally:
            model.set_attn_implementation(attention)
            model.train(was_training)
    close = 5e-2 if model.dtype in (torch.bfloat16, torch.float16) else 1e-3
    return bool((packed - expected).norm() < close * expected.norm())


def _check_head(model: Any, head: Head) -> None:
    """Compares the model's own logits with ours, on three tokens."""
    device = next(model.parameters()).device
    ids = torch.arange(3, device=device).unsqueeze(0)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits[0]
        again = model(input_ids=ids, use_cache=False).logits[0]
        out = model.get_output_embeddings()
        linear = isinstance(out, torch.nn.Linear)
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
        ours = (
            torch.stack(
                [log_probability(hidden, out.weight, out.bias, token.expand(3), head, keep=0) for token in ids[0]],
                dim=1,
            )
            if linear
            else own
        )
    model.train(was_training)
    theirs = own.float().log_softmax(-1)[:, : ids.shape[1]]
    close = 2e-2 if own.dtype != torch.float32 else 1e-3
    # A model that gives no number is told row by row, not here.
    if not torch.allclose(again, own, atol=close, equal_nan=True):
        raise BadInputError(
            f"two passes of {type(model).__name__} over the same tokens differ: it uses random numbers in its own code",
            where="model",
            fix="Switch noise and dropout off in its config.json; training compares it with its frozen self.",
        )
    if not linear or not torch.allclose(ours.float(), theirs, atol=close, equal_nan=True):
        raise BadInputError(
            f"the output head of {type(model).__name__} has a form that training does not support",
            where="model",
            fix="Train a model whose logits are a linear layer of the last hidden states, soft-capped or scaled.",
        )
