"""What an analysis is: a table, a picture, and what they support and do not support."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import pyarrow as pa
from markupsafe import Markup

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
    artifacts: Sequence[ArtifactRef] = ()
    """Every artifact of the run, by stage and language."""
    store: ArtifactStore | None = None
    """The store of the artifacts; None where a page is made from its summary alone."""


class Findings(NamedTuple):
    """The result of an analysis: figures, a picture, and what they do and do not support."""

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

    analysis: str
    """Name of the analysis."""

    @abc.abstractmethod
    def analyse(self, run: AnalysedRun) -> Findings | None:
        """Returns the findings, or None if the run has not measured what the analysis needs."""


ANALYSES: ExtensionPoint[Analysis] = ExtensionPoint(
    Analysis,  # type: ignore[type-abstract]  # python/mypy#4717
    tag="analysis",
    package="mpo_core.evaluation.analyses",
    group="mpo.analyses",
)
