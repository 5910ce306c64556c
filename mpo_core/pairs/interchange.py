"""Pairs from and for other tools: the official MPO JSON, and TRL's preference format."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mpo_core.artifacts import write_atomically
from mpo_core.errors import BadInputError
from mpo_core.files import read_parquet, read_text
from mpo_core.languages import LANGUAGES
from mpo_core.pairs.check import check_pairs, empty_fault
from mpo_core.pairs.gates import Row, set_aside
from mpo_core.pairs.language import left_untranslated, source_language, target_language
from mpo_core.tables import PAIRS, QUARANTINE, prompt_id, source_id

_SPEAKERS = {"prompt": {"human", "user"}, "answer": {"gpt", "assistant"}}
_TEXTS = ("source_prompt", "source_chosen", "source_rejected", "target_prompt", "target_chosen", "target_rejected")


def import_pairs(path: Path) -> tuple[pa.Table, pa.Table]:
    """Pairs from the official MPO JSON, or from our own Parquet.

    The JSON names no language: source and target are identified per row. Texts stay as they are, flaws of machine
    translation included (`audit` counts them). Rows are harmful training pairs, unless
    they say otherwise in `kind` and `split`, as our own export does.

    Args:
        path: a Parquet file of PAIRS (by its suffix), else JSON.

    Returns:
        PAIRS in the order of the file, and QUARANTINE: `empty_prompt`, `empty_response`, `untranslated` (the target
        is in the source's language, or its prompt or chosen answer is the source's), `unknown_language`.

    Raises:
        BadInputError: the file is missing or malformed; the row and the key are named.
    """
    if path.suffix == ".parquet":
        return check_pairs(PAIRS.check(read_parquet(path, mend="Name a file of pairs."), where=str(path)))
    rows: list[Row] = []
    aside: list[Row] = []
    for number, item in enumerate(_read_json(path)):
        row = _texts(item, f"{path}, row {number}")
        fault = empty_fault(row) or _identified(row)
        if fault is None:
            rows.append(_imported(row | _labels(item, f"{path}, row {number}"), number))
        else:
            aside.append(set_aside(str(number), row.get("language"), *fault))
    return PAIRS.build(rows), QUARANTINE.build(aside)


def read_rows(path: Path) -> Iterator[Row]:
    """Every row's six texts with its two languages, as they stand, broken rows too; see `import_pairs`.

    Raises:
        BadInputError: the file is missing or malformed; the row and the key are named.
    """
    if path.suffix == ".parquet":
        yield from PAIRS.check(read_parquet(path, mend="Name a file of pairs."), where=str(path)).to_pylist()
        return
    for number, item in enumerate(_read_json(path)):
        row = _texts(item, f"{path}, row {number}")
        languages = _languages(row)
        yield row | dict(zip(("source_language", "language"), languages, strict=True))


def export_official(pairs: pa.Table, path: Path) -> None:
    """Writes pairs as the official MPO JSON, with two keys more, `kind` and `split`, which others ignore.

    Raises:
        BadInputError: the file cannot be written.
    """
    items = [
        {"kind": row["kind"], "split": row["split"]}
        | {
            f"{side}_{name}": [{"from": "human", "value": row[f"{side}_prompt"]}]
            if name == "conversations"
            else {"from": "gpt", "value": row[f"{side}_{name}"]}
            for side in ("source", "target")
            for name in ("conversations", "chosen", "rejected")
        }
        for row in PAIRS.check(pairs).to_pylist()
    ]
    write_atomically(path, (json.dumps(items, indent=2, ensure_ascii=False) + "\n").encode())


def export_trl(pairs: pa.Table, path: Path) -> None:
    """Writes the target pairs as JSON lines in TRL's conversational preference format, with language and pair_id.

    Raises:
        BadInputError: the file cannot be written.
    """
    lines = []
    for row in PAIRS.check(pairs).to_pylist():
        line = {
            "prompt": [{"role": "user", "content": row["target_prompt"]}],
            "chosen": [{"role": "assistant", "content": row["target_chosen"]}],
            "rejected": [{"role": "assistant", "content": row["target_rejected"]}],
            "language": row["language"],
            "pair_id": row["pair_id"],
        }
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_atomically(path, "".join(lines).encode())


def _read_json(path: Path) -> list[Any]:
    try:
        items: Any = json.loads(read_text(path, mend="Name a file of pairs."))
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise BadInputError(
            "this is not JSON", where=f"{path}, line {line}", mend="Give the official MPO JSON or our Parquet."
        ) from None
    if not isinstance(items, list) or not items:
        raise BadInputError("a non-empty list of pairs is wanted", where=str(path), mend="See docs/data-contract.md.")
    return items


def _texts(item: Any, where: str) -> Row:
    """The six texts of one row of the official format, under the names of PAIRS."""
    if not isinstance(item, dict):
        raise BadInputError("this row is not an object", where=where, mend="See docs/data-contract.md.")
    row: Row = {}
    for side in ("source", "target"):
        key = f"{side}_conversations"
        turns = _required(item, key, where)
        if not isinstance(turns, list) or len(turns) != 1:
            found = f"{len(turns)} turns" if isinstance(turns, list) else f"a {type(turns).__name__}"
            raise BadInputError(
                f"{key} holds {found}", where=where, mend="One user turn is wanted: split longer conversations."
            )
        row[f"{side}_prompt"] = _value(turns[0], "prompt", key, where)
        for name in ("chosen", "rejected"):
            key = f"{side}_{name}"
            row[key] = _value(_required(item, key, where), "answer", key, where)
    return row


def _labels(item: dict[str, Any], where: str) -> Row:
    """`kind` and `split` of a row; the official files have neither, and are harmful training pairs throughout."""
    known = {"kind": ("harmful", "harmless"), "split": ("train", "validation", "test", "concept")}
    labels = {name: item.get(name, allowed[0]) for name, allowed in known.items()}
    for name, allowed in known.items():
        if labels[name] not in allowed:
            raise BadInputError(f"{name} is none that we know", where=where, mend=f"Known: {', '.join(allowed)}.")
    return labels


def _required(item: dict[str, Any], key: str, where: str) -> Any:
    if key not in item:
        raise BadInputError(f"no key {key!r}", where=where, mend=f"Keys present: {', '.join(item) or 'none'}.")
    return item[key]


def _value(turn: Any, role: str, key: str, where: str) -> str:
    if not isinstance(turn, dict) or not isinstance(turn.get("value"), str) or "from" not in turn:
        raise BadInputError(
            f"{key} is no turn", where=where, mend='Write it as {"from": "human" or "gpt", "value": "text"}.'
        )
    if turn["from"] not in _SPEAKERS[role]:
        raise BadInputError(
            f"{key} is spoken by somebody else", where=where, mend=f"Wanted: {' or '.join(sorted(_SPEAKERS[role]))}."
        )
    text: str = turn["value"]
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInputError(f"{key} holds broken Unicode (a lone surrogate)", where=where, mend="Mend it.") from None
    return text


def _identified(row: Row) -> tuple[str, str] | None:
    """Puts the two languages into the row, or tells why it cannot be used."""
    source, target = _languages(row)
    for code in (source, target):
        if code not in LANGUAGES:
            return "unknown_language", f"identified as {code}"
    row["source_language"], row["language"] = source, target
    if target == source:
        return "untranslated", f"source and target are {source}"
    same = untranslated_columns(row)
    return ("untranslated", same[0]) if same else None


def untranslated_columns(row: Row) -> list[str]:
    """The target's columns that hold the source's text, or a prompt that is plainly not in the target language."""
    same = [f"target_{name}" for name in ("prompt", "chosen") if _same(row[f"target_{name}"], row[f"source_{name}"])]
    if "target_prompt" not in same and left_untranslated(row["target_prompt"], row["language"]):
        same.insert(0, "target_prompt")
    return same


def _languages(row: Row) -> tuple[str, str]:
    source = source_language((row["source_prompt"], row["source_chosen"], row["source_rejected"]))
    return source, target_language((row["target_prompt"], row["target_chosen"], row["target_rejected"]), source)


def _same(a: str, b: str) -> bool:
    return " ".join(html.unescape(a).split()) == " ".join(html.unescape(b).split())


def _imported(row: Row, number: int) -> Row:
    key = prompt_id(row["source_language"], row["source_prompt"])
    return {
        "pair_id": f"{key}/{row['language']}/{number}",
        "source_id": source_id(row["source_prompt"], row["source_chosen"], row["source_rejected"]),
        "prompt_id": key,
        "origin": "imported",
        **row,
    }
