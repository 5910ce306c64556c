"""What an analysis is: a table, a picture, and what they support and do not support.

Most analyses read a finished run. One with `reads_states` also needs hidden states of both models, and a `Study`
trainings of its own: `mpo analyse` computes these first, through the flow's cached tasks.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import pyarrow as pa
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore
from mpo_core.contract.extensions import ExtensionPoint
from mpo_core.contract.settings import Settings


class AnalysedRun(NamedTuple):
    """The parts of a finished run that an analysis reads."""

    name: str
    dominant: str
    targets: Sequence[str]
    metrics: pa.Table
    """Table METRICS of every model and benchmark."""
    comparisons: pa.Table | None = None
    """Table COMPARISONS of every benchmark."""
    categories: pa.Table | None = None
    """Table CATEGORIES of every benchmark whose harmful prompts have categories."""
    artifacts: Sequence[ArtifactRef] = ()
    """Every artifact of the run, by stage and language."""
    store: ArtifactStore | None = None
    """The store of the artifacts; None where a page is made from its summary alone."""
    states: Mapping[str, pa.Table] | None = None
    """Table PROMPT_STATES of each model, `before` and `after`, for an analysis with `reads_states`."""
    trainings: pa.Table | None = None
    """Table METHOD_RUNS of a study's trainings, whose methods are its variants, and `base`."""


class Findings(NamedTuple):
    """The result of an analysis: numbers, a picture, and which conclusions they do and do not support."""

    table: pa.Table
    """Its figures, with names of columns that a reader understands."""
    picture: Markup | None
    """An SVG made with `mpo_core.display.svg`; None if there is no data for it."""
    supports: str
    """What the figures support, in sentences with the figures."""
    limits: str
    """What the figures do not support, in sentences."""


class Analysis(Settings, abc.ABC):
    """Base of every analysis. Its fields are its settings; `analysis: Literal["name"]` gives its name.

    An analysis lives in a file of its own in `mpo_core/evaluation/analyses/`, or in another package that names its
    class in the entry-point group `mpo.analyses`. `mpo analyse NAME` runs it.
    """

    title: ClassVar[str]
    """Title of its section."""
    lead: ClassVar[str]
    """What it looks at and what the method would predict, in sentences for the head of its section."""
    reads_states: ClassVar[bool] = False
    """Whether it reads the hidden states of prompts, under both models."""

    analysis: str
    """Name of the analysis."""

    @abc.abstractmethod
    def analyse(self, run: AnalysedRun) -> Findings | None:
        """Returns the findings, or None if the run has not measured what the analysis needs."""


class Variant(BaseModel):
    """One way to train, whose effect a study measures."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Its name in table and picture."""
    training: dict[str, JsonValue] = {}
    """Settings of the training that differ from the profile's, by key, such as {"beta": 2.0}."""
    share: float = 1.0
    """Share of the training prompts whose pairs are used."""
    swapped: float = 0.0
    """Share of the target pairs whose answers are swapped, chosen for rejected."""
    untranslated: float = 0.0
    """Share of the target pairs whose texts stay in the dominant language."""
    without: str | None = None
    """A target language whose pairs are left out; the variant is measured in this language alone."""


class Study(Analysis):
    """Base of the analyses that train: each variant with each seed, on the pairs that the profile describes."""

    seeds: int = Field(3, ge=1)
    """Trainings of each variant, with seeds counted from 0. Default: 3."""

    @abc.abstractmethod
    def variants(self, targets: Sequence[str]) -> list[Variant]:
        """Returns the variants in the order of table and picture; the first is the one to compare the others with."""


ANALYSES: ExtensionPoint[Analysis] = ExtensionPoint(
    Analysis,  # type: ignore[type-abstract]  # python/mypy#4717
    tag="analysis",
    package="mpo_core.evaluation.analyses",
    group="mpo.analyses",
)
