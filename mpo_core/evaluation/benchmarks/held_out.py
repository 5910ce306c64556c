"""The run's own held-out prompts: those of the split `evaluation.split`, and the pairs made of them."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from mpo_core.contract.benchmark import HELD_OUT, Benchmark
from mpo_core.contract.metric import ANSWERS, PAIRS, Metric


class HeldOut(Benchmark):
    """The prompts of the split `evaluation.split`, which training never sees. Every run measures them."""

    label: ClassVar[str] = "Held-out prompts"
    metrics: ClassVar[tuple[Metric, ...]] = (*ANSWERS, *PAIRS)

    benchmark: Literal["held_out"]
    """Name of the benchmark."""

    @model_validator(mode="after")
    def _as_the_run(self) -> Self:
        names = self.model_fields_set - {"benchmark"}
        if any(getattr(self, name) != type(self).model_fields[name].default for name in names):
            raise ValueError(f"{HELD_OUT} takes no settings: it uses the run's own prompts, translations and judge")
        return self
