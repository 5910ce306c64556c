"""The source `microworld`: prompts of the embedded world."""

from typing import Literal

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import Kind, Prompt, PromptSource, RejectedRow, Split


class MicroworldSource(PromptSource):
    """Prompts of the microworld, mpo's built-in toy world, with reference answers."""

    source: Literal["microworld"]
    """Name of the source: `microworld`."""
    licence: str | None = "Apache-2.0"
    """Licence of the prompts, which the report shows. Default: Apache-2.0, the licence of mpo itself, which includes
    these prompts."""
    kind: Kind
    """Kind of the prompts: harmful or harmless."""
    split: Split
    """Split of the microworld to read, which is also the split of its prompts in the run."""
    world: Literal["small", "hard"] = "small"
    """Which microworld: `small`, the embedded default, or `hard`, the benchmark for methods. Default: `small`."""

    @property
    def name(self) -> str:
        """Name of the source in tables and reports: world, split and kind."""
        return f"{'' if self.world == 'small' else 'hard-'}microworld-{self.split}-{self.kind}"

    def prompts(self, *, dominant: str, seed: int, key: str) -> list[Prompt | RejectedRow]:
        """Returns `limit` prompts of the world, sampled by the seed, with both answers."""
        from mpo_core.microworld import world_of

        world = world_of(self.world)
        if dominant not in world.languages:
            raise BadInputError(
                f"the source `microworld` does not speak {dominant!r}: it has only the built-in toy languages",
                where=f"{key} ({self.name})",
                fix=f"Choose languages.dominant from {', '.join(world.languages)}.",
            )
        prompts: list[Prompt | RejectedRow] = []
        for number, item in enumerate(world.items(self.split, self.kind, self.limit, seed)):
            refusal, answer = item.refusal(dominant), item.help(dominant)
            chosen, rejected = (refusal, answer) if item.kind == "harmful" else (answer, refusal)
            prompts.append(
                Prompt(number, item.prompt(dominant), self.kind, self.split, item.category, chosen, rejected)
            )
        return prompts

    def digest(self) -> str:
        """Returns the version of the world."""
        from mpo_core.microworld import world_of

        return f"microworld:{world_of(self.world).version}"
