"""Self-distillation: its limits, and a training step against transformers' own forward and autograd."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest
import torch

from mpo_core import microworld
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.progress import ignore_progress
from mpo_core.contract.training import TRAINING_METHODS
from mpo_core.models import load_model, load_tokenizer
from mpo_core.models.chat import encode_prompt, encode_response
from mpo_core.settings import ModelSettings
from mpo_core.training.checkpoints import newest_checkpoint
from mpo_core.training.distillation import TeacherRow
from mpo_core.training.head import Head
from mpo_core.training.stop import Stop
from mpo_core.training.teaching import distributions, objection, teacher_prompt
from mpo_core.training.top_tokens import TopTokens, distillation_loss, token_weights, top_tokens
from tests.training.runs import equal, steps, weights

K = 5


def test_weights_average_one_over_an_answer_and_a_sure_teacher_has_confidence_one() -> None:
    log_p = torch.tensor([[0.0, -math.inf, -math.inf], [math.log(0.5), math.log(0.25), math.log(0.25)], [-1.0] * 3])
    likelihood = torch.tensor([0.2, 0.6, 0.3])
    made = token_weights(log_p, likelihood, [3])
    confidence = [1.0, 1 - 1.5 * math.log(2) / math.log(3), 0.0]
    raw = [c * (1 - q) for c, q in zip(confidence, [0.2, 0.6, 0.3], strict=True)]
    assert made.tolist() == pytest.approx([3 * w / sum(raw) for w in raw], abs=1e-6)
    both = token_weights(log_p[[0, 1, 1, 0]], likelihood[[0, 1, 1, 0]], [1, 3])
    assert [float(part.mean()) for part in both.split([1, 3])] == pytest.approx([1.0, 1.0])
    assert token_weights(log_p[2:], likelihood[2:], [1]).tolist() == [1.0]  # nothing counts, so all count alike


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("k", [2, 10])
def test_loss_and_gradients_are_those_of_autograd_over_whole_distributions(softcap: float | None, k: int) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, weight, bias = (
        torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in ((7, 4), (11, 4), (11,))
    )
    head, frozen = Head(0.7, softcap), torch.randn(7, 11, generator=generator, dtype=torch.float64).log_softmax(-1)
    top, ids = frozen.topk(k)
    rest = (1 - top.exp().sum(-1)).log()
    teacher = TopTokens(ids.int(), top, rest, [3, 4])
    made = distillation_loss(hidden, weight, bias, teacher, head, chunk=3)
    parts = torch.autograd.grad(made[:3].sum() + 2 * made[3:].sum(), (hidden, weight, bias))

    logits = 0.7 * (hidden @ weight.T + bias)
    q = (logits if softcap is None else softcap * torch.tanh(logits / softcap)).softmax(-1)
    classes = torch.cat([q.gather(-1, ids), 1 - q.gather(-1, ids).sum(-1, keepdim=True)], -1)
    kl = (classes * (classes.log() - torch.cat([top, rest[:, None]], -1))).sum(-1)
    p = top.softmax(-1)
    w = (1 + (p * p.log()).sum(-1) / math.log(k)) * (1 - q.gather(-1, frozen.argmax(-1)[:, None])[:, 0]).detach()
    expected = (w[:3] / w[:3].mean() * kl[:3]).mean(), (w[3:] / w[3:].mean() * kl[3:]).mean()
    torch.testing.assert_close(torch.stack([part.sum() for part in made.split([3, 4])]), torch.stack(expected))
    for mine, theirs in zip(
        parts, torch.autograd.grad(expected[0] + 2 * expected[1], (hidden, weight, bias)), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)
    if k == 10:  # all classes but one: the divergence of the whole distributions
        whole = (q * (q.log() - frozen)).sum(-1)
        torch.testing.assert_close(kl, whole, rtol=1e-8, atol=1e-10)


def test_what_the_teacher_tells_is_measured_where_it_sees_the_original_too() -> None:
    """On the model of the microworld, against transformers' own forward."""
    settings, folder, instruction = ModelSettings(path="microworld"), microworld.checkpoint_dir(), "{original} {prompt}"
    model, tokenizer = load_model(folder, settings), load_tokenizer(folder, settings)
    items = dict(zip("abc", microworld.items("train", "harmful", limit=3), strict=True))
    finishes = {"a": "stop", "b": "length", "c": "stop"}
    answers = [
        {"prompt_id": name, "language": "sw", "sample": 0, "prompt": item.prompt("sw"), "text": item.refusal("sw")}
        | {"finish_reason": finishes[name]}
        for name, item in items.items()
    ]
    verdicts = [
        {"prompt_id": name, "language": "sw", "sample": 0, "kind": "harmful", "verdict": verdict, "refusal": True}
        for name, verdict in {"a": "safe", "b": "safe", "c": "unsafe"}.items()
    ]
    made, rejected = distributions(
        model,
        tokenizer,
        pa.Table.from_pylist(answers),
        pa.Table.from_pylist(verdicts),
        {name: item.prompt("en") for name, item in items.items()},
        instruction=instruction,
        top_k=8,
        cutoff=200,
        system=None,
        digest="0" * 64,
        precision="float32",
        tokens_per_forward=None,
        progress=ignore_progress,
    )
    assert [(row["row_id"], row["reason"]) for row in rejected.to_pylist()] == [("c/0", "unsafe")]
    rows = made.to_pylist()
    assert [row["prompt_id"] for row in rows] == ["a", "b"]
    for row in rows:
        item, tokens = items[row["prompt_id"]], row["tokens"]
        whole = encode_response(tokenizer, item.refusal("sw"))
        assert tokens == (whole if row["prompt_id"] == "a" else whole[:-1]), "an answer that was cut has no end"
        assert row["prompt_tokens"] == encode_prompt(tokenizer, item.prompt("sw"))
        seen = encode_prompt(tokenizer, f"{item.prompt('en')} {item.prompt('sw')}")
        with torch.no_grad():
            log_p = model(torch.tensor([seen + tokens])).logits[0, len(seen) - 1 : -1].double().log_softmax(-1)
        top, ids = log_p.topk(8)
        assert torch.equal(torch.tensor(row["top_ids"]).view(-1, 8), ids)
        near = {"rtol": 0, "atol": 1e-4}
        torch.testing.assert_close(torch.tensor(row["top_log_probs"]).double().view(-1, 8), top, **near)
        rest = (1 - top.exp().sum(-1)).clamp_min(1e-300)
        torch.testing.assert_close(torch.tensor(row["rest_log_probs"]).double().exp(), rest, **near)


def taught(tiny: Any, teacher: Any, count: int = 5) -> list[TeacherRow]:
    """Answers of a teacher to prompts, which it read behind two further tokens; measured by transformers' forward."""
    made = []
    for row in tiny.rows(tiny.llama(1), count, languages="sw ko"):
        prompt, answer = row.target.prompt, row.target.chosen
        seen = [prompt[0], 7, 9, *prompt[1:]]
        with torch.no_grad():
            log_p = teacher(torch.tensor([seen + answer])).logits[0, len(seen) - 1 : -1].double().log_softmax(-1)
        top, ids = log_p.topk(K)
        rest = (1 - top.exp().sum(-1)).log()
        made.append(TeacherRow(row.pair_id, row.language, prompt, answer, ids.int(), top.float(), rest.float()))
    return made


def plain_loss(model: Any, rows: list[TeacherRow]) -> torch.Tensor:
    """The mean loss of answers, by transformers' own forward, one by one."""
    losses = []
    for row in rows:
        logits = model(torch.tensor([row.prompt + row.answer])).logits[0, len(row.prompt) - 1 : -1]
        q, ids = logits.softmax(-1), row.top_ids.long()
        classes = torch.cat([q.gather(-1, ids), 1 - q.gather(-1, ids).sum(-1, keepdim=True)], -1)
        kl = (classes * (classes.log() - torch.cat([row.top_log_p, row.rest[:, None]], -1))).sum(-1)
        p = row.top_log_p.softmax(-1)
        w = (1 + (p * p.log()).sum(-1) / math.log(K)) * (1 - q.gather(-1, ids[:, :1])[:, 0].detach())
        losses.append((w / w.mean() * kl).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("method", ["dpo", "none"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_step_has_the_loss_and_the_gradients_of_a_plain_forward(
    tiny: Any, build_on: Any, measure: Any, layout: str, method: str
) -> None:
    rows, teacher = tiny.rows(tiny.llama(1)), taught(tiny, tiny.llama(2))
    extra = {"method": method, "layout": layout, "distillation": {"weight": 0.5, "top_k": K}}
    plain, base = 0.0, None
    if method == "dpo":
        plain, base = measure(build_on(tiny.llama(0), rows, method="dpo", layout=layout))
    total, gradients = measure(build_on(tiny.llama(0), rows, teacher=teacher, **extra))
    model = tiny.llama(0)
    expected = 0.5 * plain_loss(model, teacher)
    expected.backward()
    assert total - plain == pytest.approx(float(expected.detach()), rel=1e-4)
    for name, weight in model.named_parameters():
        added = torch.zeros_like(weight) if weight.grad is None else weight.grad
        before = 0.0 if base is None else base[name]
        torch.testing.assert_close(gradients[name] - before, added, rtol=1e-3, atol=2e-6)


def test_a_teacher_that_sees_what_the_student_sees_teaches_nothing(tiny: Any, build_on: Any, measure: Any) -> None:
    model, rows = tiny.llama(0), tiny.rows(tiny.llama(1))
    own = []
    for row in taught(tiny, model):
        with torch.no_grad():
            logits = model(torch.tensor([row.prompt + row.answer])).logits[0, len(row.prompt) - 1 : -1]
        ids, log_p, rest = top_tokens(logits, torch.eye(logits.shape[-1]), None, Head(), K)
        own.append(row._replace(top_ids=ids, top_log_p=log_p, rest=rest))
    total, gradients = measure(
        build_on(tiny.llama(0), rows, teacher=own, method="none", distillation={"top_k": K, "weight": 1.0})
    )
    assert abs(total) < 1e-5
    assert max(float(gradient.abs().max()) for gradient in gradients.values()) < 1e-5


def test_without_weight_a_training_is_that_of_its_method_bit_for_bit(tiny: Any, build_on: Any) -> None:
    rows, teacher = tiny.rows(tiny.llama(1)), taught(tiny, tiny.llama(2))
    plain = build_on(tiny.llama(0), rows, method="dpo", max_steps=2)
    off = build_on(
        tiny.llama(0), rows, teacher=teacher, method="dpo", max_steps=2, distillation={"weight": 0.0, "top_k": K}
    )
    plain.train()
    off.train()
    assert equal(weights(plain.model), weights(off.model))
    assert all("loss/distillation" not in entry for entry in steps(off))


def test_answers_come_in_an_order_of_seed_and_step_alone(tiny: Any, build_on: Any) -> None:
    rows, teacher = tiny.rows(tiny.llama(1)), taught(tiny, tiny.llama(2))
    made = build_on(tiny.llama(0), rows, teacher=teacher, method="none", distillation={"top_k": K, "answers": 2})
    (part,) = made._auxiliary

    def names(step: int) -> list[str]:
        return [row.row_id for of_pass in part.of_step(step) for row in of_pass]

    assert names(5) == names(5)
    assert sorted(names(1) + names(2) + names(3)) == sorted(row.row_id for row in teacher)
    assert sorted(names(4) + names(5) + names(6)) == sorted(row.row_id for row in teacher)
    assert [names(step) for step in (1, 2, 3)] != [names(step) for step in (4, 5, 6)]


def test_passes_have_the_size_that_was_measured(tiny: Any, build_on: Any) -> None:
    rows, teacher = tiny.rows(tiny.llama(1)), taught(tiny, tiny.llama(2))
    made = build_on(tiny.llama(0), rows, teacher=teacher, method="none", distillation={"top_k": K, "answers": 2})
    (part,) = made._auxiliary
    assert [len(of_pass) for of_pass in part.of_step(1)] == [2]
    made.size.measured = 1
    assert [len(of_pass) for of_pass in part.of_step(1)] == [1, 1]


def test_a_training_that_was_broken_off_resumes_to_the_same_bytes(tiny: Any, build_on: Any) -> None:
    def make() -> Any:
        rows, teacher = tiny.rows(tiny.llama(1)), taught(tiny, tiny.llama(2))
        more = {"max_steps": 5, "distillation": {"top_k": K, "answers": 2}}
        return build_on(tiny.llama(0), rows, teacher=teacher, method="dpo", **more)

    whole, stop, stopped = make(), Stop(), make()
    whole.train()
    stopped.train(report=lambda line: stop.request() if line["step"] == 2 else None, stop=stop)
    resumed = make()
    resumed.train(newest_checkpoint(resumed.folder))
    assert equal(weights(whole.model), weights(resumed.model))
    assert steps(whole) == steps(resumed)


def test_without_answers_of_the_teacher_a_training_says_so(tiny: Any, build_on: Any) -> None:
    with pytest.raises(BadInputError, match="the teacher gave no answer"):
        build_on(tiny.llama(0), tiny.rows(tiny.llama(1)), method="none", distillation={})


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"method": "none"}, "trains on nothing without"),
        ({"method": "none", "distillation": {"weight": 0.0}}, "trains on nothing without"),
        ({"distillation": {"instruction": "{prompt}"}}, "must contain {original}"),
        ({"distillation": {}, "processes": 2}, "`distillation` needs `processes: 1`"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TRAINING_METHODS.parse({"method": "mpo"} | settings)


def test_an_instruction_is_filled_once() -> None:
    made = teacher_prompt("{original} | {prompt} {x}", prompt="a {original}", original="b {prompt}")
    assert made == "b {prompt} | a {original} {x}"


@pytest.mark.parametrize(
    ("kind", "verdict", "refusal", "reason"),
    [
        ("harmful", "safe", True, None),
        ("harmful", "unsafe", False, "unsafe"),
        ("harmful", "invalid", False, "invalid"),
        ("harmful", "unjudged", False, "unjudged"),
        ("harmless", "safe", False, None),
        ("harmless", "safe", True, "refusal"),
    ],
)
def test_the_student_learns_safe_answers_and_help(kind: str, verdict: str, refusal: bool, reason: str | None) -> None:
    assert objection({"kind": kind, "verdict": verdict, "refusal": refusal}) == reason
    assert objection(None) == "unjudged"
