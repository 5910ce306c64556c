"""Writes a run's summary and page into its folder, and reads the summary back."""

import contextlib
import hashlib
import itertools
import json
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import fsspec
from filelock import FileLock
from pydantic import ValidationError

from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.contract.errors import BadInputError, quantity
from mpo_core.reporting.methods import PAGE as METHODS_PAGE
from mpo_core.reporting.methods import SUMMARY as METHODS_SUMMARY
from mpo_core.reporting.report import render
from mpo_core.reporting.summary import RunSummary
from mpo_core.settings import DefinedLanguage
from mpo_core.settings.pipeline import RUN_NAME

SUMMARY, PAGE, SETTINGS = "summary.json", "report.html", "settings.yaml"
# By this every page is known, near its beginning.
_GENERATOR, _HEAD = b'<meta name="generator" content="mpo">', 2000


class Written(NamedTuple):
    """The paths of a run's summary and page, relative to `run.root`."""

    summary: str
    page: str


def write(summary: RunSummary, store: ArtifactStore, folder: str) -> Written:
    """Writes `report.html`, then `summary.json`, each whole or not at all.

    Raises:
        BadInputError: the disk is full or the folder cannot be written.
    """
    # The summary comes last: where it exists, the page is complete.
    for name, text in files(summary).items():
        store.write_text(posixpath.join(folder, name), text)
    return Written(posixpath.join(folder, SUMMARY), posixpath.join(folder, PAGE))


def files(summary: RunSummary, *, texts: bool = False) -> dict[str, str]:
    """Returns the page and the summary by name of the file; see `render` for `texts`."""
    data = summary.model_dump_json(indent=1) + "\n"  # not json.dumps: only this writes a NaN loss as null
    return {PAGE: render(summary, texts=texts), SUMMARY: data}


@contextlib.contextmanager
def exclusive(store: ArtifactStore, folder: str) -> Iterator[None]:
    """Lets one run at a time write into a folder of reports; in an object store, which has no such lock, any."""
    if not store.local:
        yield
        return
    path = store.local_path(posixpath.join(".locks", f"report-{hashlib.sha256(folder.encode()).hexdigest()[:16]}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without kernel locks filelock would fall back to files that outlive a killed process.
    with FileLock(path, fallback_to_soft=False):
        yield


def keep_earlier(store: ArtifactStore, folder: str, version: str | None) -> str | None:
    """Copies the report of another version out of the way of a new one, to `runs/NAME-VERSION`.

    Runs of the same name share a folder, and a version has no other report.

    Args:
        store: where the reports are.
        folder: the folder of the run, relative to `run.root`.
        version: the version whose report is about to be written.

    Returns:
        The folder of the copy, or None where nothing needs to be kept.
    """
    earlier = _version(store, folder)
    if earlier is None or earlier == version:
        return None
    copy = next(
        place for place in _copies(folder, earlier) if not store.exists(place) or _version(store, place) == earlier
    )
    for name in (SETTINGS, PAGE, SUMMARY):  # the summary comes last, as in `write`
        text = store.read_text(posixpath.join(folder, name))
        if text is not None:
            store.write_text(posixpath.join(copy, name), text)
    return copy


def report_folder(store: ArtifactStore, folder: str, version: str | None) -> str:
    """Returns the folder that holds the report of a version: that of its run, or the copy that a later run made."""
    if version is None or _version(store, folder) in {None, version}:
        return folder
    copies = itertools.takewhile(lambda place: _version(store, place) is not None, _copies(folder, version))
    return next((place for place in copies if _version(store, place) == version), folder)


def _copies(folder: str, version: str) -> Iterator[str]:
    """Yields where the report of a version may be kept: another run may have the first name already."""
    yield f"{folder}-{version}"
    yield from (f"{folder}-{version}-{number}" for number in itertools.count(2))


def _version(store: ArtifactStore, folder: str) -> str | None:
    """Returns the version of the report in a folder; None where there is none, or one that cannot be read."""
    try:
        data = json.loads(store.read_text(posixpath.join(folder, SUMMARY)) or "null")
    except ValueError:
        return None
    version = data.get("version") if isinstance(data, dict) else None
    return version if isinstance(version, str) else None


def require_page(out: Path, own: Path | None = None) -> None:
    """Checks that a page can be written into a file of the user's without replacing anything but an earlier page.

    Args:
        out: the file.
        own: the page of the run itself, which may be replaced.

    Raises:
        BadInputError: it is a folder, belongs to another run or evaluation, or there is a file that is no page of mpo.
    """
    where = f"--out {out}"
    with contextlib.suppress(OSError):  # no file can have such a name, or the folder is closed: writing says so
        if out.is_dir():
            raise BadInputError("this is a folder", where=where, fix="Name a file, such as page.html.")
        if own is not None and out.resolve() == own.resolve():
            return
        if (out.parent / SUMMARY).exists():
            fix = "Name a file in another folder, or leave out --out."
            raise BadInputError("this is in the folder of a run or an evaluation", where=where, fix=fix)
        if os.path.lexists(out) and not _is_page(out):
            fix = "Name a new file, or delete this one."
            raise BadInputError("this file is not a page of mpo, and would be replaced", where=where, fix=fix)


def _is_page(path: Path) -> bool:
    """Returns whether a file is a page that mpo has written."""
    if not path.is_file():  # opening a pipe would wait
        return False
    with path.open("rb") as file:
        return _GENERATOR in file.read(_HEAD)


def run_folder(store: ArtifactStore, name: str) -> str:
    """Returns the folder of a run's own files, relative to `run.root`.

    Raises:
        BadInputError: this cannot be the name of a run, or a link leads out of `run.root`.
    """
    if not re.fullmatch(RUN_NAME, name):
        raise BadInputError(
            "this cannot be the name of a run",
            where=f"report {name[:100]!r}",
            fix="Names are letters, digits, dots, dashes and underscores, and begin with a letter or digit.",
        )
    folder = posixpath.join("runs", name)
    if store.local:
        root = store.local_path("").resolve()
        for part in (folder, posixpath.join(folder, SUMMARY)):
            if not store.local_path(part).resolve().is_relative_to(root):
                raise BadInputError(
                    "a link here leads out of the folder of artifacts",
                    where=f"{store.root}, {part}",
                    fix="Replace the link by the folder itself.",
                )
    return folder


def read(store: ArtifactStore, folder: str) -> RunSummary:
    """Returns the summary of a run, and makes the languages known that its settings define.

    `folder` is relative to the root; it is empty where the store's root is a folder of `mpo evaluate --out`. Fields of
    a newer version are ignored.

    Raises:
        BadInputError: there is none, or it cannot be read.
    """
    fs, base = fsspec.url_to_fs(store.root)
    where = posixpath.join(base, folder, SUMMARY)
    try:
        summary = RunSummary.model_validate_json(fs.cat_file(where), extra="ignore")
    except OSError as error:
        if isinstance(error, PermissionError) or fs.isfile(where):
            reason, fix = error.strerror or type(error).__name__, "Allow this user to read the file and its folder."
            raise BadInputError(f"cannot read the summary ({reason})", where=where, fix=fix) from None
        raise _no_summary(fs, where, of_run=folder != "") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        of_run = folder.startswith("runs/")
        again = "Run the pipeline again with the same settings" if of_run else "Evaluate again, into another folder"
        raise BadInputError(
            f"this is not the summary of a run: {place}: {first['msg'][:200]} "
            f"({quantity(error.error_count(), 'error')})",
            where=where,
            fix=f"{again}; what is cached is not computed again.",
        ) from None
    _define_languages(summary)
    return summary


def _define_languages(summary: RunSummary) -> None:
    """Makes names and directions of the run's own languages known; without them, the page shows their codes."""
    languages = summary.config.get("languages")
    entries = languages.get("defined") if isinstance(languages, Mapping) else None
    for entry in entries if isinstance(entries, list) else []:
        with contextlib.suppress(ValidationError, BadInputError):  # of another version, or known as something else
            DefinedLanguage.model_validate(entry).define()


def _no_summary(fs: fsspec.AbstractFileSystem, where: str, *, of_run: bool) -> BadInputError:
    folder = posixpath.dirname(where)
    if not of_run:
        fix = "Name a folder that `mpo evaluate --out` has written, or the name of a run."
        return BadInputError("there is no summary of an evaluation here", where=where, fix=fix)
    if fs.exists(posixpath.join(folder, METHODS_SUMMARY)):
        page = posixpath.join(folder, METHODS_PAGE)
        return BadInputError("this run compared methods and has no summary", where=where, fix=f"Open {page}.")
    names = ", ".join(_finished(fs, posixpath.dirname(folder))) or "there is none yet"
    if fs.isdir(folder):
        fix = f"Run it again with the same settings, which continues where it ended, or name a finished run: {names}."
        return BadInputError("this run has not finished, so there is no summary of a run here", where=where, fix=fix)
    return BadInputError("there is no summary of a run here", where=where, fix=f"Name a finished run: {names}.")


def _finished(fs: fsspec.AbstractFileSystem, runs: str) -> list[str]:
    """Returns the names of the runs that have a summary, without `glob`, which would misread brackets in a path."""
    folders = fs.ls(runs, detail=False) if fs.isdir(runs) else []
    return sorted(posixpath.basename(path) for path in folders if fs.isfile(posixpath.join(path, SUMMARY)))
