"""The objective as the released code computes it, in a plain loop: what ours is measured against.

Per batch, the chosen rows, then the rejected rows, right-padded to the longest rounded up to
a multiple of 8, source and target apart. The policy goes over both with all logits in float32
and all hidden states; the reference model stays in memory and goes over the source rows each
time. Nothing is shared between rows. The labels go to the model too, which computes a
cross-entropy over all logits that nobody reads. AdamW, clipping at 1.

The order of work and the life of each tensor are those of `CustomDPOTrainer` in
circle-hit/MPO (commit 0291e7f); the Trainer around it is left out, in the baseline's favour.
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
        folder: of the model; or policy and reference, loaded.
        learning_rate: of AdamW.
        beta: factor of the target gap.
        pad_id: token id of the padding.
        checkpointing: activations are computed again in backward, as the released settings have it.
        device: `cpu` or `cuda`; there under bfloat16 autocast, as the released settings have it.
        table: costs as if the reference's figures were looked up; they are the policy's own, so the loss is 0.
            A step towards ours, for the ablation.
        lean: moreover logits of target answers alone, and no unused loss.
    """

    def __init__(
        self,
        folder: Path | tuple[Any, Any],
        *,
        learning_rate: float,
        beta: float,
        pad_id: int,
        checkpointing: bool,
        device: str,
        table: bool = False,
        lean: bool = False,
    ) -> None:
        from transformers import AutoModelForCausalLM

        def load() -> Any:
            return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)

        if isinstance(folder, tuple):
            self.policy, self.reference = folder
        else:
            self.policy = load().train()
            self.reference = None if table or lean else load().eval().requires_grad_(False)
        self.lean = lean
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
        # Every output lives to the end, the logits and the policy's unused source log-probabilities as well.
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device != "cpu"):
            policy_source = self._forward(self.policy, source, scored=not self.lean)
            policy_target = self._forward(self.policy, target)
            if self.reference is None:
                reference_source = {name: value.detach() for name, value in policy_source.items()}
            else:
                with torch.no_grad():
                    reference_source = self._forward(self.reference, source)
        target_gap, source_gap = (
            chosen - rejected
            for chosen, rejected in (out["log_p"].chunk(2) for out in (policy_target, reference_source))
        )
        mse = torch.nn.functional.mse_loss
        return mse(self.beta * target_gap, source_gap), mse(policy_source["pooled"], reference_source["pooled"])

    def _forward(self, model: Any, batch: dict[str, Tensor], *, scored: bool = True) -> dict[str, Tensor]:
        """Mean log-probabilities of the answers [R], mean hidden states, pads included, [R, D], and all logits."""
        labels = batch["labels"][:, 1:].clone()
        counts = labels != IGNORED
        labels[~counts] = 0
        if self.lean:
            hidden = model.base_model(batch["input_ids"], batch["attention_mask"], use_cache=False).last_hidden_state
            log_p = hidden.new_zeros(counts.shape, dtype=torch.float32)
            if scored:
                logits = model.lm_head(hidden[:, :-1][counts]).float()
                log_p[counts] = logits.log_softmax(-1).gather(1, labels[counts][:, None]).squeeze(1)
            return {"log_p": log_p.sum(-1) / counts.sum(-1), "pooled": hidden.mean(dim=1)}
        out = model(**batch, output_hidden_states=True, use_cache=False)
        logits = out.logits.float()
        log_p = logits[:, :-1].log_softmax(-1).gather(2, labels.unsqueeze(2)).squeeze(2)
        return {
            "log_p": (log_p * counts).sum(-1) / counts.sum(-1),
            "pooled": out.hidden_states[-1].mean(dim=1),
            "logits": logits,
        }

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
