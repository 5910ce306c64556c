"""Shows analyses: a section of the run's page, or table, picture and page of their own."""

import io
import posixpath
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv as pa_csv
from markupsafe import Markup

from mpo_core.contract.analysis import AnalysedRun, Analysis, Findings
from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import CATEGORIES, COMPARISONS, METRICS
from mpo_core.display.wording import language_name, number
from mpo_core.reporting.summary import RunSummary
from mpo_core.reporting.templates import environment, style


class AnalysisSection(NamedTuple):
    """The section of an analysis on a page; without findings, it says that nothing was measured."""

    id: str
    title: str
    lead: str
    heads: list[str]
    rows: list[list[str]]
    findings: Findings | None


class WrittenAnalysis(NamedTuple):
    """The paths of an analysis's files, relative to `run.root`; `picture` is None if the analysis has no picture."""

    table: str
    picture: str | None
    page: str


def analysed(summary: RunSummary, store: ArtifactStore | None = None) -> AnalysedRun:
    """Returns the parts of a run that analyses read; one that reads artifacts needs the store."""
    return AnalysedRun(
        name=summary.run,
        dominant=summary.dominant,
        targets=summary.targets,
        metrics=pa.Table.from_pylist([row.model_dump() for row in summary.metrics], schema=METRICS.schema),
        comparisons=pa.Table.from_pylist([row.model_dump() for row in summary.comparisons], schema=COMPARISONS.schema),
        categories=pa.Table.from_pylist([row.model_dump() for row in summary.categories], schema=CATEGORIES.schema),
        artifacts=summary.artifacts,
        store=store,
    )


def analysis_section(analysis: Analysis, run: AnalysedRun) -> AnalysisSection:
    """Analyses a run, and arranges the findings."""
    findings = analysis.analyse(run)
    heads = [] if findings is None else [name.replace("_", " ") for name in findings.table.column_names]
    lines = [] if findings is None else findings.table.to_pylist()
    rows = [[_cell(name, value) for name, value in line.items()] for line in lines]
    return AnalysisSection(analysis.analysis.replace("_", "-"), analysis.title, analysis.lead, heads, rows, findings)


def write_analysis(
    analysis: Analysis, run: AnalysedRun, store: ArtifactStore, folder: str
) -> tuple[WrittenAnalysis, Findings]:
    """Writes the table (CSV), the picture (SVG) and the page of an analysis below a run's folder.

    Raises:
        BadInputError: the run has not measured what the analysis needs; nothing is written.
    """
    section = analysis_section(analysis, run)
    if section.findings is None:
        raise BadInputError(
            f"run {run.name} has not measured what {analysis.analysis} needs",
            where=f"{store.root}, {folder}",
            fix="Analyse a run that has measured it; CONTRIBUTING.md says what an analysis reads.",
        )
    place = posixpath.join(folder, "analyses", analysis.analysis)
    table, picture = io.BytesIO(), section.findings.picture
    pa_csv.write_csv(section.findings.table, table)
    page = environment().get_template("analysis.html.jinja")
    paths = WrittenAnalysis(f"{place}.csv", f"{place}.svg" if picture else None, f"{place}.html")
    store.write_text(paths.table, table.getvalue().decode())
    if paths.picture and picture:
        store.write_text(paths.picture, _alone(picture))
    store.write_text(paths.page, page.render(section=section, run=run.name, style=style()))
    return paths, section.findings


def _cell(column: str, value: Any) -> str:
    if isinstance(value, float) or value is None:
        return number(value, 3)
    return language_name(value) if column == "language" else str(value)


def _alone(picture: Markup) -> str:
    """Returns the picture as a file: with its namespace, and the colours that the page's style sheet gives it."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    colours = style[style.index(":root") : style.index("}", style.index(":root")) + 1].replace(":root", "svg")
    head = '<svg xmlns="http://www.w3.org/2000/svg"'
    plain = "".join(picture)  # the methods of `Markup` would escape what they put in
    return plain.replace("<svg", head, 1).replace(">", f"><style>{colours}text{{font-family:sans-serif}}</style>", 1)
