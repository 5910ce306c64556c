"""Settings of the stages that make pairs: prompts, model, translation, sampling, judging, pairs."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mpo_core.contract.settings import DEVICE, OPERATIONAL, Delimiter, Fraction, Settings, UserPath
from mpo_core.settings.labels import canonical_label

_OF_DATASETS = {"revision", "subset", "dataset_split"}
_OF_MICROWORLD = {"source", "kind", "split", "limit"}


class PromptSource(Settings):
    """One source of dominant-language prompts."""

    source: Literal["csv", "json", "jsonl", "parquet", "dataset", "microworld"]
    """Kind of source; `dataset` is a Hugging Face dataset, a local folder or a hub id. `csv` reads `.tsv` too, `json`
    and `jsonl` read `.json` (an array), `.jsonl` and `.ndjson`, `parquet` reads `.arrow` too; all may be
    compressed."""
    path: UserPath | None = None
    """File, folder or hub id. Every source but `microworld` needs it."""
    revision: str | None = None
    """Revision (commit) of a dataset on the hub, pinned so that a rerun reads the same rows. Default: the latest."""
    subset: str | None = None
    """Configuration of a dataset that has several. Default: the only one."""
    dataset_split: str = "train"
    """Split of a dataset that is read. Default: `train`."""
    delimiter: Delimiter | None = None
    """Character between the fields of a CSV file, such as ";" or "tab". Default: a comma, or a tab in a `.tsv` file."""
    licence: str | None = None
    """Licence of the source, which the report shows. Default: not known."""
    kind: Literal["harmful", "harmless"] | None = None
    """Kind of every row. Default: each row has its own, in `kind_column`."""
    kind_column: str | None = None
    """Column that says of each row whether it is harmful or harmless, in known words or in those of `kind_map`.
    Default: none, `kind` holds for all rows."""
    kind_map: dict[str, Literal["harmful", "harmless"]] = Field(default_factory=dict)
    """Kind by value of `kind_column`, such as {yes: harmful, no: harmless}; upper and lower case are the same.
    Default: known words alone, and truth values where the column's name says what true means."""
    text_column: str = "text"
    """Column of the prompt: text, or a list of messages with one turn of the user. Default: `text`."""
    category_column: str | None = None
    """Column of the harm category. Default: none, the prompts have no category."""
    chosen_column: str | None = None
    """Column of a good answer: text, or a list of messages with one answer. Default: none, the model's answers are
    used."""
    rejected_column: str | None = None
    """Column of a bad answer: text, or a list of messages with one answer. Default: none, the model's answers are
    used."""
    where: dict[str, bool | int | str] = Field(default_factory=dict)
    """Values by column, such as {lang: en}: only rows that have all of them are read. Default: every row."""
    split: Literal["train", "validation", "test", "concept"] | None = None
    """Split of every row. Default: each row gets one by its id, in the shares `prompts.validation` and
    `prompts.test`."""
    limit: int | None = Field(None, ge=1)
    """Most prompts that are used of this source, drawn at random with `prompts.seed`. Default: all."""

    @field_validator("kind_map", mode="before")
    @classmethod
    def _labels(cls, value: Any) -> Any:
        """Labels in one spelling: YAML reads `true:` and `1:` as a truth value and a number."""
        if not isinstance(value, dict):
            return value
        labels: dict[str, Any] = {}
        for key, kind in value.items():
            if labels.setdefault(canonical_label(key), kind) != kind:
                raise ValueError(f"the label {key!r} has two kinds")
        return labels

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source == "microworld":
            if self.path is not None:
                raise ValueError("`path` is not for the microworld")
            if self.kind is None or self.split is None:
                raise ValueError("the microworld needs `kind` and `split`")
        elif self.path is None:
            raise ValueError(f"a {self.source} source needs `path`")
        elif (self.kind is None) == (self.kind_column is None):
            raise ValueError("name exactly one of `kind` and `kind_column`")
        if self.kind_map and self.kind_column is None:
            raise ValueError("`kind_map` needs `kind_column`")
        self._require_no_idle_setting()
        return self

    def _require_no_idle_setting(self) -> None:
        """Refuses a setting that this kind of source would not look at."""
        fields = type(self).model_fields
        changed = {n for n, field in fields.items() if getattr(self, n) != field.get_default(call_default_factory=True)}
        if self.source == "microworld":
            idle = changed - _OF_MICROWORLD - {"licence"}
        else:
            idle = changed & (set() if self.source == "dataset" else _OF_DATASETS)
            idle |= changed & (set() if self.source == "csv" else {"delimiter"})
        if idle:
            raise ValueError(f"`{min(idle)}` is not for a {self.source} source")


class PromptSettings(Settings):
    """The dominant-language prompts, harmful and harmless."""

    sources: list[PromptSource] = Field(min_length=1)
    """Where the prompts come from."""
    validation: Fraction = 0.1
    """Share of the prompts (0 to 1) that become validation prompts, where a source names no split. Default: 0.1."""
    seed: int = Field(0, ge=0)
    """Seed of the draw where a source has a `limit`. Default: 0."""
    test: Fraction = 0.3
    """Share of the prompts (0 to 1) that become test prompts, where a source names no split. Default: 0.3."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.validation + self.test >= 1.0:
            raise ValueError("validation + test leave no prompts to train on")
        return self


class ModelSettings(Settings):
    """The model to align. In a cache key it stands by the digest of its files, not by its path."""

    path: UserPath = Field("microworld", json_schema_extra=OPERATIONAL)
    """Model: a local folder, a hub id, or `microworld`, the small model that comes along. Default: `microworld`."""
    revision: str | None = Field(None, json_schema_extra=OPERATIONAL)
    """Revision (commit) of a model on the hub, pinned so that a rerun uses the same weights. Default: the latest."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format in which the model answers and is measured; training has its own. Default: float32."""
    device: str = Field("auto", pattern=DEVICE, json_schema_extra=OPERATIONAL)
    """Device of the model: `cpu`, `cuda`, `cuda:1`, or `auto`, which is cuda if there is one. Default: `auto`."""
    trust_remote_code: bool = False
    """Runs Python code that comes with the model: only for a model that you trust. Default: false."""
    system: str | None = None
    """System message before every prompt. Default: none."""
    thinking: bool = False
    """Lets a reasoning model think before it answers, in sampling. Default: false, which asks the chat template to
    leave thoughts out (`enable_thinking`), and ends a thought that the template opens. Training never thinks."""
    chat_template: UserPath | None = Field(None, json_schema_extra=OPERATIONAL)
    """File of a chat template, used for training and for answers. Default: the tokenizer's own template."""


class SamplingSettings(Settings):
    """How the model answers prompts."""

    backend: Literal["transformers"] = "transformers"
    """Library that generates the answers. Default: `transformers`."""
    n: int = Field(1, ge=1)
    """Answers that are drawn for each prompt. Default: 1."""
    temperature: float = Field(0.0, ge=0.0)
    """Temperature of the draw; 0 takes the likeliest token every time. Default: 0."""
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """Draws from the likeliest tokens whose probabilities add up to this (0 to 1). Default: 1, all tokens."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest answer, in tokens. Default: 256."""
    seed: int = Field(0, ge=0)
    """Seed of the draws. Every answer has random numbers of its own, whatever the batch. Default: 0."""
    batch_size: int = Field(32, ge=1, json_schema_extra=OPERATIONAL)
    """Prompts that are answered at once; more need more memory. Default: 32."""

    @model_validator(mode="after")
    def _useful(self) -> Self:
        if self.n > 1 and self.temperature == 0.0:
            raise ValueError("several greedy samples are all the same: set a temperature or n=1")
        return self


class PairSettings(Settings):
    """How preference pairs are built."""

    strategy: Literal["translated", "sampled", "mixed"] = "translated"
    """Where target answers come from: `translated` from the dominant pair, `sampled` from the model and judged, or
    `mixed`: sampled where the judge accepts one, else translated. Default: `translated`."""
    harmless_anchors: bool = True
    """Adds pairs of harmless prompts (chosen: help, rejected: a refusal), which keep the model from refusing
    everything. Default: true."""
    rejected_verdicts: list[Literal["unsafe", "invalid"]] = Field(["unsafe"], min_length=1)
    """Verdicts by which an answer to a harmful prompt may be the rejected one. Default: [unsafe]."""
    max_similarity: Fraction = 0.95
    """Rejects pairs whose two answers are more alike than this (0 to 1, 1: equal). Default: 0.95."""
