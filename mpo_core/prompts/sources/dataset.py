"""The sources that are Hugging Face datasets: a folder made by `save_to_disk`, a folder of data files, or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.settings import UserPath
from mpo_core.files.read import is_folder
from mpo_core.files.records import Records, arrow_records
from mpo_core.prompts.columns import ColumnSource, content_digest


class DatasetSource(ColumnSource):
    """A Hugging Face dataset."""

    source: Literal["dataset"]
    """Name of the source: `dataset`."""
    path: UserPath
    """Local folder of the dataset, or its id on the hub."""
    revision: str | None = None
    """Revision (commit) of a dataset on the hub, pinned so that a rerun reads the same rows. Default: the latest."""
    subset: str | None = None
    """Configuration of a dataset that has several. Default: the dataset's only one."""
    dataset_split: str = "train"
    """Split of the dataset to read. Default: `train`."""

    @property
    def name(self) -> str:
        """Name of the source in tables and reports: the folder or id."""
        return self.path

    def digest(self) -> str:
        """Returns the digest of a folder's content, or `id@revision`.

        Without a pinned revision, a new version on the hub does not change the digest.
        """
        if self._local():
            return f"dataset:{content_digest(Path(self.path))}"
        return f"hub:{self.path}@{self.revision or 'main'}"

    def records(self, *, key: str) -> Records:
        """Reads the rows of one split.

        Raises:
            BadInputError: the folder or hub id gives no such split, or the hub cannot be reached.
        """
        from datasets.exceptions import DatasetsError
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        del key
        local = self._local()
        try:
            dataset = self._load(local=local)
        except (DatasetsError, HfHubHTTPError, HFValidationError, OSError, ValueError, KeyError) as error:
            cause = type(error).__name__
            if local:
                what, fix = (
                    f"the folder holds no readable dataset ({cause})",
                    "Check the folder, dataset_split and subset.",
                )
            else:
                what = f"there is neither such a folder here nor such a dataset on the hub ({cause})"
                fix = "Check the id, revision, subset, dataset_split and the network."
            raise BadInputError(what, where=f"dataset {self.path}, split {self.dataset_split}", fix=fix) from None
        batches = (batch for table in dataset.with_format("arrow").iter(1024) for batch in table.to_batches())
        # The schema of a dataset carries its features, the names of a ClassLabel among them.
        return arrow_records(f"dataset {self.path}", dataset.features.arrow_schema, batches)

    def _local(self) -> bool:
        """Returns whether the path names a folder of this machine; if not, it is a hub id."""
        if is_folder(Path(self.path)):
            return True
        if Path(self.path).is_absolute() or self.path.startswith("."):
            raise BadInputError("there is no such folder", where=self.path, fix="Name a dataset folder or a hub id.")
        return False

    def _load(self, *, local: bool) -> Any:
        import datasets

        datasets.disable_progress_bars()  # they would break up the output of the command
        folder = Path(self.path)
        if local and (folder / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(folder))[self.dataset_split]
        if local and (folder / "state.json").is_file():  # a single split, saved without a name
            return datasets.load_from_disk(str(folder))
        revision = None if local else self.revision
        return datasets.load_dataset(self.path, self.subset, split=self.dataset_split, revision=revision)
