"""Joins pairs with the reference's figures by id, into the rows that training works on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import QUARANTINE
from mpo_core.contract.training import TrainingMethod
from mpo_core.models.chat import encode_prompt
from mpo_core.training.cuts import Cuts
from mpo_core.training.encoding import (
    Cut,
    EncodedText,
    PairText,
    Rejection,
    Translation,
    encode_translations,
    encode_with_cut,
)
from mpo_core.training.reference import source_texts, target_texts


class PairRow(NamedTuple):
    """One row of training: a target pair, its dominant pair, and the reference's figures for them."""

    pair_id: str
    source_id: str
    language: str
    target: EncodedText
    source: EncodedText
    anchor_gap: float
    """Reward gap that the target pair's gap is pulled to, in nats per token."""
    beta: float
    weight: float
    """How much the row counts in the mean."""
    pooled: tuple[Tensor, Tensor] | None
    """[D] of the reference on dominant chosen and rejected; None for `padded_mean`."""
    reference: tuple[float, float] | None
    """Summed log-probability of the target's chosen and rejected, where the method compares with it."""
    own_goal: bool = False
    """`anchor_gap` is the reference's gap of the target pair itself, not of the dominant one."""
    bare: EncodedText | None = None
    """The target's answers after an empty request, where the method compares with them."""
    translations: Sequence[Translation] = ()
    """The prompt in languages that have no pairs, where the training compares them."""

    @property
    def longest(self) -> int:
        """Number of tokens of the longest sequence that goes through the model."""
        return max(self.source.longest, self.target.longest, *(len(ids) for _, ids in self.translations))


class _Match(NamedTuple):
    target: EncodedText
    source: EncodedText
    gap: float
    own_goal: bool
    reference: tuple[float, float] | None


def join(
    pairs: pa.Table,
    *,
    references: pa.Table,
    tokenizer: Any,
    settings: TrainingMethod,
    system: str | None,
    model: str | None = None,
    cuts: Cuts | None = None,
    translations: pa.Table | None = None,
) -> tuple[list[PairRow], pa.Table]:
    """Makes the rows of the training in the order of `pairs`, and rejects pairs that cannot be trained on.

    A row aims at the reference's gap of the dominant pair or of its own (`TrainingMethod.anchor`).

    Args:
        pairs: table PAIRS.
        references: table GAPS of the dominant pairs and of the target pairs, where the method needs them.
        tokenizer: of the model that trains.
        settings: of the training; its cutoff and what the method needs count here.
        system: system message before each prompt.
        model: digest of the initial model, which the references must be of; None checks nothing.
        cuts: counts what the cut-off took from the rows and their dominant pairs.
        translations: table TRANSLATIONS of the prompts into languages that have no pairs.

    Returns:
        rows, and QUARANTINE with reasons `empty_response`, `over_long`, `no_reference`, `no_weight`.

    Raises:
        BadInputError: the references are of another model, template, tokenizer, cut-off or
            text, or hold no pooled states where retention needs them.
    """
    known = {row["text_id"]: row for row in references.drop_columns(["chosen_pooled", "rejected_pooled"]).to_pylist()}
    _refuse_other_model(known, model)
    encoded = {
        text.text_id: encode_with_cut(tokenizer, text, cutoff=settings.cutoff, system=system)
        for text in source_texts(pairs)
    }
    sources = {name: source for name, (source, _) in encoded.items()}
    lost: dict[tuple[str, str], Cut] = {}
    states = _states(references, sources, settings)
    empty = encode_prompt(tokenizer, "", system=system) if settings.needs_bare_reference else None
    rows: list[PairRow] = []
    rejected: list[dict[str, str]] = []
    others: dict[str, list[Translation]] = {}
    if translations is not None:
        others, rejected = encode_translations(
            tokenizer, translations, {*pairs["prompt_id"].to_pylist()}, cutoff=settings.cutoff, system=system
        )
    meta = pairs.select(["source_id", "prompt_id", "source_language", "weight"]).to_pylist()
    for text, about in zip(target_texts(pairs), meta, strict=True):
        source_id = about["source_id"]
        target, cut = encode_with_cut(tokenizer, text, cutoff=settings.cutoff, system=system)
        weight = 1.0 if about["weight"] is None else about["weight"]
        match: _Match | Rejection = Rejection("no_weight", f"weight {weight}")
        if 0.0 < weight < math.inf:
            match = _match(text, target, source_id, sources[source_id], known, settings)
        if isinstance(match, Rejection):
            rejected.append({"row_id": text.text_id, "language": text.language, **match._asdict()})
            continue
        lost[text.language, text.text_id] = cut
        lost[about["source_language"], source_id] = encoded[source_id][1]
        rows.append(
            PairRow(
                text.text_id,
                source_id,
                text.language,
                match.target,
                match.source,
                match.gap,
                settings.beta_of(text.language),
                weight,
                states.get(source_id),
                match.reference,
                match.own_goal,
                None if empty is None else match.target._replace(prompt=empty),
                others.get(about["prompt_id"], ()),
            )
        )
    for (language, _), cut in lost.items():
        if cuts is not None:
            cuts.add(language, cut)
    return rows, QUARANTINE.build(rejected)


def _match(
    text: PairText,
    target: EncodedText | Rejection,
    source_id: str,
    source: EncodedText | Rejection,
    known: dict[str, dict[str, Any]],
    settings: TrainingMethod,
) -> _Match | Rejection:
    """Joins a row's token ids with the figures that its method takes from the reference."""
    if isinstance(source, Rejection):
        return Rejection(source.reason, f"dominant pair, {source.detail}")
    if isinstance(target, Rejection):
        return target
    own = settings.needs_sources and settings.anchor(text.kind) == "own"
    needs_source = settings.needs_sources
    needs_target = settings.needs_target_reference or own
    for needed, name, ids, what in (
        (needs_source, source_id, source, "dominant pair"),
        (needs_target, text.text_id, target, "target pair"),
    ):
        if needed and name not in known:
            return Rejection("no_reference", what)
        if needed and known[name]["ids"] != ids.digest():
            raise BadInputError(
                "the reference was measured with another text, chat template, tokenizer or cut-off",
                where=f"references, {what} {name}",
                fix="Compute the references of these very pairs with these settings.",
            )
    gap = known[text.text_id if own else source_id]["gap"] if needs_source else 0.0
    reference = None
    if settings.needs_target_reference:
        row = known[text.text_id]
        reference = (
            row["chosen_reward"] * row["chosen_tokens"],
            row["rejected_reward"] * row["rejected_tokens"],
        )
    return _Match(target, source, gap, own, reference)


def _refuse_other_model(known: dict[str, dict[str, Any]], model: str | None) -> None:
    others = {row["model"] for row in known.values()} - {model}
    if model is not None and others:
        raise BadInputError(
            f"the references were measured on another model ({', '.join(sorted(digest[:12] for digest in others))})",
            where=f"references, model {model[:12]}",
            fix="Compute the references with the model that is to be trained.",
        )


def _states(
    references: pa.Table, sources: dict[str, EncodedText | Rejection], settings: TrainingMethod
) -> dict[str, tuple[Tensor, Tensor]]:
    if settings.pooling == "padded_mean" or not settings.needs_sources:
        return {}
    states = {}
    for row in references.select(["text_id", "chosen_pooled", "rejected_pooled"]).to_pylist():
        if row["text_id"] not in sources:
            continue
        if row["chosen_pooled"] is None or row["rejected_pooled"] is None:
            raise BadInputError(
                "the references hold no pooled hidden states",
                where="training.retention.pooling",
                fix="Compute the references anew with this pooling.",
            )
        states[row["text_id"]] = (torch.tensor(row["chosen_pooled"]), torch.tensor(row["rejected_pooled"]))
    return states
