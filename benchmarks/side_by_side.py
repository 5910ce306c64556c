"""Trains MPO in several ways through the `compare` profile, and makes one table of them; forks trainings.

What the root's cache has is not computed again, so a benchmark that was stopped continues where it was.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROFILE = Path(__file__).resolve().parent.parent / "deployments" / "profiles" / "compare.yaml"
FIGURES = {
    "target_unsafe": "target ASR",
    "low_unsafe": "low-resource ASR",
    "target_helped": "helped",
    "target_broken": "broken",
    "dominant_refused": "English refused",
    "dominant_helped": "English helped",
}


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Lets Ctrl-C, SIGTERM and SIGHUP end flows as they end the `mpo` command, which shows its progress.

    Prefect's own handler would report to its temporary server for minutes, which has got the same signal and is gone.
    """
    from rich.console import Console

    from flows import progress, surroundings

    with surroundings.ended_by_signals(), progress.show(Console(stderr=True)):
        yield


@contextlib.contextmanager
def forked() -> Iterator[None]:
    """Forks trainings from a process that has their libraries, as short tests do: each saves the imports."""
    server = os.environ.get("PREFECT_API_URL")
    sys.path.insert(0, str(PROFILE.parents[2]))
    from tests.session import forked_trainings  # takes the address of a server out of the environment

    if server is not None:
        os.environ["PREFECT_API_URL"] = server
    with ended_by_signals(), forked_trainings():
        yield


def compared(name: str, root: str, seeds: int, changes: list[str], flipped: str = "0") -> Any:
    """Runs the comparison of MPO alone with some changes of the profile, and returns its summary.

    Args:
        name: name of the run.
        root: folder of the artifacts and the cache.
        seeds: number of seeds, counted from 0.
        changes: settings to change, such as `pairs.strategy=mixed`.
        flipped: shares (0 to 1) of low-resource training pairs to swap, such as `0.2,0.4`.
    """
    from flows.commands.shared import with_methods
    from flows.compare import compare_methods
    from mpo_core.settings.profiles import load_config, parse_config

    own = [f"run.root={root}", f"run.name={name}", f"compare.seeds={list(range(seeds))}"]
    config = load_config(PROFILE, [*own, f"compare.flipped=[{flipped}]", *changes])
    with ended_by_signals():
        return compare_methods(parse_config(with_methods(config, ["mpo"]), where=name))


def header(first: str) -> list[str]:
    """Returns the head of the table, whose first column has this title."""
    names = [first, *FIGURES.values(), "seeds"]
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]


def line(title: str, summary: Any, flipped: float = 0.0, method: str = "mpo") -> str:
    """Returns the row of one way of training: means over the seeds, with 95 % intervals of the mean in brackets."""
    rows = [summary.row(method, flipped, figure) for figure in FIGURES]
    return f"| {' | '.join([title, *map(_cell, rows), str(rows[0].n)])} |"


def _cell(row: Any) -> str:
    mean = f"{row.mean:.1%}"
    if row.low is None or f"{row.low:.1%}" == f"{row.high:.1%}":
        return mean
    return f"{mean} ({100 * row.low:.1f} to {row.high:.1%})"
