"""Pairs joined with their reference by id, and batches of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from mpo_core.errors import BadInputError
from mpo_core.settings import TrainingSettings
from mpo_core.tables import QUARANTINE
from mpo_core.training.encoding import EncodedText, PairText, SetAside, encode_text
from mpo_core.training.objective import IGNORE
from mpo_core.training.reference import source_texts, target_texts

MULTIPLE = 8  # padded lengths are rounded up to this, as in the released code


class PairRow(NamedTuple):
    """One row of training: a target pair, its dominant pair, and what the reference says."""

    pair_id: str
    target: EncodedText
    source: EncodedText
    anchor_gap: float
    """Goal of the target gap, nats per token."""
    pooled: tuple[Tensor, Tensor] | None
    """[D] of the reference on dominant chosen and rejected; None for `padded_mean`."""


def join(
    pairs: pa.Table, references: pa.Table, tokenizer: Any, settings: TrainingSettings, *, system: str | None
) -> tuple[list[PairRow], pa.Table]:
    """The rows of training in the order of `pairs`; what cannot be trained on is set aside.

    Harmless rows aim at the reference's gap of their own pair (`anchor_gap="own"`) or, as
    in the paper, at the dominant one; harmful rows always at the dominant one.

    Args:
        pairs: PAIRS.
        references: GAPS of the dominant pairs, and of the harmless target pairs for `own`.
        tokenizer: of the model that trains.
        settings: cutoff, anchor_gap and retention count here.
        system: system message before each prompt.

    Returns:
        rows, and QUARANTINE with reasons `empty_response`, `over_long`, `no_reference`.

    Raises:
        BadInputError: the references hold no pooled states where retention needs them.
    """
    columns = references.select(["text_id", "gap", "chosen_pooled", "rejected_pooled"]).to_pylist()
    known = {row["text_id"]: row for row in columns}
    sources = {
        text.text_id: encode_text(tokenizer, text, cutoff=settings.cutoff, system=system)
        for text in source_texts(pairs)
    }
    states = {} if settings.retention.pooling == "padded_mean" else _states(known, sources)
    rows: list[PairRow] = []
    aside: list[dict[str, str]] = []
    meta = pairs.select(["source_id", "kind"]).to_pylist()
    for text, about in zip(target_texts(pairs), meta, strict=True):
        source_id = about["source_id"]
        own = settings.anchor_gap == "own" and about["kind"] == "harmless"
        found = _usable(tokenizer, text, sources[source_id], settings.cutoff, system)
        if not isinstance(found, SetAside):
            missing = {source_id, text.text_id if own else source_id} - known.keys()
            if missing:
                found = SetAside("no_reference", "target pair" if source_id not in missing else "dominant pair")
        if isinstance(found, SetAside):
            aside.append({"row_id": text.text_id, "language": text.language, **found._asdict()})
            continue
        anchor = known[text.text_id if own else source_id]["gap"]
        rows.append(PairRow(text.text_id, found[0], found[1], anchor, states.get(source_id)))
    return rows, QUARANTINE.build(aside)


def _usable(
    tokenizer: Any, text: PairText, source: EncodedText | SetAside, cutoff: int, system: str | None
) -> tuple[EncodedText, EncodedText] | SetAside:
    if isinstance(source, SetAside):
        return SetAside(source.reason, f"dominant pair, {source.detail}")
    target = encode_text(tokenizer, text, cutoff=cutoff, system=system)
    return target if isinstance(target, SetAside) else (target, source)


def _states(known: dict[str, dict[str, Any]], sources: dict[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
    states = {}
    for source_id in sources.keys() & known.keys():
        row = known[source_id]
        if row["chosen_pooled"] is None or row["rejected_pooled"] is None:
            raise BadInputError(
                "the references hold no pooled hidden states",
                where="training.retention.pooling",
                mend="Compute the references anew with this pooling.",
            )
        states[source_id] = (torch.tensor(row["chosen_pooled"]), torch.tensor(row["rejected_pooled"]))
    return states


def stack(texts: list[EncodedText], pad_id: int) -> dict[str, Tensor]:
    """Chosen rows, then rejected rows, right-padded to the longest, rounded up to `MULTIPLE`.

    Args:
        texts: n encoded pairs.
        pad_id: token id of the padding; it counts in `padded_mean`.

    Returns:
        `input_ids`, `attention_mask`, `labels`, each int64 [2n, T]; labels are the answers.
    """
    rows = [(text.prompt, text.chosen) for text in texts] + [(text.prompt, text.rejected) for text in texts]
    length = math.ceil(max(len(prompt) + len(answer) for prompt, answer in rows) / MULTIPLE) * MULTIPLE
    input_ids = torch.full((len(rows), length), pad_id)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORE)
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        input_ids[i, :end] = torch.tensor(prompt + answer)
        attention_mask[i, :end] = 1
        labels[i, len(prompt) : end] = torch.tensor(answer)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


class PairCollator:
    """Batches of `PairRow`: target and dominant sequences padded apart.

    A batch of n rows holds `pair_ids` (n names), `target` and `source` (see `stack`),
    `anchor_gap` [n] and, unless pooling is `padded_mean`, `reference` [2n, D].
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: list[PairRow]) -> dict[str, Any]:
        """The batch of these rows."""
        batch: dict[str, Any] = {
            "pair_ids": [row.pair_id for row in rows],
            "target": stack([row.target for row in rows], self.pad_id),
            "source": stack([row.source for row in rows], self.pad_id),
            "anchor_gap": torch.tensor([row.anchor_gap for row in rows], dtype=torch.float32),
        }
        states = [row.pooled for row in rows if row.pooled is not None]
        if states:
            batch["reference"] = torch.stack([chosen for chosen, _ in states] + [rejected for _, rejected in states])
        return batch
