"""The engine `openai`: a language model behind an OpenAI-compatible server."""

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from mpo_core.contract.settings import OPERATIONAL
from mpo_core.contract.translation import Backend, Engine, RemoteSource


class OpenAISource(RemoteSource):
    """A language model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, OpenAI)."""

    argument = ("model", "MODEL")

    engine: Literal["openai"]
    """Name of the engine: `openai`."""
    model: str
    """Name of the model on the server."""
    key_variable: str = Field("OPENAI_API_KEY", json_schema_extra=OPERATIONAL)
    """Environment variable that holds the key; it may be unset for a server without one. Default: OPENAI_API_KEY."""
    max_tokens: int = Field(2048, ge=1)
    """Maximum length of a reply, in tokens; a longer one is cut off there and rejected as `truncated`. Default:
    2048."""

    def open(self, machine: Callable[[Backend], Engine]) -> Engine:
        """Returns the engine, without a connection to the server yet."""
        from mpo_core.translation.openai import openai_backend

        return machine(openai_backend(self))

    def require_key(self) -> None:
        """Checks that the key of OpenAI's own server is set, where that is meant."""
        from mpo_core.http.greedy import require_key

        require_key(self.url, self.key_variable)

    def identity(self) -> str:
        """Returns the model's name and version, the version of the instructions, and the maximum length of a reply."""
        from mpo_core.translation.openai import PROMPT_VERSION

        return f"openai:{self.model}@{self.version}#{PROMPT_VERSION}/{self.max_tokens}"
