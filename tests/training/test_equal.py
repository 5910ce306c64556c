"""However a step is computed, its loss and gradients are those of the plain sum.

Batches are drawn by hypothesis: short and long prompts, answers of one token, shared dominant
pairs, weights. What they are compared with is `plain.py`, which shares no line with ours.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mpo_core.settings import TrainingSettings
from mpo_core.training.collator import PairRow
from mpo_core.training.encoding import EncodedText
from mpo_core.training.forward import attach, detach
from mpo_core.training.trainer import MPOTrainer
from tests.training import plain

VOCABULARY = 61

ids = st.integers(3, VOCABULARY - 1)
answers = st.lists(ids, min_size=1, max_size=12)
texts = st.builds(EncodedText, st.lists(ids, min_size=1, max_size=30), answers, answers)
rows = st.builds(
    lambda sources, given: [
        PairRow(f"p{i}", f"s{source % len(sources)}", "sw", target, sources[source % len(sources)], 0.0, beta, weight, None, None)
        for i, (source, target, beta, weight) in enumerate(given)
    ],
    st.lists(texts, min_size=1, max_size=3),
    st.lists(
        st.tuples(st.integers(0, 2), texts, st.sampled_from([1.0, 1.5]), st.sampled_from([1.0, 0.3, 4.0])),
        min_size=1,
        max_size=6,
    ),
)  # fmt: skip


def tiny(dtype: torch.dtype) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.4,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


class Models:
    """A frozen reference, a policy that has moved away from it, and a trainer on the policy."""

    def __init__(self, dtype: torch.dtype, folder: Any) -> None:
        self.reference, self.policy = tiny(dtype), tiny(dtype)
        with torch.no_grad():
            for value in self.policy.parameters():
                value += 0.05 * torch.randn_like(value)
        one = EncodedText([3], [3], [3])
        row = PairRow("p", "s", "sw", one, one, 0.0, 1.0, 1.0, None, None)
        settings = TrainingSettings(device="cpu", precision="float32")
        self.trainer = MPOTrainer(self.policy, [row], pad_id=0, settings=settings, folder=folder)
        detach(self.policy)

    def with_reference(self, some: list[PairRow], *, last: bool = False) -> list[PairRow]:
        """The rows with what the plain reference says."""
        with torch.no_grad():
            gaps, found = plain.gaps(self.reference, [row.source for row in some])
        pooled = torch.stack([one[-1] for one in found.states]) if last else found.means()
        return [
            row._replace(anchor_gap=gaps[i].item(), pooled=(pooled[2 * i], pooled[2 * i + 1]))
            for i, row in enumerate(some)
        ]

    def ours(self, some: list[PairRow], *, packed: bool, **changes: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss and gradients of a step, by the trainer's own forwards."""
        settings = self.trainer.settings.model_copy(update=changes)
        keep = settings.logit_memory
        self.trainer.settings, self.trainer.packed = settings, packed
        attach(self.policy, packed=packed, keep=keep)
        try:
            step = self.trainer._step(some)
            shares = [self.trainer.share_of_loss(self.policy, forward, step) for forward in step.forwards]
            return sum(shares).detach(), plain.gradients(self.policy, sum(shares))  # type: ignore[arg-type]
        finally:
            detach(self.policy)


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def models(request: Any, tmp_path_factory: Any) -> Models:
    return Models(request.param, tmp_path_factory.mktemp("trainer"))


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    some=rows,
    budget=st.integers(1, 300),
    batch=st.integers(1, 6),
    keep=st.sampled_from([0, VOCABULARY * 8 * 20, 2**30]),
    last=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_loss_and_gradients_are_the_plain_ones(
    models: Models, some: list[PairRow], budget: int, batch: int, keep: int, last: bool, order: Any
) -> None:
    exact = models.policy.dtype == torch.float64
    # In float32 the bound is the rounding of a few hundred sums; the loss may be a small difference of large gaps.
    loss_bound, gradient_bound = (1e-12, 1e-10) if exact else (2e-5, 2e-4)
    expected = plain.loss(models.policy, models.reference, some, last=last)
    slopes = plain.gradients(models.policy, expected)
    known = models.with_reference(some, last=last)
    order.shuffle(known)
    retention = models.trainer.settings.retention.model_copy(update={"pooling": "last" if last else "mean"})
    scale = max(slope.abs().max().item() for slope in slopes.values())
    for packed in (True, False):
        loss, gradients = models.ours(
            known,
            packed=packed,
            tokens_per_forward=budget,
            batch_size=batch,
            logit_memory=keep,
            retention=retention,
        )
        assert loss.item() == pytest.approx(expected.item(), rel=loss_bound, abs=loss_bound * 1e-3), packed
        for name, slope in slopes.items():
            assert (gradients[name] - slope).abs().max() <= gradient_bound * scale, (name, packed)
