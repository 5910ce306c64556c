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
from mpo_core.pairs.labels import Ids, complete, labels_of, read_labels
from mpo_core.pairs.language import left_untranslated, source_language, target_language
from mpo_core.tables import PAIRS, QUARANTINE

_TRL_ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
_TRL_SPEAKERS = {"prompt": "prompt", "chosen": "answer", "rejected": "answer"}
_SPEAKERS = {"prompt": {"human", "user"}, "answer": {"gpt", "assistant"}}


def import_pairs(path: Path) -> tuple[pa.Table, pa.Table]:
    """Pairs from the official MPO JSON, from our export for TRL, or from our own Parquet.

    The official files name no language: source and target are identified per row, and a row that was left
    untranslated is rejected. Our exports name languages, ids, origin and weight, and those are taken as they stand.
    Texts stay as they are, flaws of machine translation included (`audit` counts them).

    Args:
        path: a Parquet file of PAIRS (by its suffix), JSON lines of our export for TRL (`.jsonl`), else JSON.

    Returns:
        PAIRS in the order of the file, and QUARANTINE: `empty_prompt`, `empty_response`, `untranslated` (the target
        is in the source's language, or its prompt or chosen answer is the source's), `unknown_language`,
        `repeated_id`, `source_differs` (two rows of one `source_id` hold other source texts).

    Raises:
        BadInputError: the file is missing or malformed; the row and the key are named.
    """
    if path.suffix == ".parquet":
        return check_pairs(PAIRS.check(read_parquet(path, mend="Name a file of pairs."), where=str(path)))
    rows: list[Row] = []
    aside: list[Row] = []
    ids = Ids()
    for number, item in enumerate(_read_json(path)):
        where = f"{path}, row {number}"
        row = _texts(item, where)
        row |= read_labels(item, where)
        fault = empty_fault(row) or _identified(row)
        if fault is None:
            row = complete(row, number)
            fault = ids.fault(row)
        if fault is None:
            rows.append(row)
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
        where = f"{path}, row {number}"
        row = _texts(item, where)
        languages = _languages(row | read_labels(item, where))
        yield row | dict(zip(("source_language", "language"), languages, strict=True))


def export_official(pairs: pa.Table, path: Path) -> None:
    """Writes pairs as the official MPO JSON, with the pair's labels beside the texts, which others ignore.

    Raises:
        BadInputError: the file cannot be written.
    """
    items = [
        labels_of(row)
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
    """Writes the target pairs as JSON lines in TRL's conversational preference format.

    The pair's labels and its source texts stand beside them, for `import_pairs`; TRL ignores them.

    Raises:
        BadInputError: the file cannot be written.
    """
    lines = []
    for row in PAIRS.check(pairs).to_pylist():
        line = {name: [{"role": role, "content": row[f"target_{name}"]}] for name, role in _TRL_ROLES.items()}
        line |= labels_of(row) | {f"source_{name}": row[f"source_{name}"] for name in _TRL_ROLES}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_atomically(path, "".join(lines).encode())


def _read_json(path: Path) -> list[Any]:
    """The rows of a JSON file, or of JSON lines by the suffix `.jsonl`."""
    text = read_text(path, mend="Name a file of pairs.")
    if path.suffix == ".jsonl":
        numbered = enumerate(text.split("\n"), start=1)
        items = [_parsed(line, f"{path}, line {number}", number) for number, line in numbered if line.strip()]
    else:
        items = _parsed(text, str(path), None)
    if not isinstance(items, list) or not items:
        raise BadInputError("a non-empty list of pairs is wanted", where=str(path), mend="See docs/data-contract.md.")
    return items


def _parsed(text: str, where: str, line: int | None) -> Any:
    """A JSON value; `line` is its own in JSON lines, None in a whole file."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        place = where if line is not None else f"{where}, line {getattr(error, 'lineno', 1)}"
        raise BadInputError(
            "this is not JSON", where=place, mend="Give the official MPO JSON or our Parquet."
        ) from None


def _texts(item: Any, where: str) -> Row:
    """The six texts of one row of the official format, under the names of PAIRS."""
    if not isinstance(item, dict):
        raise BadInputError("this row is not an object", where=where, mend="See docs/data-contract.md.")
    if isinstance(item.get("prompt"), list):
        return _trl_texts(item, where)
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


def _trl_texts(item: dict[str, Any], where: str) -> Row:
    """The six texts of one row of our export for TRL, under the names of PAIRS."""
    row: Row = {}
    for name, role in _TRL_ROLES.items():
        text = _required(item, f"source_{name}", where)
        row[f"source_{name}"] = _value({"from": role, "value": text}, _TRL_SPEAKERS[name], f"source_{name}", where)
        turns = _required(item, name, where)
        turn = turns[0] if isinstance(turns, list) and len(turns) == 1 and isinstance(turns[0], dict) else {}
        message = {"from": turn.get("role"), "value": turn.get("content")}
        row[f"target_{name}"] = _value(message, _TRL_SPEAKERS[name], name, where)
    return row


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
    """Puts the two languages into the row, or says why it cannot be used; those that it names are taken as they are."""
    named = "source_language" in row and "language" in row
    source, target = _languages(row)
    for code in (source, target):
        if code not in LANGUAGES:
            return "unknown_language", f"{'named' if named else 'identified as'} {code}"
    row["source_language"], row["language"] = source, target
    if named:  # a pair of ours, as it stands in our Parquet
        return None
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
    """The languages of the row's texts: both as it names them, or identified, but for one that it names and we know."""
    source, target = row.get("source_language"), row.get("language")
    if source is not None and target is not None:
        return source, target
    if source not in LANGUAGES:
        source = source_language((row["source_prompt"], row["source_chosen"], row["source_rejected"]))
    if target not in LANGUAGES:
        target = target_language((row["target_prompt"], row["target_chosen"], row["target_rejected"]), source)
    return source, target


def _same(a: str, b: str) -> bool:
    return " ".join(html.unescape(a).split()) == " ".join(html.unescape(b).split())
