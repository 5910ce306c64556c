"""The engine `seq2seq`: a translation model in this process."""

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from mpo_core.contract.settings import DEVICE, LOCATION, OPERATIONAL, UserPath
from mpo_core.contract.translation import Backend, Engine, TranslationEngine


class Seq2SeqSource(TranslationEngine):
    """A translation model in this process, by transformers: NLLB-200, MADLAD-400, M2M-100 or Marian."""

    argument = ("path", "FOLDER_OR_ID")

    engine: Literal["seq2seq"]
    """Name of the engine: `seq2seq`."""
    path: UserPath = Field(json_schema_extra=LOCATION)
    """Local folder of the model, or its id on the hub."""
    revision: str | None = Field(None, json_schema_extra=LOCATION)
    """Revision (commit) of the model on the hub. Default: the latest."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the weights. Default: float32."""
    beams: int = Field(1, ge=1)
    """Number of beams of the beam search; 1 takes the most likely token every time. Default: 1."""
    max_new_tokens: int = Field(512, ge=1)
    """Maximum length of the translation of a piece (a line, or a sentence of a long line), in tokens. Default: 512."""
    device: str = Field("auto", pattern=DEVICE, json_schema_extra=OPERATIONAL)
    """Device of the model: `cpu`, `cuda`, `cuda:1`, or `auto`, which is cuda if there is one. Default: `auto`."""
    batch_size: int = Field(32, ge=1, json_schema_extra=OPERATIONAL)
    """Number of pieces (lines, or sentences of long lines) in a batch; more need more memory. Default: 32."""

    def open(self, machine: Callable[[Backend], Engine]) -> Engine:
        """Returns the engine; the model's weights are loaded when they are first needed."""
        from mpo_core.translation.seq2seq import Seq2SeqBackend

        return machine(Seq2SeqBackend(self))

    def identity(self) -> str:
        """Returns the digest of the model's files, and the settings of the search."""
        from mpo_core.translation.seq2seq import identity

        return identity(self)
