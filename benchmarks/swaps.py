"""Measures on the microworld how many swapped target answers the swap check finds, and what that is worth in training.

    python benchmarks/swaps.py
    python benchmarks/swaps.py --train --root artifacts --write

The first prints, for each language and share of swapped training pairs, how many artificial swaps of the validation
pairs were found (the check's own proof), the share of swaps found, and the share of good pairs that were called
swapped. The second trains MPO over seeds, with 20 and 40 % swapped answers in the low-resource languages and
`pairs.swap_check=swap_back`, and without swaps and check, for the table of docs/comparison.md. Whatever the root's
cache has is not computed again, so a run that was stopped continues where it was.
"""

import argparse
from typing import NamedTuple

import pyarrow as pa

from mpo_core.contract.tables import PAIRS, source_id
from mpo_core.microworld.world import items
from mpo_core.models import load_model, load_tokenizer, resolve
from mpo_core.pairs import find_swaps, flip_answers
from mpo_core.settings import ModelSettings
from mpo_core.training.reference import gaps, source_texts, target_texts

LANGUAGES = ("zh", "ja", "ko", "ar", "bn", "sw")
SETTINGS = ModelSettings(path="microworld", device="cpu")


class Outcome(NamedTuple):
    """What the check found in one language: shares, and whether it acts there."""

    language: str
    share: float
    proof: float
    acts: bool
    hit_rate: float | None
    false_alarms: float


def world_pairs(language: str, split: str, limit: int, seed: int = 0) -> pa.Table:
    """Returns PAIRS of the microworld's own answers: `limit` of harmful and as many of harmless prompts."""
    rows = []
    for number, item in enumerate(i for kind in ("harmful", "harmless") for i in items(split, kind, limit, seed)):
        sides = {}
        for side, code in (("source", "en"), ("target", language)):
            answers = [item.refusal(code), item.help(code)]
            chosen, rejected = answers if item.kind == "harmful" else reversed(answers)
            texts = {"prompt": item.prompt(code), "chosen": chosen, "rejected": rejected}
            sides |= {f"{side}_{name}": text for name, text in texts.items()}
        source = source_id(*(sides[f"source_{name}"] for name in ("prompt", "chosen", "rejected")))
        rows.append(
            sides
            | {
                "pair_id": f"{split}{number}/{language}",
                "source_id": source,
                "prompt_id": source,
                "kind": item.kind,
                "split": split,
                "source_language": "en",
                "language": language,
                "origin": "translated",
            }
        )
    return PAIRS.build(rows)


def measure(languages: tuple[str, ...], shares: tuple[float, ...], train: int, validation: int) -> list[Outcome]:
    """Flips each share of the training pairs of each language, and returns what the check finds."""
    folder = resolve(SETTINGS)
    model, tokenizer = load_model(folder, SETTINGS), load_tokenizer(folder, SETTINGS)

    def states(texts: list) -> pa.Table:
        table, rejected = gaps(model, tokenizer, texts, cutoff=128, system=None, pooling="last", middle=True)
        assert rejected.num_rows == 0
        return table

    results, source = [], None
    for language in languages:
        clean, known = world_pairs(language, "train", train), world_pairs(language, "validation", validation)
        source = source or states(source_texts(pa.concat_tables([clean, known])))
        for share in shares:
            pairs = flip_answers(clean, share, seed=0)
            is_swapped = [a != b for a, b in zip(clean["target_chosen"], pairs["target_chosen"], strict=True)]
            both = pa.concat_tables([pairs, known])
            swaps = find_swaps(both, pa.concat_tables([source, states(target_texts(both))]))
            called = swaps.rows["swapped"].to_pylist()
            hits = sum(a and b for a, b in zip(is_swapped, called, strict=True))
            good = len(called) - sum(is_swapped)
            results.append(
                Outcome(
                    language,
                    share,
                    swaps.counts["order_confirmed"] / swaps.counts["order_known"],
                    bool(swaps.counts["order_acts"]),
                    hits / sum(is_swapped) if any(is_swapped) else None,
                    (sum(called) - hits) / good,
                )
            )
    return results


def trainings(root: str, seeds: int) -> str:
    """Trains without swaps, and with two shares of swaps and the check; returns the table."""
    from side_by_side import compared, header, line

    from flows.cli import quiet_surroundings

    quiet_surroundings()
    clean = compared("swaps-clean", root, seeds, [])
    table = [*header("training pairs"), line("base model", clean, method="base"), line("no swaps, no check", clean)]
    checked = compared("swaps-checked", root, seeds, ["pairs.swap_check=swap_back"], flipped="0.2,0.4")
    return "\n".join([*table, *(line(f"{share:.0%} swapped, check", checked, share) for share in (0.2, 0.4))])


def main() -> None:
    """Prints a table row for each language and share, or with `--train` the table of the trainings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train over seeds, instead of counting swaps")
    parser.add_argument("--root", default="artifacts", help="folder of the trainings")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each kind")
    parser.add_argument("--write", action="store_true", help="with --train: write the table into the page")
    arguments = parser.parse_args()
    if arguments.train:
        table = trainings(arguments.root, arguments.seeds)
        print(table)
        if arguments.write:
            from page import put

            put("comparison.md", "swap-check", "python benchmarks/swaps.py --train --write", table)
        return
    print("| language | swapped | proof | acts | swaps found | false alarms |\n|---|---|---|---|---|---|")
    for row in measure(LANGUAGES, (0.0, 0.2, 0.4), train=100, validation=50):
        acts, hits = "yes" if row.acts else "no", "–" if row.hit_rate is None else f"{row.hit_rate:.1%}"
        print(f"| {row.language} | {row.share:.0%} | {row.proof:.1%} | {acts} | {hits} | {row.false_alarms:.1%} |")


if __name__ == "__main__":
    main()
