"""The judge `guard`: a guard model in this process."""

from collections.abc import Iterable, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from mpo_core.contract.judge import Case, Verdict
from mpo_core.contract.progress import Progress
from mpo_core.contract.settings import DEVICE, LOCATION, OPERATIONAL, UserPath
from mpo_core.judging.formats import FORMATS, FormatName, later_version
from mpo_core.judging.models import ModelJudge, guard_cautions, require_covered


class GuardJudge(ModelJudge):
    """A guard model in this process, such as Qwen3Guard-Gen or Llama Guard 3."""

    argument = ("path", "FOLDER_OR_ID")

    judge: Literal["guard"]
    """Name of the judge."""
    path: UserPath = Field("Qwen/Qwen3Guard-Gen-0.6B", json_schema_extra=LOCATION)
    """Local folder of the guard, or its id on the hub. Default: `Qwen/Qwen3Guard-Gen-0.6B`."""
    revision: str | None = Field(None, json_schema_extra=LOCATION)
    """Revision (commit) of the judge model on the hub. Default: the latest."""
    format: FormatName = "qwen3guard"
    """Form of the guard's prompt and reply: `qwen3guard`, `llama_guard`, `granite_guardian` (version 3.3),
    `granite_guardian_4` (4.1), `polyguard`, `wildguard` or `shieldgemma`. Default: `qwen3guard`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the weights. Default: float32."""
    device: str = Field("auto", pattern=DEVICE, json_schema_extra=OPERATIONAL)
    """Device of the guard: `cpu`, `cuda`, `cuda:1`, or `auto`, which is cuda if there is one. Default: `auto`."""
    batch_size: int = Field(16, ge=1, json_schema_extra=OPERATIONAL)
    """Number of answers that are judged at the same time; more need more memory. Default: 16."""

    @model_validator(mode="after")
    def _runs_here(self) -> Self:
        if FORMATS[self.format].only_server:
            raise ValueError(f"a {self.format} guard does not run in this process: use the judge `openai`")
        return self

    def verdicts_with_progress(self, cases: Sequence[Case], progress: Progress) -> list[Verdict]:
        """Asks the guard about every answer, and turns its replies into verdicts."""
        from mpo_core.judging.local import readings

        self.require_languages({case.language for case in cases})
        return self.all_verdicts(cases, lambda readable: readings(self, readable, progress))

    def require_languages(self, languages: Iterable[str]) -> None:
        """Checks that the guard was made for every language (or may judge all), and can tell a refusal there."""
        require_covered(self, self.format, languages)

    def cautions(self, languages: Iterable[str]) -> list[str]:
        """Returns sentences that warn a reader about the guard's verdicts."""
        return guard_cautions(self, self.format, languages)

    def card(self) -> dict[str, str]:
        """Returns the model, its revision, and the digests of its files and of its prompt template."""
        from mpo_core.judging.local import identity, template_digest

        return {
            **super().card(),
            "model": self.path,
            "revision": self.revision or "none is pinned",
            "sha256 of its files": identity(self),
            "sha256 of its template": template_digest(self),
            "format": self.format,
        }

    def identity(self) -> str:
        """Returns the digest of the guard's files, its chat template among them, and a later version of the prompt."""
        from mpo_core.judging.local import identity

        return identity(self) + later_version(self.format)
