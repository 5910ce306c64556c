"""The sampling backend `transformers`: the model answers in this process."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from mpo_core.contract.progress import Progress
from mpo_core.contract.sampling import (
    Answer,
    GenerationSettings,
    NoAnswer,
    SampledModel,
    SampleRequest,
    SamplingBackend,
)
from mpo_core.contract.settings import OPERATIONAL


class Transformers(SamplingBackend):
    """Samples with transformers, in this process."""

    backend: Literal["transformers"]
    """Name of the backend."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format of the model while it answers. Default: `model.dtype`."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    """How transformers computes attention. `flash_attention_2` needs the package flash-attn. Default: the model's own
    choice, which is `sdpa` for most."""
    device_map: Literal["auto"] | None = Field(None, json_schema_extra=OPERATIONAL)
    """`auto` spreads the layers of a model over all devices, for a model that is too large for one. Default: the model
    lies on `model.device`."""
    tokens_per_batch: int | None = Field(None, ge=1, json_schema_extra=OPERATIONAL)
    """Maximum number of tokens in a batch: prompts, and answers of `max_new_tokens`. It is halved whenever memory runs
    out. Default: 65536 on a GPU, 16384 on a CPU."""

    cache: Literal["auto", "dynamic", "static"] = Field("auto", json_schema_extra=OPERATIONAL)
    """How keys and values of earlier tokens are kept. `static`: in memory that is allocated once, in batches of a few
    sizes, so that a GPU replays each step as a CUDA graph. `dynamic`: by transformers' own loop, which copies them at
    each step. Default: `auto`, which is `static`, with batches of any size on a CPU, and `dynamic` for a model that
    cannot use it."""

    def sample(
        self, requests: Sequence[SampleRequest], settings: GenerationSettings, model: SampledModel, progress: Progress
    ) -> list[Answer | NoAnswer]:
        """Generates an answer to every request; an answer does not depend on the other requests in its batch."""
        from mpo_core.models import shared_model
        from mpo_core.sampling.generate import generate

        network, tokenizer, lock = shared_model(
            model.folder, model.settings, self.dtype, attention=self.attention, device_map=self.device_map
        )
        with lock:
            return generate(
                network,
                tokenizer,
                requests,
                settings,
                system=model.settings.system,
                thinking=model.settings.thinking,
                tokens_per_batch=self.tokens_per_batch,
                cache=self.cache,
                progress=progress,
            )

    def identity(self, model: str) -> str:
        """Returns the backend's name, which is all that identifies it: model, settings and seed decide the answers."""
        del model
        return self.backend
