"""Reads parallel text: the same passages in every language, on which a model's command of a language is measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PASSAGES
from mpo_core.files.read import read_csv
from mpo_core.microworld import Name, world_of
from mpo_core.microworld.corpus import held_out_statements

_SHIPPED = Path(__file__).parent / "parallel" / "passages.csv"
_KEY = "evaluation.parallel_text"
_WORLDS: dict[str, Name] = {"microworld": "small", "hard_microworld": "hard"}


class ParallelText(NamedTuple):
    """Parallel text: its passages in each language, and where they come from."""

    origin: str
    licence: str | None
    tables: dict[str, pa.Table]
    """PASSAGES by language; a language without text is missing."""


def read_parallel_text(source: str, languages: Sequence[str]) -> ParallelText:
    """Reads parallel text in those of the languages that it has.

    Args:
        source: `shipped`, `microworld`, `hard_microworld`, or the path of a CSV file with a column per language code,
            a row per passage and, if it likes, a column `id`.
        languages: codes of the languages to read.

    Raises:
        BadInputError: the file cannot be read, has no passage in any language, lacks a text, or repeats an id.
    """
    if source in _WORLDS:
        world = world_of(_WORLDS[source])
        texts = {code: held_out_statements(code, world) for code in languages if code in world.languages}
        return ParallelText(f"held-out statements of the {source.replace('_', ' ')}", "Apache-2.0", _tables(texts))
    if source == "shipped":
        return ParallelText("passages.csv of this project", "Apache-2.0", _tables(_read(_SHIPPED, languages)))
    path = Path(source)
    tables = _tables(_read(path, languages))
    if not tables:
        raise BadInputError(
            f"the file has no passage in any language of the run ({', '.join(languages)})",
            where=f"{_KEY} {path}",
            fix="Name its columns by language codes, such as en and sw.",
        )
    return ParallelText(path.name, None, tables)


def _read(path: Path, languages: Sequence[str]) -> dict[str, dict[str, str]]:
    file = read_csv(path, fix=f"Check {_KEY}: `shipped`, `microworld` or a CSV file with a column per language code.")
    texts: dict[str, dict[str, str]] = {code: {} for code in languages if code in file.header}
    for number, row in enumerate(file.rows):
        values = dict(zip(file.header, row.values, strict=True))
        name = values.get("id") or str(number)
        for code, passages in texts.items():
            if not values[code].strip() or name in passages:
                raise BadInputError(
                    f"the id {name[:60]!r} occurs twice" if name in passages else f"there is no text in column {code}",
                    where=f"{path}, line {row.line}",
                    fix="Give each passage an id of its own and a text in every language of the file.",
                )
            passages[name] = values[code].strip()
    return texts


def _tables(texts: dict[str, dict[str, str]]) -> dict[str, pa.Table]:
    return {
        code: PASSAGES.build({"passage_id": name, "language": code, "text": text} for name, text in passages.items())
        for code, passages in texts.items()
        if passages
    }
