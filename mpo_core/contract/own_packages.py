"""Makes Python import this checkout's `flows`, `tasks` and `mpo_core`, and no others of these names on the path."""

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
    """An import hook that finds our three packages in our own checkout before the path is searched."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Finds `flows`, `tasks` and `mpo_core`; all other modules are left to the other finders."""
        return PathFinder.find_spec(fullname, [ROOT], target) if path is None and fullname in _NAMES else None


def prefer_own_packages() -> None:
    """Lets this process import `flows`, `tasks` and `mpo_core` from mpo's own checkout."""
    if not any(type(finder).__name__ == _OwnPackages.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _OwnPackages())


def own_path(path: str | None) -> str:
    """Returns the PYTHONPATH of a child process: mpo's own checkout first, then the folders of `path`."""
    others = [folder for folder in (path or "").split(os.pathsep) if folder and folder != ROOT]
    return os.pathsep.join([ROOT, *others])
