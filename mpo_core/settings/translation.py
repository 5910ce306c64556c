"""Settings of translation: engines, and the gates that every translation passes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mpo_core.contract.settings import DEVICE, OPERATIONAL, Delimiter, Fraction, Settings, UserPath
from mpo_core.http.address import Url

GateName = Literal[
    "empty_translation",
    "echo",
    "error_page",
    "wrong_language",
    "protected_lost",
    "repetition",
    "refusal",
    "truncated",
    "sentences_lost",
    "shared",
    "back_translation",
    "ending_lost",
    "entities",
    "markup_lost",
    "lines_lost",
    "length_ratio",
]

Service = Literal["google", "deepl", "microsoft", "mymemory", "libre", "baidu", "papago", "qcri", "yandex"]


class MicroworldSource(Settings):
    """The embedded world, which knows its own sentences."""

    engine: Literal["microworld"]
    """`microworld`."""


class MemorySource(Settings):
    """A file of translations."""

    engine: Literal["memory"]
    """`memory`."""
    path: UserPath
    """A table (CSV, JSON, Parquet, Arrow) with one column per language, or TMX; plain or compressed."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Column (TMX: `xml:lang`) of a language where it is not the language's code."""
    delimiter: Delimiter | None = None
    """Character between the fields of a CSV file, such as ";" or "tab". Default: a comma, or a tab in a `.tsv` file."""


class RemoteSource(Settings):
    """What every engine behind a network has."""

    url: Url | None = Field(None, json_schema_extra=OPERATIONAL)
    """Address of the server, http or https. A user, a password and the query in it are used, but never shown or
    stored. Default: the service's own address."""
    version: str = ""
    """Of the service, as you name it: another one is asked anew, and its answers are kept apart."""
    requests_per_second: float | None = Field(None, gt=0.0, json_schema_extra=OPERATIONAL)
    """Limit of this process; lowered for a while by HTTP 429. Left out: none."""
    characters_per_second: float | None = Field(None, gt=0.0, json_schema_extra=OPERATIONAL)
    """Most characters per second that this process sends. Default: no limit."""
    concurrency: int = Field(8, ge=1, json_schema_extra=OPERATIONAL)
    """Requests that wait for their answer at the same time. Default: 8."""
    timeout: float = Field(30.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """Seconds after which a request that is not answered in full is given up. Default: 30."""
    retries: int = Field(5, ge=0, json_schema_extra=OPERATIONAL)
    """How often a failed request is tried again, after a longer wait each time. Default: 5."""


class DeepTranslatorSource(RemoteSource):
    """An online service, through deep-translator."""

    engine: Literal["deep_translator"]
    """`deep_translator`."""
    service: Service = "google"
    """Name of the service. Its key is read from the environment, such as DEEPL_API_KEY. Default: `google`."""


class OpenAISource(RemoteSource):
    """A language model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, OpenAI)."""

    engine: Literal["openai"]
    """`openai`."""
    model: str
    """The model's name on that server."""
    key_variable: str = Field("OPENAI_API_KEY", json_schema_extra=OPERATIONAL)
    """Environment variable that holds the key; it may be unset for a server without one."""
    max_tokens: int = Field(2048, ge=1)
    """Longest answer, in tokens; one that is cut off there is rejected as truncated. Default: 2048."""


class Seq2SeqSource(Settings):
    """A translation model of transformers: NLLB-200, MADLAD-400, M2M-100, Marian."""

    engine: Literal["seq2seq"]
    """`seq2seq`."""
    path: UserPath = Field(json_schema_extra=OPERATIONAL)
    """Local folder or hub id. In a cache key it stands by the digest of its files."""
    revision: str | None = Field(None, json_schema_extra=OPERATIONAL)
    """Revision (commit) on the hub."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the weights. Default: float32."""
    beams: int = Field(1, ge=1)
    """Translations that the search follows at once; 1 takes the likeliest token every time. Default: 1."""
    max_new_tokens: int = Field(512, ge=1)
    """Longest translation of a piece (a line, or a sentence of a long line), in tokens. Default: 512."""
    device: str = Field("auto", pattern=DEVICE, json_schema_extra=OPERATIONAL)
    """Device of the model: `cpu`, `cuda`, `cuda:1`, or `auto`, which is cuda if there is one. Default: `auto`."""
    batch_size: int = Field(32, ge=1, json_schema_extra=OPERATIONAL)
    """Pieces of similar length that are translated at once. Default: 32."""


def _as_any_of(schema: dict[str, Any]) -> None:
    """Prefect's form reads `anyOf`, and knows nothing of `oneOf` and `discriminator`."""
    schema["anyOf"] = schema.pop("oneOf")
    del schema["discriminator"]


TranslationSource = Annotated[
    MemorySource | MicroworldSource | DeepTranslatorSource | Seq2SeqSource | OpenAISource,
    Field(discriminator="engine", json_schema_extra=_as_any_of),
]
"""One translation engine."""


class BackTranslationSettings(Settings):
    """Translating back, to see whether the meaning survived. Costs a request more per text."""

    engine: TranslationSource
    """Who translates back; better another one than the first."""
    min_chrf: float = Field(40.0, ge=0.0, le=100.0)
    """Least chrF (0 to 100) of the text and its way there and back."""


class TranslationGates(Settings):
    """What a translation must pass. Changing one judges anew without asking an engine again."""

    hard: list[GateName] = Field(
        [
            "empty_translation",
            "echo",
            "error_page",
            "wrong_language",
            "protected_lost",
            "repetition",
            "refusal",
            "truncated",
            "sentences_lost",
            "shared",
            "back_translation",
        ]
    )
    """Gates that reject a translation; the others only mark it."""
    marked: Literal["keep", "weigh", "drop"] = "weigh"
    """What happens to a marked translation: used in full, used with `weight`, or rejected. Default: `weigh`."""
    weight: Fraction = 0.5
    """Weight (0 to 1) of a pair with a marked translation in training, with `marked: weigh`. Default: 0.5."""
    max_length_factor: float = Field(2.0, gt=1.0)
    """`length_ratio`: so many times longer or shorter than is usual for the two languages."""
    max_repetition: Fraction = 0.5
    """`repetition`: largest repeated share beyond the source's own."""
    back_translation: BackTranslationSettings | None = None
    """Translates back and compares, for the gate `back_translation`. Default: off."""


class TranslationSettings(Settings):
    """Dominant-language text into the targets."""

    engines: list[TranslationSource] = Field(min_length=1)
    """Asked in this order; the first whose translation passes the gates wins. Such as {"engine": "memory", "path": …},
    {"engine": "deep_translator", "service": "google"}, {"engine": "seq2seq", "path": …}, {"engine": "openai", "model":
    …}, {"engine": "microworld"}; each has more keys (docs/settings.md)."""
    gates: TranslationGates = TranslationGates()
    """What a translation must pass."""
    attempt: int = Field(1, ge=1)
    """Raise it to ask the engines again for rejected texts, as after an outage. Default: 1."""
