"""The sources that are Hugging Face datasets: a folder made by `save_to_disk`, a folder of data files, or a hub id."""

from pathlib import Path
from typing import Literal

from mpo_core.contract.settings import UserPath
from mpo_core.files.dataset import dataset_records, is_local
from mpo_core.files.records import Records
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
        if is_local(self.path):
            return f"dataset:{content_digest(Path(self.path))}"
        return f"hub:{self.path}@{self.revision or 'main'}"

    def records(self, *, key: str) -> Records:
        """Reads the rows of one split.

        Raises:
            BadInputError: the folder or hub id gives no such split, or the hub cannot be reached.
        """
        del key
        return dataset_records(self.path, split=self.dataset_split, subset=self.subset, revision=self.revision)
