"""Learned weights of languages or of rows, around any method: `barfi` (after arXiv 2310.19007) and `group_dro`.

docs/methods/weighting.md has the equations, and says what is ours.
"""

from __future__ import annotations

import abc
import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from mpo_core.contract.errors import BadInputError, quantity
from mpo_core.contract.training import WEIGHT, TrainingMethod, WeightingSettings
from mpo_core.training.collator import PairRow
from mpo_core.training.forward import inner
from mpo_core.training.schedule import EpochSteps

RowLosses = Callable[[list[PairRow]], Iterable[tuple[list[PairRow], Tensor]]]
"""Computes the method's loss of rows, forward by forward: the rows of a forward, and [rows] with gradient."""
_LOWEST, _HIGHEST = 0.2, 5.0
_MEMORY = 0.9  # of a group's mean loss, the share that comes from former steps


class Weighting(abc.ABC):
    """What each row counts in the loss of a training, beside its own weight: that of its group.

    The groups are the languages, or the rows. Their n weights are n softmax(logits), clipped to [0.2, 5].
    """

    def __init__(self, settings: WeightingSettings, rows: list[PairRow]) -> None:
        self._settings = settings
        self._languages = {self._group(row): row.language for row in rows}
        self._places = {name: place for place, name in enumerate(sorted(self._languages))}
        self._logits = torch.zeros(len(self._places), dtype=torch.float64)

    @abc.abstractmethod
    def begin(self, rows: list[PairRow], number: int, losses: RowLosses) -> None:
        """Updates the weights before an optimiser step.

        Args:
            rows: of the step.
            number: of the step, from 1.
            losses: see `RowLosses`.
        """

    def note(self, rows: list[PairRow], losses: Tensor) -> None:  # noqa: B027 - not every kind learns from losses
        """Notes the losses of rows, [rows], in a forward pass of an optimiser step."""

    def finish(self) -> None:  # noqa: B027
        """Ends an optimiser step, all of whose forward passes are done."""

    def factors(self, rows: list[PairRow]) -> Tensor:
        """Returns how much each of the rows counts, [rows]."""
        return self._weights()[[self._places[self._group(row)] for row in rows]]

    def figures(self) -> dict[str, float]:
        """Returns the weight of each language, for the log of a step; of its rows, the mean."""
        by_language: dict[str, list[float]] = {}
        for name, weight in zip(self._places, self._weights().tolist(), strict=True):
            by_language.setdefault(self._languages[name], []).append(weight)
        return {f"{WEIGHT}{code}": sum(some) / len(some) for code, some in sorted(by_language.items())}

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint must hold."""
        return {"logits": self._logits}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._logits = state["logits"]

    def _group(self, row: PairRow) -> str:
        return row.language if self._settings.per == "language" else row.pair_id

    def _weights(self) -> Tensor:
        return (len(self._logits) * self._logits.softmax(0)).clamp(_LOWEST, _HIGHEST)


class GroupDro(Weighting):
    """Weighs a group by its loss: w ∝ exp(rate · loss), so that those that lag behind count more."""

    def __init__(self, settings: WeightingSettings, rows: list[PairRow]) -> None:
        super().__init__(settings, rows)
        self._means = torch.full_like(self._logits, torch.nan)
        self._losses: dict[str, tuple[str, float]] = {}  # of the step: group and loss, by row

    def begin(self, rows: list[PairRow], number: int, losses: RowLosses) -> None:  # noqa: ARG002
        """Updates the weights with the losses of the steps before."""
        self._losses = {}
        if not bool(self._means.isnan().all()):  # a group not met so far is as the others are on average
            self._logits = self._settings.rate * self._means.nan_to_num(float(self._means.nanmean()))

    def note(self, rows: list[PairRow], losses: Tensor) -> None:
        """Notes the losses; those of a forward pass that is repeated count once."""
        values = losses.detach().tolist()
        self._losses |= {row.pair_id: (self._group(row), loss) for row, loss in zip(rows, values, strict=True)}

    def finish(self) -> None:
        """Adds the losses of the step to the running means of the groups."""
        by_group: dict[str, list[float]] = {}
        for name, loss in self._losses.values():
            by_group.setdefault(name, []).append(loss)
        for name, some in by_group.items():
            place, mean = self._places[name], math.fsum(some) / len(some)
            former = float(self._means[place])
            self._means[place] = mean if math.isnan(former) else _MEMORY * former + (1 - _MEMORY) * mean

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint must hold."""
        return super().state_dict() | {"means": self._means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        super().load_state_dict(state)
        self._means = state["means"]


class Barfi(Weighting):
    """Weighs a group by how well its gradient agrees with that of the loss on a trusted split.

    Args:
        settings: of the weights.
        rows: the pairs of the training.
        trusted: pairs whose answers people have checked.
        model: the policy; gradients are those of the trained weights in its last layer.
        step_rows: number of trusted pairs that an update takes.
        seed: of the order of the trusted pairs, which is a function of seed and step alone.
        compiled: the model's layers are compiled. Then they compute as they are here, since compiled code gives up
            in its backward pass what the next group's needs.

    Raises:
        BadInputError: there is no trusted pair, one has a prompt of the training, or the last layer is not trained.
    """

    def __init__(
        self,
        settings: WeightingSettings,
        rows: list[PairRow],
        trusted: list[PairRow],
        model: Any,
        *,
        step_rows: int,
        seed: int,
        compiled: bool = False,
    ) -> None:
        super().__init__(settings, rows)
        _require_apart(rows, trusted)
        self._trusted, self._model, self._compiled = trusted, model, compiled
        self._order = EpochSteps([row.pair_id for row in trusted], step_rows=step_rows, seed=seed, order="shuffled")
        self._layer = [weight for weight in last_layer(model).parameters() if weight.requires_grad]
        if not self._layer:
            raise BadInputError(
                "no weight of the model's last layer is trained",
                where="training.weighting",
                fix="Let training.lora.target_modules include the last layer, or set training.weighting to null.",
            )

    def begin(self, rows: list[PairRow], number: int, losses: RowLosses) -> None:
        """Updates the weights by the gradients of the step's groups and of the next trusted pairs."""
        epoch, step = divmod(number - 1, len(self._order))
        trusted = [self._trusted[place] for place in self._order.steps(epoch)[step]]
        self._model.eval()
        plain = torch.compiler.set_stance("force_eager") if self._compiled else contextlib.nullcontext()
        with training_alone(self._model, self._layer), plain:
            outer = [torch.zeros_like(weight) for weight in self._layer]
            for of_forward, loss in losses(trusted):
                self._add(outer, _weighted(loss, of_forward, trusted), keep=False)
            agreement = self._agreement(rows, losses, outer)
        places = torch.tensor([self._places[name] for name in agreement])
        values = torch.tensor(list(agreement.values()), dtype=torch.float64)
        if not bool(values.isfinite().all()):
            return  # the step itself reports the rows whose loss is not finite
        weights = len(self._logits) * self._logits.softmax(0)[places]
        mean = (self._logits[places].softmax(0) * values).sum()
        self._logits[places] += self._settings.rate * weights * (values - mean)

    def _agreement(self, rows: list[PairRow], losses: RowLosses, outer: list[Tensor]) -> dict[str, float]:
        """Returns <outer, gradient of the group's share of the step's loss> by group, over the norms of both wholes."""
        agreement: dict[str, float] = {}
        whole = [torch.zeros_like(weight) for weight in self._layer]
        for of_forward, loss in losses(rows):
            shares = loss * loss.new_tensor([row.weight for row in of_forward]) / sum(row.weight for row in rows)
            groups = [self._group(row) for row in of_forward]
            for name in dict.fromkeys(groups):
                mine = [torch.zeros_like(weight) for weight in self._layer]
                self._add(mine, shares[[group == name for group in groups]].sum(), keep=True)
                product = sum(float((a.double() * b.double()).sum()) for a, b in zip(outer, mine, strict=True))
                agreement[name] = agreement.get(name, 0.0) + product
                weight = float(self._weights()[self._places[name]])
                for total, part in zip(whole, mine, strict=True):
                    total.add_(part, alpha=weight)
        size = _norm(outer) * _norm(whole)
        return {name: product / size if size else 0.0 for name, product in agreement.items()}

    def _add(self, sums: list[Tensor], loss: Tensor, *, keep: bool) -> None:
        """Adds the gradient of a loss to sums; `keep` leaves its graph for the next group."""
        for total, part in zip(
            sums, torch.autograd.grad(loss, self._layer, retain_graph=keep, allow_unused=True), strict=True
        ):
            if part is not None:
                total.add_(part)


def learned_weights(
    settings: TrainingMethod, rows: list[PairRow], trusted: list[PairRow], model: Any
) -> Weighting | None:
    """Makes the learned weights that the settings of a training ask for, if any; see `Barfi` for the arguments."""
    if settings.weighting is None:
        return None
    if settings.weighting.kind == "group_dro":
        return GroupDro(settings.weighting, rows)
    barfi, steps = settings.weighting, settings.step_rows
    return Barfi(barfi, rows, trusted, model, step_rows=steps, seed=settings.seed, compiled=settings.compile_layers)


def last_layer(model: Any) -> torch.nn.Module:
    """Returns the last layer of a causal language model."""
    bare = inner(model)
    count = bare.config.get_text_config().num_hidden_layers
    layers = [m for m in bare.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    return layers[0][-1]


@contextlib.contextmanager
def training_alone(model: Any, weights: list[Any]) -> Iterator[None]:
    """Lets gradients go to these weights of a model alone while the context lasts; so backward ends there."""
    others = [weight for weight in model.parameters() if weight.requires_grad]
    chosen = set(map(id, weights))
    others = [weight for weight in others if id(weight) not in chosen]
    for weight in others:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in others:
            weight.requires_grad_(True)


def _weighted(loss: Tensor, of_forward: list[PairRow], rows: list[PairRow]) -> Tensor:
    return (loss * loss.new_tensor([row.weight for row in of_forward])).sum() / sum(row.weight for row in rows)


def _norm(parts: list[Tensor]) -> float:
    return float(torch.stack([part.double().norm() for part in parts]).norm())


def _require_apart(rows: list[PairRow], trusted: list[PairRow]) -> None:
    """Requires trusted pairs, none with a prompt of the training, in whatever language."""
    if not trusted:
        raise BadInputError(
            "the weights are learned on trusted pairs, but there is no validation pair",
            where="training.weighting",
            fix="Raise prompts.validation, or for `mpo train` give --validation FILE; or set training.weighting.kind "
            "to group_dro, which needs none.",
        )
    seen = {tuple(row.source.prompt) for row in rows} | {tuple(row.target.prompt) for row in rows}
    shared = [row.pair_id for row in trusted if {tuple(row.source.prompt), tuple(row.target.prompt)} & seen]
    if shared:
        raise BadInputError(
            f"{quantity(len(shared), 'trusted pair')} with a prompt that is trained on, such as {shared[0]}",
            where="training.weighting, validation pairs",
            fix="Take them out of either split: what is trained on cannot say what helps.",
        )
