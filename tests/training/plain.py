"""MPO written plainly, to check ours against: whole logits, a second model as the reference, nothing shared.

It reads the token ids of `PairRow`s and calls no code of ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

Sequences = list[tuple[list[int], list[int]]]


class Measured(NamedTuple):
    """Of m sequences."""

    log_p: Tensor
    """[m], summed log-probability of the answer."""
    states: list[Tensor]
    """[T, D] each, last hidden states of prompt and answer."""
    distributions: list[Tensor]
    """[A, V] each, log-probabilities of the whole vocabulary at each token of the answer."""

    def means(self) -> Tensor:
        """[m, D], states averaged over the tokens."""
        return torch.stack([sequence.mean(0) for sequence in self.states])


def measured(model: Any, sequences: Sequences) -> Measured:
    """One padded forward of (prompt, answer) pairs of token ids."""
    longest = max(len(prompt) + len(answer) for prompt, answer in sequences)
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, (prompt, answer) in enumerate(sequences):
        ids[i, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        mask[i, : len(prompt) + len(answer)] = 1
    out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
    every = out.logits[:, :-1].log_softmax(-1)
    steps = every.gather(-1, ids[:, 1:, None]).squeeze(-1)  # [m, longest - 1]
    sums, states, distributions = [], [], []
    for i, (prompt, answer) in enumerate(sequences):
        end = len(prompt) + len(answer)
        sums.append(steps[i, len(prompt) - 1 : end - 1].sum(dtype=torch.float64))
        states.append(out.hidden_states[-1][i, :end])
        distributions.append(every[i, len(prompt) - 1 : end - 1])
    return Measured(torch.stack(sums), states, distributions)


def gaps(model: Any, texts: list[Any]) -> tuple[Tensor, Measured]:
    """Reward gaps [n] of encoded pairs, and all that was measured, chosen and rejected in turn."""
    both = [(text.prompt, answer) for text in texts for answer in (text.chosen, text.rejected)]
    measurement = measured(model, both)
    rewards = measurement.log_p / torch.tensor([float(len(answer)) for _, answer in both])
    return rewards[0::2] - rewards[1::2], measurement


def divergences(frozen: Measured, moving: Measured) -> Tensor:
    """[n], KL(frozen || moving) per token of an answer, averaged over its tokens, then over the pair's two answers."""
    each = [
        torch.nn.functional.kl_div(q, p, log_target=True, reduction="batchmean")
        for p, q in zip(frozen.distributions, moving.distributions, strict=True)
    ]
    return torch.stack(each).view(-1, 2).mean(-1)


def loss(
    policy: Any, reference: Any, rows: list[Any], *, weight: float = 1.0, last: bool = False, kl: bool = False
) -> Tensor:
    """L1 + weight * L2, a mean over the rows by their weights; each row runs its dominant pair by itself."""
    states = (lambda m: torch.stack([sequence[-1] for sequence in m.states])) if last else Measured.means
    with torch.no_grad():
        goal, frozen = gaps(reference, [row.source for row in rows])
    target, _ = gaps(policy, [row.target for row in rows])
    _, moving = gaps(policy, [row.source for row in rows])
    betas, counts = (target.new_tensor([getattr(row, name) for row in rows]) for name in ("beta", "weight"))
    first = (betas * target - goal) ** 2
    second = ((states(moving) - states(frozen)) ** 2).mean(-1).view(-1, 2).mean(-1)
    if kl:
        second = divergences(frozen, moving)
    return ((first + weight * second) * counts).sum() / counts.sum()


def gradients(model: Any, scalar: Tensor) -> dict[str, Tensor]:
    """Of every parameter that trains."""
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    gradients = torch.autograd.grad(scalar, list(trained.values()))
    return dict(zip(trained, gradients, strict=True))
