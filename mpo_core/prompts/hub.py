"""Hugging Face datasets: a folder made by `save_to_disk`, a folder of data files, or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mpo_core.contract.errors import BadInputError
from mpo_core.files.read import is_folder
from mpo_core.files.records import Records, arrow_records
from mpo_core.settings import PromptSource


def is_local(path: str) -> bool:
    """Returns whether `path` names a folder of this machine; else it is a hub id.

    Raises:
        BadInputError: it can only be a folder, and there is none.
    """
    if is_folder(Path(path)):
        return True
    if Path(path).is_absolute() or path.startswith("."):
        raise BadInputError("no such folder", where=path, fix="Name a dataset folder or a hub id.")
    return False


def read_dataset(source: PromptSource) -> Records:
    """Reads the rows of one split of a dataset.

    Raises:
        BadInputError: the folder or hub id gives no such split, or the hub cannot be reached.
    """
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    path = str(source.path)
    local = is_local(path)
    try:
        dataset = _load(source, local=local)
    except (DatasetsError, HfHubHTTPError, HFValidationError, OSError, ValueError, KeyError) as error:
        cause = type(error).__name__
        if local:
            what, fix = f"no readable dataset ({cause})", "Check the folder, dataset_split and subset."
        else:
            what = f"neither a folder here nor a dataset that the hub gives ({cause})"
            fix = "Check the id, revision, subset, dataset_split and the network."
        raise BadInputError(what, where=f"dataset {path}, split {source.dataset_split}", fix=fix) from None
    batches = (batch for table in dataset.with_format("arrow").iter(1024) for batch in table.to_batches())
    # The schema of a dataset carries its features, the names of a ClassLabel among them.
    return arrow_records(f"dataset {path}", dataset.features.arrow_schema, batches)


def _load(source: PromptSource, *, local: bool) -> Any:
    import datasets

    datasets.disable_progress_bars()  # they would stand between the lines of the command
    folder = Path(str(source.path))
    if local and (folder / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(folder))[source.dataset_split]
    if local and (folder / "state.json").is_file():  # a single split, saved without a name
        return datasets.load_from_disk(str(folder))
    revision = None if local else source.revision
    return datasets.load_dataset(str(source.path), source.subset, split=source.dataset_split, revision=revision)
