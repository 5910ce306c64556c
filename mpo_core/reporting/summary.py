"""Everything the report tells, as data: what is written to `summary.json`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from mpo_core.artifacts import ArtifactRef
from mpo_core.gate import GateDecision

Model = Literal["before", "after"]
Seconds = Annotated[float, Field(ge=0.0)]


class Record(BaseModel):
    """Base of all that is told: frozen, strict, described."""

    # A loss may be NaN; JSON has no NaN, so it is written as null and read back as None.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null", use_attribute_docstrings=True)


class StageSummary(Record):
    """What one task did: a stage, in one language and block where it is cut that way."""

    stage: str
    language: str | None = None
    label: str = ""
    """Which task of the stage: language, block of prompts, purpose."""
    state: Literal["computed", "cached"]
    rows: int
    quarantined: int = 0
    seconds: Seconds = 0.0
    """Wall time of the work itself; of a cached task, the time it took when it was computed."""
    counts: dict[str, int] = Field(default_factory=dict)
    """Counts that the stage keeps of its own, such as `refused`."""


class QuarantineCount(Record):
    """How many rows a stage set aside for one reason."""

    stage: str
    language: str | None = None
    reason: str
    count: int


class MetricRow(Record):
    """One row of table METRICS."""

    model: Model
    language: str
    metric: str
    count: int | None
    n: int
    value: float
    low: float
    high: float


class Pair(NamedTuple):
    """One metric of one language, before and after; None where it was not measured."""

    before: MetricRow | None
    after: MetricRow | None

    @property
    def measured(self) -> bool:
        """Whether there is anything to show."""
        return self.before is not None or self.after is not None

    @property
    def n(self) -> int | None:
        """Prompts judged, of the later model if both were."""
        row = self.after or self.before
        return row.n if row else None


class ComparisonRow(Record):
    """One row of table COMPARISONS."""

    language: str
    metric: str
    n: int
    gained: int
    lost: int
    difference: float
    p_value: float


class SourceLicence(Record):
    """A source of prompts or of the model, and the licence it came with."""

    name: str
    licence: str | None = None


class Example(Record):
    """One prompt and what both models answered. Text of models and data: shown folded, escaped."""

    prompt_id: str
    language: str
    kind: Literal["harmful", "harmless"]
    prompt: str
    before: str
    after: str
    verdict_before: str | None = None
    verdict_after: str | None = None


class RunSummary(Record):
    """One run, whole."""

    run: str
    """Name of the run."""
    started: AwareDatetime
    finished: AwareDatetime
    seconds: Seconds
    """Wall time of the whole run."""
    dominant: str
    targets: list[str]
    config: dict[str, Any]
    """The resolved settings; secrets are no part of them."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Versions of the packages that matter."""
    base_model: str
    """Name or path of the model that was aligned."""
    base_digest: str
    """sha256 of its folder."""
    stages: list[StageSummary] = Field(default_factory=list)
    quarantine: list[QuarantineCount] = Field(default_factory=list)
    metrics: list[MetricRow] = Field(default_factory=list)
    comparisons: list[ComparisonRow] = Field(default_factory=list)
    gate: GateDecision | None = None
    """None where no gate was asked, as in a mere evaluation."""
    since: list[ComparisonRow] = Field(default_factory=list)
    """Of a realignment: comparisons with the version that was promoted before, on the same prompts."""
    since_version: str | None = None
    """That version."""
    training: list[dict[str, float | None]] = Field(default_factory=list)
    """`log_history` of `trainer_state.json`, numbers only."""
    artifacts: list[ArtifactRef] = Field(default_factory=list)
    """Every artifact of the run, in the order of the stages."""
    inputs: list[str] = Field(default_factory=list)
    """Names of what the run was given: files, data sets, model."""
    version: str | None = None
    """The registry's version of the new model."""
    kinds: dict[str, dict[str, int]] = Field(default_factory=dict)
    """How many harmful and harmless prompts each source gave."""
    promoted_version: str | None = None
    """The version that was in use when the run ended; None where none was, and in summaries of before."""
    registry: str = ""
    """What the registry did, in one sentence."""
    sources: list[SourceLicence] = Field(default_factory=list)
    examples: list[Example] = Field(default_factory=list)

    @property
    def languages(self) -> list[str]:
        """The dominant language, the targets, then any other that was measured."""
        named = [self.dominant, *self.targets]
        return named + sorted({row.language for row in self.metrics} - set(named))

    def metric(self, model: Model, language: str, metric: str) -> MetricRow | None:
        """One metric, if it was measured."""
        wanted = (model, language, metric)
        return next((row for row in self.metrics if (row.model, row.language, row.metric) == wanted), None)

    def pair(self, language: str, metric: str) -> Pair:
        """One metric of one language, before and after."""
        return Pair(self.metric("before", language, metric), self.metric("after", language, metric))

    def comparison(self, language: str, metric: str) -> ComparisonRow | None:
        """One comparison, if it was made."""
        return next((row for row in self.comparisons if (row.language, row.metric) == (language, metric)), None)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
