"""What a training method is: the settings that all methods share, what a method may need, and the loss of its pairs.

Nothing here imports torch, so that settings are read quickly.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from mpo_core.contract.extensions import ExtensionPoint
from mpo_core.contract.settings import DEVICE, OPERATIONAL, Fraction, Settings, alike

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Literal["mean", "last", "padded_mean"]
RetentionDistance = Literal["hidden_states", "kl"]
_Positive = Annotated[float, Field(gt=0.0)]
Beta = _Positive | dict[str, _Positive]
"""A positive factor: one for all languages, or one by language code (and `default`)."""

# The smallest relative step that a bfloat16 weight can take is 2^-9 of it; below this learning rate,
# which AdamW's first updates have the size of, a weight of the usual magnitude 0.02 does not move.
_PURE_BFLOAT16_RATE = 0.02 * 2**-9


class LoraSettings(Settings):
    """Low-rank adapters instead of full fine-tuning."""

    rank: int = Field(16, ge=1)
    """Rank of the adapters; a higher one can learn more and needs more memory. Default: 16."""
    alpha: float = Field(32.0, gt=0.0)
    """The adapters' update is multiplied by alpha / rank. Default: 32."""
    dropout: Fraction = 0.0
    """Share (0 to 1) of the adapters' input that is dropped at random in training. Default: 0."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the modules that get an adapter. Default: `all-linear`, every linear layer."""


class ConsistencySettings(Settings):
    """Multi-lingual consistency (MLC, arXiv 2602.16660): an auxiliary loss on the prompts of all languages."""

    weight: float = Field(0.8, ge=0.0)
    """Weight of the loss beside that of the method; 0 turns it off. Default: 0.8, as in the code of its authors."""
    layer: int | None = Field(None, ge=1)
    """Number of the layer, from 1, whose states at the end of a prompt are compared. Default: the last one, as in the
    code of its authors."""
    temperature: float = Field(0.2, gt=0.0)
    """Divisor of the singular values. Default: 0.2, as in the code of its authors."""
    width: int = Field(512, ge=1)
    """Width of the projection of the states, which is trained with the model and not saved. Default: 512, as in the
    code of its authors."""
    every: int = Field(2, ge=1)
    """The loss counts in every step whose number is a multiple of this. Default: 2, as in the code of its authors."""
    anchor: bool = False
    """Sends no gradient through the dominant prompts, so that they do not move towards the others. Default: false."""


INSTRUCTION = """\
{prompt}

The request above is a translation of this one:

{original}

First consider, without writing it down, whether you would help with the original, and how you would answer it. Then
answer the request in the language of the translation, and in the same spirit: decline if you would decline, and help if
you would help. Write the answer alone."""


class DistillationSettings(Settings):
    """Multilingual self-distillation (MSD, after arXiv 2605.02971): an auxiliary loss on translated prompts alone.

    The teacher is the model before training, which sees the original of each prompt too.
    """

    weight: float = Field(1.0, ge=0.0)
    """Weight of the loss beside that of the method; 0 turns it off. Default: 1."""
    languages: list[str] | Literal["without_pairs"] | None = None
    """Codes of the target languages whose prompts are distilled, or `without_pairs`: those that
    `languages.without_pairs` names. Default: null, all target languages."""
    instruction: str = INSTRUCTION
    """The teacher's prompt: `{prompt}` stands for the prompt in the target language, `{original}` for its original in
    the dominant one. Default: asks to judge the original, and to answer in the language of the translation."""
    top_k: int = Field(32, ge=2, le=1024)
    """Number of the teacher's likeliest tokens whose log-probabilities are stored for each token of an answer; all
    others count as one. Default: 32."""
    answers: int | None = Field(None, ge=1)
    """Number of the teacher's answers in each optimiser step. Default: as many as pairs."""

    @model_validator(mode="after")
    def _placeholders(self) -> Self:
        if missing := [name for name in ("{prompt}", "{original}") if name not in self.instruction]:
            raise ValueError(f"`instruction` must contain {' and '.join(missing)}")
        return self


WEIGHT = "weight/"
"""Figures of a step with this beginning are learned weights; the code of the language follows."""


class WeightingSettings(Settings):
    """Learned weights of languages or pairs in the loss of any method."""

    kind: Literal["barfi", "group_dro"] = "barfi"
    """How weights are learned. `barfi` (after arXiv 2310.19007): by how much a language helps on the validation pairs,
    which people must have checked, and which share no prompt with training. `group_dro`: the larger its loss, the more
    a language counts. Default: `barfi`."""
    per: Literal["language", "row"] = "language"
    """What has a weight of its own: each language, or each pair. Default: `language`."""
    rate: float = Field(0.1, gt=0.0)
    """How far the weights move: the step of `barfi`, and the factor of the loss for `group_dro`. Default: 0.1."""


class TrainingSettings(Settings):
    """The training settings that every method has."""

    lora: LoraSettings | None = None
    """Trains low-rank adapters instead of all weights. Default: none, all weights are trained."""
    epochs: float = Field(2.0, gt=0.0)
    """How often training passes over all pairs; 0.5 is half of them once. Default: 2."""
    max_steps: int | None = Field(None, ge=1)
    """Number of optimiser steps, in place of `epochs`; it may be more than `epochs` would give, since training passes
    over the pairs again. Default: null, as many as `epochs` takes."""
    learning_rate: float = Field(6e-7, gt=0.0)
    """Learning rate at the end of the warm-up, its maximum. Default: 6e-7."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up. Default: `cosine`."""
    warmup: Fraction = 0.1
    """Share (0 to 1) of the steps in which the learning rate rises from 0. Default: 0.1."""
    batch_size: int = Field(1, ge=1)
    """Pairs per device. One optimiser step uses batch_size × gradient_accumulation × processes pairs. Default: 1."""
    gradient_accumulation: int = Field(8, ge=1)
    """Batches whose gradients are added up before an optimiser step; more need no more memory. Default: 8."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Weight decay of AdamW. Default: 0."""
    max_grad_norm: float | None = Field(1.0, gt=0.0)
    """Gradients whose norm is larger are scaled down to this norm; null switches clipping off. Default: 1."""
    cutoff: int = Field(1024, ge=8)
    """Maximum length of a sequence, prompt and answer together, in tokens; longer ones are truncated. Default: 1024."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the computation; with `bfloat16`, weights stay as `weights` says (autocast). Default:
    float32."""
    weights: Literal["float32", "bfloat16", "nf4"] = "float32"
    """Number format of the weights. `bfloat16` and the 4-bit format `nf4` (QLoRA) are for the frozen base under `lora`.
    Default: float32."""
    memory: Literal["full", "lean"] = "full"
    """How weights and moments are kept in full fine-tuning. `full`: in float32, 16 bytes per parameter with gradients.
    `lean`: weights exact but in two halves, moments in bfloat16, 8 bytes, and 2 more for gradients if `max_grad_norm`
    is set or a step needs several forward passes; needs `precision: bfloat16`. Default: `full`."""
    gradient_checkpointing: bool | Literal["auto"] = Field("auto", json_schema_extra=alike(False))
    """Computes activations a second time instead of storing them: less memory, more time. Default: `auto`, on a GPU in
    as many layers as its memory requires (with the packed layout and one process); otherwise in none."""
    compile_layers: bool = Field(False, json_schema_extra=OPERATIONAL)
    """Compiles the model's layers with torch.compile, which makes norms, rotation and activation a few kernels: faster
    on a GPU, after a minute or so. Needs a C++ compiler. Results change by rounding alone. Default: false."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Random seed of the order of the pairs and of the adapters' first weights. Default: 0."""
    order: Literal["grouped", "shuffled", "file"] = "grouped"
    """Order of the pairs: `grouped` shuffles dominant pairs and keeps the target pairs of each together, `shuffled`
    shuffles all pairs, `file` keeps the file's order. Default: `grouped`."""
    consistency: ConsistencySettings | None = None
    """Also pulls the hidden states of a prompt and its translations together. Default: null, no such loss."""
    distillation: DistillationSettings | None = None
    """Also teaches the model its own answers to translated prompts, given when it sees their originals too. Default:
    null, no such loss."""
    weighting: WeightingSettings | None = None
    """Also learns how much each language, or each pair, counts in the loss. Default: null, only a pair's own weight
    counts."""
    layout: Literal["auto", "packed", "padded"] = Field("auto", json_schema_extra=OPERATIONAL)
    """How sequences go through the model: `packed`, without padding and with each prompt once for both answers, or
    `padded`. Default: `auto`, packed if the model supports it."""
    tokens_per_forward: int | None = Field(None, ge=1, json_schema_extra=OPERATIONAL)
    """Maximum number of tokens in one forward pass of the packed layout; a larger one needs more memory. A longer pair
    has a pass of its own. Where memory runs out in training, it is halved and the step repeated. Default: on a CPU
    1024; on a GPU as many as fit into `memory_share`, which is measured before the first step (with several `processes`
    4096)."""
    memory_share: float = Field(0.9, gt=0.0, le=1.0, json_schema_extra=OPERATIONAL)
    """Share (0 to 1) of a GPU's memory that training may fill where it chooses the size of its forward passes. Default:
    0.9."""
    logit_memory: int = Field(256, ge=0, json_schema_extra=OPERATIONAL)
    """Memory in MiB for token probabilities that the backward pass needs; those that do not fit are computed a second
    time. Default: 256."""
    evaluate_every: int | None = Field(None, ge=1)
    """Optimiser steps between evaluations of the loss on the validation pairs. Default: none are made."""
    patience: int | None = Field(None, ge=1)
    """Stops after this many evaluations without a better validation loss, and uses the best checkpoint. Default:
    never."""
    save_every: int = Field(50, ge=1, json_schema_extra=OPERATIONAL)
    """Number of optimiser steps between checkpoints; after a stop, training resumes from the last one. Default: 50."""
    tensorboard: bool = Field(False, json_schema_extra=OPERATIONAL)
    """Also writes the training log for TensorBoard. Default: false."""
    device: str = Field("auto", pattern=DEVICE, json_schema_extra=OPERATIONAL)
    """Device of the training: `cpu`, `cuda`, `cuda:1`, or `auto`: `cuda` if there is a GPU, or `cpu`. Default: auto."""
    threads: int | None = Field(None, ge=1, le=1024, json_schema_extra=OPERATIONAL)
    """Number of CPU threads of torch in each process. Default: torch decides."""
    processes: int = Field(1, ge=1)
    """Number of devices of this machine that train together, each in its own process; see `batch_size`. A training that
    was interrupted goes on with another number if `batch_size` and `gradient_accumulation` × `processes` stay as they
    are; under DeepSpeed that is refused, and with `padded_mean` or dropout it begins anew. Default: 1."""
    parallel: Literal["ddp", "fsdp2", "zero2", "zero3"] = Field("ddp", json_schema_extra=OPERATIONAL)
    """What the processes divide among them: the pairs (`ddp`), and also the optimiser's moments, the gradients or the
    weights (`zero2`, `zero3`, `fsdp2`). Default: `ddp`."""

    @property
    def step_rows(self) -> int:
        """Number of pairs in one optimiser step."""
        return self.batch_size * self.gradient_accumulation * self.processes

    @model_validator(mode="after")
    def _stopping(self) -> Self:
        if self.patience is not None and self.evaluate_every is None:
            raise ValueError("`patience` needs `evaluate_every`")
        return self

    @model_validator(mode="after")
    def _numbers(self) -> Self:
        if self.weights == "bfloat16" and self.lora is None and self.learning_rate < _PURE_BFLOAT16_RATE:
            raise ValueError(
                f"`weights: bfloat16` would round away the updates of a learning rate under {_PURE_BFLOAT16_RATE:.0e}; "
                "keep float32 weights and set `precision: bfloat16`"
            )
        if self.weights == "nf4" and self.lora is None:
            raise ValueError("`weights: nf4` cannot train by itself; it is the base under `lora`")
        return self

    @model_validator(mode="after")
    def _lean(self) -> Self:
        if self.memory == "full":
            return self
        if self.lora is not None or self.weights != "float32":
            raise ValueError("`memory: lean` is for training all weights: leave out `lora` and `weights`")
        for name in self._of_whole_steps:
            raise ValueError(f"`memory: lean` cannot train with `{name}`: leave it out, or `memory: full`")
        if self.precision != "bfloat16":
            raise ValueError("`memory: lean` computes in bfloat16: set `precision: bfloat16` too")
        if self.processes > 1:
            raise ValueError("`memory: lean` works in one process: `processes: 1`, or `memory: full`")
        return self

    @model_validator(mode="after")
    def _several(self) -> Self:
        if self.processes > 1 and ":" in self.device:
            raise ValueError(f"`device: {self.device}` is one device; with `processes` say `cuda`, `cpu` or `auto`")
        for name in self._of_whole_steps if self.processes > 1 else ():
            raise ValueError(f"`{name}` needs `processes: 1`: it is not divided among processes")
        if self.sharded and self.weights == "nf4":
            raise ValueError("`weights: nf4` cannot be sharded: `parallel: ddp`")
        return self

    @property
    def _auxiliary(self) -> list[str]:
        """Names of the auxiliary losses; one of weight 0 is none."""
        used = {"consistency": self.compares_prompts, "distillation": self.distils}
        return [name for name in used if used[name]]

    @property
    def _of_whole_steps(self) -> list[str]:
        """Names of the settings that need a whole optimiser step in one process."""
        return [*self._auxiliary, *(["weighting"] if self.weighting is not None else [])]

    @property
    def distils(self) -> bool:
        """Whether the training needs a teacher's answers."""
        return self.distillation is not None and self.distillation.weight > 0

    @property
    def compares_prompts(self) -> bool:
        """Whether the training compares a prompt with its translations, which need no pairs of their own."""
        return self.consistency is not None and self.consistency.weight > 0

    @property
    def needs_validation(self) -> bool:
        """Whether the training needs the validation pairs."""
        return self.evaluate_every is not None or (self.weighting is not None and self.weighting.kind == "barfi")

    @property
    def updates_in_backward(self) -> bool:
        """Whether the last backward pass of a step updates the weights, which clipping does not allow."""
        return self.memory == "lean" and self.max_grad_norm is None

    @property
    def sharded(self) -> bool:
        """Whether the weights are divided among the processes, so that none holds the whole model."""
        return self.processes > 1 and self.parallel != "ddp"


class TrainingMethod(TrainingSettings, abc.ABC):
    """Base of every training method. Its fields are the settings of the training; `method: Literal["name"]` names it.

    A method declares what it needs and gives the loss of each pair; the trainer does the rest. It lives in a file of
    its own in `mpo_core/training/methods/`, or in another package that names its class in the entry-point group
    `mpo.training_methods`. Import torch inside of its functions: its settings are read even if nothing is trained.
    """

    needs_answers: ClassVar[bool] = True
    """Whether the answers of the pairs go through the model at all."""
    needs_sources: ClassVar[bool] = False
    """Whether the frozen model's reward gaps of the dominant pairs are needed (`Scores.anchor_gap`)."""
    needs_target_reference: ClassVar[bool] = False
    """Whether the frozen model's log-probabilities of the target pairs are needed (`Scores.reference_chosen`)."""
    needs_prompt_scores: ClassVar[bool] = False
    """Whether the log-probabilities of the prompts are needed (`Scores.prompt`)."""
    needs_bare_reference: ClassVar[bool] = False
    """Whether the frozen model's log-probabilities of the answers after an empty request are needed
    (`Scores.bare_chosen`)."""
    needs_divergence: ClassVar[bool] = False
    """Whether the distance of the model from the frozen one is needed (`Scores.kl`)."""

    method: str
    """Name of the method."""

    @abc.abstractmethod
    def loss(self, scores: Scores) -> Tensor:
        """Returns the loss of each of the n pairs, [n]. The trainer weights and averages them."""

    def anchor(self, kind: str) -> Literal["dominant", "own"]:
        """Returns which reward gap of the frozen model a target pair is pulled to: its dominant pair's, or its own."""
        del kind
        return "dominant"

    def normalised(self) -> Self:
        """Returns settings for one process with as many pairs in a step: how many share them changes rounding alone.

        Exceptions: `padded_mean` depends on the batches, which the processes divide, and dropout on each one's numbers.
        """
        if self.pooling == "padded_mean" or (self.lora is not None and self.lora.dropout > 0):
            return self
        pairs = self.gradient_accumulation * self.processes
        return self.model_copy(update={"gradient_accumulation": pairs, "processes": 1})

    @property
    def retention_weight(self) -> float:
        """Weight of the retention loss (L2 in the MPO paper), on the dominant pairs' hidden states; 0 turns it off."""
        return 0.0

    @property
    def pooling(self) -> Pooling:
        """How the hidden states of a dominant sequence become one vector."""
        return "mean"

    @property
    def retention_distance(self) -> RetentionDistance:
        """What the retention loss (L2 in the MPO paper) compares with the frozen model."""
        return "hidden_states"

    @property
    def references_targets(self) -> bool:
        """Whether the frozen model has to be measured on target pairs too."""
        return self.needs_target_reference or self.anchor("harmless") == "own"

    def beta_of(self, language: str) -> float:
        """Returns the beta of a language; 1 if the method has no beta."""
        beta = getattr(self, "beta", 1.0)
        if not isinstance(beta, dict):
            return float(beta)
        return float(beta.get(language, beta.get("default", type(self).model_fields["beta"].default)))

    @property
    def beta_languages(self) -> list[str]:
        """Codes of the languages that have a beta of their own in the settings."""
        beta = getattr(self, "beta", None)
        return [code for code in beta if code != "default"] if isinstance(beta, dict) else []

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if not self.needs_answers and not self._auxiliary:
            raise ValueError(
                f"`method: {self.method}` trains on nothing without `distillation` or `consistency` above 0"
            )
        if not self.needs_answers and self.weighting is not None:
            raise ValueError(f"`method: {self.method}` has no loss on pairs that `weighting` could weigh")
        return self

    @model_validator(mode="after")
    def _whole_model(self) -> Self:
        if self.sharded and (self.needs_divergence or self.needs_bare_reference):
            raise ValueError(f"`method: {self.method}` needs the whole model in each process: `parallel: ddp`")
        return self


class Scores(NamedTuple):
    """The numbers from which the loss of n target pairs is computed; each is [n] in float64 unless stated otherwise.

    "Summed log-probability" is the sum over the tokens of an answer, in nats, under the policy (the model in training).
    """

    chosen: Tensor
    """Summed log-probability of chosen under the policy, nats."""
    rejected: Tensor
    """Summed log-probability of rejected under the policy, nats."""
    prompt: Tensor
    """Summed log-probability of the prompt after its first token; zero if the method does not need it."""
    chosen_tokens: Tensor
    """Answer tokens of chosen, the end token counted."""
    rejected_tokens: Tensor
    """Answer tokens of rejected, the end token counted."""
    beta: Tensor
    """The method's beta, by the pair's language."""
    anchor_gap: Tensor
    """The gap that the target gap is pulled to, nats per token; zero if the method does not need it."""
    reference_chosen: Tensor
    """`chosen` under the frozen reference; zero where the method does not need it."""
    reference_rejected: Tensor
    """`rejected` under the frozen reference; zero if the method does not need it."""
    mean_chosen_tokens: float
    """Mean of `chosen_tokens` over all pairs of the optimiser step; turns a mean over pairs into one over tokens."""
    mean_prompt_tokens: float
    """Mean number of tokens that `prompt` sums, over all pairs of the optimiser step."""
    kl: float
    """Estimate of how far the policy is from the reference, over the optimiser step; 0 if the method needs none."""
    progress: float = 0.0
    """Share (0 to 1) of the training's optimiser steps that are done."""
    bare_chosen: Tensor | None = None
    """`reference_chosen` after an empty request instead of the prompt; None if the method does not need it."""
    bare_rejected: Tensor | None = None
    """`reference_rejected` after an empty request instead of the prompt; None if the method does not need it."""

    @property
    def gap(self) -> Tensor:
        """Reward gap (equation 2 of the MPO paper), [n], nats per token."""
        return self.chosen / self.chosen_tokens - self.rejected / self.rejected_tokens

    @property
    def log_ratios(self) -> tuple[Tensor, Tensor]:
        """h(y_w) and h(y_l), [n] each, nats: h(y) = log pi(y|x) - log pi_ref(y|x), summed over the answer's tokens."""
        return self.chosen - self.reference_chosen, self.rejected - self.reference_rejected


TRAINING_METHODS: ExtensionPoint[TrainingMethod] = ExtensionPoint(
    TrainingMethod,  # type: ignore[type-abstract]  # python/mypy#4717
    tag="method",
    package="mpo_core.training.methods",
    group="mpo.training_methods",
)
