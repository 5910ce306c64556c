"""What the frozen model says, once per pair and before training: reward gaps and hidden states.

Nothing here depends on what trains, so no reference model is in memory while training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from mpo_core.tables import GAPS, QUARANTINE
from mpo_core.training.encoding import EncodedText, PairText, SetAside, encode_text

if TYPE_CHECKING:
    from torch import Tensor


def source_texts(pairs: pa.Table) -> list[PairText]:
    """The dominant pairs of a PAIRS table, each once; `text_id` is the source_id."""
    columns = ["source_id", "source_language", "source_prompt", "source_chosen", "source_rejected", "kind"]
    unique = {row["source_id"]: PairText(*row.values()) for row in pairs.select(columns).to_pylist()}
    return list(unique.values())


def target_texts(pairs: pa.Table) -> list[PairText]:
    """The target pairs of a PAIRS table, in order; `text_id` is the pair_id."""
    columns = ["pair_id", "language", "target_prompt", "target_chosen", "target_rejected", "kind"]
    return [PairText(*row.values()) for row in pairs.select(columns).to_pylist()]


class _Item(NamedTuple):
    text: PairText
    ids: EncodedText


def gaps(
    model: Any,
    tokenizer: Any,
    texts: list[PairText],
    *,
    cutoff: int,
    system: str | None,
    pooling: str | None,
    precision: str = "float32",
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Reward gap (eq. 2) and pooled hidden states of each text under `model`, frozen.

    The figures do not depend on `batch_size` beyond rounding: pads are masked. Hence
    `padded_mean`, which is a property of a batch and not of a text, gives null states here;
    the trainer takes those in its own batches.

    Args:
        model: the reference, a causal language model.
        tokenizer: its tokenizer.
        texts: pairs in one or several languages, unique ids.
        cutoff: most tokens of a sequence, as in training.
        system: system message before each prompt.
        pooling: `mean` or `last`; None or `padded_mean` leaves the states null.
        precision: `bfloat16` computes under autocast, as training does, so that L2 starts near zero.
        batch_size: texts per forward (two sequences each).
        progress: called with (done, all) after each batch.

    Returns:
        GAPS in the order of `texts`, and QUARANTINE with reasons `empty_response`,
        `over_long`, `not_finite`.
    """
    items, aside = _encode(tokenizer, texts, cutoff=cutoff, system=system)
    rows: dict[str, dict[str, Any]] = {}
    # Longest first: the least padding, and memory runs out at once or never.
    items.sort(key=lambda item: -len(item.ids.prompt) - max(len(item.ids.chosen), len(item.ids.rejected)))
    for start in range(0, len(items), batch_size):
        batch = items[start : start + batch_size]
        for row in _measure(model, tokenizer.pad_token_id, batch, pooling, precision):
            if math.isfinite(row["chosen_reward"]) and math.isfinite(row["rejected_reward"]):
                rows[row["text_id"]] = row
            else:
                aside.append(
                    _aside(row["text_id"], row["language"], SetAside("not_finite", "the model gave no number"))
                )
        if progress is not None:
            progress(start + len(batch), len(items))
    ordered = [rows[text.text_id] for text in texts if text.text_id in rows]
    return GAPS.build(ordered), QUARANTINE.build(aside)


def _encode(
    tokenizer: Any, texts: list[PairText], *, cutoff: int, system: str | None
) -> tuple[list[_Item], list[dict[str, Any]]]:
    items, aside = [], []
    for text in texts:
        ids = encode_text(tokenizer, text, cutoff=cutoff, system=system)
        if isinstance(ids, SetAside):
            aside.append(_aside(text.text_id, text.language, ids))
        else:
            items.append(_Item(text, ids))
    return items, aside


def _aside(text_id: str, language: str, why: SetAside) -> dict[str, Any]:
    return {"row_id": text_id, "language": language, "reason": why.reason, "detail": why.detail}


def _measure(model: Any, pad_id: int, items: list[_Item], pooling: str | None, precision: str) -> list[dict[str, Any]]:
    import torch

    from mpo_core.training.collator import stack
    from mpo_core.training.forward import response_rewards
    from mpo_core.training.objective import pool, reward_gap

    model.eval()
    batch = {key: value.to(model.device) for key, value in stack([item.ids for item in items], pad_id).items()}
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with torch.no_grad(), autocast:
        rewards, hidden = response_rewards(model, batch)
        pooled: Tensor | None = None
        if pooling in ("mean", "last"):
            pooled = pool(hidden, batch["attention_mask"], "mean" if pooling == "mean" else "last")
    gap = reward_gap(rewards).tolist()
    chosen, rejected = (half.tolist() for half in rewards.chunk(2))
    states = [None] * (2 * len(items)) if pooled is None else pooled.cpu().tolist()
    return [
        {
            "text_id": item.text.text_id,
            "language": item.text.language,
            "kind": item.text.kind,
            "gap": gap[i],
            "chosen_reward": chosen[i],
            "rejected_reward": rejected[i],
            "chosen_tokens": len(item.ids.chosen),
            "rejected_tokens": len(item.ids.rejected),
            "chosen_pooled": states[i],
            "rejected_pooled": states[len(items) + i],
        }
        for i, item in enumerate(items)
    ]
