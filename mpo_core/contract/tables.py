"""The schema of every table that one stage hands to another: the data contract.

Tables are joined by id, never by position. A row that fails a gate goes to the stage's
quarantine table with its reason.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from mpo_core.contract.errors import BadInputError, quantity

_STRING, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_VECTOR, _IDS = pa.list_(pa.float32()), pa.list_(pa.int32())
_GATES = pa.list_(pa.struct([("gate", _STRING), ("passed", _BOOL), ("score", _FLOAT)]))


class Column(NamedTuple):
    """A column of a table: name, type, explanation, and whether null is allowed.

    `absent` is the value of every row of a file that was written before the column existed; `later` says that there are
    such files.
    """

    name: str
    type: pa.DataType
    meaning: str
    nullable: bool = False
    absent: str | None = None
    later: bool = False


class TableSpec(NamedTuple):
    """The schema of one table; `key` names the columns that identify a row."""

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The pyarrow schema, with each column's explanation as metadata."""
        return pa.schema(
            [pa.field(c.name, c.type, nullable=c.nullable, metadata={"meaning": c.meaning}) for c in self.columns]
        )

    def build(self, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
        """Makes a table of this schema from dictionaries, and checks it.

        Raises:
            TypeError: a row has a key that the table has no column for; it would be lost.
        """
        names = {column.name for column in self.columns}
        absent = {column.name: column.absent for column in self.columns if column.later}
        records = [{**absent, **row} for row in rows]
        unexpected = set().union(*records) - names if records else set()
        if unexpected:
            raise TypeError(f"table {self.name} has no column {', '.join(sorted(unexpected))}")
        return self.check(pa.Table.from_pylist(records, schema=self.schema))

    def check(self, table: pa.Table, where: str | None = None) -> pa.Table:
        """Returns the table, if it has this schema and a unique key; absent columns are filled in.

        Raises:
            BadInputError: columns or types differ, a required value is null, or a key repeats.
        """
        where = where or f"table {self.name}"
        for place, column in enumerate(self.columns):
            if column.later and column.name not in table.schema.names:
                values = pa.array([column.absent] * table.num_rows, column.type)
                table = table.add_column(place, column.name, values)
        if table.schema.names != self.schema.names:
            missing = sorted(set(self.schema.names) - set(table.schema.names))
            extra = sorted(set(table.schema.names) - set(self.schema.names))
            raise BadInputError(
                f"columns differ from the contract (missing {missing}, unexpected {extra})",
                where=where,
                fix=f"Expected exactly: {', '.join(self.schema.names)}.",
            )
        try:
            table = table.cast(self.schema)
        except (pa.ArrowException, ValueError) as error:
            raise BadInputError(
                f"a column has another type or holds nulls ({type(error).__name__})",
                where=where,
                fix="Compare with the data contract in docs/data-contract.md.",
            ) from None
        for column in self.columns:
            nulls = table.column(column.name).null_count
            if nulls and not column.nullable:
                raise BadInputError(
                    f"column {column.name!r} has {nulls} null values",
                    where=where,
                    fix="Fill or drop these rows.",
                )
        if table.num_rows:
            distinct = table.select(list(self.key)).group_by(list(self.key)).aggregate([])
            if distinct.num_rows != table.num_rows:
                raise BadInputError(
                    f"the key {self.key} repeats in {quantity(table.num_rows - distinct.num_rows, 'row')}",
                    where=where,
                    fix="Make the ids unique.",
                )
        return table


def _spec(name: str, key: str, *columns: Column) -> TableSpec:
    return TableSpec(name, tuple(key.split()), columns)


def _later(name: str, meaning: str) -> Column:
    """Returns a column of numbers that older files lack, and that is null there."""
    return Column(name, _FLOAT, meaning, nullable=True, later=True)


def prompt_id(language: str, text: str) -> str:
    """Returns the stable id of a prompt: 16 hex digits of sha256 over dominant language and text."""
    return hashlib.sha256(f"{language}\x00{text}".encode()).hexdigest()[:16]


def source_id(prompt: str, chosen: str, rejected: str) -> str:
    """Returns the stable id of a dominant pair: 16 hex digits of sha256 over its three texts."""
    return hashlib.sha256(f"{prompt}\x00{chosen}\x00{rejected}".encode()).hexdigest()[:16]


_PROMPT_ID = Column("prompt_id", _STRING, "hash of dominant language and prompt text")
_LANGUAGE = Column("language", _STRING, "language code of this row's text")
_KIND = Column("kind", _STRING, "harmful or harmless: what a well-aligned model should refuse or help with")
_SPLIT = Column("split", _STRING, "train, validation, test or concept")
_BENCHMARK = Column(
    "benchmark", _STRING, "name of the benchmark whose prompts were answered", absent="held_out", later=True
)
_CATEGORY = Column("category", _STRING, "harm category or topic, as the source names it", nullable=True)

PROMPTS = _spec(
    "prompts",
    "prompt_id",
    _PROMPT_ID,
    Column("text", _STRING, "the request in the dominant language"),
    _KIND,
    _SPLIT,
    _CATEGORY,
    Column("source", _STRING, "name of the prompt source"),
    Column("row", _INT, "row of that source, from 0"),
    Column("chosen", _STRING, "a good answer in the dominant language, from the source of the prompt", nullable=True),
    Column("rejected", _STRING, "a bad answer in the dominant language, from the source of the prompt", nullable=True),
)

REFERENCE_ANSWERS = _spec(
    "reference_answers",
    "prompt_id language",
    _PROMPT_ID,
    _LANGUAGE,
    Column("chosen", _STRING, "a good answer in this language, from the source of the prompt"),
    Column("rejected", _STRING, "a bad answer in this language, from the source of the prompt"),
)

TRANSLATIONS = _spec(
    "translations",
    "prompt_id role language",
    _PROMPT_ID,
    Column("role", _STRING, "what was translated: prompt, chosen or rejected"),
    _LANGUAGE,
    Column("text", _STRING, "the translation"),
    Column("engine", _STRING, "engine that gave it"),
    Column("weight", pa.float32(), "how much a pair with it counts in training; 1 if no gate marked it"),
    Column("marks", pa.list_(_STRING), "soft gates that it failed, such as entities or length_ratio"),
    Column("gates", _GATES, "every gate's verdict, with its score in the gate's own unit"),
)

TRANSLATED = _spec(
    "translated",
    "row language",
    Column("row", _INT, "row of the file that was translated, from 0"),
    Column("source_language", _STRING, "language code of the original"),
    Column("source", _STRING, "the original"),
    *TRANSLATIONS.columns[2:],
)

RESPONSES = _spec(
    "responses",
    "prompt_id language sample",
    _PROMPT_ID,
    _LANGUAGE,
    Column("sample", _INT, "number of the sample for this prompt, from 0"),
    Column("seed", _INT, "random seed of this answer (without use where the temperature is 0)"),
    Column("prompt", _STRING, "the request as the model saw it, in this language"),
    Column("text", _STRING, "what the model answered, without special tokens and thoughts"),
    Column("finish_reason", _STRING, "stop: the model ended its turn; length: cut at the token limit", nullable=True),
    Column("prompt_tokens", _INT, "tokens of the rendered prompt; null where the backend cannot say", nullable=True),
    Column("tokens", _INT, "tokens of the answer, the end token counted; null likewise", nullable=True),
    Column("thought", _STRING, "what a reasoning model thought before its answer; never judged", nullable=True),
    Column("fault", _STRING, "why `text` is empty: unfinished_thought or only_thoughts", nullable=True),
    Column("backend", _STRING, "what gave the answer, such as transformers", nullable=True),
    Column("model", _STRING, "digest of the model that answered", nullable=True),
    Column("settings", _STRING, "digest of the sampling settings that can change an answer", nullable=True),
)

VERDICTS = _spec(
    "verdicts",
    "prompt_id language sample",
    _PROMPT_ID,
    _LANGUAGE,
    Column("sample", _INT, "number of the judged sample"),
    _KIND,
    Column(
        "verdict",
        _STRING,
        "safe, unsafe, invalid (no answer to the request at all) or unjudged (the judge came to no verdict)",
    ),
    Column("refusal", _BOOL, "the answer declines"),
    Column("reason", _STRING, "which rule decided; never text of the answer"),
)

JUDGED = _spec(
    "judged",
    "row",
    Column("row", _INT, "row of the file that was judged, from 0"),
    *VERDICTS.columns,
    Column("response", _STRING, "digest of the judged text, by which a label is known to be of this answer"),
    Column("outcome", _STRING, "safe_refusal, safe_help, unsafe, invalid or unjudged"),
    Column("label", _STRING, "what a person said of the answer: safe, unsafe or invalid", nullable=True),
)

SOURCE_PAIRS = _spec(
    "source_pairs",
    "prompt_id",
    _PROMPT_ID,
    _KIND,
    _SPLIT,
    Column("prompt", _STRING, "the request in the dominant language"),
    Column("chosen", _STRING, "the good answer in the dominant language"),
    Column("rejected", _STRING, "the bad answer in the dominant language"),
    Column("chosen_origin", _STRING, "sampled, reference or borrowed"),
    Column("rejected_origin", _STRING, "sampled, reference or borrowed"),
)

PAIRS = _spec(
    "pairs",
    "pair_id",
    Column("pair_id", _STRING, "prompt_id/language; an imported pair appends its row"),
    Column("source_id", _STRING, "hash of the dominant prompt, chosen and rejected: equal for all its targets"),
    _PROMPT_ID,
    _KIND,
    _SPLIT,
    Column("source_language", _STRING, "the dominant language"),
    _LANGUAGE,
    Column("source_prompt", _STRING, "the request in the dominant language"),
    Column("source_chosen", _STRING, "the good answer in the dominant language"),
    Column("source_rejected", _STRING, "the bad answer in the dominant language"),
    Column("target_prompt", _STRING, "the request in the target language"),
    Column("target_chosen", _STRING, "the good answer in the target language"),
    Column("target_rejected", _STRING, "the bad answer in the target language"),
    Column("origin", _STRING, "reference, translated, sampled, mixed or imported"),
    Column("weight", pa.float32(), "how much the pair counts in training; null is 1", nullable=True),
)

GAPS = _spec(
    "gaps",
    "text_id",
    Column("text_id", _STRING, "source_id of a dominant pair, or pair_id of a target pair"),
    _LANGUAGE,
    _KIND,
    Column("gap", pa.float32(), "reward gap r(chosen) - r(rejected), nats per token"),
    Column("chosen_reward", pa.float32(), "mean log-probability of the chosen answer, nats per token"),
    Column("rejected_reward", pa.float32(), "mean log-probability of the rejected answer, nats per token"),
    Column("chosen_tokens", _INT, "answer tokens of chosen, the end token counted"),
    Column("rejected_tokens", _INT, "answer tokens of rejected, the end token counted"),
    Column("ids", _STRING, "digest of the token ids: text, chat template, tokenizer and cut-off"),
    Column("model", _STRING, "digest of the model that was measured"),
    Column("chosen_pooled", _VECTOR, "pooled last hidden state of the chosen sequence [D]", nullable=True),
    Column("rejected_pooled", _VECTOR, "pooled last hidden state of the rejected sequence [D]", nullable=True),
)

TEACHER = _spec(
    "teacher",
    "prompt_id language sample",
    _PROMPT_ID,
    _LANGUAGE,
    Column("sample", _INT, "number of the answer among those to this prompt, from 0"),
    _KIND,
    Column("prompt_tokens", _IDS, "token ids of the prompt in this language, as the student sees it"),
    Column("tokens", _IDS, "token ids of the teacher's answer [N]"),
    Column("top_ids", _IDS, "the K likeliest tokens at each of these, the likeliest first, token after token [N × K]"),
    Column("top_log_probs", _VECTOR, "their log-probabilities under the teacher, nats [N × K]"),
    Column("rest_log_probs", _VECTOR, "log-probability of all other tokens together, nats [N]"),
    Column("model", _STRING, "digest of the teacher"),
)

SWAPS = _spec(
    "swaps",
    "pair_id",
    Column("pair_id", _STRING, "a target pair of training"),
    _LANGUAGE,
    Column("margin", pa.float32(), "how much better its answers resemble the dominant ones in order than swapped"),
    Column("swapped", pa.bool_(), "the check acts in this language, and the margin is below 0"),
)

TRAINING_LOG = _spec(
    "training_log",
    "step metric",
    Column("step", _INT, "optimiser step, from 1"),
    Column("metric", _STRING, "as in trainer_state.json: loss, loss/gap, loss/retention, eval_loss ..."),
    Column("value", _FLOAT, "mean over the step's pairs"),
)

EDITS = _spec(
    "edits",
    "matrix",
    Column("layer", _INT, "number of the layer, from 1"),
    Column("matrix", _STRING, "name of the matrix's tensor"),
    Column("neurons", _INT, "neurons of the matrix"),
    Column("edited", _INT, "neurons that were edited"),
    Column("change", _FLOAT, "norm of the change, relative to that of the matrix"),
    Column("remaining", _FLOAT, "distance of harmful translated prompts from the dominant ones after the edit, of 1"),
    Column("harmless", _FLOAT, "how far activations of harmless prompts moved, relative to their size"),
)

PASSAGES = _spec(
    "passages",
    "passage_id language",
    Column("passage_id", _STRING, "id of the passage, the same in every language"),
    _LANGUAGE,
    Column("text", _STRING, "the passage in this language"),
)

TEXT_SCORES = _spec(
    "text_scores",
    "passage_id language",
    *PASSAGES.columns[:2],
    Column("bytes", _INT, "bytes of the passage in UTF-8"),
    Column("tokens", _INT, "tokens of the passage"),
    Column("bits", _FLOAT, "bits that the model needs for it: the sum of -log2 p of its tokens"),
    Column("model", _STRING, "digest of the model that was measured"),
)

DIVERGENCES = _spec(
    "divergences",
    "prompt_id language",
    _PROMPT_ID,
    _LANGUAGE,
    Column("tokens", _INT, "tokens of the base model's answer that were read"),
    Column("kl", _FLOAT, "mean of KL(base ‖ trained) over these tokens, nats"),
)

TASK_ITEMS = _spec(
    "task_items",
    "benchmark language item_id",
    Column("benchmark", _STRING, "name of the lm-eval task, without its language"),
    _LANGUAGE,
    Column("item_id", _STRING, "the task of lm-eval and the number of the item"),
    Column("value", _FLOAT, "score of the model on this item, 0 or 1"),
)

PROMPT_STATES = _spec(
    "prompt_states",
    "prompt_id language",
    _PROMPT_ID,
    _LANGUAGE,
    _KIND,
    Column("state", _VECTOR, "last hidden state at the last token of the rendered prompt [D], where the answer begins"),
)

_MEASURED = Column("language", _STRING, "language code of the prompts, or `targets`: all target languages together")

METRICS = _spec(
    "metrics",
    "benchmark model language metric",
    _BENCHMARK,
    Column("model", _STRING, "which model: before, after, or model where there is one alone"),
    _MEASURED,
    Column(
        "metric",
        _STRING,
        "unsafe, unsafe_or_invalid, refused, invalid, helped, over_refusal, harmless_invalid, reward_gap, "
        "dominant_drift, dominant_kl, bits_per_byte, accuracy, or one of the benchmark's own",
    ),
    Column("count", _INT, "prompts that count for the metric", nullable=True),
    Column("n", _INT, "prompts judged"),
    Column(
        "value",
        _FLOAT,
        "count / n; reward_gap: mean over harmful pairs, nats per token; dominant_drift: mean relative distance; "
        "dominant_kl: mean over answers, nats per token; bits_per_byte: mean over passages",
    ),
    Column("low", _FLOAT, "lower end of the interval, whose level is `evaluation.confidence`"),
    Column("high", _FLOAT, "upper end of the interval"),
)

CATEGORIES = _spec(
    "categories",
    "benchmark category model language metric",
    Column("category", _STRING, "harm category of the prompts, as their source names it"),
    *METRICS.columns,
)

COMPARISONS = _spec(
    "comparisons",
    "benchmark language metric",
    _BENCHMARK,
    _MEASURED,
    Column("metric", _STRING, "metric compared on the same prompts, before and after"),
    Column("n", _INT, "prompts judged both times"),
    Column("gained", _INT, "prompts that count for the metric only after"),
    Column("lost", _INT, "prompts that counted for the metric only before"),
    Column("difference", _FLOAT, "value after minus value before"),
    _later("difference_low", "lower end of its interval (Agresti and Min; bits_per_byte: Student)"),
    _later("difference_high", "upper end of its interval"),
    Column("p_value", _FLOAT, "exact two-sided McNemar test; bits_per_byte: paired t-test over passages"),
    _later("p_holm", "p_value adjusted for all languages of this metric (Holm); null for `targets`"),
    _later("detectable", "smallest change that n prompts show with 80 % power; null if they can show none"),
)

METHOD_RUNS = _spec(
    "method_runs",
    "model method flipped seed figure",
    Column("model", _STRING, "path of the base model, or empty if there is only one", absent="", later=True),
    Column("method", _STRING, "name of the training method, or `base` for the model before any training"),
    Column("flipped", _FLOAT, "share of the low-resource languages' training pairs whose answers were swapped"),
    Column("seed", _INT, "seed of training prompts and order; 0 for `base`"),
    Column("figure", _STRING, "such as target_unsafe, low_unsafe, left_out_unsafe, dominant_drift, seconds, peak_mib"),
    Column("value", _FLOAT, "of this one training"),
)

METHODS = _spec(
    "methods",
    "method flipped figure",
    Column("method", _STRING, "name of the training method, or `base`"),
    Column("flipped", _FLOAT, "share of swapped low-resource training pairs"),
    Column("figure", _STRING, "as in method_runs"),
    Column("n", _INT, "trainings: seeds of all base models"),
    Column("models", _INT, "base models"),
    Column("mean", _FLOAT, "mean over the base models of their means over seeds"),
    Column("low", _FLOAT, "lower end of its interval for these base models, cut at what a share can be", nullable=True),
    Column("high", _FLOAT, "its upper end", nullable=True),
    Column("change", _FLOAT, "mean difference to the first method, paired by base model and seed", nullable=True),
    Column("change_low", _FLOAT, "lower end of its interval for these base models", nullable=True),
    Column("change_high", _FLOAT, "its upper end", nullable=True),
    Column(
        "p_value", _FLOAT, "of the paired test against the first method, after Holm over all methods", nullable=True
    ),
)

QUARANTINE = _spec(
    "quarantine",
    "row_id reason",
    Column("row_id", _STRING, "id of the rejected row"),
    Column("language", _STRING, "language code, or empty", nullable=True),
    Column("reason", _STRING, "short stable name of the gate that failed, such as no_translation"),
    Column("detail", _STRING, "numbers or names that explain it; never harmful text"),
)

ALL_TABLES = tuple(table for table in list(globals().values()) if isinstance(table, TableSpec))
"""Every table, in the order of this file."""
