"""Multi-lingual consistency (MLC, arXiv 2602.16660): the prompts of one source should be one direction to the model.

An auxiliary loss for any method, after the code of its authors; docs/methods/mlc.md says what is ours.

Shapes: L prompts of a group (one source prompt and its translations), D width of a hidden state, P of the projection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.training import ConsistencySettings
from mpo_core.models import require_layers
from mpo_core.training.collator import PairRow
from mpo_core.training.encoding import EncodedText
from mpo_core.training.forward import Output, inner
from mpo_core.training.layout import Item, Layout, pack, pad
from mpo_core.training.plan import in_passes

_TOKENS = 2048  # of a forward pass at most, unless a group has more


class Group(NamedTuple):
    """A source prompt and its translations, each as token ids; the source prompt comes first."""

    prompts: list[list[int]]

    @property
    def tokens(self) -> int:
        """Number of tokens of all prompts."""
        return sum(map(len, self.prompts))


def groups(rows: list[PairRow]) -> dict[tuple[int, ...], Group]:
    """Returns the group of every source prompt that has a translation, by the ids of the source prompt.

    A language counts once, also one that has no pairs (`PairRow.translations`). A prompt that equals its source was not
    translated, would make the loss vanish, and is left out.
    """
    translations: dict[tuple[int, ...], dict[str, list[int]]] = {}
    for row in rows:
        source = tuple(row.source.prompt)
        for language, target in [(row.language, row.target.prompt), *row.translations]:
            if target != row.source.prompt and len(target) > 1 < len(source):
                translations.setdefault(source, {}).setdefault(language, target)
    return {source: Group([list(source), *by_code.values()]) for source, by_code in translations.items()}


def consistency_loss(vectors: Tensor, *, temperature: float, anchor: bool) -> Tensor:
    """Computes the loss of one group: how far its vectors are from one direction.

    With Z the vectors at unit length and s its singular values, largest first: q_j = s_j / stopgrad(s_1) / temperature,
    and the loss is the cross entropy of q with the first class, -q_1 + log sum_j exp(q_j).

    Args:
        vectors: [L, P], that of the source prompt first.
        temperature: see above.
        anchor: no gradient goes through the source prompt.

    Returns:
        a scalar; log(1 + (L - 1) exp(-1 / temperature)) for equal directions, log L for orthogonal ones,
        and NaN for vectors that are not finite.
    """
    if anchor:
        vectors = torch.cat([vectors[:1].detach(), vectors[1:]])
    unit = vectors / (vectors.norm(dim=1, keepdim=True) + 1e-12)
    if not bool(torch.isfinite(unit).all()):  # such vectors have no singular values
        undefined: Tensor = unit.sum() * torch.nan
        return undefined
    s = torch.linalg.svdvals(unit)
    q = s / s[0].detach() / temperature
    loss: Tensor = q.logsumexp(0) - q[0]
    return loss


class Consistency:
    """The auxiliary loss of a training: its groups, and the projection, which is trained and not part of the model.

    Args:
        settings: of the loss.
        rows: the pairs of the training.
        model: the policy.
        packed: whether sequences go through the model packed.
        pad_id: token id of the padding.
        seed: of the projection's first weights.
        device: where the model computes.
        tokens: returns the number of tokens of a forward pass that fits into memory, or None where it is not known.

    Raises:
        BadInputError: the model has no such layer, or no prompt has a translation.
    """

    def __init__(
        self,
        settings: ConsistencySettings,
        rows: list[PairRow],
        model: Any,
        *,
        packed: bool,
        pad_id: int,
        seed: int,
        device: torch.device,
        tokens: Callable[[], int | None],
    ) -> None:
        self.settings, self._groups, self._tokens = settings, groups(rows), tokens
        self._packed, self._pad_id = packed, pad_id
        config = inner(model).config.get_text_config()
        require_layers([settings.layer or 1], config.num_hidden_layers, where="training.consistency.layer")
        if not self._groups:
            raise BadInputError(
                "no prompt of the pairs has a translation",
                where="training.consistency",
                fix="Give pairs whose prompts are translated, or set training.consistency to null.",
            )
        self._layer = None if settings.layer == config.num_hidden_layers else settings.layer
        with torch.random.fork_rng(devices=[]):  # the training's own random numbers stay as they are
            torch.manual_seed(seed)
            self.projection = torch.nn.Linear(config.hidden_size, settings.width).to(device)
        self._figure: float | None = None

    def step(self, rows: list[PairRow], number: int, run: Callable[[Layout], Output]) -> Tensor:
        """Adds the gradient of the loss to an optimiser step, and returns the weighted loss, a scalar.

        Args:
            rows: of the step.
            number: of the step, from 1.
            run: a forward pass of the policy.

        Raises:
            BadInputError: the loss is not finite.
        """
        passes = [] if number % self.settings.every else self.of_step(rows)
        count, total = sum(map(len, passes)), torch.zeros((), device=self.projection.weight.device)
        for of_pass in passes:
            loss = self.loss(run(self.layout(of_pass)).pooled, of_pass) / count
            loss.backward()
            total += loss.detach()
        if not bool(torch.isfinite(total)):
            raise BadInputError(
                "the consistency loss is not finite",
                where=f"training, step {number}",
                fix="Lower training.learning_rate or training.consistency.weight; the last checkpoint is kept.",
            )
        self._figure = float(total) / self.settings.weight if passes else None
        return total

    def of_step(self, rows: list[PairRow]) -> list[list[Group]]:
        """Returns the groups of the step's source prompts, in forward passes of whole groups.

        A group is whole whatever rows the step has of it.
        """
        sources = dict.fromkeys(tuple(row.source.prompt) for row in rows)
        of_step = (self._groups[source] for source in sources if source in self._groups)
        return in_passes(of_step, min(_TOKENS, self._tokens() or _TOKENS))

    def layout(self, of_pass: list[Group]) -> Layout:
        """Returns the tensors of a forward pass whose pooled states are those at each prompt's last token, twice."""
        # A pair whose two answers are the last token of its prompt: it is pooled as any pair is.
        items = [
            Item(EncodedText(ids[:-1], ids[-1:], ids[-1:]), scored=False, pooled=True)
            for group in of_pass
            for ids in group.prompts
        ]
        layout = pack(items, "last") if self._packed else pad(items, "last", self._pad_id)
        return layout._replace(layer=self._layer)

    def loss(self, states: Tensor, of_pass: list[Group]) -> Tensor:
        """Computes the weighted sum of the losses of a pass's groups; states are [2n, D], pooled by `layout`."""
        vectors = self.projection(states[0::2].float()).split([len(group.prompts) for group in of_pass])
        settings = self.settings
        losses = [consistency_loss(part, temperature=settings.temperature, anchor=settings.anchor) for part in vectors]
        return settings.weight * torch.stack(losses).sum()

    def modules(self) -> dict[str, torch.nn.Module]:
        """Returns the projection, by its name in a checkpoint."""
        return {"consistency": self.projection}

    def take(self) -> dict[str, float]:
        """Returns the loss of the last step, unweighted, for its log; nothing where it did not count."""
        figure, self._figure = self._figure, None
        return {} if figure is None else {"loss/consistency": figure}
