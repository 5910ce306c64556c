"""Measures the frozen model before training, once per pair: reward gaps and hidden states.

Nothing here depends on what trains, so no reference model is in memory while training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import pyarrow as pa

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import GAPS, QUARANTINE
from mpo_core.contract.training import Pooling
from mpo_core.models import refuse_longer
from mpo_core.models.memory import halving
from mpo_core.training.encoding import EncodedText, PairText, Rejection, encode_text

_ON_CPU, _ON_DEVICE = 4096, 32_768  # tokens of a forward pass, which has no gradient and keeps no activations


class _HasIds(Protocol):
    @property
    def ids(self) -> EncodedText: ...


T = TypeVar("T", bound=_HasIds)


def source_texts(pairs: pa.Table) -> list[PairText]:
    """Returns the dominant pairs of a PAIRS table, each once; `text_id` is the source_id."""
    columns = ["source_id", "source_language", "source_prompt", "source_chosen", "source_rejected", "kind"]
    unique = {row["source_id"]: PairText(*row.values()) for row in pairs.select(columns).to_pylist()}
    return list(unique.values())


def target_texts(pairs: pa.Table) -> list[PairText]:
    """Returns the target pairs of a PAIRS table, in order; `text_id` is the pair_id."""
    columns = ["pair_id", "language", "target_prompt", "target_chosen", "target_rejected", "kind"]
    return [PairText(*row.values()) for row in pairs.select(columns).to_pylist()]


def gaps(
    model: Any,
    tokenizer: Any,
    texts: list[PairText],
    *,
    cutoff: int,
    system: str | None,
    pooling: str | None,
    middle: bool = False,
    digest: str = "",
    precision: str = "float32",
    tokens_per_forward: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Measures the reward gap (equation 2 of the MPO paper) and the pooled hidden states of each pair under `model`.

    The figures do not depend on the cut into forwards beyond rounding. Hence `padded_mean`,
    which is a property of a batch and not of a text, gives null states here; the trainer
    takes those in its own batches.

    Args:
        model: the reference, a causal language model.
        tokenizer: its tokenizer.
        texts: pairs in one or several languages, unique ids.
        cutoff: maximum length of a sequence in tokens, as in training.
        system: system message before each prompt.
        pooling: `mean` or `last`; None or `padded_mean` leaves the states null.
        middle: pools the states of the middle layer instead of the last one: what is said, less than the next word.
        digest: of the model, written beside each figure; training refuses those of another.
        precision: `bfloat16` computes under autocast, as training does, so that the retention loss starts near zero.
        tokens_per_forward: see `batches`; where memory runs out, it is halved.
        progress: called with (done, all) after each forward.

    Returns:
        GAPS in the order of `texts`, and QUARANTINE with reasons `empty_response`,
        `over_long`, `not_finite`.

    Raises:
        BadInputError: a text is longer than the model's context, or the memory is too small for a single pair.
    """
    from mpo_core.training.forward import can_pack, scoring

    items, rejected = _encode(tokenizer, texts, cutoff=cutoff, system=system)
    refuse_longer((item.ids.longest for item in items), model.config, cutoff)
    rows: dict[str, dict[str, Any]] = {}
    packed, done = can_pack(model), 0
    model.eval()
    layer = (model.config.get_text_config().num_hidden_layers + 1) // 2 if middle else None

    def compute(batch: list[_Encoded]) -> list[dict[str, Any]]:
        return _measure(model, tokenizer.pad_token_id, batch, pooling, precision, packed=packed)

    with scoring(model, packed=packed, keep=0, layer=layer):
        passes = batches(items, model, tokens_per_forward, packed=packed)
        for batch, measured in halving(passes, compute, tokens=_tokens, too_small=_too_small):
            for row in measured:
                if math.isfinite(row["chosen_reward"]) and math.isfinite(row["rejected_reward"]):
                    rows[row["text_id"]] = row | {"model": digest}
                else:
                    why = Rejection("not_finite", "the model gave no number")
                    rejected.append(_quarantine_row(row["text_id"], row["language"], why))
            done += len(batch)
            if progress is not None:
                progress(done, len(items))
    ordered = [rows[text.text_id] for text in texts if text.text_id in rows]
    return GAPS.build(ordered), QUARANTINE.build(rejected)


class _Encoded(NamedTuple):
    text: PairText
    ids: EncodedText


def _tokens(item: _HasIds) -> int:
    return sum(map(len, item.ids))


def _too_small(item: _Encoded) -> BadInputError:
    return BadInputError(
        f"the memory is too small for the {_tokens(item)} tokens of pair {item.text.text_id}",
        where="reference",
        fix="Lower training.cutoff, or set training.weights to bfloat16 (with training.lora).",
    )


def _encode(
    tokenizer: Any, texts: list[PairText], *, cutoff: int, system: str | None
) -> tuple[list[_Encoded], list[dict[str, Any]]]:
    items, rejected = [], []
    for text in texts:
        ids = encode_text(tokenizer, text, cutoff=cutoff, system=system)
        if isinstance(ids, Rejection):
            rejected.append(_quarantine_row(text.text_id, text.language, ids))
        else:
            items.append(_Encoded(text, ids))
    return items, rejected


def batches(items: list[T], model: Any, tokens_per_forward: int | None, *, packed: bool) -> list[list[T]]:
    """Groups items of similar length, the longest first: little padding, and memory runs out at once or never.

    Args:
        items: what goes through the model without gradient.
        model: on its device.
        tokens_per_forward: maximum number of tokens in a forward pass; a longer item has a pass of its own. Default:
            4096 on a CPU, on a device 32,768.
        packed: whether sequences go through the model packed.
    """
    budget = tokens_per_forward or (_ON_CPU if model.device.type == "cpu" else _ON_DEVICE)
    result: list[list[T]] = []
    cost = 0
    for item in sorted(items, key=lambda item: -_tokens(item)):
        # `pad` gives an item two rows, also one without a rejected answer, as long as the longest of its batch.
        longest = (result[-1] if result and cost else [item])[0].ids
        tokens = _tokens(item) if packed else 2 * (len(longest.prompt) + max(map(len, longest[1:])))
        if not result or cost + tokens > budget:
            result.append([])
            cost = 0
        result[-1].append(item)
        cost += tokens
    return result


def _quarantine_row(text_id: str, language: str, why: Rejection) -> dict[str, Any]:
    return {"row_id": text_id, "language": language, "reason": why.reason, "detail": why.detail}


def _measure(
    model: Any, pad_id: int, encoded: list[_Encoded], pooling: str | None, precision: str, *, packed: bool
) -> list[dict[str, Any]]:
    import torch

    from mpo_core.training.layout import Item, pack, pad
    from mpo_core.training.objective import mean_log_probability, reward_gap

    pools = pooling in ("mean", "last")
    how: Pooling = "last" if pooling == "last" else "mean"
    items = [Item(pair.ids, scored=True, pooled=pools) for pair in encoded]
    layout = (pack(items, how) if packed else pad(items, how, pad_id)).to(model.device)
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with torch.no_grad(), autocast:
        out = model(layout=layout)
    tokens = torch.tensor(layout.answers, device=out.log_p.device)
    rewards = mean_log_probability(out.log_p, tokens)
    gap, reward_values = reward_gap(rewards).tolist(), rewards.tolist()
    states = out.pooled.cpu().tolist() if pools else [None] * len(reward_values)
    return [
        {
            "text_id": pair.text.text_id,
            "language": pair.text.language,
            "kind": pair.text.kind,
            "gap": gap[i],
            "chosen_reward": reward_values[2 * i],
            "rejected_reward": reward_values[2 * i + 1],
            "chosen_tokens": len(pair.ids.chosen),
            "rejected_tokens": len(pair.ids.rejected),
            "ids": pair.ids.digest(),
            "chosen_pooled": states[2 * i],
            "rejected_pooled": states[2 * i + 1],
        }
        for i, pair in enumerate(encoded)
    ]
