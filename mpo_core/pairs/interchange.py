"""Imports pairs from other tools and exports them: the official MPO JSON, and TRL's preference format."""

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from mpo_core.contract.artifacts import write_atomically
from mpo_core.contract.tables import PAIRS, QUARANTINE
from mpo_core.languages.known import LANGUAGES, known_code
from mpo_core.pairs.check import pair_fault
from mpo_core.pairs.gates import Fault, Row, quarantine_row
from mpo_core.pairs.joined import Joining
from mpo_core.pairs.labels import Ids, complete, labels_of
from mpo_core.pairs.language import left_untranslated, source_language, target_language
from mpo_core.pairs.rows import ReadRow, read_pairs

_JOINING = Joining()
_TRAINABLE = {"empty_prompt", "equal_answers", "template_marks", "untranslated"}
"""Flaws of pairs that training can use all the same, as the released code does."""
_TRL_ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}


class Imported(NamedTuple):
    """What a file of pairs holds: PAIRS, the rejected rows (QUARANTINE), and the marked pairs (likewise)."""

    pairs: pa.Table
    rejected: pa.Table
    marks: pa.Table


def import_pairs(path: Path, joining: Joining = _JOINING) -> tuple[pa.Table, pa.Table]:
    """Reads pairs in any form that `read_pairs` knows, our own tables and exports among them.

    The official files name no language: source and target are identified per row, and an untranslated row is
    rejected. Our exports name languages, ids, origin and weight, and these are used as they are. Texts stay as they
    are, with the flaws of machine translation (`audit` counts them); only the thoughts of a reasoning model are removed
    from its answers. A row that cannot be used is rejected with its reason.

    Returns:
        PAIRS in the order of the file, and QUARANTINE. Reasons: those of `read_pairs`, `empty_prompt`,
        `empty_response`, `equal_answers`, `template_marks`, `unfinished_thought`, `only_thoughts`, `untranslated` (the
        target is in the source's language, or its prompt or chosen answer is the source's), `unknown_language`,
        `repeated_id`, `source_differs` (two rows of one `source_id` hold other source texts), `no_source`, `no_target`
        and `repeated_source` (of rows in one language each).

    Raises:
        BadInputError: the file is missing, damaged, holds no list of rows, or is a table of ours that repeats ids.
    """
    pairs, rejected, _ = _read(path, joining, as_is=False)
    return pairs, rejected


def import_as_is(path: Path, joining: Joining = _JOINING) -> Imported:
    """Reads pairs as `import_pairs` does, but marks flawed pairs that can be trained on, instead of rejecting them.

    These flaws are `empty_prompt`, `equal_answers`, `template_marks` and `untranslated`.
    """
    return _read(path, joining, as_is=True)


def _read(path: Path, joining: Joining, *, as_is: bool) -> Imported:
    rows: list[Row] = []
    rejected: dict[str, Row] = {}
    marks: list[Row] = []
    ids = Ids()
    for entry in read_pairs(path, joining):
        rejection, mark = _faults(entry, as_is=as_is)
        row = entry.row if rejection is not None else complete(entry.row, entry.number)
        fault = rejection or ids.fault(row)
        # Repeated ids in a table of ours mean that it is damaged: `PAIRS.check` below reports that.
        if fault is None or (entry.table and fault[0] == "repeated_id"):
            rows.append(row)
            marks += [] if mark is None else [quarantine_row(row["pair_id"], row["language"], *mark)]
            continue
        key = row.get("pair_id", str(entry.number)) if entry.table else str(entry.number)
        key = f"row {entry.number}" if key in rejected else key
        rejected[key] = quarantine_row(key, row.get("language"), *fault)
    pairs = PAIRS.check(pa.Table.from_pylist(rows, schema=PAIRS.schema), where=str(path))
    return Imported(pairs, QUARANTINE.build(rejected.values()), QUARANTINE.build(marks))


def _faults(entry: ReadRow, *, as_is: bool) -> tuple[Fault | None, Fault | None]:
    """Adds the languages to a row; returns the fault that rejects it, and the one that only marks it."""
    if entry.fault is not None:
        return Fault(*entry.fault), None
    flaw = pair_fault(entry.row)
    if flaw is not None and not (as_is and flaw[0] in _TRAINABLE):
        return Fault(*flaw), None
    other = _add_languages(entry)
    if other is not None and not (as_is and other[0] in _TRAINABLE):
        return Fault(*other), None
    flaw = flaw or other
    return None, None if flaw is None else Fault(*flaw)


def read_rows(path: Path) -> Iterator[Row]:
    """Reads every row's six texts with its two languages, as they are; a malformed row gives an empty dictionary.

    Raises:
        BadInputError: the file is missing, damaged, or holds no list of rows.
    """
    for entry in read_pairs(path):
        if entry.fault is None:
            languages = zip(("source_language", "language"), _languages(entry.row), strict=True)
            yield entry.row | dict(languages)
        else:
            yield {}


def export_official(pairs: pa.Table, path: Path) -> None:
    """Writes pairs as the official MPO JSON, and adds keys with the pair's labels, which other tools ignore.

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

    Further keys hold the pair's labels and its source texts for `import_pairs`; TRL ignores them.

    Raises:
        BadInputError: the file cannot be written.
    """
    lines = []
    for row in PAIRS.check(pairs).to_pylist():
        line = {name: [{"role": role, "content": row[f"target_{name}"]}] for name, role in _TRL_ROLES.items()}
        line |= labels_of(row) | {f"source_{name}": row[f"source_{name}"] for name in _TRL_ROLES}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_atomically(path, "".join(lines).encode())


def _add_languages(entry: ReadRow) -> tuple[str, str] | None:
    """Adds the two languages to a row, named in the file or identified; or returns why the row cannot be used."""
    row = entry.row
    has_languages = "source_language" in row and "language" in row
    if has_languages and entry.table:
        return None
    source, target = _languages(row)
    for code in (source, target):
        if code not in LANGUAGES:
            how = "named" if has_languages else "identified as"
            return "unknown_language", f"{how} {code}; register it: mpo languages add {code}"
    row["source_language"], row["language"] = source, target
    if target == source:
        return "untranslated", f"source and target are {source}"
    if has_languages:  # a pair of our own export
        return None
    same = untranslated_columns(row)
    return ("untranslated", same[0]) if same else None


def untranslated_columns(row: Row) -> list[str]:
    """Returns the target's columns with the source's text, or with a prompt plainly not in the target language."""
    same = [f"target_{name}" for name in ("prompt", "chosen") if _same(row[f"target_{name}"], row[f"source_{name}"])]
    if "target_prompt" not in same and left_untranslated(row["target_prompt"], row["language"]):
        same.insert(0, "target_prompt")
    return same


def _languages(row: Row) -> tuple[str, str]:
    """Returns the two languages of a row: as the row names them, or identified where a name is missing or unknown."""
    source, target = (row.get(name) and known_code(row[name]) for name in ("source_language", "language"))
    if source is not None and target is not None:
        return source, target
    if source not in LANGUAGES:
        source = source_language((row["source_prompt"], row["source_chosen"], row["source_rejected"]))
    if target not in LANGUAGES:
        target = target_language((row["target_prompt"], row["target_chosen"], row["target_rejected"]), source)
    return source, target


def _same(a: str, b: str) -> bool:
    return " ".join(html.unescape(a).split()) == " ".join(html.unescape(b).split())
