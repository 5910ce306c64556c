"""What is done in an optimiser step of training, on a model in one process or several; the loop is in loop.py."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType
from accelerate.utils import set_seed
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from mpo_core.contract.training import Scores, TrainingMethod
from mpo_core.training import loop
from mpo_core.training.auxiliary import auxiliary_losses
from mpo_core.training.checkpoints import Stateful
from mpo_core.training.collator import PairRow
from mpo_core.training.compiled import compile_layers
from mpo_core.training.devices import accelerator_for, optimizer_for
from mpo_core.training.distillation import TeacherRow
from mpo_core.training.divergence import divergence, mismatched
from mpo_core.training.figures import Reading, StepFigures, diverged
from mpo_core.training.forward import Output, adding_up, attach, packs
from mpo_core.training.forward_size import ForwardSize, recomputes
from mpo_core.training.frozen_answers import FrozenAnswers
from mpo_core.training.layout import Item, Layout, pack, pad
from mpo_core.training.lean import norm_of_step, split, updating_in_backward
from mpo_core.training.noise import train_without_noise
from mpo_core.training.objective import divergence_loss, retention_loss, weighted_mean
from mpo_core.training.plan import Forward, by_rows, by_tokens, share
from mpo_core.training.schedule import EpochSteps, learning_rate, total_steps
from mpo_core.training.start import expected_of, require_reference
from mpo_core.training.step import Part, RowFigures, SourceFigures, Step, parts, scores
from mpo_core.training.stop import Stop
from mpo_core.training.weighting import learned_weights


class MPOTrainer:
    """Trains on `PairRow`s; the reference is in the rows, not in memory.

    Args:
        model: the policy, bare or with adapters, as it is before any training.
        rows: pairs with their reference.
        validation: pairs to evaluate on, or none.
        teacher: the teacher's answers, where `settings.distillation` asks for them.
        trusted: pairs in which people have checked the answers, where `settings.weighting` asks for them.
        pad_id: token id of the padding.
        settings: of the training.
        folder: where checkpoints go.
        requires_reference: compare the model with the rows' reference before the first step; see `start`.
    """

    def __init__(
        self,
        model: Any,
        rows: list[PairRow],
        *,
        validation: list[PairRow] | None = None,
        teacher: list[TeacherRow] | None = None,
        trusted: list[PairRow] | None = None,
        pad_id: int,
        settings: TrainingMethod,
        folder: Path,
        requires_reference: bool = False,
    ) -> None:
        self.requires_reference = requires_reference
        self.settings, self.pad_id, self.folder = settings, pad_id, folder
        self.train_dataset, self.eval_dataset = rows, validation or []
        self.state = loop.Progress(total_steps(settings, len(rows)))
        self.packed = packs(model, settings)
        self._with_sources = settings.retention_weight > 0
        self._compares = self._with_sources and settings.retention_distance == "kl"
        self._with_prompts = settings.needs_prompt_scores
        self._shares = False  # whether the pass in progress shares copies of weights with others
        self._layouts: dict[tuple[str, ...], Tensor] = {}
        self._answers: FrozenAnswers | None = None
        attach(model, packed=self.packed, keep=settings.logit_memory * 2**20)
        self.accelerator = accelerator_for(settings)
        self.device: torch.device = self.accelerator.device
        self.extras: dict[str, Stateful] = {}
        """What checkpoints hold beside model and optimiser."""
        self._auxiliary = auxiliary_losses(
            settings,
            rows,
            teacher or [],
            model,
            packed=self.packed,
            pad_id=pad_id,
            device=self.device,
            tokens=lambda: self.size.measured,
        )
        for part in self._auxiliary:
            self.extras |= part.modules()
        self._projections = torch.nn.ModuleList(
            module for part in self._auxiliary for module in part.modules().values()
        )
        self._weighting = learned_weights(settings, rows, trusted or [], model)
        if self._weighting is not None:
            self.extras["weighting"] = self._weighting
        set_seed(settings.seed)
        whole = self.accelerator.distributed_type not in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        if whole and settings.weights != "nf4":  # four bits stay where they were made
            model.to(self.device)
        if settings.memory == "lean":
            split(model)
        self.model = self.model_wrapped = model
        self.optimizer: Any = None
        self.size = ForwardSize(settings, self.device, packed=self.packed)
        self.order = EpochSteps(
            [row.source_id for row in rows],
            step_rows=settings.step_rows,
            seed=settings.seed,
            order=settings.order,
        )
        if settings.pooling == "padded_mean" and self._with_sources:
            self._remember_layouts()
        if self._compares:
            unique = {row.source_id: row for row in (*rows, *(validation or []))}
            forwards, narrow = self._cut(list(unique.values())), settings.precision == "bfloat16"
            run = functools.partial(self._run, self.model)
            self._answers = FrozenAnswers(self.model, forwards, run, narrow=narrow)
        self._mismatched: dict[str, PairRow] = {}
        self._bare: dict[str, PairRow] = {}
        for some in filter(None, (validation, trusted, rows)):
            if settings.needs_divergence:
                self._mismatched |= self._measured(mismatched(some, settings.cutoff))
            if settings.needs_bare_reference:
                self._bare |= self._measured([row._replace(target=row.bare or row.target) for row in some])

    # -- data -----------------------------------------------------------------------

    def step_of(self, numbers: list[int]) -> Step:
        """Returns the step over the rows of training with these numbers."""
        return self._step([self.train_dataset[number] for number in numbers])

    def _step(self, rows: list[PairRow]) -> Step:
        """Cuts a step into this process's forwards, as many as any other process has."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        shares = [self._cut(share(rows, other, processes)) for other in range(processes)]
        mine = shares[rank]
        # The collectives of FSDP and DeepSpeed need equally many forwards everywhere.
        shortest = min(rows, key=lambda row: sum(map(len, row.target)))
        idle = [Forward([shortest], [], idle=True)] * (max(map(len, shares)) - len(mine))
        figures = StepFigures([row.pair_id for row in rows], math.fsum(row.weight for row in rows), self.device)
        return Step(rows, mine + idle, figures)

    def _cut(self, rows: list[PairRow], *, targets_alone: bool = False) -> list[Forward]:
        sources = self._with_sources and not targets_alone
        if self.packed:
            return by_tokens(rows, self.size.tokens, sources=sources)
        return by_rows(rows, self.size.pairs, sources=sources)

    def _remember_layouts(self) -> None:
        """Measures the reference states of `padded_mean`, in the very forwards of the training.

        Pads count in that mean, so it belongs to a batch. One pass of the model, not trained
        yet, over every batch to come; the same sums in the same order make the retention loss of the
        first step exactly 0. (Rounding instead of 0 would be a gradient of noise, which AdamW's
        first step turns into updates of up to the learning rate.)
        """
        steps = [self.step_of(numbers) for numbers in self.order.all_steps(self.state.max_steps)]
        steps += self._steps(self.eval_dataset)
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
        # Not left to accelerate, which under FSDP would cast weights and figures instead. Where the passes of a step
        # share no copies, no weight is read twice, and a cache would only hold memory.
        bfloat16 = self.settings.precision == "bfloat16" and not exact
        cached = self._shares and torch.is_grad_enabled()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16, cache_enabled=cached)

    def _layout(self, forward: Forward) -> Layout:
        layout = forward.layout(
            packed=self.packed,
            pooling=self.settings.pooling,
            pad_id=self.pad_id,
            with_prompts=self._with_prompts,
            compares=self._compares,
        )
        if self._answers is not None and forward.sources:
            layout = layout._replace(frozen=self._answers.of(forward))
        return layout

    def _run(self, model: Any, forward: Forward, *, exact: bool = False) -> Output:
        return self._output(model, self._layout(forward), exact=exact)

    def parts(self, step: Step) -> list[Part]:
        """Returns the forward passes of a step with all that they compute with."""
        layouts = [self._layout(forward) for forward in step.forwards]
        return parts(step, layouts, self.device, pooled=self._pooled, bare=self._bare)

    def _pooled(self, forward: Forward) -> Tensor:
        """Returns the reference's states of the dominant pairs in a forward pass, [2k, D]."""
        if self.settings.pooling == "padded_mean" and forward.sources:
            return self._layouts[_names(forward)]
        states = [state for source in forward.sources for state in source.row.pooled or ()]
        return torch.stack(states) if states else torch.empty(0)

    def _output(self, model: Any, layout: Layout, *, exact: bool = False) -> Output:
        with self._autocast(exact=exact):
            out: Output = model(layout=layout.to(self.device))
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
        sums = torch.zeros(len(rows), 2, dtype=torch.float64, device=self.device)
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

    def share_of_loss(self, model: Any, part: Part, step: Step) -> Tensor:
        """Computes what a forward pass adds to the loss of its step (equation 6 of the MPO paper), a scalar."""
        out = self._output(model, part.layout)
        loss = 0.0 * (out.log_p.sum() + out.pooled.sum())
        if part.forward.idle:
            return loss
        if part.forward.targets:
            loss = loss + self._target_loss(out, part, step)
        if part.forward.sources:
            loss = loss + self.settings.retention_weight * self._retention(out, part.sources, step)
        return loss

    def _target_loss(self, out: Output, part: Part, step: Step) -> Tensor:
        rows, weights = part.rows, part.rows.weight
        loss, of_rows = self._losses(out, rows, step)
        step.figures.check(loss, rows.place)
        step.figures.add(
            loss__gap=(loss, weights),
            reward_gap__target=(of_rows.gap, weights),
            reward_gap__dominant=(rows.anchor_gap, weights),
            rewards__accuracies=(of_rows.gap > 0, weights),
        )
        if self._weighting is not None and torch.is_grad_enabled():  # validation losses must be comparable
            self._weighting.note(part.forward.targets, loss)
            weights = weights * self._weighting.factors(part.forward.targets).to(weights)
        return weighted_mean(loss, weights, step.weight)

    def _losses(self, out: Output, rows: RowFigures, step: Step) -> tuple[Tensor, Scores]:
        """Computes the method's loss of each row, [rows], from the scores that are returned with it."""
        # Validation losses before and after a warm start must be comparable, so they are taken at the end of training.
        progress = self.state.global_step / max(self.state.max_steps, 1) if torch.is_grad_enabled() else 1.0
        of_rows = scores(out.log_p, rows, step, progress=progress, with_bare=bool(self._bare))
        return self.settings.loss(of_rows), of_rows

    def _row_losses(self, model: Any, step: Step, rows: list[PairRow]) -> Iterator[tuple[list[PairRow], Tensor]]:
        """Computes the losses of rows as if they were the step's, forward by forward."""
        others = step._replace(rows=rows, forwards=self._cut(rows, targets_alone=True))
        for part in self.parts(others):
            loss, _ = self._losses(self._output(model, part.layout), part.rows, others)
            yield part.forward.targets, loss

    def _retention(self, out: Output, sources: SourceFigures, step: Step) -> Tensor:
        if self._compares:
            loss = divergence_loss(out.divergence, sources.tokens)
        else:
            loss = retention_loss(out.pooled, sources.pooled)
        step.figures.check(loss, sources.place)
        weights = sources.weight.to(loss.dtype)
        step.figures.add(loss__retention=(loss, weights))
        return weighted_mean(loss, weights, step.weight)

    # -- step -----------------------------------------------------------------------

    def train(
        self, checkpoint: Path | None = None, *, report: loop.Report = lambda _line: None, stop: Stop | None = None
    ) -> bool:
        """Trains, see `loop.train`."""
        return loop.train(self, checkpoint, report=report, stop=stop or Stop())

    def prepare(self) -> None:
        """Spreads the model over the processes, and makes the optimiser of what is there then."""
        if self.settings.gradient_checkpointing is True:  # forward_size.py sees to `auto`
            self.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        if self.settings.compile_layers:
            compile_layers(self.model, packed=self.packed)
        optimizer = optimizer_for(self.model, self.settings)
        for module in self._projections:
            optimizer.add_param_group({"params": list(module.parameters()), "weight_decay": 0.0})
        self.model_wrapped, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        if self.accelerator.distributed_type == DistributedType.FSDP:
            self.model = self.model_wrapped

    def set_learning_rate(self) -> float:
        """Sets the learning rate of the step to come, and returns it."""
        rate = learning_rate(self.settings, self.state.global_step, self.state.max_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def forward_and_backward(self, step: Step) -> Tensor:
        """Runs every forward of an optimiser step and its backward; returns this process's share of the step's loss."""
        model, number = self.model_wrapped, self.state.global_step + 1

        def cut(kl: float = 0.0) -> Step:
            self._projections.zero_grad()  # the model does not hold them; a step that is repeated has filled them
            return self._step(step.rows)._replace(figures=step.figures, kl=kl)

        def attempt(rows: list[PairRow], forward: Forward) -> None:
            self._add_up(model, self._step(rows)._replace(forwards=[forward]), updates=False)

        chosen = self.size.choose(model, self.train_dataset, self.state, attempt)
        whole = self._with_kl(model, cut() if chosen else step)
        train_without_noise(model)
        if self.requires_reference and number == 1:
            self._require_reference(model, whole)
        repeat = functools.partial(self.size.until_it_fits, model, cut=lambda: cut(whole.kl), state=self.state)

        def weigh(step: Step) -> Step:
            if self._weighting is not None:
                self._weighting.begin(step.rows, number, functools.partial(self._row_losses, model, step))
            return step

        def run(step: Step) -> Tensor:
            total = self._add_up(model, step)
            for part in self._auxiliary:  # every process computes all of it
                loss = part.step(step.rows, number, functools.partial(self._output, model))
                total += loss / self.accelerator.num_processes
            return total

        total: Tensor = repeat(repeat(whole, weigh), run)
        if self._weighting is not None:
            self._weighting.finish()
        return total

    def _add_up(self, model: Any, step: Step, *, updates: bool = True) -> Tensor:
        """Adds up a step's gradients, and lets backward update the weights if the settings say so; returns the loss."""
        train_without_noise(model)
        step.figures.clear()
        # DDP, FSDP and DeepSpeed average gradients over the processes; a step's loss is a sum.
        processes = self.accelerator.num_processes
        total = torch.zeros((), device=self.device)
        alone = self.accelerator.distributed_type == DistributedType.NO
        passes = self.parts(step) if self.settings.needs_answers else []
        # One copy of the weights serves all passes, but layers that are computed again would not hold theirs so long.
        self._shares = self.settings.precision == "bfloat16" and alone and len(passes) > 1 and not recomputes(model)
        try:
            with adding_up(model, torch.bfloat16 if self._shares else None) if alone else contextlib.nullcontext():
                for i, part in enumerate(passes):
                    last = i == len(passes) - 1
                    on = last and updates and self.settings.updates_in_backward
                    with self._last_syncs(model, last=last), updating_in_backward(self.optimizer, on=on):
                        loss = self.share_of_loss(model, part, step)
                        self.accelerator.backward(loss * processes)
                    total += loss.detach()
        finally:
            self._shares = False  # passes of other losses keep no copies
        return total

    @contextlib.contextmanager
    def _last_syncs(self, model: Any, *, last: bool) -> Iterator[None]:
        """Makes a backward the last of its step: DDP synchronises in it alone, DeepSpeed steps after it."""
        self.accelerator.sync_gradients = last
        # FSDP's travel with each, for it could not hold them all.
        waits = not last and isinstance(model, DistributedDataParallel)
        with model.no_sync() if waits else contextlib.nullcontext():
            yield

    def clip_gradient(self) -> Tensor | float:
        """Scales the gradient down to `max_grad_norm`; returns the norm that it had."""
        if self.settings.updates_in_backward:
            return norm_of_step(self.optimizer, self.model)
        limit = self.settings.max_grad_norm or math.inf
        norm = self.accelerator.clip_grad_norm_(self.model_wrapped.parameters(), limit)
        whole: Tensor | float = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        return whole

    def read_finite(self, step: Step, loss: Tensor, norm: Tensor | float) -> Reading:
        """Reads the figures of a step, before an update is made of it.

        Raises:
            BadInputError: a loss or the gradient is not finite; names the rows. Checkpoints are as before this step,
                and so are the weights unless backward has updated them, as DeepSpeed's and that of `memory: lean` do.
        """
        figures = step.figures.read(self.accelerator, loss, norm)
        if figures.not_finite:
            raise diverged("the loss is not finite", figures.not_finite, self.state.global_step + 1)
        if not math.isfinite(figures.norm):
            raise diverged("the gradient is not finite", self._rows_at_fault(step), self.state.global_step + 1)
        return figures

    def _rows_at_fault(self, step: Step) -> list[str]:
        """Returns the step's rows whose own gradient is not finite; all rows where that cannot be told apart."""
        model = self.model_wrapped
        # In a collective the others would wait; what backward has updated is no longer the model at fault.
        if self.accelerator.distributed_type != DistributedType.NO or self.settings.updates_in_backward:
            return [row.pair_id for row in step.rows]
        at_fault: set[str] = set()
        for part in self.parts(step._replace(forwards=self._pair_by_pair(step))):
            forward = part.forward
            sources = {source.row.source_id for source in forward.sources}
            names = {row.pair_id for row in forward.targets}
            names |= {row.pair_id for row in step.rows if row.source_id in sources}
            model.zero_grad()
            self.share_of_loss(model, part, step).backward()
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

    def log_line(self, figures: Reading, rate: float) -> dict[str, float]:
        """Returns a step's line of the log: loss, norm of the gradient, learning rate, and the terms of the loss."""
        line = {"loss": figures.loss, "grad_norm": figures.norm, "learning_rate": rate} | self._meant(figures.means)
        line |= {} if self._weighting is None else self._weighting.figures()
        return functools.reduce(dict.__or__, (part.take() for part in self._auxiliary), line)

    def _meant(self, means: dict[str, float]) -> dict[str, float]:
        if not self.settings.needs_answers:
            return {}
        unmeasured = [] if self._with_sources else ["loss/retention"]
        if not self.settings.needs_sources:  # the loss is on no gap, and there is no anchor
            unmeasured += ["loss/gap", "reward_gap/dominant"]
        return {name: value for name, value in means.items() if name not in unmeasured}

    def evaluate(self) -> dict[str, float]:
        """Computes the terms of the loss on the validation pairs, and returns them as a line of the log."""
        began = time.monotonic()
        model = self.model_wrapped
        model.eval()
        sums: dict[str, float] = {}
        total = 0.0
        for step in (self._with_kl(model, step) for step in self._steps(self.eval_dataset)):
            with torch.no_grad():
                loss = sum((self.share_of_loss(model, part, step) for part in self.parts(step)), torch.zeros(()))
            figures = self.read_finite(step, loss, 0.0)
            for name, value in {**self._meant(figures.means), "loss": figures.loss}.items():
                sums[name] = sums.get(name, 0.0) + value * step.weight
            total += step.weight
        sums.pop("reward_gap/dominant", None)
        line = {f"eval_{name}": value / total for name, value in sums.items()}
        return line | {"eval_runtime": round(time.monotonic() - began, 4)}


def _names(forward: Forward) -> tuple[str, ...]:
    return tuple(source.row.source_id for source in forward.sources)
