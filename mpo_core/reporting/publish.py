"""Writes a run's summary and page beside each other, and reads the summary back."""

from __future__ import annotations

import posixpath
from typing import NamedTuple

import fsspec
from pydantic import ValidationError

from mpo_core.artifacts import ArtifactStore
from mpo_core.errors import BadInputError
from mpo_core.reporting.report import render
from mpo_core.reporting.summary import RunSummary

SUMMARY, PAGE = "summary.json", "report.html"


class Written(NamedTuple):
    """Where they lie, relative to the root."""

    summary: str
    page: str


def write(summary: RunSummary, store: ArtifactStore, folder: str) -> Written:
    """Writes `report.html`, then `summary.json`, each whole or not at all.

    Args:
        summary: what is told.
        store: the artifacts' store.
        folder: folder below its root, such as `runs/demo`.

    Raises:
        BadInputError: the disk is full or the folder cannot be written.
    """
    written = Written(posixpath.join(folder, SUMMARY), posixpath.join(folder, PAGE))
    data = summary.model_dump_json(indent=1) + "\n"  # not json.dumps: only this writes a NaN loss as null
    # Last the summary: where it lies, the page beside it is complete.
    store.write_text(written.page, render(summary))
    store.write_text(written.summary, data)
    return written


def read(store: ArtifactStore, folder: str) -> RunSummary:
    """The summary of a run.

    Raises:
        BadInputError: there is none, or it is no summary.
    """
    fs, base = fsspec.url_to_fs(store.root)
    where = posixpath.join(base, folder, SUMMARY)
    try:
        return RunSummary.model_validate_json(fs.cat_file(where))
    except OSError:
        finished = fs.glob(posixpath.join(base, posixpath.dirname(folder), "*", SUMMARY))
        known = ", ".join(sorted(path.split("/")[-2] for path in finished)) or "there is none yet"
        raise BadInputError("no summary of a run here", where=where, mend=f"Name a finished run: {known}.") from None
    except ValidationError as error:
        raise BadInputError(
            f"this is no summary ({error.error_count()} errors)", where=where, mend="Run the pipeline again."
        ) from None
