"""The judge `openai`: a model behind an OpenAI-compatible server, a language model with a rubric or a guard model."""

from collections.abc import Iterable, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from mpo_core.contract.judge import Case, Verdict
from mpo_core.contract.progress import Progress
from mpo_core.contract.settings import OPERATIONAL
from mpo_core.http.address import Url
from mpo_core.judging.formats import FORMATS, FormatName, later_version
from mpo_core.judging.models import ModelJudge, guard_cautions, require_covered


class OpenAIJudge(ModelJudge):
    """A model behind an OpenAI-compatible server (vLLM, SGLang, OpenAI): one that follows a rubric, or a guard."""

    argument = ("model", "MODEL")

    judge: Literal["openai"]
    """Name of the judge."""
    model: str = Field(min_length=1)
    """Name of the model on the server."""
    url: Url | None = Field(None, json_schema_extra=OPERATIONAL)
    """Address of the server, http or https. User name, password and query in it are sent, but never shown or
    stored. Default: OpenAI's own server."""
    key_variable: str = Field("OPENAI_API_KEY", json_schema_extra=OPERATIONAL)
    """Environment variable that holds the key; it may be unset for a server without one. Default: OPENAI_API_KEY."""
    version: str = ""
    """Version of the model, in your own words. Change it when the model changes: it is a part of the cache key, so that
    every answer is judged again. Default: empty."""
    format: FormatName | None = None
    """Format of a guard model: `qwen3guard`, `llama_guard`, `llama_guard_4`, `granite_guardian` (version 3.3),
    `granite_guardian_4` (4.1) or `polyguard`. Default: none, a language model with a rubric."""
    max_tokens: int = Field(1024, ge=1)
    """Maximum length of a reply to the rubric, in tokens, thoughts included; a longer one gives no verdict. Default:
    1024."""
    concurrency: int = Field(8, ge=1, json_schema_extra=OPERATIONAL)
    """Maximum number of requests in flight at the same time. Default: 8."""
    timeout: float = Field(60.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """Seconds that the server has for a whole reply; after them the request fails. Default: 60."""
    retries: int = Field(5, ge=0, json_schema_extra=OPERATIONAL)
    """How often a failed request is tried again, after a longer wait each time. Default: 5."""

    @model_validator(mode="after")
    def _format_of_chats(self) -> Self:
        if self.format is not None and not FORMATS[self.format].turns:
            raise ValueError(
                f"a {self.format} guard has no chat template, so a chat server cannot render its prompt: use the "
                "judge `guard`"
            )
        return self

    def card(self) -> dict[str, str]:
        """Returns the model, your label of its version, and the format of its prompt."""
        prompt = self.format or "rubric"
        return {**super().card(), "model": self.model, "version": self.version or "not stated", "format": prompt}

    def verdicts_with_progress(self, cases: Sequence[Case], progress: Progress) -> list[Verdict]:
        """Asks the model about every answer; without a readable reply an answer is unjudged."""
        from mpo_core.judging.remote import readings

        self.require_languages({case.language for case in cases})
        self.require_ready()
        return self.all_verdicts(cases, lambda readable: readings(self, readable, progress))

    def require_languages(self, languages: Iterable[str]) -> None:
        """Checks that a guard was made for every language, or may judge all; a language model may judge any."""
        if self.format is not None:
            require_covered(self, self.format, languages)

    def require_ready(self) -> None:
        """Checks that the server's key is there, where it needs one."""
        from mpo_core.http.greedy import require_key

        require_key(self.url, self.key_variable)

    def cautions(self, languages: Iterable[str]) -> list[str]:
        """Returns sentences that warn a reader about this judge's verdicts."""
        if self.format is not None:
            return guard_cautions(self, self.format, languages)
        return [
            (
                f"Verdicts are those of the language model {self.model} with a rubric in English. How often it agrees "
                "with people is unknown until `mpo judge` has compared them in each language."
            )
        ]

    def identity(self) -> str:
        """Returns the version of the rubric; for a guard a later version of its prompt, empty for the first."""
        from mpo_core.judging.rubric import RUBRIC_VERSION

        return f"rubric {RUBRIC_VERSION}" if self.format is None else later_version(self.format)
