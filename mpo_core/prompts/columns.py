"""Makes prompts of a table: the columns of their parts, the rows to read, and the reasons to reject a row."""

import abc
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from mpo_core.contract.artifacts import file_digests, folder_digest
from mpo_core.contract.errors import BadInputError, quantity
from mpo_core.contract.prompts import Kind, Prompt, PromptSource, ReferenceAnswers, RejectedRow, Split
from mpo_core.files.messages import Fault, Unreadable, none_for_nan
from mpo_core.files.read import digest, is_folder
from mpo_core.files.records import Record, Records, require_columns
from mpo_core.languages.harm_words import canonical_label
from mpo_core.languages.known import language
from mpo_core.prompts.kinds import read_kinds
from mpo_core.reply import has_template, without_end

FIX = "Check prompts.sources[].path."
Columns = str | dict[str, str]
_MARKED = Fault("template_marks", "both answers hold beginnings of turns; give them without their chat template")


class ColumnSource(PromptSource, abc.ABC):
    """Base of the sources that are tables; a source defines `records`, `name` and `digest`."""

    kind: Kind | None = None
    """Kind of every row. Default: each row has its own, in `kind_column`."""
    kind_column: str | None = None
    """Column with the kind of each row, in words such as harmful and harmless, or in those of `kind_map`. Default:
    none, every row has the kind in `kind`."""
    kind_map: dict[str, Kind] = Field(default_factory=dict)
    """Kind by value of `kind_column`, such as {yes: harmful, no: harmless}; case is ignored. Default: empty; words such
    as harmful and safe are known, and true and false where the column's name says what true means (`is_safe`)."""
    text_column: str | Annotated[list[str], Field(min_length=1)] = "text"
    """Name of the column with the prompt; each cell is a text, or a list of messages with one message of the user. Or
    several columns, whose texts are joined by line breaks, such as Alpaca's [instruction, input]. Default: `text`."""
    category_column: str | None = None
    """Column of the harm category. Default: none, the prompts have no category."""
    chosen_column: Columns | None = None
    """Column of a good answer in the dominant language: text, or a list of messages with one answer. It is used where
    the model gives no good answer. Or columns by language, such as {en: chosen, zh: chosen_zh}, which are always used.
    Default: none, the model's answers are used."""
    rejected_column: Columns | None = None
    """Column of a bad answer, or columns by language, as for `chosen_column`. Default: none, the model's answers are
    used."""
    where: dict[str, bool | int | str] = Field(default_factory=dict)
    """Values by column, such as {lang: en}: only rows with all of these values are read. Default: every row."""
    split: Split | None = None
    """Split of every row: `train`, `validation`, `test`, or `concept` (prompts about harms that training never shows).
    Default: each row gets its split by its id, in the shares `prompts.validation` and `prompts.test`."""

    @field_validator("kind_map", mode="before")
    @classmethod
    def _labels(cls, value: Any) -> Any:
        """Turns labels into texts of one spelling, since YAML reads `true:` and `1:` as a truth value and a number."""
        if not isinstance(value, dict):
            return value
        labels: dict[str, Any] = {}
        for key, kind in value.items():
            if labels.setdefault(canonical_label(key), kind) != kind:
                raise ValueError(f"the label {key!r} has two kinds")
        return labels

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.kind is None) == (self.kind_column is None):
            raise ValueError("name exactly one of `kind` and `kind_column`")
        if self.kind_map and self.kind_column is None:
            raise ValueError("`kind_map` needs `kind_column`")
        chosen, rejected = self._by_language
        if chosen.keys() != rejected.keys():
            code = min(chosen.keys() ^ rejected.keys())
            missing = "rejected_column" if code in chosen else "chosen_column"
            raise ValueError(f"`{missing}` names no column of {code!r}: both answers of a language are needed")
        return self

    @property
    def _texts(self) -> list[str]:
        """The columns of the prompt."""
        return [self.text_column] if isinstance(self.text_column, str) else self.text_column

    @property
    def _by_language(self) -> tuple[dict[str, str], dict[str, str]]:
        """The columns of chosen and of rejected answers by language; empty where one column is for the dominant."""
        chosen, rejected = (
            columns if isinstance(columns, dict) else {} for columns in (self.chosen_column, self.rejected_column)
        )
        return chosen, rejected

    @abc.abstractmethod
    def records(self, *, key: str) -> Records:
        """Opens the table; `key` is the settings key of the source, such as "prompts.sources.0".

        Raises:
            BadInputError: it is missing or malformed.
        """

    def prompts(self, *, dominant: str, seed: int, key: str) -> list[Prompt | RejectedRow]:
        """Returns the prompts of the rows that `where` names, and the rows that give none."""
        del seed
        _require_languages(self._by_language[0], dominant, key)
        records = self.records(key=key)
        rows = list(records.rows)
        if not rows:
            raise BadInputError(
                "the source holds no row", where=records.where, fix="Give a source with at least one prompt."
            )
        self._require_columns(records, rows)
        require_unique_ids(records, rows)
        # A row that may or may not match is rejected with a reason, not left out.
        blocked = {r.row: fault for r in rows if (fault := _blocked(r, self.where)) is not None}
        selected = [
            r for r in rows if r.row in blocked or all(_matches(r, n, v, records) for n, v in self.where.items())
        ]
        if not selected:
            raise BadInputError(
                f"no row (of {len(rows)}) has the values of `where`", where=records.where, fix=f"Check {key}.where."
            )
        prompts: list[Prompt | RejectedRow] = []
        faults: list[tuple[Record, Fault]] = []
        for record, kind in zip(selected, read_kinds(records, selected, self, key=key), strict=True):
            fault = blocked.get(record.row)
            prompt = fault or (kind if isinstance(kind, Fault) else self._prompt(record, kind))
            if isinstance(prompt, Fault):
                faults.append((record, prompt))
                prompts.append(RejectedRow(record.row, *prompt))
            else:
                answers, rejected = self._answers(record, prompt.text, dominant)
                prompts += [prompt._replace(answers=answers), *rejected]
        if len(faults) == len(selected):
            raise _all_rejected(records, faults)
        return prompts

    def _require_columns(self, records: Records, rows: list[Record]) -> None:
        columns = records.columns
        if columns is None:
            columns = list(dict.fromkeys(name for row in rows for name in row.values))
            if not columns:
                raise _all_rejected(records, [(row, row.fault) for row in rows if row.fault])
        required = {key: getattr(self, key) for key in ("kind_column", "category_column")}
        required |= {"text_column" if at == 0 else f"text_column.{at}": name for at, name in enumerate(self._texts)}
        for key in ("chosen_column", "rejected_column"):
            value = getattr(self, key)
            required |= (
                {f"{key}.{code}": name for code, name in value.items()} if isinstance(value, dict) else {key: value}
            )
        require_columns(records, columns, required | {f"where.{column}": column for column in self.where})

    def _prompt(self, record: Record, kind: Kind) -> Prompt | Fault:
        texts = [record.text(column) for column in self._texts]
        fault = next((text for text in texts if isinstance(text, Fault)), None)
        text = fault or "\n".join(str(text) for text in texts if str(text).strip() or len(texts) == 1)
        if not isinstance(text, Fault) and not text.strip():
            return Fault("empty_text", f"column {', '.join(map(repr, self._texts))} is empty")
        category = _category(record, self.category_column)
        chosen, rejected = (
            _answer(record, column, str(text)) if isinstance(column, str) else ""
            for column in (self.chosen_column, self.rejected_column)
        )
        for value in (text, category, chosen, rejected):
            if isinstance(value, Fault):
                return value
        if chosen and rejected and has_template(str(text), [str(chosen), str(rejected)]):
            return _MARKED
        return Prompt(record.row, str(text), kind, self.split, _or_none(category), _or_none(chosen), _or_none(rejected))

    def _answers(
        self, record: Record, prompt: str, dominant: str
    ) -> tuple[dict[str, ReferenceAnswers], list[RejectedRow]]:
        """Returns the answers of a row by language, and the languages whose answers are rejected.

        Without answers in the dominant language all are rejected: a pair of another language needs the same pair in it.
        """
        chosen, rejected = self._by_language
        answers: dict[str, ReferenceAnswers] = {}
        faults: list[RejectedRow] = []
        for code in chosen:
            names = (chosen[code], rejected[code])
            texts = [_answer(record, n, prompt) or Fault("empty_answer", f"column {n!r} is empty") for n in names]
            fault = next((text for text in texts if isinstance(text, Fault)), None)
            if fault is None and has_template(prompt, map(str, texts)):
                fault = _MARKED
            if fault is None:
                answers[code] = ReferenceAnswers(*map(str, texts))
            else:
                faults.append(RejectedRow(record.row, *fault, code))
        if dominant not in answers:
            others = [code for code in answers if code != dominant]
            detail = f"the row has no answers in the dominant language {dominant!r}"
            faults += [RejectedRow(record.row, "no_dominant_answer", detail, code) for code in others]
            answers = {}
        return answers, faults


def _all_rejected(records: Records, faults: list[tuple[Record, Fault]]) -> BadInputError:
    if not faults or all(fault.reason == "empty_text" for _, fault in faults):
        return BadInputError(
            f"every text is empty ({quantity(len(faults), 'row')})", where=records.where, fix="Check text_column."
        )
    record, fault = next((record, fault) for record, fault in faults if fault.reason != "empty_text")
    others = f"; all {len(faults)} rows are rejected" if len(faults) > 1 else ""
    return BadInputError(f"{fault.detail}{others}", where=record.where, fix="Fix the rows, or name other columns.")


def require_unique_ids(records: Records, rows: Iterable[Record]) -> None:
    """Rejects a table whose column `id` holds a value twice, since other files may refer to these ids.

    Raises:
        BadInputError: ids repeat; the first three are named with their places.
    """
    places: dict[str, list[str]] = defaultdict(list)
    for record in rows:
        value = none_for_nan(record.values.get("id"))
        if value is not None and str(value).strip():
            places[str(value)].append(record.where.removeprefix(f"{records.where}, "))
    repeated = {value: rows for value, rows in places.items() if len(rows) > 1}
    if repeated:
        examples = "; ".join(f"{value[:40]!r} at {', '.join(rows[:3])}" for value, rows in list(repeated.items())[:3])
        raise BadInputError(
            f"the column 'id' repeats {quantity(len(repeated), 'id')}: {examples}",
            where=records.where,
            fix="Make the ids unique or rename the column.",
        )


def _blocked(record: Record, where: Iterable[str]) -> Fault | None:
    values = (record.values.get(column) for column in where)
    unreadable = next((value for value in values if isinstance(value, Unreadable)), None)
    return record.fault if unreadable is None else Fault(unreadable.reason, "a column of `where` cannot be read")


def _matches(record: Record, column: str, expected: object, records: Records) -> bool:
    """Returns whether a row has a value in a column; in a CSV file all values are text, so `true` matches "True"."""
    value, names = record.values.get(column), records.class_names.get(column)
    if (
        names is not None
        and isinstance(expected, int)
        and not isinstance(expected, bool)
        and str(expected) not in names
    ):
        return value is not None and 0 <= expected < len(names) and names[expected] == value
    if isinstance(value, str) and not isinstance(expected, str):
        return value.strip().lower() == str(expected).lower()
    return bool(value == expected)


def _answer(record: Record, column: str, prompt: str) -> str | Fault:
    """Returns an answer without the marks of its turn's end, empty where there is none; or why it cannot be read."""
    text = record.text(column, "assistant")
    text = text if isinstance(text, Fault) else without_end(text, prompt)
    return text if isinstance(text, Fault) or text.strip() else ""


def _or_none(text: object) -> str | None:
    return text if isinstance(text, str) and text.strip() else None


def _category(record: Record, column: str | None) -> str | Fault | None:
    value = none_for_nan(record.values.get(column)) if column else None
    if isinstance(value, str | Unreadable):
        return record.text(str(column))
    try:
        return None if value is None else str(value)  # also a list, or flags by name as in BeaverTails
    except (RecursionError, ValueError):
        return Fault("unreadable_value", f"column {column!r} cannot be read")


def _require_languages(columns: Iterable[str], dominant: str, key: str) -> None:
    """Rejects columns of unknown languages, and columns by language without those of the dominant language."""
    codes = list(columns)
    for code in codes:
        language(code, where=f"{key}.chosen_column")
    if codes and dominant not in codes:
        raise BadInputError(
            f"columns are given for {', '.join(codes)}, but none for the dominant language {dominant!r}",
            where=f"{key}.chosen_column",
            fix=f"Add {dominant}: COLUMN to chosen_column and rejected_column: each pair needs its counterpart in "
            f"{dominant}.",
        )


def content_digest(path: Path) -> str:
    """Returns the digest of a file's or a folder's content.

    Raises:
        BadInputError: it is missing or cannot be read.
    """
    return folder_digest(file_digests(path)) if is_folder(path) else digest(path, fix=FIX)
