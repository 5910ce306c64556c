"""Settings of the training, and of the other methods it is compared with."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from mpo_core.contract.settings import DEVICE, OPERATIONAL, Fraction, Settings


class RetentionSettings(Settings):
    """L2, which keeps the dominant language where it was."""

    weight: float = Field(1.0, ge=0.0)
    """Weight of L2 in the loss. Default: 1, the paper's."""
    pooling: Literal["mean", "last", "padded_mean"] = "mean"
    """Hidden state per sequence: `mean` (mask-aware), `last` token (the paper), `padded_mean` (the released code)."""


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


Positive = Annotated[float, Field(gt=0.0)]

# The smallest relative step that a bfloat16 weight can take is 2^-9 of it; below this learning rate,
# which AdamW's first updates have the size of, a weight of the usual magnitude 0.02 does not move.
_PURE_BFLOAT16_RATE = 0.02 * 2**-9


class MethodNeeds(NamedTuple):
    """What a training method needs beside the log-probabilities of the target pairs, and its usual beta."""

    beta: float = 0.1
    """beta where the settings name none: TRL 1.16's defaults, but for SimPO its authors', for MPO the paper's."""
    sources: bool = False
    """The dominant pairs: their reward gaps under the reference, and L2 on their hidden states."""
    target_reference: bool = False
    """The reference's log-probabilities of the target pairs."""
    prompt_scores: bool = False
    """The log-probabilities of the prompts."""
    divergence: bool = False
    """An estimate, before each step, of how far the policy is from the reference. It needs the whole model."""


_NO_REFERENCE, _TARGET_REFERENCE = MethodNeeds(), MethodNeeds(target_reference=True)
METHODS = {
    "mpo": MethodNeeds(beta=1.0, sources=True),
    "sft": _NO_REFERENCE,
    "dpo": _TARGET_REFERENCE,
    "ipo": _TARGET_REFERENCE,
    "rdpo": _TARGET_REFERENCE,
    "cpo": _NO_REFERENCE,
    "kto": MethodNeeds(target_reference=True, divergence=True),
    "orpo": MethodNeeds(prompt_scores=True),
    "r_dpo": _TARGET_REFERENCE,
    "simpo": MethodNeeds(beta=2.0),
}
"""The training methods by name. Nothing else compares a method's name."""


class TrainingSettings(Settings):
    """Preference training: MPO (arXiv 2505.16869), or a method to compare it with."""

    method: Literal["mpo", "sft", "dpo", "ipo", "rdpo", "cpo", "kto", "orpo", "r_dpo", "simpo"] = "mpo"
    """The objective. All but `mpo` see the target pairs alone, without L2."""
    beta: Positive | dict[str, Positive] | None = None
    """Factor of the target gap in L1, one or by language code (and `default`); else as in TRL. None: its usual."""
    label_smoothing: float = Field(0.1, ge=0.0, lt=0.5)
    """rdpo: share of pairs taken to be labelled the wrong way round; 0 is dpo."""
    cpo_alpha: float = Field(1.0, ge=0.0)
    """cpo: weight of the likelihood of chosen."""
    simpo_gamma: float = Field(0.5, ge=0.0)
    """simpo: margin that the difference of the rewards has to pass."""
    length_alpha: float = Field(0.01, ge=0.0)
    """r_dpo: weight of a token by which chosen is longer than rejected."""
    desirable_weight: float = Field(1.0, gt=0.0)
    """kto: weight of chosen answers."""
    undesirable_weight: float = Field(1.0, gt=0.0)
    """kto: weight of rejected answers."""
    anchor_gap: Literal["dominant", "own"] = "dominant"
    """Goal of a harmless row's gap: the reference's `dominant` gap (the paper) or its `own` in that language."""
    retention: RetentionSettings = RetentionSettings()
    """L2, which keeps the dominant language where it was."""
    lora: LoraSettings | None = None
    """Trains low-rank adapters instead of all weights. Default: none, all weights are trained."""
    epochs: float = Field(2.0, gt=0.0)
    """How often training passes over all pairs; 0.5 is half of them once. Default: 2."""
    max_steps: int | None = Field(None, ge=1)
    """Stops after so many optimiser steps, whatever `epochs` says. Default: no limit."""
    learning_rate: float = Field(6e-7, gt=0.0)
    """Learning rate after the warm-up, the highest. Default: 6e-7."""
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
    """Longest sequence, prompt and answer together, in tokens; longer ones are cut. Default: 1024."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the computation; with `bfloat16`, weights stay as `weights` says (autocast). Default:
    float32."""
    weights: Literal["float32", "bfloat16", "nf4"] = "float32"
    """What holds the weights. `bfloat16` and the four bits of `nf4` (QLoRA) are for the frozen base under LoRA."""
    gradient_checkpointing: bool = False
    """Computes activations a second time instead of keeping them: less memory, more time. Default: false."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the order of the pairs and of the adapters' first weights. Default: 0."""
    order: Literal["grouped", "shuffled", "file"] = "grouped"
    """`grouped`: shuffled by dominant pair, its rows together; `shuffled` by row; `file` order."""
    layout: Literal["auto", "packed", "padded"] = Field("auto", json_schema_extra=OPERATIONAL)
    """`packed` without padding, the prompt once for both answers, or `padded`; `auto` packs where the model can."""
    tokens_per_forward: int | None = Field(None, ge=1, json_schema_extra=OPERATIONAL)
    """Packed: most tokens of a forward, which bounds memory; a longer pair goes alone. None: 4096, on a CPU 1024."""
    logit_memory: int = Field(256, ge=0, json_schema_extra=OPERATIONAL)
    """Memory in MiB for token probabilities; those beyond it are computed a second time. Default: 256."""
    evaluate_every: int | None = Field(None, ge=1)
    """Optimiser steps between evaluations of the loss on the validation pairs. Default: none are made."""
    patience: int | None = Field(None, ge=1)
    """Stops after so many evaluations without a better validation loss, and uses the best checkpoint. Default:
    never."""
    save_every: int = Field(50, ge=1, json_schema_extra=OPERATIONAL)
    """Optimiser steps between checkpoints, from which a killed run goes on. Default: 50."""
    tensorboard: bool = Field(False, json_schema_extra=OPERATIONAL)
    """Writes the course of the training for TensorBoard, too. Default: false."""
    device: str = Field("auto", pattern=DEVICE, json_schema_extra=OPERATIONAL)
    """Device of the training: `cpu`, `cuda`, `cuda:1`, or `auto`, which is cuda if there is one. Default: `auto`."""
    threads: int | None = Field(None, ge=1, le=1024, json_schema_extra=OPERATIONAL)
    """CPU threads of torch in each process. Default: torch decides."""
    processes: int = Field(1, ge=1)
    """Devices of this machine that train together, one process each; see `batch_size`. Default: 1."""
    parallel: Literal["ddp", "fsdp2", "zero2", "zero3"] = Field("ddp", json_schema_extra=OPERATIONAL)
    """What several processes share out: `ddp` the pairs alone; the others, moments, gradients or weights as well."""

    @property
    def step_rows(self) -> int:
        """Pairs of an optimiser step."""
        return self.batch_size * self.gradient_accumulation * self.processes

    @property
    def needs(self) -> MethodNeeds:
        """What the method needs."""
        return METHODS[self.method]

    @property
    def references_targets(self) -> bool:
        """Whether the reference has to measure target pairs too."""
        return self.needs.target_reference or (self.needs.sources and self.anchor_gap == "own")

    def beta_of(self, language: str) -> float:
        """The beta of a language."""
        if isinstance(self.beta, dict):
            return self.beta.get(language, self.beta.get("default", self.needs.beta))
        return self.beta if self.beta is not None else self.needs.beta

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
        if self.layout == "packed" and self.retention.pooling == "padded_mean":
            raise ValueError("`retention.pooling: padded_mean` counts pads; it needs `layout: padded`")
        return self

    @model_validator(mode="after")
    def _several(self) -> Self:
        if self.processes > 1 and ":" in self.device:
            raise ValueError(f"`device: {self.device}` is one device; with `processes` say `cuda`, `cpu` or `auto`")
        sharded = self.processes > 1 and self.parallel != "ddp"
        if sharded and self.retention.pooling == "padded_mean":
            raise ValueError("`retention.pooling: padded_mean` needs the whole model in each process: `parallel: ddp`")
        if sharded and self.weights == "nf4":
            raise ValueError("`weights: nf4` cannot be sharded: `parallel: ddp`")
        if sharded and self.needs.divergence:
            raise ValueError(f"`method: {self.method}` needs the whole model in each process: `parallel: ddp`")
        return self
