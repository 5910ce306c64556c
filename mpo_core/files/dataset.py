"""Opens Hugging Face datasets as tables: a folder made by `save_to_disk`, a folder of data files, or a hub id."""

import logging
from pathlib import Path
from typing import Any

from mpo_core.contract.errors import BadInputError
from mpo_core.files.read import is_folder
from mpo_core.files.records import Records, arrow_records


def dataset_records(path: str, *, split: str, subset: str | None = None, revision: str | None = None) -> Records:
    """Opens one split of a dataset.

    `path` is a folder, or an id on the hub; a folder that was saved without names of splits has one alone.

    Raises:
        BadInputError: the folder or hub id gives no such split, or the hub cannot be reached.
    """
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    local = is_local(path)
    try:
        dataset = _load(path, split, subset, None if local else revision, local=local)
    except (DatasetsError, HfHubHTTPError, HFValidationError, OSError, ValueError, KeyError) as error:
        cause = type(error).__name__
        if local:
            what, fix = f"the folder holds no readable dataset ({cause})", "Check the folder, dataset_split and subset."
        else:
            what = f"there is neither such a folder here nor such a dataset on the hub ({cause})"
            fix = "Check the id, revision, subset, dataset_split and the network."
        raise BadInputError(what, where=f"dataset {path}, split {split}", fix=fix) from None
    batches = (batch for table in dataset.with_format("arrow").iter(1024) for batch in table.to_batches())
    # The schema of a dataset carries its features, the names of a ClassLabel among them.
    return arrow_records(f"dataset {path}", dataset.features.arrow_schema, batches)


def is_local(path: str) -> bool:
    """Returns whether a path names a folder of this machine; if not, it is a hub id.

    Raises:
        BadInputError: it can be no hub id, and there is no such folder.
    """
    if is_folder(Path(path)):
        return True
    if Path(path).is_absolute() or path.startswith("."):
        raise BadInputError("there is no such folder", where=path, fix="Name a dataset folder or a hub id.")
    return False


def _load(path: str, split: str, subset: str | None, revision: str | None, *, local: bool) -> Any:
    import datasets

    datasets.disable_progress_bars()  # they would break up the output of the command
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # likewise: it reports each attempt to reach the hub
    folder = Path(path)
    if local and (folder / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(folder))[split]
    if local and (folder / "state.json").is_file():  # a single split, saved without a name
        return datasets.load_from_disk(str(folder))
    return datasets.load_dataset(path, subset, split=split, revision=revision)
