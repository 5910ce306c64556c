"""The equations against numbers worked out by hand and against full logits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mpo_core.training.forward import forward, response_rewards
from mpo_core.training.objective import (
    IGNORE,
    gap_loss,
    mean_log_probability,
    pool,
    predicting,
    retention_loss,
    reward_gap,
    total_loss,
)


def test_mean_log_probability_by_hand() -> None:
    # Two sequences over a vocabulary of 2; answers have two tokens and one.
    labels = torch.tensor([[IGNORE, 0, 1], [IGNORE, IGNORE, 1]])
    assert predicting(labels).tolist() == [[True, True, False], [False, True, False]]
    odds = torch.tensor([[3.0, 1.0], [1.0, 1.0], [1.0, 4.0]])  # p of token 0: 3/4, 1/2, 1/5
    got = mean_log_probability(odds.log(), labels)
    assert got.tolist() == pytest.approx([(math.log(0.75) + math.log(0.5)) / 2, math.log(0.8)])


def test_gap_and_its_loss_by_hand() -> None:
    gap = reward_gap(torch.tensor([-1.0, -2.0, -1.5, -1.0]))  # chosen, chosen, rejected, rejected
    assert gap.tolist() == [0.5, -1.0]
    loss = gap_loss(gap, torch.tensor([1.0, 0.5]), beta=1.5)  # beta on the target gap alone
    assert loss.tolist() == [(1.5 * 0.5 - 1.0) ** 2, (1.5 * -1.0 - 0.5) ** 2]


def test_pooling_by_hand() -> None:
    hidden = torch.tensor([[[1.0], [2.0], [6.0], [7.0]], [[4.0], [8.0], [0.0], [0.0]]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    assert pool(hidden, mask, "mean").tolist() == [[3.0], [6.0]]
    assert pool(hidden, mask, "last").tolist() == [[6.0], [8.0]]
    assert pool(hidden, mask, "padded_mean").tolist() == [[4.0], [3.0]]


def test_retention_is_a_mean_over_sequences_and_width() -> None:
    torch.manual_seed(0)
    policy, reference = torch.randn(6, 5), torch.randn(6, 5)
    per_pair = retention_loss(policy, reference)
    assert per_pair.shape == (3,)
    assert per_pair.mean() == pytest.approx(torch.nn.MSELoss()(policy, reference).item())
    # Pair 1 is sequences 1 (chosen) and 4 (rejected).
    by_hand = ((policy[[1, 4]] - reference[[1, 4]]) ** 2).mean().item()
    assert per_pair[1].item() == pytest.approx(by_hand)


def test_total_divides_by_the_rows_of_the_step() -> None:
    loss = total_loss(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 4.0]), weight=0.5, rows=8)
    assert loss.item() == (4.0 + 0.5 * 6.0) / 8


def test_half_precision_is_summed_in_float32() -> None:
    logits = torch.randn(3, 1000, dtype=torch.bfloat16)
    labels = torch.tensor([[IGNORE, 5, 6, 7]])
    exact = logits.double().log_softmax(-1)[torch.arange(3), torch.tensor([5, 6, 7])].mean()
    assert mean_log_probability(logits, labels).item() == pytest.approx(exact.item(), rel=1e-6)


def tiny(name: str) -> Any:
    import transformers

    common = {
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3,
    }  # fmt: skip
    extra = {"Gemma2": {"head_dim": 8, "final_logit_softcapping": 3.0}, "Granite": {"logits_scaling": 4.0}}
    config = getattr(transformers, f"{name}Config")(**common, **extra.get(name, {}))
    torch.manual_seed(0)
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Qwen2", "Mistral", "Phi3", "Granite"])
def test_logits_at_answers_equal_full_logits(name: str) -> None:
    model = tiny(name)
    ids = torch.randint(3, 97, (4, 16))
    mask = torch.ones_like(ids)
    labels = ids.clone()
    for row, (start, end) in enumerate([(3, 16), (9, 12), (1, 8), (5, 6)]):
        labels[row, :start], labels[row, end:] = IGNORE, IGNORE
        mask[row, end:] = 0
    with torch.no_grad():
        rewards, hidden = response_rewards(model, {"input_ids": ids, "attention_mask": mask, "labels": labels})
        full = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    log_p = full.logits.float().log_softmax(-1)
    for row in range(4):
        steps = [log_p[row, t - 1, ids[row, t]].item() for t in range(16) if labels[row, t] != IGNORE]
        assert rewards[row].item() == pytest.approx(sum(steps) / len(steps), abs=1e-5)
    torch.testing.assert_close(hidden, full.hidden_states[-1])
    if name == "Gemma2":  # the soft cap bites, or the test would show nothing
        assert full.logits.abs().max() < 3.0


def test_no_position_asked_gives_no_logits() -> None:
    ids = torch.randint(3, 97, (2, 8))
    out = forward(tiny("Llama"), ids, torch.ones_like(ids), torch.zeros_like(ids, dtype=torch.bool))
    assert out.logits.shape == (0, 97)
    assert out.hidden.shape == (2, 8, 32)
