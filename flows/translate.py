"""The input of `mpo translate`: engines, a file of texts, and an estimate of what would be requested."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, get_args

from mpo_core.contract.artifacts import scratch_path
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.translation import ENGINES, UnknownLanguageError
from mpo_core.files.messages import Fault
from mpo_core.files.texts import read_texts
from mpo_core.settings import PipelineConfig, TranslationSettings
from mpo_core.translation.build import build_chain
from mpo_core.translation.engines.deep_translator import Service
from mpo_core.translation.machine import MachineEngine
from mpo_core.translation.replies import REPLIES_FILE, Replies
from mpo_core.translation.translate import Chain

_BLOCK = 512  # texts that are in memory at one time

SERVICES: tuple[str, ...] = get_args(Service)


def engine_settings(option: str) -> dict[str, Any]:
    """Returns the settings of the engine that `--engine` names: a service, `microworld`, memory=FILE and the like.

    Raises:
        BadInputError: no engine is called so.
    """
    kind, _, value = option.partition("=")
    if kind in SERVICES and not value:
        return {"engine": "deep_translator", "service": kind}
    engine = ENGINES.implementations.get(kind)
    argument = None if engine is None else engine.argument
    if argument is not None:
        key, placeholder = argument
        if value:
            return {"engine": kind, key: value}
        raise BadInputError(f"{kind} needs a value", where=f"--engine {option}", fix=f"Write {kind}={placeholder}.")
    if engine is not None and not value:
        return {"engine": kind}
    forms = [k if e.argument is None else f"{k}={e.argument[1]}" for k, e in ENGINES.implementations.items()]
    raise BadInputError(
        "unknown engine",
        where=f"--engine {option}",
        fix=f"Name a service ({', '.join(SERVICES)}), or one of {', '.join(forms)}.",
    )


@contextlib.contextmanager
def opened_chain(settings: TranslationSettings, root: str) -> Iterator[Chain]:
    """Opens the chain of engines, with the replies that are stored in the folder of artifacts."""
    with Replies(scratch_path(root, REPLIES_FILE), attempt=settings.attempt) as replies:
        yield build_chain(settings, replies, lambda: None)


class Input(NamedTuple):
    """A column of texts in a file."""

    file: Path
    column: str
    delimiter: str | None = None

    def texts(self) -> Iterator[str | Fault]:
        """Reads the texts, one per row, as `read_texts` does."""
        return read_texts(self.file, self.column, delimiter=self.delimiter)


def require_table(out: Path) -> None:
    """Rejects the name of an output file that ends neither in .parquet nor in .csv.

    Raises:
        BadInputError: it ends neither in .parquet nor in .csv.
    """
    if out.suffix not in {".parquet", ".csv"}:
        raise BadInputError("unknown kind of file", where=f"--out {out}", fix="Name a .parquet or a .csv file.")


def estimate(config: PipelineConfig, file: Path, *, column: str, delimiter: str | None = None) -> list[dict[str, Any]]:
    """Estimates how many requests each translation engine would get, by target language.

    It is an upper bound: a text that occurs in several blocks of the file is counted for each, but is translated once.

    Raises:
        BadInputError: the file, an engine or a language cannot be used.
    """
    source = config.languages.dominant
    estimates = []
    with opened_chain(config.translation, config.run.root) as chain:
        for target in config.languages.targets:
            counts: Counter[str] = Counter()
            engine_names: dict[str, None] = {}
            for _, block in blocks_of(Input(file, column, delimiter)):
                _estimate(chain, [text for text in block if is_text(text)], source, target, counts, engine_names)
            names = ("texts", "known", "saved", "requests", "characters")
            estimates.append({"language": target, **{n: counts[n] for n in names}, "engine": " ".join(engine_names)})
    return estimates


def _estimate(
    chain: Chain, texts: list[str], source: str, target: str, counts: Counter[str], engine_names: dict[str, None]
) -> None:
    """Counts what texts need: `known` texts are in a memory, and of `saved` pieces a translator's reply is stored."""
    counts["texts"] += len(texts)
    unknown: list[UnknownLanguageError] = []
    for engine in chain.engines:
        try:
            engine.check(source, target)
        except UnknownLanguageError as error:
            unknown.append(error)
            continue
        if isinstance(engine, MachineEngine):
            load = engine.load(texts, source, target)
            counts.update({"requests": load.requests, "characters": load.characters, "saved": load.known})
            engine_names[engine.name if engine.licence is None else f"{engine.name} ({engine.licence})"] = None
            return
        missing = [t for t, r in zip(texts, engine.translate(texts, source, target), strict=True) if r.text is None]
        counts["known"] += len(texts) - len(missing)
        texts = missing
    if len(unknown) == len(chain.engines):
        raise unknown[0]


def is_text(text: str | Fault) -> TypeGuard[str]:
    """Returns whether a row has a text to translate."""
    return isinstance(text, str) and bool(text.strip())


def blocks_of(column: Input) -> Iterator[tuple[int, list[str | Fault]]]:
    """Reads the texts in blocks, each with the row number of its first text."""
    texts = column.texts()
    for number in itertools.count():
        block = list(itertools.islice(texts, _BLOCK))
        if not block:
            return
        yield number * _BLOCK, block
