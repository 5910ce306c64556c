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
    and `jsonl` read `.json` (an array), `.jsonl` and `.ndjson`, `parquet` reads `.arrow` too; all may be compressed."""
    path: UserPath | None = None
    """File, folder or hub id; not for `microworld`."""
    revision: str | None = None
    """Revision (commit) of a dataset on the hub, pinned so that a rerun reads the same rows. Default: the latest."""
    subset: str | None = None
    """Configuration name of a dataset."""
    dataset_split: str = "train"
    """Split of a dataset that is read. Default: `train`."""
    delimiter: Delimiter | None = None
    """Character between the fields of a CSV file, such as ";" or "tab". Default: a comma, or a tab in a `.tsv` file."""
    licence: str | None = None
    """Licence of the source, shown in the report."""
    kind: Literal["harmful", "harmless"] | None = None
    """Kind of every row. Default: each row has its own, in `kind_column`."""
    kind_column: str | None = None
    """Column that says harmful or harmless, in words that are known or in those of `kind_map`."""
    kind_map: dict[str, Literal["harmful", "harmless"]] = Field(default_factory=dict)
    """Kind by value of `kind_column`, such as {yes: harmful, no: harmless}; upper and lower case are the same. Default:
    known words alone, and truth values where the column's name says what true means."""
    text_column: str = "text"
    """Column of the request: text, or a list of messages with one turn of the user."""
    category_column: str | None = None
    """Column of the harm category."""
    chosen_column: str | None = None
    """Column of a good answer, if the source brings one: text, or a list of messages with one answer."""
    rejected_column: str | None = None
    """Column of a bad answer, if the source brings one: text, or a list of messages with one answer."""
    where: dict[str, bool | int | str] = Field(default_factory=dict)
    """Only rows whose columns equal these values are read; the others are no part of the source."""
    split: Literal["train", "validation", "test", "concept"] | None = None
    """Split of every row; without it rows are dealt out by `prompts.validation` and `prompts.test`."""
    limit: int | None = Field(None, ge=1)
    """At most so many prompts, drawn with `prompts.seed`."""

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
    """Share of prompts for validation, where a source names no split (dealt by prompt id)."""
    seed: int = Field(0, ge=0)
    """Seed of the draw where a source has a limit."""
    test: Fraction = 0.3
    """Share of prompts for the test, where a source names no split (dealt by prompt id)."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.validation + self.test >= 1.0:
            raise ValueError("validation + test leave no prompts to train on")
        return self


class ModelSettings(Settings):
    """The model to align. In a cache key it stands by the digest of its files, not by its path."""

    path: UserPath = Field("microworld", json_schema_extra=OPERATIONAL)
    """`microworld` (the shipped one), a local folder, or a hub id."""
    revision: str | None = Field(None, json_schema_extra=OPERATIONAL)
    """Revision (commit) on the hub."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of inference (sampling, reference, evaluation)."""
    device: str = Field("auto", pattern=DEVICE, json_schema_extra=OPERATIONAL)
    """`auto` (cuda if there is one), `cpu`, `cuda`, `cuda:1`."""
    trust_remote_code: bool = False
    """Run code that comes with the model; off unless you say so."""
    system: str | None = None
    """System message before every prompt; none if left out."""
    thinking: bool = False
    """Lets a reasoning model think before it answers, in sampling. Default: false, which asks the chat template to
    leave thoughts out (`enable_thinking`), and ends a thought that the template opens. Training never thinks."""
    chat_template: UserPath | None = Field(None, json_schema_extra=OPERATIONAL)
    """File of a chat template that replaces the tokenizer's own, in training and inference alike."""


class SamplingSettings(Settings):
    """How the model answers."""

    backend: Literal["transformers"] = "transformers"
    """Engine of generation."""
    n: int = Field(1, ge=1)
    """Answers per prompt."""
    temperature: float = Field(0.0, ge=0.0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """Nucleus of the distribution that is drawn from."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest answer in tokens."""
    seed: int = Field(0, ge=0)
    """Seed; every (prompt, sample) draws from a stream of its own, whatever the batch."""
    batch_size: int = Field(32, ge=1, json_schema_extra=OPERATIONAL)
    """Prompts that are answered at once."""

    @model_validator(mode="after")
    def _useful(self) -> Self:
        if self.n > 1 and self.temperature == 0.0:
            raise ValueError("several greedy samples are all the same: set a temperature or n=1")
        return self


class PairSettings(Settings):
    """How preference pairs are built."""

    strategy: Literal["translated", "sampled", "mixed"] = "translated"
    """Target answers: translated from the dominant pair, sampled and judged, or sampled where the judge found one."""
    harmless_anchors: bool = True
    """Add harmless pairs (chosen = help, rejected = refusal), which keep the model from refusing everything."""
    rejected_verdicts: list[Literal["unsafe", "invalid"]] = Field(["unsafe"], min_length=1)
    """Verdicts of a harmful prompt's answer that may serve as rejected."""
    max_similarity: Fraction = 0.95
    """Pairs whose chosen and rejected are more alike than this are quarantined."""
