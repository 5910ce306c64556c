"""The contents of a report as data: what is written to `summary.json`."""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.metric import ANSWERS, PAIRS, TARGETS, Metric
from mpo_core.gate.decide import GateDecision

Model = Literal["before", "after", "model"]
"""The role of a model: before and after training, or the only one."""
MODELS: tuple[Model, Model] = ("before", "after")
Seconds = Annotated[FiniteFloat, Field(ge=0.0)]
_FIGURES = ("value", "low", "high", "difference", "p_value")


class Record(BaseModel):
    """Base of all parts of a report: frozen, without unknown fields."""

    # A loss may be NaN; JSON has no NaN, so it is written as null and read back as None.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null", use_attribute_docstrings=True)


class StageSummary(Record):
    """What one task did: its stage, language and block, how many rows it made, and whether it was cached."""

    stage: str
    language: str | None = None
    label: str = ""
    """Names the task within its stage: language, block of prompts, purpose."""
    state: Literal["computed", "cached"]
    rows: int
    quarantined: int = 0
    seconds: Seconds = 0.0
    """Wall time of the work; for a cached task, the time it took when it was computed."""
    counts: dict[str, int] = Field(default_factory=dict)
    """Further counts of the stage by name, such as `refused`."""


class QuarantineCount(Record):
    """The number of rows that a stage rejected for one reason in one language."""

    stage: str
    language: str | None = None
    reason: str
    count: int


class MetricRow(Record):
    """One row of table METRICS: a metric of one model in one language, with its interval."""

    benchmark: str = HELD_OUT
    model: Model
    language: str
    metric: str
    count: int | None
    n: int
    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat


class CategoryRow(MetricRow):
    """One row of table CATEGORIES: a metric on the prompts of one harm category."""

    category: str


class Pair(NamedTuple):
    """One metric in one language, of the model before the training and after it; None if it was not measured."""

    before: MetricRow | None
    after: MetricRow | None

    @property
    def measured(self) -> bool:
        """Whether the metric was measured before or after."""
        return self.before is not None or self.after is not None

    @property
    def n(self) -> int | None:
        """The number of judged prompts: of the model after training, if it was measured."""
        row = self.after or self.before
        return row.n if row else None


class ComparisonRow(Record):
    """One row of table COMPARISONS: the paired test of one metric in one language."""

    benchmark: str = HELD_OUT
    language: str
    metric: str
    n: int
    gained: int
    lost: int
    difference: FiniteFloat
    difference_low: FiniteFloat | None = None
    difference_high: FiniteFloat | None = None
    p_value: FiniteFloat
    p_holm: FiniteFloat | None = None
    detectable: FiniteFloat | None = None


class OutcomeRow(Record):
    """How many answers of one model to prompts of one kind, in one language, have which outcome."""

    benchmark: str = HELD_OUT
    model: Model
    language: str
    kind: str
    counts: dict[str, int]
    """Answers by outcome: safe_refusal, safe_help, unsafe, invalid, unjudged."""
    reasons: dict[str, int] = Field(default_factory=dict)
    """The invalid and the unjudged answers by the rule that decided."""


class FlipRow(Record):
    """How many prompts got an answer with another outcome after than before."""

    benchmark: str = HELD_OUT
    language: str
    kind: str
    before: str
    after: str
    prompts: int
    prompt_ids: list[str] = Field(default_factory=list)
    """A few of these prompts."""


class SourceLicence(Record):
    """A source of prompts and its licence; None where the profile states none."""

    name: str
    licence: str | None = None


class BenchmarkCard(Record):
    """A benchmark as the report describes it: its metrics, and where its prompts come from."""

    name: str = HELD_OUT
    label: str = "Held-out prompts"
    metrics: list[Metric] = Field([*ANSWERS, *PAIRS], validate_default=True)
    origin: str = ""
    """File or data set of the prompts; empty for held-out prompts."""
    licence: str | None = None
    judge: str = ""
    """Name of the benchmark's own judge; empty where the run's judge judges its answers."""
    translated: list[str] = Field(default_factory=list)
    """Languages in which this run has translated the prompts."""
    missing: list[str] = Field(default_factory=list)
    """Languages of the run in which it has no prompts."""
    in_training: int = 0
    """Prompts in the dominant language that are among the run's training prompts, whether or not a pair has them."""
    prompts: int = 0
    """Prompts in the dominant language."""
    digests: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the texts that the models read, by language; empty in older summaries, and for tests of lm-eval."""
    judge_card: dict[str, str] = Field(default_factory=dict)
    """The benchmark's own judge as its card shows it; empty where the run's judge judges its answers."""

    @field_validator("metrics")
    @classmethod
    def _described(cls, metrics: list[Metric]) -> list[Metric]:
        """Removes the function by which a metric counts, which cannot be written to a file."""
        return [metric.model_copy(update={"counts": None}) for metric in metrics]

    @property
    def content(self) -> str:
        """What it consists of, in a word: prompts, the text that models read, or the items of a test."""
        kinds = {metric.kind for metric in self.metrics}
        return "text" if kinds == {"text"} else "items" if kinds == {"items"} else "prompts"

    def metric(self, name: str) -> Metric:
        """Returns a metric by its name; one that the card lacks is taken for a share, where lower is better."""
        words = name.replace("_", " ")
        unknown = Metric(name=name, label=words, short=words, better="lower", kind="harmful", main=False)
        return next((metric for metric in self.metrics if metric.name == name), unknown)

    def with_metrics(self, names: Iterable[str]) -> "BenchmarkCard":
        """Returns the card with these metrics too."""
        declared = {metric.name: metric for metric in (*self.metrics, *map(self.metric, names))}
        return self.model_copy(update={"metrics": list(declared.values())})


class Example(Record):
    """A prompt and both models' answers to it. Such text is shown folded and escaped."""

    benchmark: str = HELD_OUT
    prompt_id: str
    language: str
    kind: Literal["harmful", "harmless"]
    prompt: str
    before: str | None = None
    """None where one model alone was evaluated."""
    after: str
    verdict_before: str | None = None
    verdict_after: str | None = None


class RunSummary(Record):
    """The whole report of one run: the contents of `summary.json`."""

    run: str
    """Name of the run."""
    started: AwareDatetime
    finished: AwareDatetime
    seconds: Seconds
    """Wall time of the whole run."""
    dominant: str
    targets: list[str]
    config: dict[str, Any]
    """The resolved settings, without secrets."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Versions of the packages that matter."""
    base_model: str
    """Name or path of the model that was aligned."""
    base_digest: str
    """SHA-256 of its folder."""
    models: dict[str, str] = Field(default_factory=dict)
    """Names of the evaluated models by role: `before` and `after`, or `model`. Empty where training made the later."""
    stages: list[StageSummary] = Field(default_factory=list)
    quarantine: list[QuarantineCount] = Field(default_factory=list)
    metrics: list[MetricRow] = Field(default_factory=list)
    comparisons: list[ComparisonRow] = Field(default_factory=list)
    categories: list[CategoryRow] = Field(default_factory=list)
    benchmarks: list[BenchmarkCard] = Field(default_factory=lambda: [BenchmarkCard()])
    """The benchmarks that were measured, the held-out prompts first."""
    outcomes: list[OutcomeRow] = Field(default_factory=list)
    flips: list[FlipRow] = Field(default_factory=list)
    judge: dict[str, str] = Field(default_factory=dict)
    """The judge as its card shows it: name, model, revision, digest of the template, and so on."""
    gate: GateDecision | None = None
    """None where the run has no gate, as in an evaluation alone."""
    since: list[ComparisonRow] = Field(default_factory=list)
    """In a realignment: comparisons with the version promoted earlier, on the same prompts."""
    since_version: str | None = None
    """The version promoted earlier, in a realignment."""
    pairs: dict[str, dict[str, FiniteFloat]] = Field(default_factory=dict)
    """Figures of the training pairs by target language."""
    training: list[dict[str, float | None]] = Field(default_factory=list)
    """`log_history` of `trainer_state.json`, numbers only."""
    artifacts: list[ArtifactRef] = Field(default_factory=list)
    """Every artifact of the run, in the order of the stages."""
    inputs: list[str] = Field(default_factory=list)
    """Names of the files, data sets and other sources that the run read."""
    version: str | None = None
    """The registry's version of the new model."""
    earlier: str | None = None
    """Folder, relative to `run.root`, with the report of another version, which an earlier run of this name made."""
    kinds: dict[str, dict[str, int]] = Field(default_factory=dict)
    """The numbers of harmful and harmless prompts in each source."""
    promoted_version: str | None = None
    """The version that was in use when the run ended; None where none was, and in older summaries."""
    registry: str = ""
    """What the registry did, in one sentence."""
    sources: list[SourceLicence] = Field(default_factory=list)
    examples: list[Example] = Field(default_factory=list)
    not_finite: list[str] = Field(default_factory=list)
    """Figures that were NaN or infinite, such as `after: reward_gap in sw`. They count as not measured."""

    @model_validator(mode="before")
    @classmethod
    def _without_broken_figures(cls, data: Any) -> Any:
        """Moves rows with a figure that is not finite to `not_finite`, so that no page shows `nan`."""
        if not isinstance(data, Mapping):
            return data
        broken = []
        finite_rows: dict[str, list[Any]] = {}
        for name in ("metrics", "comparisons", "since"):
            rows = data.get(name) or []
            if not isinstance(rows, list):
                return data
            finite_rows[name] = [row for row in rows if _is_finite(row)]
            broken += [_name(row, name) for row in rows if not _is_finite(row)]
        return {**data, **finite_rows, "not_finite": [*data.get("not_finite", []), *broken]} if broken else data

    @property
    def languages(self) -> list[str]:
        """The dominant language, the targets, then any other language that was measured."""
        main = list(dict.fromkeys([self.dominant, *self.targets]))
        return main + sorted({row.language for row in self.metrics} - {*main, TARGETS})

    @property
    def cards(self) -> list[BenchmarkCard]:
        """The cards of all measured benchmarks; a benchmark without a card gets one with its name alone."""
        measured: dict[str, dict[str, None]] = {card.name: {} for card in self.benchmarks}
        for row in self.metrics:
            measured.setdefault(row.benchmark, {})[row.metric] = None
        cards = {name: BenchmarkCard(name=name, label=name, metrics=[]) for name in measured}
        cards |= {card.name: card for card in self.benchmarks}
        return [cards[name].with_metrics(metrics) for name, metrics in measured.items()]

    @property
    def alone(self) -> bool:
        """Whether one model alone was evaluated."""
        return "model" in self.models

    @property
    def main(self) -> str:
        """The benchmark that the page is about: the held-out prompts, or the first where there are none."""
        names = [card.name for card in self.benchmarks]
        return names[0] if names and HELD_OUT not in names else HELD_OUT

    def metric(self, model: Model, language: str, metric: str, benchmark: str | None = None) -> MetricRow | None:
        """Returns one metric, or None if it was not measured; a model alone stands where the later of two would."""
        role = "model" if self.alone and model == "after" else model
        key = (benchmark or self.main, role, language, metric)
        return next((r for r in self.metrics if (r.benchmark, r.model, r.language, r.metric) == key), None)

    def pair(self, language: str, metric: str, benchmark: str | None = None) -> Pair:
        """Returns one metric of one language, before and after."""
        before, after = (self.metric(model, language, metric, benchmark) for model in MODELS)
        return Pair(before, after)

    def comparison(self, language: str, metric: str, benchmark: str | None = None) -> ComparisonRow | None:
        """Returns one comparison, or None if it was not made."""
        key = (benchmark or self.main, language, metric)
        return next((row for row in self.comparisons if (row.benchmark, row.language, row.metric) == key), None)


def _is_finite(row: Any) -> bool:
    """Says whether every figure of a row is a finite number; `summary.json` writes others as null."""
    if not isinstance(row, Mapping):
        return True  # a record already, whose figures are checked
    figures = [row[name] for name in _FIGURES if name in row]
    return not any(value is None or (isinstance(value, float) and not math.isfinite(value)) for value in figures)


def _name(row: Mapping[str, Any], table: str) -> str:
    return f"{row.get('model') or table}: {row.get('metric')} in {row.get('language')}"


def iso(moment: datetime) -> str:
    """Formats a moment as ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
