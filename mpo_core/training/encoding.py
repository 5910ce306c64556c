"""Turns the texts of a preference pair into token ids, cut at `training.cutoff`. Does not import torch."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any, NamedTuple

import pyarrow as pa

from mpo_core.models.chat import encode_prompt, encode_response


class PairText(NamedTuple):
    """One preference pair in one language."""

    text_id: str
    """source_id of a dominant pair, pair_id of a target pair."""
    language: str
    prompt: str
    chosen: str
    rejected: str
    kind: str = "harmful"
    """harmful or harmless, as in the pair."""


class EncodedText(NamedTuple):
    """Token ids of a pair; each answer ends in the end-of-turn token unless it was cut."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def longest(self) -> int:
        """Number of tokens of the prompt and the longer of its two answers."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    def digest(self) -> str:
        """Returns 16 hex digits of sha256 over the ids: what text, template, tokenizer and cut-off made of the pair."""
        return hashlib.sha256(repr(tuple(self)).encode()).hexdigest()[:16]


class Rejection(NamedTuple):
    """Why a pair cannot be used: a short stable reason, and numbers that explain it."""

    reason: str
    detail: str


def truncated_lengths(prompt: int, answer: int, cutoff: int) -> tuple[int, int]:
    """Returns lengths of prompt and answer that fit into `cutoff` together, by the rule of the MPO authors' code.

    If the longer answer is under half of the cut-off, only the prompt is cut; else both are,
    in proportion. Ends are cut, so a cut answer loses its end token.

    Args:
        prompt: tokens of the prompt.
        answer: tokens of the longer of the two answers.
        cutoff: maximum length of a sequence in tokens.

    Returns:
        number of tokens of the prompt, and maximum number of tokens of an answer.
    """
    allowed = cutoff if answer * 2 < cutoff else int(cutoff * (answer / (prompt + answer)))
    allowed_answer = min(allowed, answer)
    return min(prompt, max(cutoff - allowed_answer, 0)), allowed_answer


class Cut(NamedTuple):
    """What a pair lost when it was cut at `cutoff`."""

    prompt: bool = False
    """Its prompt lost tokens."""
    answer: bool = False
    """An answer lost tokens of its text."""
    end: bool = False
    """An answer lost its end-of-turn token, and perhaps more."""


def encode_text(tokenizer: Any, text: PairText, *, cutoff: int, system: str | None) -> EncodedText | Rejection:
    """Returns the token ids of a pair, prompt and answers tokenised apart, cut at `cutoff`.

    An empty answer, or one of which nothing fits, would have a reward of 0/0: it comes
    back as `Rejection`, never as NaN.
    """
    return encode_with_cut(tokenizer, text, cutoff=cutoff, system=system)[0]


def encode_with_cut(
    tokenizer: Any, text: PairText, *, cutoff: int, system: str | None
) -> tuple[EncodedText | Rejection, Cut]:
    """Returns the token ids of a pair as `encode_text` gives them, and what the cut-off took from it."""
    empty = [name for name, answer in (("chosen", text.chosen), ("rejected", text.rejected)) if not answer.strip()]
    if empty:
        return Rejection("empty_response", f"empty: {', '.join(empty)}"), Cut()
    prompt = encode_prompt(tokenizer, text.prompt, system=system)
    answers = (encode_response(tokenizer, text.chosen), encode_response(tokenizer, text.rejected))
    longer = max(map(len, answers))
    prompt_length, answer_length = truncated_lengths(len(prompt), longer, cutoff)
    if not (prompt_length and answer_length):
        return Rejection("over_long", f"prompt {len(prompt)}, answer {longer}, cutoff {cutoff} tokens"), Cut()
    # Of an answer's tokens the last one is its end-of-turn token.
    cut = Cut(prompt_length < len(prompt), answer_length < longer - 1, answer_length < longer)
    chosen, rejected = (answer[:answer_length] for answer in answers)
    return EncodedText(prompt[:prompt_length], chosen, rejected), cut


Translation = tuple[str, list[int]]
"""Language and token ids of a translated prompt."""


def encode_translations(
    tokenizer: Any, translations: pa.Table, prompts: Collection[str], *, cutoff: int, system: str | None
) -> tuple[dict[str, list[Translation]], list[dict[str, str]]]:
    """Returns the translations of these prompts by prompt id, and rows of QUARANTINE for those beyond the cut-off.

    They are not cut: the end of a prompt is what a training compares.
    """
    by_prompt: dict[str, list[Translation]] = {}
    rejected = []
    for row in translations.to_pylist():
        if row["role"] != "prompt" or row["prompt_id"] not in prompts:
            continue
        ids = encode_prompt(tokenizer, row["text"], system=system)
        if len(ids) <= cutoff:
            by_prompt.setdefault(row["prompt_id"], []).append((row["language"], ids))
        else:
            name = {"row_id": f"{row['prompt_id']}/{row['language']}", "language": row["language"]}
            rejected.append(name | {"reason": "over_long", "detail": f"prompt {len(ids)}, cutoff {cutoff} tokens"})
    return by_prompt, rejected
