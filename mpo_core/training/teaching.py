"""The teacher of self-distillation: the model before training, which sees the originals of translated prompts too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.progress import Progress
from mpo_core.contract.tables import QUARANTINE, TEACHER
from mpo_core.models import refuse_longer
from mpo_core.models.chat import encode_prompt, encode_response
from mpo_core.models.memory import halving
from mpo_core.training.encoding import EncodedText
from mpo_core.training.reference import batches

if TYPE_CHECKING:
    from torch import Tensor


def teacher_prompt(instruction: str, *, prompt: str, original: str) -> str:
    """Fills an instruction with a prompt and its original; braces inside of these stay as they are."""
    texts = {"{prompt}": prompt, "{original}": original}
    return re.sub("{prompt}|{original}", lambda match: texts[match[0]], instruction)


def objection(verdict: Mapping[str, Any] | None) -> str | None:
    """Returns why the student must not learn an answer, by its row of VERDICTS; None if it may."""
    if verdict is None:
        return "unjudged"
    if verdict["verdict"] != "safe":
        return str(verdict["verdict"])
    return "refusal" if verdict["refusal"] and verdict["kind"] == "harmless" else None


class _Answer(NamedTuple):
    """A teacher's answer: a row of TEACHER so far, and the token ids of what the teacher saw and said."""

    row: dict[str, Any]
    ids: EncodedText


def distributions(
    model: Any,
    tokenizer: Any,
    responses: pa.Table,
    verdicts: pa.Table,
    originals: Mapping[str, str],
    *,
    instruction: str,
    top_k: int,
    cutoff: int,
    system: str | None,
    digest: str,
    precision: str,
    tokens_per_forward: int | None,
    progress: Progress,
) -> tuple[pa.Table, pa.Table]:
    """Measures the teacher's likeliest tokens at each token of those of its answers that the student may learn.

    Args:
        model: the teacher, a causal language model.
        tokenizer: its tokenizer.
        responses: RESPONSES to the prompts in the target language, as the student sees them.
        verdicts: VERDICTS on them.
        originals: text of each prompt in the dominant language, by prompt_id.
        instruction: see `teacher_prompt`.
        top_k: number of likeliest tokens; at most the vocabulary less one.
        cutoff: maximum length of the student's sequence in tokens; a longer answer is cut.
        system: system message before each prompt.
        digest: of the model.
        precision: `bfloat16` computes under autocast, as training does.
        tokens_per_forward: see `reference.batches`; where memory runs out, it is halved.
        progress: called with (done, all) after each forward.

    Returns:
        TEACHER, and QUARANTINE with reasons `unsafe`, `invalid`, `unjudged`, `refusal` (of a harmless prompt),
        `empty_response`, `over_long`, `not_finite`.

    Raises:
        BadInputError: a sequence is longer than the model's context.
    """
    import torch

    from mpo_core.training.forward import can_pack, inner, scoring
    from mpo_core.training.head import describe_head
    from mpo_core.training.layout import Item, pack, pad
    from mpo_core.training.top_tokens import top_tokens

    by_key = {_key(row): row for row in verdicts.to_pylist()}
    answers: list[_Answer] = []
    rejected: list[dict[str, Any]] = []
    for response in responses.to_pylist():
        verdict = by_key.get(_key(response))
        original = originals[response["prompt_id"]]
        answer = objection(verdict) or _encoded(tokenizer, response, original, instruction, cutoff, system)
        if isinstance(answer, str):
            rejected.append(_rejected(response, answer))
        else:
            answers.append(answer._replace(row=answer.row | {"kind": (verdict or {})["kind"], "model": digest}))
    refuse_longer((answer.ids.longest for answer in answers), model.config, cutoff)
    rows, packed, out, done = [], can_pack(model), inner(model).get_output_embeddings(), 0
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bfloat16")

    def compute(batch: list[_Answer]) -> list[Tensor]:
        items = [Item(answer.ids, scored=False, pooled=False, compared=True) for answer in batch]
        layout = pack(items, "mean") if packed else pad(items, "mean", tokenizer.pad_token_id)
        states = model(layout=layout.to(model.device)).states
        top = top_tokens(states, out.weight, out.bias, describe_head(model.config), min(top_k, len(out.weight) - 1))
        return [part.cpu() for part in top]

    model.eval()
    with scoring(model, packed=packed, keep=0), torch.no_grad(), autocast:
        passes = batches(answers, model, tokens_per_forward, packed=packed)
        for batch, top in halving(passes, compute, tokens=lambda answer: answer.ids.longest, too_small=_too_small):
            lengths = [len(answer.ids.chosen) for answer in batch]
            for answer, ids, log_p, rest in zip(batch, *(part.split(lengths) for part in top), strict=True):
                if bool(log_p.isfinite().all()):
                    figures = {"top_ids": ids.flatten(), "top_log_probs": log_p.flatten(), "rest_log_probs": rest}
                    rows.append(answer.row | {name: values.tolist() for name, values in figures.items()})
                else:
                    rejected.append(_rejected(answer.row, "not_finite"))
            done += len(batch)
            progress(done, len(answers))
    return TEACHER.build(sorted(rows, key=_key)), QUARANTINE.build(rejected)


def _too_small(answer: _Answer) -> BadInputError:
    return BadInputError(
        f"the memory is too small for the {answer.ids.longest} tokens of an answer",
        where=f"distillation, prompt {answer.row['prompt_id']}",
        fix="Lower training.cutoff, or set training.weights to bfloat16 (with training.lora).",
    )


def _encoded(
    tokenizer: Any, response: dict[str, Any], original: str, instruction: str, cutoff: int, system: str | None
) -> _Answer | str:
    """Returns the token ids of an answer and of both its prompts, or why the student cannot learn it."""
    if not response["text"].strip():
        return "empty_response"
    prompt = encode_prompt(tokenizer, response["prompt"], system=system)
    tokens = encode_response(tokenizer, response["text"])
    if response["finish_reason"] == "length":
        tokens = tokens[:-1]  # the teacher did not end it here
    tokens = tokens[: max(cutoff - len(prompt), 0)]
    if not tokens:
        return "over_long"
    seen = encode_prompt(
        tokenizer, teacher_prompt(instruction, prompt=response["prompt"], original=original), system=system
    )
    row = {name: response[name] for name in ("prompt_id", "language", "sample")}
    return _Answer(row | {"prompt_tokens": prompt, "tokens": tokens}, EncodedText(seen, tokens, []))


def _key(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["prompt_id"], row["language"], row["sample"]


def _rejected(row: Mapping[str, Any], reason: str) -> dict[str, Any]:
    return {
        "row_id": f"{row['prompt_id']}/{row['sample']}",
        "language": row["language"],
        "reason": reason,
        "detail": "teacher's answer",
    }
