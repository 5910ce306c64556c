"""Makes `flows`, `tasks` and `mpo_core` the ones beside this file, whatever else on the path has such a name."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

ROOT = str(Path(__file__).resolve().parents[2])
_NAMES = ("flows", "tasks", "mpo_core")


class _OwnPackages(MetaPathFinder):
    """Finds our three packages in our own checkout, before the path is searched."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Finds one of ours; whatever else is left to the finders behind this one."""
        return PathFinder.find_spec(fullname, [ROOT], target) if path is None and fullname in _NAMES else None


def prefer_own_packages() -> None:
    """Imports our packages from our own checkout, in this process."""
    if not any(type(finder).__name__ == _OwnPackages.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _OwnPackages())


def own_path(path: str | None) -> str:
    """The PYTHONPATH of a child process: our own checkout first, then what was there."""
    others = [folder for folder in (path or "").split(os.pathsep) if folder and folder != ROOT]
    return os.pathsep.join([ROOT, *others])
