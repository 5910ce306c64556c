"""The swap check: finds target pairs whose answers are swapped, by the base model's hidden states."""

from collections.abc import Mapping
from typing import TypeVar

from flows.run import Future, Run
from flows.stages import Key, Pairs, Shards, split
from flows.stages.shards import forward_settings
from tasks.model import ModelFolder
from tasks.pairs import unswap_pairs
from tasks.reference import check_order, measure_states
from tasks.stage import ShardInput

T = TypeVar("T", bound=ShardInput)
Inputs = Mapping[Key, ShardInput]


def check_swaps(run: Run, model: ModelFolder, pairs: Pairs) -> Pairs:
    """Applies `pairs.swap_check` to the training pairs: drops the swapped ones, corrects them, or only lists them."""
    swaps = find_order(run, model, pairs.source, pairs.target)
    return pairs._replace(target=settle(run, pairs.target, swaps))


def find_order(run: Run, model: ModelFolder, source: Inputs, target: Inputs) -> dict[str, Future]:
    """Finds the training pairs with swapped answers: a task that gives SWAPS, by language.

    Without `pairs.swap_check` there is none. Blocks of the splits `train` and `validation` are used.
    """
    if run.config.pairs.swap_check is None:
        return {}
    of_source, of_target = _states(run, model, source, dominant=True), _states(run, model, target, dominant=False)
    return {
        code: run.submit(
            check_order,
            pairs=[target[key] for key in of_target if key[0] == code],
            states=[*of_source.values(), *(states for key, states in of_target.items() if key[0] == code)],
            language=code,
            label=code,
        )
        for code in sorted({language for language, _ in of_target})
    }


def _states(run: Run, model: ModelFolder, pairs: Inputs, *, dominant: bool) -> Shards:
    return {
        (language, block): run.submit(
            measure_states,
            model=model,
            pairs=shard,
            **forward_settings(run.config.training),
            language=language,
            dominant=dominant,
            label=f"{language}-{block.part}",
        )
        for (language, block), shard in pairs.items()
        if split(block) in {"train", "validation"}
    }


def settle(run: Run, target: Mapping[Key, T], swaps: Mapping[str, Future]) -> dict[Key, T | Future]:
    """Returns the target pairs with the swapped ones of training rejected or swapped back, unless they are marked."""
    acts = run.config.pairs.swap_check != "mark"
    return {
        (code, block): unswap(run, pairs, swaps[code], code, f"{code}-{block.part}")
        if acts and code in swaps and split(block) == "train"
        else pairs
        for (code, block), pairs in target.items()
    }


def unswap(run: Run, pairs: ShardInput, swaps: Future, language: str, label: str) -> Future:
    """Rejects the swapped ones of some pairs, or swaps their answers back, as `pairs.swap_check` says."""
    return run.submit(
        unswap_pairs,
        pairs=pairs,
        swaps=swaps,
        swap_back=run.config.pairs.swap_check == "swap_back",
        language=language,
        label=label,
    )
