"""The report of a run: `summary.json`, one HTML page, a console table, a markdown note."""

from mpo_core.reporting.analyses import analysed, write_analysis
from mpo_core.reporting.console import before_after_tables
from mpo_core.reporting.methods import MethodsSummary, methods_table, write_methods
from mpo_core.reporting.model_card import CARD, model_card, training_card
from mpo_core.reporting.note import by_language, markdown
from mpo_core.reporting.publish import (
    PAGE,
    SETTINGS,
    SUMMARY,
    exclusive,
    files,
    keep_earlier,
    read,
    report_folder,
    require_page,
    run_folder,
    write,
)
from mpo_core.reporting.report import render
from mpo_core.reporting.runs import compare_runs, differences, runs_table
from mpo_core.reporting.summary import (
    BenchmarkCard,
    Example,
    QuarantineCount,
    RunSummary,
    SourceLicence,
    StageSummary,
)
