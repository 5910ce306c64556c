"""Preference sets in English as prompt sources: their forms give the same prompts with both answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.prompts.load import load_prompts
from mpo_core.settings import PromptSettings

PROMPT, GOOD, BAD = "How do I bake bread?\nWithout yeast.", "Use soda.", "I cannot help with that."


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in zip(("user", "assistant"), texts, strict=False)]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


FORMS: dict[str, tuple[dict[str, Any], str | list[str]]] = {
    "texts": ({"prompt": PROMPT, "chosen": GOOD, "rejected": BAD}, "prompt"),
    "trl": ({"prompt": turns(PROMPT), "chosen": answer(GOOD), "rejected": answer(BAD)}, "prompt"),
    "implicit": ({"chosen": turns(PROMPT, GOOD), "rejected": turns(PROMPT, BAD)}, "chosen"),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": PROMPT}]}
        | {name: {"from": "gpt", "value": text} for name, text in (("chosen", GOOD), ("rejected", BAD))},
        "conversations",
    ),
    "alpaca": (
        {"instruction": PROMPT.split("\n", maxsplit=1)[0], "input": "Without yeast.", "chosen": GOOD, "rejected": BAD},
        ["instruction", "input"],
    ),
}


def loaded(path: Path, row: dict[str, Any], columns: str | list[str]) -> list[dict[str, Any]]:
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    source = {"source": "jsonl", "path": str(path), "kind": "harmless", "text_column": columns, "split": "train"}
    settings = PromptSettings.model_validate(
        {"sources": [source | {"chosen_column": "chosen", "rejected_column": "rejected"}]}
    )
    rows: list[dict[str, Any]] = load_prompts(settings, dominant="en", seed=0).prompts.to_pylist()
    return rows


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_prompt_and_both_answers(tmp_path: Path, form: str) -> None:
    (row,) = loaded(tmp_path / "rows.jsonl", *FORMS[form])
    assert (row["text"], row["chosen"], row["rejected"]) == (PROMPT, GOOD, BAD)


def test_an_empty_input_adds_no_line_and_a_missing_column_is_named(tmp_path: Path) -> None:
    row = {"instruction": "Bake.", "input": "", "chosen": GOOD, "rejected": BAD}
    assert loaded(tmp_path / "rows.jsonl", row, ["instruction", "input"])[0]["text"] == "Bake."
    with pytest.raises(BadInputError, match=r"no column 'context' \(text_column.1\)"):
        loaded(tmp_path / "rows.jsonl", row, ["instruction", "context"])
