"""The command `mpo report`: the page of a run again, or several runs side by side."""

import contextlib
import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.shared import DEFAULT_ROOT, AsJson, Root, output, store_at, tell
from mpo_core.contract.errors import BadInputError

_COMPARE = "compare"


def report(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Name of the run; or `compare` and two or more runs, or folders of `mpo evaluate`.", metavar="NAME…"
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the page into this file. Default: beside the summary in --root.")
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="Show texts of harmful prompts and of the answers to them, folded.")
    ] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Render a run's HTML page again from its summary, or put several runs side by side, and print the page's path."""
    from mpo_core import reporting
    from mpo_core.contract.artifacts import write_atomically

    if len(names) > 1:
        _compare(names, out, root, as_json=as_json)
        return
    store = store_at(root)
    folder = reporting.run_folder(store, names[0])
    place = f"{folder}/{reporting.PAGE}"
    if out is not None:
        reporting.require_page(out, store.local_path(place) if store.local else None)
    page = reporting.render(reporting.read(store, folder), texts=texts)
    if out is not None:
        write_atomically(out, page.encode())
    elif store.read_text(place) != page:
        store_at(root, writes=True).write_text(place, page)
    tell({"report": str(out or f"{root.rstrip('/')}/{place}")}, as_json)


def _compare(names: list[str], out: Path | None, root: str, *, as_json: bool) -> None:
    """Writes the page of several runs, and prints their medians."""
    from mpo_core import reporting
    from mpo_core.contract.artifacts import write_atomically

    first, *runs = names
    if first != _COMPARE or len(runs) < 2:  # noqa: PLR2004 - one run is compared with nothing
        raise BadInputError(
            "a page shows one run, or compares two and more",
            where=f"mpo report {' '.join(names)[:200]}",
            fix="Write mpo report NAME, or mpo report compare NAME NAME …",
        )
    if out is not None:
        reporting.require_page(out)
    summaries = [_summary(name, root) for name in runs]
    place = _comparison_page(runs, root)
    page = reporting.compare_runs(summaries, runs)
    if out is not None:
        write_atomically(out, page.encode())
    else:
        store_at(root, writes=True).write_text(place, page)
    notes, written = reporting.differences(summaries), {"report": str(out or f"{root.rstrip('/')}/{place}")}
    if as_json:
        tell({**written, "differences": notes}, as_json)
        return
    output.print(reporting.runs_table(summaries, runs))
    for note in notes:
        output.print(f"Caution: {note}", soft_wrap=True)
    tell(written, as_json)


def _comparison_page(names: list[str], root: str) -> str:
    """Returns where the page of a comparison goes: it is always the same for these runs, and never that of others.

    Folders may end alike, and names joined by dashes be those of other runs, so a digest keeps pages apart.
    """
    places = [str(Path(name).resolve()) if _is_folder(name, root) else name for name in names]
    digest = hashlib.sha256("\n".join(places).encode()).hexdigest()
    return f"comparisons/{'-'.join(Path(name).name for name in names)[:150]}-{digest[:8]}.html"


def _summary(name: str, root: str) -> Any:
    """Reads the summary of a run of the root, or of a folder that `mpo evaluate --out` wrote."""
    from mpo_core import reporting
    from mpo_core.contract.artifacts import ArtifactStore

    if _is_folder(name, root):
        return reporting.read(ArtifactStore(name, writes=False), "")
    store = store_at(root)
    return reporting.read(store, reporting.run_folder(store, name))


def _is_folder(name: str, root: str) -> bool:
    """Returns whether a folder is meant, and not a run, whose name another folder may have by chance."""
    from mpo_core import reporting

    with contextlib.suppress(OSError):  # no folder can have such a name
        if Path(name, reporting.SUMMARY).is_file():
            return True
        if Path(name).is_dir():
            try:
                return not store_at(root).exists(f"runs/{name}")
            except BadInputError:  # there is no root that could have a run of this name
                return True
    return False
