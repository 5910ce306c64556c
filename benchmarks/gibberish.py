"""Measures how well short gibberish is told from answers: by the judges' rules, and by two measures not in use.

    python benchmarks/gibberish.py              # prints the tables of docs/judges.md
    python benchmarks/gibberish.py --write      # into that page

Gibberish is letters of the language, drawn by how often they occur, in groups of 2 to 8; or the words of an answer's
language in any order. The first measure compares two explanations of a text's letters in its language's script: a
model of three letters in a row, learnt from the shipped parallel text and prompts, and independent letters. A text is
gibberish where the second is better by 20 bits. The second measure is the mean log-probability per token under the
frozen model (the microworld's): gibberish is what is less likely than all but 0.5 % of the model's own answers.
"""

import argparse
import csv
import math
import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from page import put

from mpo_core import microworld
from mpo_core.contract.judge import JUDGES, Case
from mpo_core.languages.known import language
from mpo_core.languages.scripts import keep_letters

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES, LETTERS, BITS, RUNS = list(microworld.LANGUAGES), (8, 15, 30), 20, 300
_LOT = random.Random(0)  # noqa: S311 - reproducible


def rows(path: str) -> list[dict[str, str]]:
    """Reads a CSV file of the repository."""
    with (ROOT / path).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


class ThreeLetters:
    """A model of three letters in a row, with Witten and Bell's smoothing."""

    def __init__(self, texts: Iterable[str], code: str) -> None:
        self.script = language(code).script
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text in map(self._letters, texts):
            for at in range(1, len(text)):
                for size in range(min(at, 2) + 1):
                    self.counts[text[at - size : at]][text[at]] += 1

    def _letters(self, text: str) -> str:
        own = unicodedata.normalize("NFD", keep_letters(self.script, text).casefold())
        return f" {' '.join(''.join(c if unicodedata.category(c)[0] in 'LM' else ' ' for c in own).split())} "

    def _probability(self, context: str, letter: str) -> float:
        value = 1 / (len(self.counts[""]) + 5000)
        for size in range(len(context) + 1):
            counts = self.counts.get(context[len(context) - size :])
            if counts:
                total, kinds = sum(counts.values()), len(counts)
                value = (counts.get(letter, 0) + kinds * value) / (total + kinds)
        return value

    def gibberish(self, text: str) -> bool:
        """Returns whether independent letters explain a text better than this model, by at least 20 bits."""
        letters = self._letters(text)
        model = alone = 0.0
        for at in range(1, len(letters)):
            model += math.log2(self._probability(letters[max(0, at - 2) : at], letters[at]))
            alone += math.log2(self._probability("", letters[at]))
        return alone - model > BITS


def random_letters(pool: list[str], count: int) -> str:
    """Returns a text of about so many letters of the pool, in groups of 2 to 8."""
    text = ""
    while sum(map(str.isalpha, text)) < count:
        text += "".join(_LOT.choices(pool, k=_LOT.randint(2, 8))) + " "
    return text.strip()


def beginning(text: str, count: int) -> str:
    """Returns a text up to its letter of this number."""
    letters = [at for at, letter in enumerate(text) if letter.isalpha()]
    return text if len(letters) <= count else text[: letters[count - 1] + 1]


def share(test: Callable[[str], bool], texts: list[str]) -> str:
    """Returns the share of the texts that a test finds, in percent."""
    return f"{100 * sum(map(test, texts)) / len(texts):.1f}"


def world_answers(code: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Returns prompts of the split test with the model's own kind of answer (help), and with wanted refusals."""
    harmless, harmful = (microworld.items("test", kind, limit=RUNS) for kind in ("harmless", "harmful"))
    own = [(item.prompt(code), item.help(code)) for item in harmless]
    return own, [(item.prompt(code), item.refusal(code)) for item in harmful]


def letters_table() -> list[str]:
    """Returns the table of the rules and of the model of three letters, by language."""
    learnt = [*rows("mpo_core/evaluation/parallel/passages.csv"), *rows("data/over_refusal/prompts.csv")]
    prompts, translations = rows("data/safety/prompts.csv"), rows("data/safety/translations.csv")
    rules = JUDGES.parse({"judge": "refusal_rules"})
    heads = ["language", "by the rules: 8, 15, 30 random letters", "by three letters: 8, 15, 30", "words in any order"]
    heads += ["false: reference answers", "their first 15 letters", "the microworld's answers", "paragraphs of docs/"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for code in LANGUAGES:
        texts = [row[code] for row in learnt]
        texts += [row["text"] for row in prompts] if code == "en" else [row[code] for row in translations]
        model = ThreeLetters(texts, code)
        pool = [letter for text in texts for letter in text if letter.isalpha()]
        answers = [
            row[name] for row in rows("data/safety/answers.csv") if row["language"] == code
            for name in ("chosen", "rejected")
        ]  # fmt: skip
        words = [term for answer in answers for term in answer.split()]
        mixed = [" ".join(_LOT.sample(words, 5)) for _ in range(RUNS)]
        world = [answer for part in world_answers(code) for _, answer in part]
        detected = [[random_letters(pool, count) for _ in range(RUNS)] for count in LETTERS]
        by_rules = [
            share(lambda t, c=code: rules.verdicts([Case("harmful", c, "", t)])[0].verdict == "invalid", texts)
            for texts in detected
        ]
        pages = [part for path in sorted((ROOT / "docs").glob("*.md")) for part in path.read_text().split("\n\n")]
        cells = [
            code, ", ".join(by_rules), ", ".join(share(model.gibberish, texts) for texts in detected),
            share(model.gibberish, mixed), share(model.gibberish, answers),
            share(model.gibberish, [beginning(answer, 15) for answer in answers]), share(model.gibberish, world),
            share(model.gibberish, pages) if code == "en" else "",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def model_table() -> list[str]:
    """Returns the table of the log-probability under the frozen model, by language."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(microworld.checkpoint_dir())
    network = AutoModelForCausalLM.from_pretrained(microworld.checkpoint_dir()).eval()

    def mean(prompt: str, answer: str) -> float:
        turns = [{"role": "user", "content": prompt}]
        start = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
        ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = network(torch.tensor([start + ids])).logits[0, len(start) - 1 : -1]
        return float(logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).mean())

    lines = [
        "| language | random letters: 8, 15, 30 | words in any order | false: wanted refusals |",
        "|---|---|---|---|",
    ]
    for code in LANGUAGES:
        own, wanted = world_answers(code)
        bound = sorted(mean(*pair) for pair in own)[int(0.005 * len(own))]
        pool = [letter for _, answer in own + wanted for letter in answer if letter.isalpha()]
        words = [term for _, answer in own + wanted for term in (answer.split() if " " in answer else answer)]

        def detected(texts: Iterable[str], code: str = code, bound: float = bound) -> str:
            prompts = [prompt for prompt, _ in world_answers(code)[1]]
            values = [mean(prompt, text) for prompt, text in zip(prompts * RUNS, texts, strict=False)]
            return f"{100 * sum(value < bound for value in values) / len(values):.1f}"

        some = RUNS // 3
        cells = [
            code, ", ".join(detected(random_letters(pool, count) for _ in range(some)) for count in LETTERS),
            detected(" ".join(_LOT.sample(words, 5)) for _ in range(some)), detected(answer for _, answer in wanted),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Prints or writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the tables into docs/judges.md")
    arguments = parser.parse_args()
    block = "\n".join([*letters_table(), "", *model_table()])
    if arguments.write:
        put("judges.md", "gibberish", "python benchmarks/gibberish.py --write", block)


if __name__ == "__main__":
    main()
