"""Finds the folder of a model, and computes the digest that identifies it."""

import contextlib
import hashlib
import json
from pathlib import Path

from mpo_core.contract.artifacts import MANIFEST, file_digests, folder_digest
from mpo_core.contract.errors import BadInputError
from mpo_core.models.fit import check_model
from mpo_core.models.folder import check_folder
from mpo_core.models.library import reading
from mpo_core.settings import ModelSettings

_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


def resolve(settings: ModelSettings, *, cutoff: int | None = None) -> Path:
    """Returns the local folder of a model that can be used here; a hub id is downloaded at its pinned revision.

    Args:
        settings: settings of the model.
        cutoff: maximum length of a training sequence in tokens, if this model is trained.

    Raises:
        BadInputError: no such folder or hub model, the folder holds no model that can be used here, or its files do
            not belong together.
    """
    if settings.path == "microworld":
        from mpo_core.microworld import checkpoint_dir

        folder = checkpoint_dir()
    else:
        patterns = [*_FILES, *(["*.py"] if settings.trust_remote_code else [])]
        folder = local_folder(settings.path, settings.revision, patterns, where="model.path")
    if settings.chat_template is not None and not Path(settings.chat_template).is_file():
        raise BadInputError(
            "no such file", where=f"model.chat_template {settings.chat_template}", fix="Name a Jinja template."
        )
    weights = check_folder(folder)
    if settings.path != "microworld":  # it is known to be good, and importing torch takes seconds
        check_model(folder, settings, weights, cutoff=cutoff)
    return folder


def local_folder(path: str, revision: str | None, patterns: list[str], *, where: str) -> Path:
    """Returns the folder that `path` names, or downloads the hub's model of that id and returns its folder.

    Raises:
        BadInputError: there is neither such a folder nor such a model on the hub.
    """
    where = f"{where} {path[:300]}"
    with reading("this is not a valid path", where=where, fix="Name a model folder or a hub id."):
        folder = Path(path).expanduser()
        is_folder, is_there = folder.is_dir(), folder.exists()
    if is_folder:
        return folder
    if is_there:
        raise BadInputError("this is a file, not a folder", where=where, fix="Name the folder of a model.")
    if folder.is_absolute() or path.startswith((".", "~")) or (path.count("/") != 1 and "/" in path):
        raise BadInputError("no such folder", where=where, fix="Name a model folder or a hub id.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with reading("the model cannot be downloaded", where=where, fix="Check the network and the folder of HF_HOME."):
            return Path(snapshot_download(path, revision=revision, allow_patterns=patterns))
    except BadInputError as error:
        if not isinstance(error.__cause__, (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError)):
            raise
        raise BadInputError(
            f"neither a local folder nor a model on the hub ({type(error.__cause__).__name__})",
            where=where,
            fix="Check the id, the network, and HF_TOKEN for a gated model.",
        ) from None


def model_digest(folder: Path, settings: ModelSettings) -> str:
    """Returns the digest that identifies a model: of its files, and of the chat template that the settings name.

    A model card that was added to a folder of an artifact root is no part of the model.
    """
    files = file_digests(folder)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # other tools have files of this name too
        listed = json.loads((folder / MANIFEST).read_bytes())["files"]
        files = {name: sha for name, sha in files.items() if name in listed or name != "README.md"}
    if settings.chat_template is not None:
        files["model.chat_template"] = hashlib.sha256(Path(settings.chat_template).read_bytes()).hexdigest()
    return folder_digest(files)
