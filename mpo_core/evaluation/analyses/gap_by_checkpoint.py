"""The study `gap_by_checkpoint`: reward gap against attack success rate, in the course of a training."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa

from mpo_core.contract.analysis import AnalysedRun, Findings, Study, Variant
from mpo_core.contract.errors import quantity
from mpo_core.contract.metric import REWARD_GAP, UNSAFE
from mpo_core.display.wording import language_name, listed, signed
from mpo_core.evaluation.gap_paths import LIMITS, Path, correlated, draw_paths, place_of
from mpo_core.evaluation.methods import BASE
from mpo_core.evaluation.statistics import rank_correlation
from mpo_core.evaluation.studies import Trainings

_EPOCHS = (0.125, 0.25, 0.5, 1.0, 2.0)
_LIMITS = (
    "The points of a language are means over trainings with {seeds}, all from one base model. The learning rate is "
    "constant, so that a checkpoint does not depend on how long the training goes on; in a run it falls."
)


class GapByCheckpoint(Study):
    """Compares the reward gap with the attack success rate of each language at several points of a training."""

    title: ClassVar[str] = "Reward gap against unsafe answers in the course of a training"
    lead: ClassVar[str] = (
        "The reward gap is how much the model prefers good answers to bad ones. The method assumes that a larger gap "
        "comes with fewer unsafe answers, so each language should go down and to the right while it is trained: from a "
        "hollow point (the base model) over small ones (checkpoints) to a filled one (the end)."
    )

    analysis: Literal["gap_by_checkpoint"]
    """Name of the analysis."""

    def variants(self, targets: Sequence[str]) -> list[Variant]:
        """Returns the same training, stopped after an eighth of an epoch to two epochs.

        With a constant learning rate each is the beginning of the next longer one, hence its checkpoint.
        """
        del targets
        constant = {"schedule": "constant", "warmup": 0.0, "max_steps": None, "patience": None}
        return [Variant(name=f"epoch {epochs:g}", training={"epochs": epochs, **constant}) for epochs in _EPOCHS]

    def analyse(self, run: AnalysedRun) -> Findings | None:
        """Returns gap and ASR by language and checkpoint, with their correlation over all points and by language."""
        if run.trainings is None:
            return None
        trainings = Trainings(run.trainings)
        names = [BASE, *(variant.name for variant in self.variants(run.targets))]
        rows = [_row(trainings, code, name) for code in (run.dominant, *run.targets) for name in names]
        paths = [
            Path(code, [place_of(row["reward_gap"], row["asr"]) for row in rows if row["language"] == code])
            for code in (run.dominant, *run.targets)
        ]
        paths = [path for path in paths if path.measured]
        seeds = len(trainings.values(names[-1], f"{UNSAFE.name}/{run.targets[0]}"))
        return Findings(
            pa.Table.from_pylist(rows),
            draw_paths(paths, name="gap-by-checkpoint"),
            f"{correlated(paths, f'the base model and {len(_EPOCHS)} checkpoints')} {_within(paths)}",
            f"{LIMITS} {_LIMITS.format(seeds=quantity(seeds, 'seed'))}",
        )


def _row(trainings: Trainings, code: str, variant: str) -> dict[str, Any]:
    return {
        "language": code,
        "checkpoint": variant,
        "seeds": len(trainings.values(variant, f"{UNSAFE.name}/{code}")),
        "reward_gap": trainings.mean(variant, f"{REWARD_GAP.name}/{code}"),
        "asr": trainings.mean(variant, f"{UNSAFE.name}/{code}"),
    }


def _within(paths: Sequence[Path]) -> str:
    """Returns a sentence with the correlation over the checkpoints of each language by itself."""
    measured = [(path.code, rank_correlation(path.measured)) for path in paths]
    spelled = [f"{language_name(code)} {signed(rho, 2)}" for code, rho in measured if rho is not None]
    return f"Over the checkpoints of one language: {listed(spelled)}." if spelled else ""
