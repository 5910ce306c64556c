"""A translation model in this process as an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from mpo_core.contract.settings import DEVICE, OPERATIONAL, UserPath
from mpo_core.contract.translation import Backend, Engine, TranslationEngine


class Seq2SeqSource(TranslationEngine):
    """A translation model of transformers: NLLB-200, MADLAD-400, M2M-100, Marian."""

    argument = ("path", "FOLDER_OR_ID")

    engine: Literal["seq2seq"]
    """`seq2seq`."""
    path: UserPath = Field(json_schema_extra=OPERATIONAL)
    """Local folder or hub id. In a cache key it stands by the digest of its files."""
    revision: str | None = Field(None, json_schema_extra=OPERATIONAL)
    """Revision (commit) on the hub."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the weights. Default: float32."""
    beams: int = Field(1, ge=1)
    """Translations that the search follows at once; 1 takes the likeliest token every time. Default: 1."""
    max_new_tokens: int = Field(512, ge=1)
    """Longest translation of a piece (a line, or a sentence of a long line), in tokens. Default: 512."""
    device: str = Field("auto", pattern=DEVICE, json_schema_extra=OPERATIONAL)
    """Device of the model: `cpu`, `cuda`, `cuda:1`, or `auto`, which is cuda if there is one. Default: `auto`."""
    batch_size: int = Field(32, ge=1, json_schema_extra=OPERATIONAL)
    """Pieces of similar length that are translated at once. Default: 32."""

    def open(self, machine: Callable[[Backend], Engine], *, with_key: bool = True) -> Engine:
        """Returns the model; its weights are loaded when they are first needed.

        Raises:
            BadInputError: no such model, or its weights are no safetensors.
        """
        from mpo_core.translation.seq2seq import Seq2SeqBackend

        del with_key  # it needs none
        return machine(Seq2SeqBackend(self))

    def identity(self) -> str:
        """Returns the digest of the model's files, and how it searches.

        Raises:
            BadInputError: the model is missing.
        """
        from mpo_core.translation.seq2seq import identity

        return identity(self)
