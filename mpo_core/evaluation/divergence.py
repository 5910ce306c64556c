"""Measures how far a trained model's words are from the base model's, on the base model's own harmless answers."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.metric import DOMINANT_KL
from mpo_core.contract.tables import DIVERGENCES, PROMPTS, RESPONSES
from mpo_core.evaluation.metrics import mean_row, require_finite
from mpo_core.models.chat import encode_prompt, encode_response


def divergences(
    base: Any,
    trained: Any,
    tokenizer: Any,
    answers: pa.Table,
    prompts: pa.Table,
    *,
    system: str | None,
    cutoff: int,
    progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Computes KL(base ‖ trained) at each token of the base model's answers to harmless prompts, as a mean per answer.

    At every place the whole distributions of the next token are compared, so the figure is not an estimate from
    samples. It is 0 for equal models and grows where the trained model would no longer say what the base model says.

    Args:
        base: the model before training.
        trained: the model after training, with the same tokenizer.
        tokenizer: of both.
        answers: table RESPONSES of the base model; of each prompt the first sample is read.
        prompts: table PROMPTS, which says of what kind a prompt is.
        system: system message before each prompt.
        cutoff: maximum number of tokens of prompt and answer together; the rest of an answer is not read.
        progress: called with (done, all) after each answer.

    Returns:
        Table DIVERGENCES. An empty answer, and one that the cut-off leaves nothing of, has no row.
    """
    harmless = {row["prompt_id"] for row in PROMPTS.check(prompts).to_pylist() if row["kind"] == "harmless"}
    rows = [
        row
        for row in RESPONSES.check(answers).to_pylist()
        if row["prompt_id"] in harmless and row["sample"] == 0 and row["text"].strip()
    ]
    measured = []
    for number, row in enumerate(rows, start=1):
        prompt = encode_prompt(tokenizer, row["prompt"], system=system)
        ids = [*prompt, *encode_response(tokenizer, row["text"])][:cutoff]
        if len(ids) > len(prompt):
            values = token_divergences(base, trained, ids, first=len(prompt))
            name = {"prompt_id": row["prompt_id"], "language": row["language"]}
            measured.append({**name, "tokens": len(values), "kl": sum(values) / len(values)})
        if progress is not None:
            progress(number, len(rows))
    return DIVERGENCES.build(measured)


def token_divergences(base: Any, trained: Any, ids: list[int], *, first: int) -> list[float]:
    """Returns KL(base ‖ trained) in nats of the distribution of each token from the index `first` on."""
    import torch

    def log_p(model: Any) -> Any:
        scores = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits
        return scores[0, first - 1 : -1].float().log_softmax(-1)

    with torch.inference_mode():
        expected, other = log_p(base), log_p(trained)
        divergence = (expected.exp() * (expected - other.to(expected.device))).double().sum(-1)
    values: list[float] = divergence.clamp(min=0.0).tolist()  # rounding may leave -1e-9
    return values


def divergence_metrics(measured: pa.Table, *, model: str, confidence: float) -> list[dict[str, Any]]:
    """Returns the rows of METRICS: the mean over answers, with Student's interval; none for fewer than two answers.

    Raises:
        BadInputError: a figure is not a finite number.
    """
    by_language: dict[str, list[float]] = {}
    for row in DIVERGENCES.check(measured).to_pylist():
        by_language.setdefault(row["language"], []).append(row["kl"])
    require_finite(by_language, "divergences")
    name = {"benchmark": HELD_OUT, "model": model, "metric": DOMINANT_KL.name}
    return [
        {**name, "language": code, **mean_row(values, confidence)}
        for code, values in by_language.items()
        if len(values) > 1
    ]
