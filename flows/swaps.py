"""The swap check: finds target pairs whose answers are swapped, by the base model's hidden states."""

from flows.run import Run
from flows.stages import Pairs, split
from tasks.model import ModelFolder
from tasks.pairs import unswap_pairs
from tasks.reference import check_order, measure_states


def check_swaps(run: Run, model: ModelFolder, pairs: Pairs) -> Pairs:
    """Applies `pairs.swap_check` to the training pairs: drops the swapped ones, corrects them, or only lists them."""
    action, training = run.config.pairs.swap_check, run.config.training
    if action is None:
        return pairs
    dominant = run.config.languages.dominant
    states = {
        (language, block): run.submit(
            measure_states,
            model=model,
            pairs=shard,
            cutoff=training.cutoff,
            precision=training.precision,
            weights=training.weights,
            language=language,
            dominant=language == dominant,
            tokens_per_forward=training.tokens_per_forward or 4096,
            label=f"{language}-{block.part}",
        )
        for (language, block), shard in (pairs.source | pairs.target).items()
        if split(block) in {"train", "validation"}
    }
    target = dict(pairs.target)
    for code in sorted({language for language, _ in states} - {dominant}):
        swaps = run.submit(
            check_order,
            pairs=[pairs.target[key] for key in states if key[0] == code],
            states=[future for (language, _), future in states.items() if language in {code, dominant}],
            language=code,
            label=code,
        )
        for _, block in [key for key in states if key[0] == code and split(key[1]) == "train" and action != "mark"]:
            target[code, block] = run.submit(
                unswap_pairs,
                pairs=pairs.target[code, block],
                swaps=swaps,
                swap_back=action == "swap_back",
                language=code,
                label=f"{code}-{block.part}",
            )
    return pairs._replace(target=target)
