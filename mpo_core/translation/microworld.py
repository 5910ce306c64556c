"""The engine of the embedded world, which knows its own sentences exactly."""

from __future__ import annotations

from collections.abc import Sequence

from mpo_core.errors import BadInputError


class MicroworldEngine:
    """Looks sentences of the microworld up; knows nothing else."""

    name = "microworld"

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """One translation per text; None outside the microworld.

        Raises:
            BadInputError: the microworld does not speak one of the languages.
        """
        from mpo_core import microworld

        for code in (source, target):
            if code not in microworld.LANGUAGES:
                raise BadInputError(
                    f"the microworld does not speak {code!r}",
                    where="translation.engines",
                    mend=f"Choose languages from {', '.join(microworld.LANGUAGES)}, or name a translation memory.",
                )
        return [microworld.translate(text, source, target) for text in texts]
