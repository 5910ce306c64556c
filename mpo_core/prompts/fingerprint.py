"""What a cache key must know of the prompts beyond their settings: the content that is read."""

from __future__ import annotations

from pathlib import Path

from mpo_core.contract.artifacts import file_digests, folder_digest
from mpo_core.files.read import digest, is_folder
from mpo_core.prompts.hub import is_local
from mpo_core.settings import PromptSettings, PromptSource


def fingerprint(settings: PromptSettings) -> list[str]:
    """Returns one digest per source, in order.

    A file or folder gives the sha256 of its content, the microworld its version. A hub dataset gives
    `id@revision`: without a pinned revision a new version on the hub goes unnoticed.

    Raises:
        BadInputError: a file or folder is missing or cannot be read.
    """
    return [_digest(source) for source in settings.sources]


def _digest(source: PromptSource) -> str:
    if source.source == "microworld":
        from mpo_core.microworld import WORLD_VERSION

        return f"microworld:{WORLD_VERSION}"
    path = str(source.path)
    if source.source == "dataset" and not is_local(path):
        return f"hub:{path}@{source.revision or 'main'}"
    return f"{source.source}:{_content_digest(Path(path))}"


def _content_digest(path: Path) -> str:
    if is_folder(path):
        return folder_digest(file_digests(path))
    return digest(path, fix="Check prompts.sources[].path.")
