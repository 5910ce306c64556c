"""The objective as the released code computes it, in a plain loop: what ours is measured against.

Per batch, the chosen rows, then the rejected rows, right-padded to the longest rounded up to
a multiple of 8, source and target apart. The policy goes over both with all logits in float32
and all hidden states; the reference model stays in memory and goes over the source rows each
time. Nothing is shared between rows. AdamW, clipping at 1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Pair = tuple[list[int], list[int], list[int]]  # token ids of prompt, chosen, rejected
IGNORED = -100


class Baseline:
    """The released trainer's computation.

    Args:
        folder: of the model.
        learning_rate: of AdamW.
        beta: factor of the target gap.
        pad_id: token id of the padding.
        checkpointing: activations are computed again in backward, as the released settings have it.
        device: `cpu` or `cuda`.
    """

    def __init__(
        self, folder: Path, *, learning_rate: float, beta: float, pad_id: int, checkpointing: bool, device: str
    ) -> None:
        from transformers import AutoModelForCausalLM

        def load() -> Any:
            return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)

        self.policy, self.reference = load().train(), load().eval()
        self.reference.requires_grad_(False)
        if checkpointing:
            self.policy.gradient_checkpointing_enable({"use_reentrant": False})
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), learning_rate, weight_decay=0.0, fused=True)
        self.beta, self.pad_id, self.device = beta, pad_id, device

    def step(self, sources: list[Pair], targets: list[Pair]) -> dict[str, float]:
        """One optimiser step; the terms of the loss before it."""
        gap, retention = self.loss(sources, targets)
        (gap + retention).backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"loss": float(gap + retention), "loss/gap": float(gap), "loss/retention": float(retention)}

    def loss(self, sources: list[Pair], targets: list[Pair]) -> tuple[Tensor, Tensor]:
        """L1 and L2."""
        source, target = self._batch(sources), self._batch(targets)
        # The log-probabilities of the policy on the source are computed and not used.
        _, policy_states = self._forward(self.policy, source)
        with torch.no_grad():
            source_rewards, states = self._forward(self.reference, source)
        target_rewards, _ = self._forward(self.policy, target)
        gaps = [chosen - rejected for chosen, rejected in (r.chunk(2) for r in (target_rewards, source_rewards))]
        mse = torch.nn.functional.mse_loss
        return mse(self.beta * gaps[0], gaps[1]), mse(policy_states, states)

    def _forward(self, model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean log-probabilities of the answers [R] and mean hidden states, pads included, [R, D]."""
        labels = batch["labels"]
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        out = model(**inputs, output_hidden_states=True, use_cache=False)
        logits = out.logits.float()[:, :-1]
        labels = labels[:, 1:].clone()
        counts = labels != IGNORED
        labels[~counts] = 0
        log_p = logits.log_softmax(-1).gather(2, labels.unsqueeze(2)).squeeze(2)
        return (log_p * counts).sum(-1) / counts.sum(-1), out.hidden_states[-1].mean(dim=1)

    def _batch(self, pairs: list[Pair]) -> dict[str, Tensor]:
        rows = [(prompt, chosen) for prompt, chosen, _ in pairs] + [(prompt, bad) for prompt, _, bad in pairs]
        length = math.ceil(max(len(prompt) + len(answer) for prompt, answer in rows) / 8) * 8
        input_ids = torch.full((len(rows), length), self.pad_id)
        labels = torch.full_like(input_ids, IGNORED)
        mask = torch.zeros_like(input_ids)
        for i, (prompt, answer) in enumerate(rows):
            end = len(prompt) + len(answer)
            input_ids[i, :end] = torch.tensor(prompt + answer)
            labels[i, len(prompt) : end] = torch.tensor(answer)
            mask[i, :end] = 1
        batch = {"input_ids": input_ids, "labels": labels, "attention_mask": mask}
        return {name: value.to(self.device) for name, value in batch.items()}
