"""A language model behind an OpenAI-compatible server as an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from mpo_core.contract.settings import OPERATIONAL
from mpo_core.contract.translation import Backend, Engine, RemoteSource


class OpenAISource(RemoteSource):
    """A language model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, OpenAI)."""

    argument = ("model", "MODEL")

    engine: Literal["openai"]
    """`openai`."""
    model: str
    """The model's name on that server."""
    key_variable: str = Field("OPENAI_API_KEY", json_schema_extra=OPERATIONAL)
    """Environment variable that holds the key; it may be unset for a server without one."""
    max_tokens: int = Field(2048, ge=1)
    """Longest answer, in tokens; one that is cut off there is rejected as truncated. Default: 2048."""

    def open(self, machine: Callable[[Backend], Engine], *, with_key: bool = True) -> Engine:
        """Returns the server.

        Raises:
            BadInputError: OpenAI's own server is meant, and its key is not set; or the key is malformed.
        """
        from mpo_core.translation.openai import openai_backend

        return machine(openai_backend(self, with_key=with_key))

    def identity(self) -> str:
        """Returns the model's name and version, and how it is prompted."""
        from mpo_core.translation.openai import PROMPT_VERSION

        return f"openai:{self.model}@{self.version}#{PROMPT_VERSION}/{self.max_tokens}"
