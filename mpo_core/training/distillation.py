"""Multilingual self-distillation (MSD, after arXiv 2605.02971), off-policy: the student learns stored answers.

An auxiliary loss for any method; docs/methods/msd.md says what is known of the paper, and what is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.training import DistillationSettings
from mpo_core.training.collator import PairRow
from mpo_core.training.encoding import EncodedText
from mpo_core.training.forward import Output
from mpo_core.training.forward_size import UNMEASURED
from mpo_core.training.layout import Item, Layout, pack, pad
from mpo_core.training.plan import in_passes
from mpo_core.training.schedule import EpochSteps
from mpo_core.training.top_tokens import TopTokens


class TeacherRow(NamedTuple):
    """An answer of the teacher, with its distribution at each of the N tokens."""

    row_id: str
    language: str
    prompt: list[int]
    """Token ids of the rendered prompt, as the student sees it."""
    answer: list[int]
    """Token ids of the answer, N of them."""
    top_ids: Tensor
    """[N, K], see `TopTokens`."""
    top_log_p: Tensor
    """[N, K]"""
    rest: Tensor
    """[N]"""

    @property
    def tokens(self) -> int:
        """Number of tokens of prompt and answer."""
        return len(self.prompt) + len(self.answer)


def teacher_rows(table: pa.Table, *, model: str | None = None) -> list[TeacherRow]:
    """Returns the rows of a TEACHER table.

    Args:
        table: the teacher's answers.
        model: digest of the initial model, which must be the teacher; None checks nothing.

    Raises:
        BadInputError: the teacher was another model.
    """
    rows = []
    figures = ["top_ids", "top_log_probs", "rest_log_probs"]  # many: as Python objects they would take gigabytes
    ids, log_probs, rest = (table.column(name).combine_chunks() for name in figures)
    for i, row in enumerate(table.drop_columns(figures).to_pylist()):
        if model is not None and row["model"] != model:
            raise BadInputError(
                f"the teacher was another model ({row['model'][:12]})",
                where=f"teacher's answers, model {model[:12]}",
                fix="Let the model that is to be trained answer the prompts.",
            )
        shape = (len(row["tokens"]), -1)
        rows.append(
            TeacherRow(
                f"{row['prompt_id']}/{row['language']}/{row['sample']}",
                row["language"],
                row["prompt_tokens"],
                row["tokens"],
                torch.tensor(ids[i].values.to_numpy(), dtype=torch.int32).view(shape),
                torch.tensor(log_probs[i].values.to_numpy(), dtype=torch.float32).view(shape),
                torch.tensor(rest[i].values.to_numpy(), dtype=torch.float32),
            )
        )
    return rows


class Distillation:
    """The auxiliary loss of a training: each optimiser step takes the next of the teacher's answers.

    Args:
        settings: of the loss.
        rows: the teacher's answers.
        answers: how many of them an optimiser step takes.
        packed: whether sequences go through the model packed.
        pad_id: token id of the padding.
        seed: of the order of the answers, which is a function of seed and step alone.
        tokens: returns the number of tokens of a forward pass that fits into memory, or None where it is not known.

    Raises:
        BadInputError: there is no answer to learn from.
    """

    def __init__(
        self,
        settings: DistillationSettings,
        rows: list[TeacherRow],
        *,
        answers: int,
        packed: bool,
        pad_id: int,
        seed: int,
        tokens: Callable[[], int | None],
    ) -> None:
        if not rows:
            raise BadInputError(
                "the teacher gave no answer that can be learned from",
                where="training.distillation",
                fix="See the quarantine of the stage `distillation`; change training.distillation.instruction, or set "
                "training.distillation to null.",
            )
        self._weight, self._rows, self._packed, self._pad_id = settings.weight, rows, packed, pad_id
        self._tokens = tokens
        self._order = EpochSteps([row.row_id for row in rows], step_rows=answers, seed=seed, order="shuffled")
        self._figure: Tensor | None = None

    def step(self, rows: list[PairRow], number: int, run: Callable[[Layout], Output]) -> Tensor:  # noqa: ARG002
        """Adds the gradient of the loss to an optimiser step, and returns the weighted loss, a scalar.

        Args:
            rows: of the step; the teacher's answers have an order of their own.
            number: of the step, from 1.
            run: a forward pass of the policy.

        Raises:
            BadInputError: the loss is not finite; names the answers.
        """
        passes = self.of_step(number)
        count = sum(map(len, passes))
        parts = []
        for of_pass in passes:
            loss = run(self.layout(of_pass)).divergence[0::2] / count
            (self._weight * loss.sum()).backward()
            parts.append(loss.detach())
        losses = torch.cat(parts)
        if not bool(torch.isfinite(losses).all()):
            names = [row.row_id for of_pass in passes for row in of_pass]
            bad = [name for name, good in zip(names, losses.isfinite().tolist(), strict=True) if not good]
            raise BadInputError(
                f"the distillation loss is not finite on {', '.join(bad[:16])}",
                where=f"training, step {number}",
                fix="Lower training.learning_rate or training.distillation.weight; the last checkpoint is kept.",
            )
        self._figure = losses.sum()
        return self._weight * self._figure

    def of_step(self, number: int) -> list[list[TeacherRow]]:
        """Returns the answers of an optimiser step, from 1, in forward passes."""
        epoch, step = divmod(number - 1, len(self._order))
        return in_passes((self._rows[at] for at in self._order.steps(epoch)[step]), self._tokens() or UNMEASURED)

    def layout(self, rows: list[TeacherRow]) -> Layout:
        """Returns the tensors of a forward pass that compares the student with the teacher, token by token."""
        items = [
            Item(EncodedText(row.prompt, row.answer, []), scored=False, pooled=False, compared=True) for row in rows
        ]
        layout = pack(items, "mean") if self._packed else pad(items, "mean", self._pad_id)
        teacher = TopTokens(
            torch.cat([row.top_ids for row in rows]),
            torch.cat([row.top_log_p for row in rows]),
            torch.cat([row.rest for row in rows]),
            [len(row.answer) for row in rows],
        )
        return layout._replace(frozen=teacher)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Returns nothing: the model alone is trained."""
        return {}

    def take(self) -> dict[str, float]:
        """Returns the unweighted loss of the last step, for its log."""
        return {} if self._figure is None else {"loss/distillation": float(self._figure)}
