"""The engine `microworld`: translates the sentences of the embedded world exactly."""

from collections.abc import Callable, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from mpo_core.contract.settings import Fraction, Settings
from mpo_core.contract.translation import (
    NO_TRANSLATION,
    Backend,
    Engine,
    Reply,
    TranslationEngine,
    UnknownLanguageError,
)


class Noise(Settings):
    """Errors that the engine makes on purpose, in texts that name a training pair; it never damages held-out ones."""

    share: Fraction
    """Share (0 to 1) of the training texts with a verb or an object that get a wrong translation."""
    kinds: list[Literal["untranslated", "truncated", "wrong_sense"]] = Field(
        ["untranslated", "truncated", "wrong_sense"], min_length=1
    )
    """What the errors are, equally often: the source text again, the end missing, or another verb or object. The gates
    of `translation` reject most errors of the first two kinds. Default: all three."""
    languages: list[str] | None = None
    """Codes of the target languages with errors. Default: null, all."""
    seed: int = Field(0, ge=0)
    """Random seed by which texts and errors are drawn. Default: 0."""


class MicroworldSource(TranslationEngine):
    """The microworld, mpo's built-in toy world: translates its own sentences exactly, and nothing else."""

    engine: Literal["microworld"]
    """Name of the engine: `microworld`."""
    world: Literal["small", "hard"] = "small"
    """Which microworld: `small`, the embedded default, or `hard`, the benchmark for methods. Default: `small`."""
    noise: Noise | None = None
    """Errors in the translations of training prompts and answers, such as `{share: 0.2}`; needs `world: hard`. Default:
    none, every translation is exact."""

    def open(self, machine: Callable[[Backend], Engine]) -> Engine:
        """Returns the engine."""
        del machine  # it is no machine translator
        return MicroworldEngine(self)

    def identity(self) -> str:
        """Returns the version of the world."""
        from mpo_core.microworld import world_of

        return f"microworld:{world_of(self.world).version}"

    @model_validator(mode="after")
    def _noisy_world(self) -> Self:
        if self.noise is not None and self.world != "hard":
            raise ValueError("`noise` needs `world: hard`")
        return self


class MicroworldEngine:
    """An engine that looks sentences of the microworld up, and translates nothing else."""

    name = "microworld"
    masks = True

    def __init__(self, settings: MicroworldSource) -> None:
        from mpo_core.microworld import world_of

        self._world, self._noise = world_of(settings.world), settings.noise

    def check(self, source: str, target: str) -> None:
        """Checks that the microworld has both languages."""
        for code in (source, target):
            if code not in self._world.languages:
                raise UnknownLanguageError(
                    f"the engine `microworld` does not speak {code!r}: it knows only the built-in toy languages",
                    where="translation.engines",
                    fix=f"Choose languages from {', '.join(self._world.languages)}, or name another engine.",
                )

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Reply]:
        """Translates the texts of the microworld; every other text gets no translation."""
        self.check(source, target)
        translations = (self._translated(text, source, target) for text in texts)
        return [Reply(None, NO_TRANSLATION) if text is None else Reply(text) for text in translations]

    def _translated(self, text: str, source: str, target: str) -> str | None:
        noise = self._noise
        if noise is None or (noise.languages is not None and target not in noise.languages):
            return self._world.translate(text, source, target)
        from mpo_core.microworld.hard.noise import translate

        return translate(text, source, target, share=noise.share, kinds=noise.kinds, seed=noise.seed)

    def judge(self, texts: Sequence[str], source: str, target: str, *, refused: bool) -> None:
        """Does nothing: the engine has no other translation to give."""
