"""Measures a model's command of languages on parallel text: bits per byte of each passage, and their paired change.

Bits per byte are the bits that the model needs for a text (the sum of -log2 p of its tokens), over the bytes of the
text in UTF-8. Unlike perplexity per token they do not depend on how the tokenizer cuts the text, so models with
different tokenizers can be compared on the same text. They do not compare languages: scripts need one to three bytes a
character.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from scipy import stats

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.metric import BITS_PER_BYTE, PARALLEL_TEXT
from mpo_core.contract.tables import COMPARISONS, PASSAGES, TEXT_SCORES
from mpo_core.evaluation.metrics import mean_row, require_finite
from mpo_core.evaluation.statistics import add_holm, mean_interval
from mpo_core.models.chat import encode_data
from mpo_core.models.context import context_length

_LOGITS = 2**26  # logits that exist at one time: 256 MiB in float32


def score_text(
    model: Any,
    tokenizer: Any,
    passages: pa.Table,
    *,
    digest: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Computes the bits that a model needs for each passage, after the token that begins a text.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer; if it has no token that begins a text, its end token stands in.
        passages: table PASSAGES.
        digest: of the model, written beside each figure.
        progress: called with (done, all) after each batch.

    Returns:
        Table TEXT_SCORES in the order of `passages`.

    Raises:
        BadInputError: a passage is longer than the model's context.
    """
    rows = PASSAGES.check(passages).to_pylist()
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    texts = [[first, *encode_data(tokenizer, row["text"])] for row in rows]
    limit, longest = context_length(model.config), max(map(len, texts), default=0)
    if limit is not None and longest > limit:
        raise BadInputError(
            f"a passage has {longest} tokens, and the model can read {limit}",
            where="evaluation.parallel_text",
            fix="Split the passages of this file.",
        )
    bits: dict[int, float] = {}
    for batch in _batches(texts, model.config.get_text_config().vocab_size):
        bits |= zip(batch, _bits(model, [texts[at] for at in batch]), strict=True)
        if progress is not None:
            progress(len(bits), len(texts))
    return TEXT_SCORES.build(
        {
            "passage_id": row["passage_id"],
            "language": row["language"],
            "bytes": len(row["text"].encode()),
            "tokens": len(texts[at]) - 1,
            "bits": bits[at],
            "model": digest,
        }
        for at, row in enumerate(rows)
    )


def _batches(texts: list[list[int]], vocabulary: int) -> Iterator[list[int]]:
    """Yields the indices of texts of similar length, as many at a time as their logits' memory allows."""
    batch: list[int] = []
    for at in sorted(range(len(texts)), key=lambda at: -len(texts[at])):
        if batch and (len(batch) + 1) * len(texts[batch[0]]) * vocabulary > _LOGITS:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def _bits(model: Any, texts: list[list[int]]) -> list[float]:
    """Returns the bits of each text after its first token. Pads stand at the end, where no real token reads them."""
    import torch

    width = max(map(len, texts))
    ids = torch.tensor([text + [0] * (width - len(text)) for text in texts], device=model.device)
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts], device=model.device)
    with torch.inference_mode():
        log_p = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float().log_softmax(-1)
        nats = -log_p.gather(-1, ids[:, 1:, None]).squeeze(-1) * mask[:, 1:]
    return [value / math.log(2) for value in nats.double().sum(1).tolist()]


def text_metrics(scores: pa.Table, *, model: str, confidence: float) -> list[dict[str, Any]]:
    """Returns rows of METRICS: mean bits per byte over the passages of each language, with Student's interval.

    A language with fewer than two passages has no row, since an interval needs two.

    Raises:
        BadInputError: a figure is not a finite number.
    """
    by_language = {code: list(values.values()) for code, values in _rates(scores).items() if len(values) > 1}
    require_finite(by_language, "bits per byte")
    name = {"benchmark": PARALLEL_TEXT, "model": model, "metric": BITS_PER_BYTE.name}
    return [{**name, "language": code, **mean_row(values, confidence)} for code, values in by_language.items()]


def compare_text(before: pa.Table, after: pa.Table, *, confidence: float) -> pa.Table:
    """Computes the paired change of bits per byte by language; passages are joined by id.

    `gained` counts the passages that need more bits after than before, `lost` those that need fewer. The interval and
    the p-value are Student's, of the paired differences; the latter is also adjusted for all languages (Holm).

    Args:
        before: table TEXT_SCORES of the first model.
        after: table TEXT_SCORES of the second, on the same passages.
        confidence: level of the intervals, such as 0.95.

    Returns:
        Table COMPARISONS, with a row for each language that has two passages or more.

    Raises:
        BadInputError: a passage was measured on one side only.
    """
    first, second = _rates(before), _rates(after)
    if {(code, name) for code in first for name in first[code]} != {(c, n) for c in second for n in second[c]}:
        raise BadInputError(
            "the two models were measured on different passages",
            where="comparison before/after, parallel text",
            fix="Measure both models on the same text and in the same languages.",
        )
    name = {"benchmark": PARALLEL_TEXT, "metric": BITS_PER_BYTE.name}
    rows = [
        {**name, "language": code, **_paired([second[code][name] - rate for name, rate in rates.items()], confidence)}
        for code, rates in first.items()
        if len(rates) > 1
    ]
    add_holm(rows)
    return COMPARISONS.build(rows)


def _paired(changes: list[float], confidence: float) -> dict[str, Any]:
    low, high = mean_interval(changes, confidence)
    return {
        "n": len(changes),
        "gained": sum(change > 0 for change in changes),
        "lost": sum(change < 0 for change in changes),
        "difference": math.fsum(changes) / len(changes),
        "difference_low": low,
        "difference_high": high,
        "p_value": float(stats.ttest_1samp(changes, 0.0).pvalue) if any(changes) else 1.0,
    }


def _rates(scores: pa.Table) -> dict[str, dict[str, float]]:
    rates: dict[str, dict[str, float]] = defaultdict(dict)
    for row in TEXT_SCORES.check(scores).to_pylist():
        rates[row["language"]][row["passage_id"]] = row["bits"] / row["bytes"]
    return dict(sorted(rates.items()))
