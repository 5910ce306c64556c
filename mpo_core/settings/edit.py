"""Settings of the stage `edit`."""

from typing import Annotated

from pydantic import Field

from mpo_core.contract.settings import Settings


class EditSettings(Settings):
    """Sparse weight editing (SWE, arXiv 2602.22554): a change of a few neurons that is computed, not trained."""

    rank: int = Field(32, ge=1)
    """Maximum rank of the change of each matrix. Default: 32."""
    min_z_score: float = Field(2.0, ge=0.0)
    """Edits a neuron whose activation rises on harmful prompts by more than this many standard deviations above the
    mean rise of its matrix. Default: 2, as in the SWE paper."""
    min_effect: float = Field(1.0, ge=0.0)
    """Also edits a neuron whose activation rises on harmful prompts by more than this many standard deviations of its
    own, pooled over harmful and harmless prompts. Default: 1, as in the SWE paper."""
    harmless_weight: float = Field(1.0, ge=0.0)
    """Weight of the loss on harmless prompts, whose activations are to stay as they are. Default: 1."""
    ridge: float = Field(0.1, gt=0.0)
    """Weight of the squared size of the change, as a multiple of the mean square of an input of the layer. Default:
    0.1."""
    layers: list[Annotated[int, Field(ge=1)]] | None = Field(None, min_length=1)
    """Numbers of the layers to edit, from 1. Default: all."""
    max_change: float = Field(0.5, gt=0.0)
    """Maximum norm of the change of a matrix, relative to its own norm; a larger one is an error, and nothing is
    written. Default: 0.5."""
