"""MPOTrainer: the loop of transformers with the objective of MPO and a reference that is a table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from mpo_core.errors import BadInputError
from mpo_core.settings import TrainingSettings
from mpo_core.training.collator import PairCollator, PairRow
from mpo_core.training.forward import forward, response_rewards
from mpo_core.training.objective import gap_loss, pool, retention_loss, reward_gap, total_loss
from mpo_core.training.schedule import EpochOrder, planned_batches, training_arguments


class Measured(NamedTuple):
    """The terms of a batch, one figure per pair, each [n]."""

    gap_loss: Tensor
    retention: Tensor
    target_gap: Tensor
    anchor_gap: Tensor


class Means:
    """Means over the pairs of all micro-batches since they were last taken."""

    def __init__(self) -> None:
        self.rows, self.sums = 0, [0.0] * 5

    def add(self, measured: Measured) -> None:
        """Counts a batch in."""
        gap_loss_, retention, target, anchor = (term.detach().double() for term in measured)
        sums = torch.stack([gap_loss_.sum(), retention.sum(), target.sum(), anchor.sum(), (target > 0).sum()])
        self.sums = [a + b for a, b in zip(self.sums, sums.tolist(), strict=True)]
        self.rows += len(target)

    def take(self) -> dict[str, float]:
        """The means by name of the log; starts anew."""
        names = ("loss/gap", "loss/retention", "reward_gap/target", "reward_gap/dominant", "rewards/accuracies")
        means = {name: value / max(self.rows, 1) for name, value in zip(names, self.sums, strict=True)}
        self.__init__()  # type: ignore[misc]
        return means


class MPOTrainer(Trainer):
    """Trains on `PairRow`s; the reference is in the rows, not in memory.

    Args:
        model: the policy in float32, bare or with adapters, as it is before any training.
        rows: pairs with their reference.
        validation: pairs to evaluate on, or none.
        pad_id: token id of the padding.
        settings: of the training.
        folder: where checkpoints go.
        callbacks: see `callbacks`.
    """

    def __init__(
        self,
        model: Any,
        rows: list[PairRow],
        *,
        validation: list[PairRow] | None = None,
        pad_id: int,
        settings: TrainingSettings,
        folder: Path,
        callbacks: list[Any] | None = None,
    ) -> None:
        self.settings = settings
        self._means = Means()
        self._step_ids: list[str] = []
        self._layouts: dict[tuple[str, ...], Tensor] = {}
        super().__init__(
            model=model,
            args=training_arguments(
                settings, folder, len(rows), evaluates=bool(validation), use_cache=model.config.use_cache
            ),
            data_collator=PairCollator(pad_id),
            train_dataset=rows,
            eval_dataset=validation or None,
            callbacks=callbacks,
        )
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the rows of the whole step
        if settings.retention.pooling == "padded_mean":
            self._remember_layouts(rows, validation or [])

    # -- data -----------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches in the order of `EpochOrder`."""
        rows: Any = self.train_dataset
        order = EpochOrder(len(rows), seed=self.settings.seed, shuffle=self.settings.shuffle)
        loader = DataLoader(rows, batch_size=self.settings.batch_size, sampler=order, collate_fn=self.data_collator)
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of an optimiser step and how many rows they hold together."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._step_ids = [pair_id for sample in samples for pair_id in sample["pair_ids"]]
        return samples, len(self._step_ids)

    def _remember_layouts(self, rows: list[PairRow], validation: list[PairRow]) -> None:
        """Reference states of `padded_mean`, in the very batches of the training.

        Pads count in that mean, so it belongs to a batch. One pass of the model, not trained
        yet, over every batch to come; the same sums in the same order make L2 of the first
        step exactly 0. (Rounding instead of 0 would be a gradient of noise, which AdamW's
        first step turns into updates of up to the learning rate.)
        """
        size = self.settings.batch_size
        batches = [[rows[i] for i in numbers] for numbers in planned_batches(self.settings, len(rows))]
        batches += [validation[start : start + size] for start in range(0, len(validation), size)]
        model: Any = self.model
        collate: Any = self.data_collator
        model.eval()
        for batch in batches:
            key = tuple(row.pair_id for row in batch)
            if key not in self._layouts:
                source = self._prepare_inputs(collate(batch)["source"])
                with torch.no_grad(), self._autocast():
                    self._layouts[key] = self._pooled(model, source).cpu()

    def _autocast(self) -> Any:
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16)

    # -- loss -----------------------------------------------------------------------

    def _pooled(self, model: Any, source: dict[str, Tensor]) -> Tensor:
        # The source branch needs hidden states only: no position asks for logits.
        nothing = torch.zeros_like(source["input_ids"], dtype=torch.bool)
        hidden = forward(model, source["input_ids"], source["attention_mask"], nothing).hidden
        return pool(hidden, source["attention_mask"], self.settings.retention.pooling)

    def measure(self, model: Any, batch: dict[str, Any]) -> Measured:
        """The terms of the loss on a batch of `PairCollator`, one figure per pair."""
        # Source first: in this order the sums are those of the released code.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.settings.retention.weight > 0):
            pooled = self._pooled(model, batch["source"])
        reference = batch.get("reference")
        if reference is None:
            reference = self._layouts[tuple(batch["pair_ids"])].to(pooled.device)
        rewards, _ = response_rewards(model, batch["target"])
        target_gap = reward_gap(rewards)
        anchor = batch["anchor_gap"]
        loss = gap_loss(target_gap, anchor, beta=self.settings.beta)
        return Measured(loss, retention_loss(pooled, reference), target_gap, anchor)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the signature of transformers
        num_items_in_batch: Any = None,
    ) -> Any:
        """This batch's share of the loss of the optimiser step (eq. 6)."""
        measured = self.measure(model, inputs)
        self._refuse_non_finite(measured, inputs["pair_ids"])
        self._means.add(measured)
        rows = num_items_in_batch or len(inputs["pair_ids"])
        loss = total_loss(
            measured.gap_loss, measured.retention, weight=self.settings.retention.weight, rows=float(rows)
        )
        return (loss, {}) if return_outputs else loss

    def _refuse_non_finite(self, measured: Measured, pair_ids: list[str]) -> None:
        finite = torch.isfinite(measured.gap_loss) & torch.isfinite(measured.retention)
        if not bool(finite.all()):
            bad = [name for name, good in zip(pair_ids, finite.tolist(), strict=True) if not good]
            self._diverged("the loss is not finite", bad)

    def _diverged(self, what: str, pair_ids: list[str]) -> None:
        raise BadInputError(
            f"{what} on pairs {', '.join(pair_ids)}",
            where=f"training, step {self.state.global_step + 1}",
            mend="Lower training.learning_rate, or look at these pairs; the last checkpoint is kept.",
        )

    # -- figures --------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the terms of the loss, means over the step's rows, to a step's log."""
        if "loss" in logs:
            logs.update(self._means.take())
            if not math.isfinite(logs.get("grad_norm", 0.0)):
                # The weights are spoilt by now, but nothing of them has been saved.
                self.state.global_step -= 1
                self._diverged("the gradient is not finite", self._step_ids)
        super().log(logs, start_time)

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,  # noqa: ARG002
        prediction_loss_only: bool | None = None,  # noqa: ARG002, FBT001
        ignore_keys: list[str] | None = None,  # noqa: ARG002
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The same terms on the validation pairs."""
        model = self.model_wrapped
        model.eval()
        means = Means()
        for inputs in dataloader:
            batch: dict[str, Any] = self._prepare_inputs(inputs)
            with torch.no_grad():
                measured = self.measure(model, batch)
            self._refuse_non_finite(measured, batch["pair_ids"])
            means.add(measured)
        rows, taken = means.rows, means.take()
        taken.pop("reward_gap/dominant")
        taken["loss"] = taken["loss/gap"] + self.settings.retention.weight * taken["loss/retention"]
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in taken.items()}
        return EvalLoopOutput(predictions=np.empty(0), label_ids=None, metrics=metrics, num_samples=rows)
