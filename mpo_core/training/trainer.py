"""MPOTrainer: the loop of transformers over whole optimiser steps, with a reference that is a table."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import DistributedType
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.training import Scores, TrainingMethod
from mpo_core.training.auxiliary import auxiliary_losses
from mpo_core.training.collator import PairRow
from mpo_core.training.distillation import TeacherRow
from mpo_core.training.divergence import divergence, mismatched
from mpo_core.training.forward import Output, adding_up, attach, can_pack
from mpo_core.training.forward_size import ForwardSize
from mpo_core.training.frozen_answers import FrozenAnswers
from mpo_core.training.layout import Item, Layout, pack, pad
from mpo_core.training.lean import LeanAdamW, norm_of_step, split, updating_in_backward
from mpo_core.training.means import Means
from mpo_core.training.noise import train_without_noise
from mpo_core.training.objective import divergence_loss, retention_loss, weighted_mean
from mpo_core.training.plan import Forward, by_rows, by_tokens, share
from mpo_core.training.schedule import EpochSteps, lean_arguments, total_steps, training_arguments
from mpo_core.training.start import expected_of, require_reference

_NAMED = 16  # pairs in a message


class Step(NamedTuple):
    """An optimiser step: all its rows, and this process's share of them in forwards."""

    rows: list[PairRow]
    forwards: list[Forward]
    kl: float = 0.0
    """See `Scores`."""

    @property
    def weight(self) -> float:
        """Sum of the rows' weights."""
        return math.fsum(row.weight for row in self.rows)

    @property
    def mean_chosen_tokens(self) -> float:
        """Mean number of tokens of a chosen answer, weighted by the rows' weights."""
        return math.fsum(row.weight * len(row.target.chosen) for row in self.rows) / self.weight

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean number of tokens of a prompt after its first one, weighted by the rows' weights."""
        return math.fsum(row.weight * (len(row.target.prompt) - 1) for row in self.rows) / self.weight


class MPOTrainer(Trainer):
    """Trains on `PairRow`s; the reference is in the rows, not in memory.

    Args:
        model: the policy, bare or with adapters, as it is before any training.
        rows: pairs with their reference.
        validation: pairs to evaluate on, or none.
        teacher: the teacher's answers, where `settings.distillation` asks for them.
        pad_id: token id of the padding.
        settings: of the training.
        folder: where checkpoints go.
        callbacks: see `callbacks`.
        requires_reference: compare the model with the rows' reference before the first step; see `start`.
    """

    def __init__(
        self,
        model: Any,
        rows: list[PairRow],
        *,
        validation: list[PairRow] | None = None,
        teacher: list[TeacherRow] | None = None,
        pad_id: int,
        settings: TrainingMethod,
        folder: Path,
        callbacks: list[Any] | None = None,
        requires_reference: bool = False,
    ) -> None:
        self.requires_reference = requires_reference
        self.settings, self.pad_id = settings, pad_id
        self.packed = _packs(model, settings)
        self._with_sources = settings.retention_weight > 0
        self._compares = self._with_sources and settings.retention_distance == "kl"
        self._with_prompts = settings.needs_prompt_scores
        self._means = Means()
        self._layouts: dict[tuple[str, ...], Tensor] = {}
        self._answers: FrozenAnswers | None = None
        attach(model, packed=self.packed, keep=settings.logit_memory * 2**20)
        args = training_arguments(
            settings, folder, len(rows), evaluates=bool(validation), use_cache=model.config.use_cache
        )
        self._auxiliary = auxiliary_losses(
            settings, rows, teacher or [], model, packed=self.packed, pad_id=pad_id, device=args.device
        )
        callbacks = [*(part for part in self._auxiliary if isinstance(part, TrainerCallback)), *(callbacks or [])]
        super().__init__(
            model=model,
            args=args,
            data_collator=self._step,  # type: ignore[arg-type]  # a Step is no dictionary
            train_dataset=rows,
            eval_dataset=validation or None,
            callbacks=callbacks,
            optimizer_cls_and_kwargs=(LeanAdamW, lean_arguments(settings)) if settings.memory == "lean" else None,
        )
        if settings.memory == "lean":
            split(model)
        self.size = ForwardSize(settings, self.args.device, adapts=self.packed and settings.processes == 1)
        self.order = EpochSteps(
            [row.source_id for row in rows],
            step_rows=settings.step_rows,
            seed=settings.seed,
            order=settings.order,
        )
        if settings.pooling == "padded_mean" and self._with_sources:
            self._remember_layouts(rows, validation or [])
        if self._compares:
            unique = {row.source_id: row for row in (*rows, *(validation or []))}
            forwards, narrow = self._cut(list(unique.values())), settings.precision == "bfloat16"
            run = functools.partial(self._run, self.model)
            self._answers = FrozenAnswers(self.model, forwards, run, narrow=narrow)
        self._mismatched: dict[str, PairRow] = {}
        self._bare: dict[str, PairRow] = {}
        for some in filter(None, (validation, rows)):
            if settings.needs_divergence:
                self._mismatched |= self._measured(mismatched(some, settings.cutoff))
            if settings.needs_bare_reference:
                self._bare |= self._measured([row._replace(target=row.bare or row.target) for row in some])

    # -- data -----------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Yields whole optimiser steps in the order of `EpochSteps`; each process takes its share by itself."""
        rows: Any = self.train_dataset
        return DataLoader(rows, batch_sampler=self.order, collate_fn=self._step)

    def _step(self, rows: list[PairRow]) -> Step:
        """Cuts a step into this process's forwards, as many as any other process has."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        shares = [self._cut(share(rows, other, processes)) for other in range(processes)]
        mine = shares[rank]
        # The collectives of FSDP and DeepSpeed need equally many forwards everywhere.
        shortest = min(rows, key=lambda row: sum(map(len, row.target)))
        return Step(rows, mine + [Forward([shortest], [], idle=True)] * (max(map(len, shares)) - len(mine)))

    def _cut(self, rows: list[PairRow]) -> list[Forward]:
        if self.packed:
            return by_tokens(rows, self.size.tokens, sources=self._with_sources)
        return by_rows(rows, self.settings.batch_size, sources=self._with_sources)

    def _remember_layouts(self, rows: list[PairRow], validation: list[PairRow]) -> None:
        """Measures the reference states of `padded_mean`, in the very forwards of the training.

        Pads count in that mean, so it belongs to a batch. One pass of the model, not trained
        yet, over every batch to come; the same sums in the same order make the retention loss of the
        first step exactly 0. (Rounding instead of 0 would be a gradient of noise, which AdamW's
        first step turns into updates of up to the learning rate.)
        """
        total = total_steps(self.settings, len(rows))
        steps = [self._step([rows[i] for i in numbers]) for numbers in self.order.all_steps(total)]
        steps += self._steps(validation)
        model: Any = self.model
        model.eval()
        for forward in (forward for step in steps for forward in step.forwards if forward.sources):
            key = _names(forward)
            if key not in self._layouts:
                with torch.no_grad():
                    self._layouts[key] = self._run(model, forward).pooled.cpu()

    def _measured(self, rows: list[PairRow]) -> dict[str, PairRow]:
        """Measures the reference of pairs that no stage has measured, while the model is not trained yet."""
        measured = self.log_probabilities(self.model, rows).tolist()
        return {row.pair_id: row._replace(reference=tuple(pair)) for row, pair in zip(rows, measured, strict=True)}

    def _steps(self, rows: list[PairRow]) -> list[Step]:
        """Yields rows in their order, in steps as large as those of the training."""
        size = self.settings.step_rows
        return [self._step(rows[start : start + size]) for start in range(0, len(rows), size)]

    # -- loss -----------------------------------------------------------------------

    def _autocast(self, *, exact: bool = False) -> Any:
        # Not left to accelerate, which under FSDP would cast weights and figures instead. No weight is read twice in
        # a forward, so a cache of them would only hold memory.
        bfloat16 = self.settings.precision == "bfloat16" and not exact
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=bfloat16, cache_enabled=False)

    def _run(self, model: Any, forward: Forward, *, exact: bool = False) -> Output:
        layout = forward.layout(
            packed=self.packed,
            pooling=self.settings.pooling,
            pad_id=self.pad_id,
            with_prompts=self._with_prompts,
            compares=self._compares,
        )
        if self._answers is not None and forward.sources:
            layout = layout._replace(frozen=self._answers.of(forward))
        return self._output(model, layout, exact=exact)

    def _output(self, model: Any, layout: Layout, *, exact: bool = False) -> Output:
        with self._autocast(exact=exact):
            out: Output = model(layout=layout.to(self.args.device))
        return out

    def _require_reference(self, model: Any, step: Step) -> None:
        """Requires that before the first step the model is the reference; every process measures the same few rows."""
        expected = expected_of(step.rows, self.settings)
        pooling = self.settings.pooling

        def run(items: list[Item]) -> Output:
            layout = pack(items, pooling) if self.packed else pad(items, pooling, self.pad_id)
            with torch.no_grad():
                return self._output(model, layout)

        if expected:
            require_reference(expected, run, settings=self.settings)

    def log_probabilities(self, model: Any, rows: list[PairRow], *, exact: bool = False) -> Tensor:
        """Returns [n, 2], log-probabilities of chosen and rejected of each row, without gradient.

        Processes share the work; `exact` computes in the precision of the weights, whatever `training.precision` is.
        """
        sums = torch.zeros(len(rows), 2, dtype=torch.float64, device=self.args.device)
        place = {row.pair_id: i for i, row in enumerate(rows)}
        model.eval()
        for forward in (forward for step in self._steps(rows) for forward in step.forwards):
            with torch.no_grad():
                log_p = self._run(model, forward, exact=exact).log_p
            if forward.targets and not forward.idle:
                log_p = log_p.view(len(forward.targets), -1)[:, :2]
                sums[[place[row.pair_id] for row in forward.targets]] = log_p
        return self.accelerator.reduce(sums, "sum") if self.accelerator.num_processes > 1 else sums

    def _with_kl(self, model: Any, step: Step) -> Step:
        """Adds the divergence to a step, where the method needs it before its first forward."""
        if not self.settings.needs_divergence:
            return step
        rows = [self._mismatched[row.pair_id] for row in step.rows]
        log_p = self.log_probabilities(model, rows)
        reference = log_p.new_tensor([row.reference for row in rows])
        return step._replace(kl=divergence(log_p, reference, log_p.new_tensor([row.weight for row in rows])))

    def share_of_loss(self, model: Any, forward: Forward, step: Step) -> Tensor:
        """Computes what a forward pass adds to the loss of its step (equation 6 of the MPO paper), a scalar."""
        out = self._run(model, forward)
        loss = 0.0 * (out.log_p.sum() + out.pooled.sum())
        if forward.idle:
            return loss
        if forward.targets:
            loss = loss + self._target_loss(out, forward.targets, step)
        if forward.sources:
            loss = loss + self.settings.retention_weight * self._retention(out, forward, step)
        return loss

    def _target_loss(self, out: Output, rows: list[PairRow], step: Step) -> Tensor:
        scores = _scores(out.log_p, rows, step)
        weights = scores.chosen.new_tensor([row.weight for row in rows])
        # Validation losses before and after a warm start must be comparable, so they are taken at the end of training.
        progress = self.state.global_step / max(self.state.max_steps, 1) if torch.is_grad_enabled() else 1.0
        scores = scores._replace(progress=progress)
        if self._bare:
            bare = scores.chosen.new_tensor([self._bare[row.pair_id].reference for row in rows])
            scores = scores._replace(bare_chosen=bare[:, 0], bare_rejected=bare[:, 1])
        loss = self.settings.loss(scores)
        _refuse_non_finite(loss, [row.pair_id for row in rows], self.state.global_step + 1)
        gap = scores.gap
        self._means.add(
            loss__gap=(loss, weights),
            reward_gap__target=(gap, weights),
            reward_gap__dominant=(scores.anchor_gap, weights),
            rewards__accuracies=(gap > 0, weights),
        )
        return weighted_mean(loss, weights, step.weight)

    def _retention(self, out: Output, forward: Forward, step: Step) -> Tensor:
        if self._compares:
            answers = [answer for source in forward.sources for answer in source.row.source[1:]]
            loss = divergence_loss(out.divergence, out.divergence.new_tensor([len(answer) for answer in answers]))
        elif self.settings.pooling == "padded_mean":
            loss = retention_loss(out.pooled, self._layouts[_names(forward)].to(out.pooled.device))
        else:
            reference = torch.stack([state for source in forward.sources for state in source.row.pooled or ()])
            loss = retention_loss(out.pooled, reference.to(out.pooled.device))
        _refuse_non_finite(loss, [source.row.pair_id for source in forward.sources], self.state.global_step + 1)
        weights = loss.new_tensor([source.weight for source in forward.sources])
        self._means.add(loss__retention=(loss, weights))
        return weighted_mean(loss, weights, step.weight)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:  # noqa: ARG002
        """Runs forward and backward of every part of an optimiser step; returns its loss."""
        run, rows = functools.partial(self._add_up, model), inputs.rows

        def attempt(rows: list[PairRow], forward: Forward) -> None:
            run(Step(rows, [forward]), updates=False)

        chosen = self.size.choose(model, self.train_dataset, self.state, attempt)  # type: ignore[arg-type]  # rows
        step = self._with_kl(model, self._step(rows) if chosen else inputs)
        train_without_noise(model)
        if self.requires_reference and self.state.global_step == 0:
            self._require_reference(model, step)
        total = self.size.until_it_fits(
            model, step, run, cut=lambda: self._step(rows)._replace(kl=step.kl), state=self.state
        )
        for part in self._auxiliary:
            total += part.step(rows, self.state.global_step + 1, functools.partial(self._output, model))
        return total

    def _add_up(self, model: Any, step: Step, *, updates: bool = True) -> Tensor:
        """Adds up a step's gradients, and lets backward update the weights if the settings say so; returns the loss."""
        train_without_noise(model)
        self._means = Means()
        self._means.weight = step.weight
        self._current = step
        # DDP, FSDP and DeepSpeed average gradients over the processes; a step's loss is a sum.
        processes = self.accelerator.num_processes
        total = torch.zeros((), device=self.args.device)
        alone = self.accelerator.distributed_type == DistributedType.NO
        forwards = step.forwards if self.settings.needs_answers else []
        with adding_up(model) if alone else contextlib.nullcontext():
            for i, forward in enumerate(forwards):
                last = i == len(forwards) - 1
                on = last and updates and self.settings.updates_in_backward
                with self._last_syncs(model, last=last), updating_in_backward(self.optimizer, on=on):
                    loss = self.share_of_loss(model, forward, step) * processes
                    self.accelerator.backward(loss)
                total += loss.detach()
        return total

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Adds the weights of the auxiliary losses to those that are trained."""
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        for weights in filter(None, (part.parameters() for part in self._auxiliary if is_new)):
            optimizer.add_param_group({"params": weights, "weight_decay": 0.0})
        return optimizer

    @contextlib.contextmanager
    def _last_syncs(self, model: Any, *, last: bool) -> Iterator[None]:
        """Makes a backward the last of its step: DDP synchronises in it alone, DeepSpeed steps after it."""
        self.accelerator.sync_gradients = last
        # FSDP's travel with each, for it could not hold them all.
        waits = not last and isinstance(model, DistributedDataParallel)
        with model.no_sync() if waits else contextlib.nullcontext():
            yield

    # -- gradient -------------------------------------------------------------------

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> float:
        """Returns the norm of the gradient as transformers has it, which must be finite before a step is taken with it.

        Private in transformers 5.23, whose callbacks get no norm before the step (`on_pre_optimizer_step` has none):
        this can become a callback once they do. (DeepSpeed has taken its step by now; nothing of it has been saved.)

        Raises:
            BadInputError: the norm is not finite; names the rows. Checkpoints are as before this step, and so are the
                weights unless backward has updated them.
        """
        if self.settings.updates_in_backward:
            grad_norm = norm_of_step(self.optimizer, model)
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if not math.isfinite(norm):
            raise _diverged("the gradient is not finite", self._rows_at_fault(model), self.state.global_step + 1)
        return norm

    def _rows_at_fault(self, model: Any) -> list[str]:
        """Returns the step's rows whose own gradient is not finite; all rows where that cannot be told apart."""
        step = self._current
        # In a collective the others would wait; what backward has updated is no longer the model at fault.
        if self.accelerator.distributed_type != DistributedType.NO or self.settings.updates_in_backward:
            return [row.pair_id for row in step.rows]
        at_fault: set[str] = set()
        for forward in self._pair_by_pair(step):
            sources = {source.row.source_id for source in forward.sources}
            names = {row.pair_id for row in forward.targets}
            names |= {row.pair_id for row in step.rows if row.source_id in sources}
            model.zero_grad()
            self.share_of_loss(model, forward, step).backward()
            gradients = (weight.grad for weight in model.parameters() if weight.grad is not None)
            if not all(bool(gradient.isfinite().all()) for gradient in gradients):
                at_fault |= names
        model.zero_grad()
        return [row.pair_id for row in step.rows if row.pair_id in at_fault or not at_fault]

    def _pair_by_pair(self, step: Step) -> list[Forward]:
        """Runs a step in forwards of one pair each; those of `padded_mean` are a property of their batch."""
        if self.settings.pooling == "padded_mean":
            return step.forwards
        if self.packed:
            return by_tokens(step.rows, 1, sources=self._with_sources)
        return by_rows(step.rows, 1, sources=self._with_sources)

    # -- figures --------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the terms of the loss, means over the step's rows, to a step's log."""
        if "loss" in logs:
            logs.update(self._taken())
            for part in self._auxiliary:
                logs.update(part.take())
        super().log(logs, start_time)

    def _taken(self) -> dict[str, float]:
        means = self._means.take(self.accelerator) if self.settings.needs_answers else {}
        unmeasured = [] if self._with_sources else ["loss/retention"]
        if not self.settings.needs_sources:  # the loss is on no gap, and there is no anchor
            unmeasured += ["loss/gap", "reward_gap/dominant"]
        return {name: value for name, value in means.items() if name not in unmeasured}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:  # noqa: FBT001, FBT002
        """Saves as transformers does, but makes the folder first: transformers looks for it before it writes."""
        Path(output_dir or str(self.args.output_dir)).mkdir(parents=True, exist_ok=True)
        super().save_model(output_dir, _internal_call)

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,  # noqa: ARG002
        prediction_loss_only: bool | None = None,  # noqa: ARG002, FBT001
        ignore_keys: list[str] | None = None,  # noqa: ARG002
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Computes the terms of the loss on the validation pairs."""
        rows: list[PairRow] = list(dataloader.dataset)  # type: ignore[call-overload]
        model = self.model_wrapped
        model.eval()
        self._means = Means()
        loss, weight = 0.0, 0.0
        for step in (self._with_kl(model, step) for step in self._steps(rows)):
            for forward in step.forwards:
                with torch.no_grad():
                    loss += float(self.share_of_loss(model, forward, step)) * step.weight
            weight += step.weight
        if self.accelerator.num_processes > 1:
            loss = float(self.accelerator.reduce(torch.tensor(loss, device=self.args.device), "sum"))
        self._means.weight = weight
        taken = self._taken() | {"loss": loss / weight}
        taken.pop("reward_gap/dominant", None)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in taken.items()}
        return EvalLoopOutput(predictions=np.empty(0), label_ids=None, metrics=metrics, num_samples=len(rows))


def _packs(model: Any, settings: TrainingMethod) -> bool:
    if settings.layout == "packed" and not can_pack(model):
        raise BadInputError(
            "this model's attention cannot be packed", where="training.layout packed", fix="Use auto or padded."
        )
    return settings.layout != "padded" and settings.pooling != "padded_mean" and can_pack(model)


def _names(forward: Forward) -> tuple[str, ...]:
    return tuple(source.row.source_id for source in forward.sources)


def _scores(log_p: Tensor, rows: list[PairRow], step: Step) -> Scores:
    chosen, rejected, *prompt = log_p.view(len(rows), -1).unbind(1)
    return Scores(
        chosen=chosen,
        rejected=rejected,
        prompt=prompt[0] if prompt else torch.zeros_like(chosen),
        chosen_tokens=chosen.new_tensor([len(row.target.chosen) for row in rows]),
        rejected_tokens=chosen.new_tensor([len(row.target.rejected) for row in rows]),
        beta=chosen.new_tensor([row.beta for row in rows]),
        anchor_gap=chosen.new_tensor([row.anchor_gap for row in rows]),
        reference_chosen=chosen.new_tensor([row.reference[0] if row.reference else 0.0 for row in rows]),
        reference_rejected=chosen.new_tensor([row.reference[1] if row.reference else 0.0 for row in rows]),
        mean_chosen_tokens=step.mean_chosen_tokens,
        mean_prompt_tokens=step.mean_prompt_tokens,
        kl=step.kl,
    )


def _refuse_non_finite(loss: Tensor, names: list[str], step: int) -> None:
    finite = torch.isfinite(loss)
    if not bool(finite.all()):
        bad = [name for name, good in zip(names, finite.tolist(), strict=True) if not good]
        raise _diverged("the loss is not finite", bad, step)


def _diverged(what: str, pair_ids: list[str], step: int) -> BadInputError:
    more = f" and {len(pair_ids) - _NAMED} more" if len(pair_ids) > _NAMED else ""
    return BadInputError(
        f"{what} on pairs {', '.join(pair_ids[:_NAMED])}{more}",
        where=f"training, step {step}",
        fix="Lower training.learning_rate, or look at these pairs; the last checkpoint is kept.",
    )
