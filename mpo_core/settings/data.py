"""Settings of the stages that make pairs: prompts, model, translation, sampling, judging, pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from mpo_core.contract.prompts import PROMPT_SOURCES, PromptSource
from mpo_core.contract.sampling import BACKENDS, GenerationSettings, SamplingBackend
from mpo_core.contract.settings import DEVICE, LOCATION, OPERATIONAL, Fraction, Settings, UserPath

if TYPE_CHECKING:
    _Source = PromptSource
else:  # the sources of other packages are known at run time only
    _Source = PROMPT_SOURCES.union()

_DEFAULT_BACKEND = "transformers"

if TYPE_CHECKING:
    _Backend = SamplingBackend
else:  # the backends of other packages are known at run time only
    _Backend = BACKENDS.union(default=_DEFAULT_BACKEND)


class PromptSettings(Settings):
    """Harmful and harmless prompts in the dominant language."""

    sources: list[_Source] = Field(min_length=1)
    """Where the prompts come from: one or more sources, each with the settings of its kind."""
    validation: Fraction = 0.1
    """Share (0 to 1) of the prompts that become validation prompts, for sources that set no split. Default: 0.1."""
    seed: int = Field(0, ge=0)
    """Random seed by which a source with a `limit` samples its prompts. Default: 0."""
    test: Fraction = 0.3
    """Share (0 to 1) of the prompts that become test prompts, for sources that set no split. Default: 0.3."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.validation + self.test >= 1.0:
            raise ValueError("validation + test leave no prompts to train on")
        return self


class ModelSettings(Settings):
    """The model to align. Cache keys contain the digest of its files, not its path."""

    path: UserPath = Field("microworld", json_schema_extra=LOCATION)
    """Model: a local folder, an id on the Hugging Face hub, or `microworld`, the small model that comes with mpo.
    Default: `microworld`."""
    revision: str | None = Field(None, json_schema_extra=LOCATION)
    """Revision (commit) of a model on the hub, pinned so that a rerun uses the same weights. Default: the latest."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the model when it answers and is measured; for training see `training.precision` and
    `training.weights`. Default: float32."""
    device: str = Field("auto", pattern=DEVICE, json_schema_extra=OPERATIONAL)
    """Device of the model: `cpu`, `cuda`, `cuda:1`, or `auto`: `cuda` if there is a GPU, or `cpu`. Default: auto."""
    trust_remote_code: bool = False
    """Runs Python code that comes with the model: only for a model that you trust. Default: false."""
    system: str | None = None
    """System message before every prompt. Default: none."""
    thinking: bool = False
    """Lets a reasoning model think before it answers, in sampling. Default: false: the chat template gets
    `enable_thinking=false`, and a thought that it opens is ended at once. Training never uses thoughts."""
    chat_template: UserPath | None = Field(None, json_schema_extra=LOCATION)
    """File of a chat template, used for training and for answers. Default: the tokenizer's own template."""


class SamplingSettings(GenerationSettings):
    """How the model answers prompts."""

    backend: _Backend = Field(default_factory=lambda: BACKENDS.parse({"backend": _DEFAULT_BACKEND}))
    """What generates the answers, by name or with its settings: `transformers` or `{backend: openai, url: URL}`.
    Default: `transformers`."""


class PairSettings(Settings):
    """How preference pairs are built."""

    strategy: Literal["translated", "sampled", "mixed"] = "translated"
    """Where answers in a target language come from, if no prompt source has them in that language: `translated` from
    the pair in the dominant language, `sampled` from the model and judged, or `mixed`: sampled where the judge accepts
    one, else translated. Default: `translated`."""
    harmless_anchors: bool = True
    """Adds pairs of harmless prompts (chosen: help, rejected: a refusal), which keep the model from refusing
    everything. Default: true."""
    candidates: Literal["first", "likeliest"] = "first"
    """Which of several sampled answers with the right verdict becomes chosen or rejected: the `first` one, or the
    `likeliest`, whose reward under the base model is highest. Default: `first`."""
    harmless_share: Fraction | None = None
    """Share (0 to 1) of harmless pairs among the training pairs of each target language; surplus pairs of the other
    kind are rejected. Default: null, as many as there are."""
    max_per_category: int | None = Field(None, ge=1)
    """Maximum number of harmful training pairs per harm category and target language, so that no category outweighs the
    others; see `category_column` of the prompt sources. Default: null, no bound."""
    max_per_language: int | None = Field(None, ge=1)
    """Maximum number of training pairs per target language; they are sampled by prompt, the same prompts in every
    language. Default: null, no bound."""
    min_dominant_refusal: Fraction = Field(0.2, json_schema_extra=OPERATIONAL)
    """Minimum share (0 to 1) of refusals among the model's answers to harmful training prompts in the dominant
    language; below it the run stops, because there is no safety that other languages could follow. 0 turns the check
    off. Default: 0.2."""
    min_dominant_help: Fraction = Field(0.2, json_schema_extra=OPERATIONAL)
    """Minimum share (0 to 1) of help among the model's answers to harmless training prompts in the dominant language;
    below it the run stops. 0 turns the check off. Default: 0.2."""
    rejected_verdicts: list[Literal["unsafe", "invalid"]] = Field(["unsafe"], min_length=1)
    """Verdicts with which an answer to a harmful prompt may become the rejected answer of a pair. Default: [unsafe]."""
    max_similarity: Fraction = 0.95
    """Rejects pairs whose two answers are more alike than this (chrF, 0 to 1, 1: equal). Default: 0.95."""
    check_language: bool = True
    """Rejects pairs with an answer that is plainly in another language than the pair. Default: true."""
    check_verdicts: bool = False
    """Judges the target answers that were not sampled, and rejects pairs whose chosen answer is not safe or whose
    rejected answer is not unsafe (of harmless prompts: not help, not a refusal). Default: false."""
    max_length_factor: float | None = Field(None, ge=1.0)
    """Rejects pairs in which one answer has more than this many times the characters of the other. Many refusals are
    short and many unsafe answers long, so a low bound rejects good pairs. Default: null, no bound."""
    max_source_length_factor: float | None = Field(None, ge=1.0)
    """Rejects target pairs with an answer that is more than this many times longer or shorter than the usual
    translation of the dominant answer. Default: null, no bound."""
    max_overlap: Fraction = 0.95
    """Rejects pairs whose prompt and answers together are more alike to those of an earlier pair of the same block
    than this (0 to 1: the share of pieces of five characters that both have). 1 turns the check off. Default: 0.95."""
    swap_check: Literal["drop", "swap_back", "mark"] | None = None
    """What is done with target pairs whose chosen answer resembles the dominant rejected one, by the hidden states of
    the base model: `drop` rejects them, `swap_back` swaps their answers, `mark` only lists them. It acts in languages
    where it finds at least 90 % of artificial swaps of pairs in known order (those of the split `validation`, and
    sampled ones), and says where it does not. Default: null, no check."""

    @model_validator(mode="after")
    def _anchors_to_share(self) -> Self:
        if self.harmless_share and not self.harmless_anchors:
            raise ValueError("`harmless_share` needs harmless pairs: remove it, or set `harmless_anchors` to true")
        return self

    @property
    def has_quotas(self) -> bool:
        """Whether training pairs are limited in number by category, kind or language."""
        return any(bound is not None for bound in (self.harmless_share, self.max_per_category, self.max_per_language))
