"""What one stage passes to the next: futures of artifacts, by language and block of prompts."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from flows.benchmarks import BenchmarkPrompts, Texts
from flows.run import Future
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.settings import TrainingSettings
from tasks.model import ModelFolder

T = TypeVar("T")
Key = tuple[str, ArtifactRef]
"""Language and block of prompts: one shard of a stage."""
Shards = dict[Key, Future]


class Pairs(NamedTuple):
    """Preference pairs by language and block, with the prompts that they answer."""

    texts: Texts
    source: Shards
    """The pairs in the dominant language."""
    target: Shards
    """Their mirrors in the target languages."""

    def of(self, name: str) -> "Pairs":
        """Returns the pairs of one split."""
        return Pairs(of_split(self.texts, name), of_split(self.source, name), of_split(self.target, name))

    def within(self, codes: set[str]) -> "Pairs":
        """Returns the pairs in some languages."""
        return Pairs(
            in_languages(self.texts, codes), in_languages(self.source, codes), in_languages(self.target, codes)
        )


class Measured(NamedTuple):
    """One model's result on a set of prompts: answers and verdicts by shard, and the metrics of all shards."""

    prompts: BenchmarkPrompts
    answers: Shards
    verdicts: Shards
    metrics: Future


class Utility(NamedTuple):
    """What a model can do beside refusing: figures by passage of plain text and by item of lm-eval, and the metrics."""

    text: list[Future]
    """What the model needs for each passage and, if they are measured, its scores on lm-eval's items."""
    metrics: Future
    """The metrics of these, and of its distance from the base model."""


class Evaluation(NamedTuple):
    """One model's evaluation: the results on the held-out prompts first, then those on each further benchmark."""

    model: ModelFolder
    measured: list[Measured]
    gaps: Shards
    """The reward gaps of the held-out pairs."""
    utility: Utility

    @property
    def metrics(self) -> Future:
        """The metrics on the held-out prompts."""
        return self.measured[0].metrics

    @property
    def all_metrics(self) -> list[Future]:
        """Every table METRICS of this model: on held-out prompts, plain text and benchmarks."""
        return [self.metrics, self.utility.metrics, *(part.metrics for part in self.measured[1:])]


class Since(NamedTuple):
    """The version that was promoted before a realignment, and the paired tests against it."""

    version: str
    comparison: Future


class Change(NamedTuple):
    """The model before and after training on the same prompts, with the paired tests of the two."""

    before: Evaluation
    after: Evaluation
    comparisons: list[Future]
    """The paired tests: on held-out prompts first, then on each further benchmark."""
    utility: Future
    """The paired tests on plain text and lm-eval's items."""
    since: Since | None = None

    @property
    def all_comparisons(self) -> list[Future]:
        """Every table COMPARISONS of the two models: on held-out prompts, plain text and benchmarks."""
        return [self.comparisons[0], self.utility, *self.comparisons[1:]]


def split(block: ArtifactRef) -> str:
    """Returns the split (`train`, `validation` or `test`) of a block of prompts."""
    return (block.part or "").partition("-")[0]


def in_languages(shards: Mapping[Key, T], codes: set[str]) -> dict[Key, T]:
    """Returns the shards in some languages."""
    return {key: shard for key, shard in shards.items() if key[0] in codes}


def of_split(shards: Mapping[Key, T], name: str) -> dict[Key, T]:
    """Returns the shards whose blocks belong to one split."""
    return {key: shard for key, shard in shards.items() if split(key[1]) == name}


def forward_settings(training: TrainingSettings) -> dict[str, Any]:
    """Returns the inputs of a task that measures a model as a training computes: cut-off, formats and memory."""
    names = ("cutoff", "precision", "weights", "tokens_per_forward")
    return {name: getattr(training, name) for name in names}
