"""The sampling backend `openai`: the model answers on an OpenAI-compatible server, such as vLLM or llama.cpp."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.progress import Progress
from mpo_core.contract.sampling import (
    TRAINED,
    Answer,
    GenerationSettings,
    NoAnswer,
    SampledModel,
    SampleRequest,
    SamplingBackend,
)
from mpo_core.contract.settings import OPERATIONAL
from mpo_core.http.address import ServiceUrl, Url


class OpenAI(SamplingBackend):
    """Samples from an OpenAI-compatible server (vLLM, SGLang, llama.cpp): at `url`, or started by `command`."""

    backend: Literal["openai"]
    """Name of the backend."""
    url: Url | None = Field(None, json_schema_extra=OPERATIONAL)
    """Address of a server that runs already, mostly with /v1 at its end. User name, password and query in it are
    sent, but never shown or stored. Default: none, `command` starts one."""
    command: list[str] | None = Field(None, min_length=1)
    """Program and arguments that start a server on this machine, with {model} for the model's folder and {port} for
    the port: [/envs/vllm/bin/vllm, serve, "{model}", --port, "{port}"]. It is ended with the run. Default: none,
    `url` names a server."""
    model: str | None = None
    """Name of the model on a server that serves one model. Default: with `command`, the model's folder."""
    models: dict[str, str] = Field(default_factory=dict)
    """Name on the server for each `model.path`, where the server at `url` serves several models; the key `trained`
    stands for the model that a run trains. Default: none, `model` is the only one."""
    version: str = ""
    """Version of the server or its model, in your own words. Change it when they change: it is a part of the cache
    key, so that all answers are sampled again. Default: empty."""
    key_variable: str | None = Field(None, min_length=1, json_schema_extra=OPERATIONAL)
    """Name of the environment variable that holds the server's key. Default: none, no key is sent."""
    concurrency: int = Field(32, ge=1, json_schema_extra=OPERATIONAL)
    """Maximum number of requests in flight at the same time. Default: 32."""
    timeout: float = Field(600.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """Seconds that the server has for a whole answer; after them the request fails. Default: 600."""
    retries: int = Field(5, ge=0, json_schema_extra=OPERATIONAL)
    """How often a failed request is tried again, after a longer wait each time. Default: 5."""
    start_timeout: float = Field(900.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """Seconds that a server started by `command` has to become ready. Default: 900."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.url is None) == (self.command is None):
            raise ValueError("give exactly one of `url` and `command`")
        if self.command is None:
            if self.model is None and not self.models:
                raise ValueError("`url` needs `model`, the name by which the server knows its model, or `models`")
        elif self.models:
            raise ValueError("`models` is for `url`: a server that `command` starts serves one model at a time")
        elif missing := [
            part for part in ("{model}", "{port}") if not any(part in argument for argument in self.command)
        ]:
            raise ValueError(f"`command` needs {' and '.join(missing)}, to be filled in")
        return self

    def sample(
        self, requests: Sequence[SampleRequest], settings: GenerationSettings, model: SampledModel, progress: Progress
    ) -> list[Answer | NoAnswer]:
        """Sends the server one HTTP request for each answer, with a seed of its own."""
        from mpo_core.sampling.chat import ask_server
        from mpo_core.sampling.servers import running_server

        self.require_models([model.name])
        self.require_key()  # before a server is started
        if isinstance(self.url, ServiceUrl):
            return ask_server(self, self.url, self._name_of(model), requests, settings, model, progress)
        with running_server(
            self.command or [], model.folder, patience=self.start_timeout, beat=lambda: progress(0, len(requests))
        ) as (url, log):
            return ask_server(self, url, self._name_of(model), requests, settings, model, progress, log=log)

    def identity(self, model: str) -> str:
        """Returns what identifies the answers: the model's name on the server, or the program, and the version."""
        program = self.command[0] if self.command else self.models.get(model, self.model)
        return f"openai:{program}@{self.version}"

    def require_models(self, models: Sequence[str]) -> None:
        """Checks that the settings name each of these models on the server at `url`."""
        unnamed = [model for model in dict.fromkeys(models) if model not in self.models]
        if self.command is not None or not unnamed or (not self.models and len(set(models)) == 1):
            return
        name = "the model that the run trains" if unnamed[-1] == TRAINED else f"the model {unnamed[-1]}"
        raise BadInputError(
            f"{name} must answer too, but the settings do not name it on the server at {self.url}",
            where="sampling.backend.models",
            fix="Give `command` instead of `url`, which serves each model in turn; or serve both and name them: "
            f"models={{{', '.join(f'{model}: NAME' for model in dict.fromkeys(models))}}}; or use transformers.",
        )

    def require_key(self) -> None:
        """Checks that the server's key is set, where the settings name one."""
        from mpo_core.http.client import server_key

        server_key(self.key_variable)

    def _name_of(self, model: SampledModel) -> str:
        """Returns the model's name on the server."""
        return self.models.get(model.name) or self.model or str(model.folder)
