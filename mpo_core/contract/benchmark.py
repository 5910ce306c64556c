"""What a benchmark is: prompts by language, the judge of the answers to them, and the metrics."""

from __future__ import annotations

import abc
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, JsonValue, model_validator

from mpo_core.contract.extensions import ExtensionPoint
from mpo_core.contract.judge import JUDGES, Judge
from mpo_core.contract.metric import ANSWERS, Metric
from mpo_core.contract.settings import LOCATION, Settings, UserPath
from mpo_core.files.compression import plain_suffix
from mpo_core.files.records import FORMS, Form, open_records

if TYPE_CHECKING:
    AnyJudge = Judge
else:  # the judges of other packages are known at run time only
    AnyJudge = JUDGES.union()

_FIX = "Check the benchmark's path."
HELD_OUT = "held_out"
"""Name of the benchmark of a run's own held-out prompts, on which the gate decides."""


class BenchmarkPrompt(NamedTuple):
    """One prompt of a benchmark; `id` is the same in every language."""

    id: str
    text: str
    kind: Literal["harmful", "harmless"]
    category: str | None = None


class Benchmark(Settings, abc.ABC):
    """Base of every benchmark. Its fields are the benchmark's settings; `benchmark: Literal["name"]` gives its name.

    A benchmark lives in a file of its own in `mpo_core/evaluation/benchmarks/`, or in another package that names its
    class in the entry-point group `mpo.benchmarks`. It overrides `prompts` or `sources`.
    """

    label: ClassVar[str]
    """Name of the benchmark for readers of the report."""
    licence: ClassVar[str | None] = None
    """Licence of its prompts, which the report shows; None where none is stated."""
    parallel: ClassVar[bool] = True
    """Whether its languages say the same: a prompt then has one id in all of them, and counts once where they pool."""
    metrics: ClassVar[tuple[Metric, ...]] = ANSWERS
    """What is measured; a metric without prompts of its kind has no figure."""

    benchmark: str
    """Name of the benchmark."""
    translate: bool = False
    """Translates the dominant language's prompts, with the settings of `translation`, into each language that the
    benchmark lacks; the report marks such figures. Default: false, such a language is reported as missing."""
    limit: int | None = Field(None, ge=1)
    """Maximum number of prompts to use per language; every language uses the same prompts. Default: all."""
    judging: AnyJudge | None = None
    """The judge of the answers to these prompts. Default: the judge of the run."""

    def prompts(self, language: str) -> list[BenchmarkPrompt]:
        """Returns the prompts in a language; none if the benchmark lacks the language."""
        del language
        return []

    def sources(self, language: str) -> list[dict[str, JsonValue]]:
        """Returns the sources of the prompts in a language, as in `prompts.sources`; none if the benchmark lacks it.

        A row number stands for the same prompt in every language: row 7 of the first source, for example.
        """
        del language
        return []

    @property
    def origin(self) -> str:
        """Where the prompts come from, as the report names it; empty if it names nothing."""
        return ""


class FileBenchmark(Benchmark):
    """Base of benchmarks that are read from a file or from a dataset of the hub."""

    hub: ClassVar[str] = ""
    """Id of the dataset on the hub, for messages."""
    dataset_split: ClassVar[str] = "train"
    """Split of the dataset on the hub that is read."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Columns of its authors' file, all of them, by which `recognised` knows it; empty where many files have these."""

    path: UserPath = Field(json_schema_extra=LOCATION)
    """File of the prompts, or id of a dataset on the hub."""
    revision: str | None = Field(None, pattern="^[0-9a-f]{7,40}$", json_schema_extra=LOCATION)
    """Commit of the dataset on the hub, which must be set if `path` is an id. Default: none, `path` is a file."""

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self._form is None and self.revision is None and not Path(self.path).exists():
            raise ValueError(
                f"no such file: {self.path}; for a dataset of the hub{f' ({self.hub})' if self.hub else ''}, "
                "set `revision` to one of its commits"
            )
        return self

    @property
    def origin(self) -> str:
        """The file's name, or the dataset's id and commit."""
        return f"{self.path}@{self.revision}" if self.revision else Path(self.path).name

    @property
    def _form(self) -> Form | None:
        """The kind of prompt source that reads a file of this name; None if it is not a file of prompts."""
        form = FORMS.get(plain_suffix(Path(self.path)))
        return "parquet" if form == "arrow" else None if form == "txt" else form

    def spelling(self, column: str, names: Collection[str]) -> str | None:
        """Returns the first value of a column that is one of these names in upper or lower case; None if none is.

        Raises:
            BadInputError: the file cannot be read.
        """
        values = (
            row.values.get(column) for row in open_records(Path(self.path), self._form or "parquet", fix=_FIX).rows
        )
        return next((value for value in values if isinstance(value, str) and value.strip().casefold() in names), None)

    def table(self, **settings: JsonValue) -> dict[str, JsonValue]:
        """Returns the source that reads this file or dataset, with further settings of a prompt source."""
        if self._form is not None and self.revision is None:
            return {"source": self._form, "path": self.path, "split": "test", **settings}
        where = {} if self.revision is None else {"revision": self.revision, "dataset_split": self.dataset_split}
        return {"source": "dataset", "path": self.path, "split": "test", **where, **settings}


BENCHMARKS: ExtensionPoint[Benchmark] = ExtensionPoint(
    Benchmark,
    tag="benchmark",
    package="mpo_core.evaluation.benchmarks",
    group="mpo.benchmarks",
)


def recognised(file: Path) -> Benchmark | None:
    """Returns the benchmark whose authors' file this is, by its columns; None if it is a file of prompts like others.

    Raises:
        BadInputError: the file is missing or malformed.
    """
    if file.is_dir() or plain_suffix(file) != ".csv":
        return None
    columns = open_records(file, "csv", fix="Check --prompts.").columns
    for name, known in BENCHMARKS.implementations.items():
        if columns and issubclass(known, FileBenchmark) and known.columns == tuple(columns):
            return BENCHMARKS.parse({"benchmark": name, "path": str(file)})
    return None
