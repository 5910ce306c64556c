"""What a run did and showed: `summary.json`, one HTML page, a console table, a markdown note."""

from mpo_core.reporting.console import before_after_table
from mpo_core.reporting.note import markdown
from mpo_core.reporting.publish import read, write
from mpo_core.reporting.report import render
from mpo_core.reporting.summary import (
    ComparisonRow,
    Example,
    MetricRow,
    QuarantineCount,
    RunSummary,
    SourceLicence,
    StageSummary,
)

__all__ = [
    "ComparisonRow",
    "Example",
    "MetricRow",
    "QuarantineCount",
    "RunSummary",
    "SourceLicence",
    "StageSummary",
    "before_after_table",
    "markdown",
    "read",
    "render",
    "write",
]
