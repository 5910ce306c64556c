"""What `mpo translate` is asked for: engines, a file of texts, and how much of it an engine would be asked."""

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


def engine_settings(named: str) -> dict[str, Any]:
    """The settings of an engine as the command names it: a service, `microworld`, or memory=FILE and the like.

    Raises:
        BadInputError: no engine is called so.
    """
    kind, _, value = named.partition("=")
    if kind in SERVICES and not value:
        return {"engine": "deep_translator", "service": kind}
    engine = ENGINES.implementations.get(kind)
    argument = None if engine is None else engine.argument
    if argument is not None:
        key, wanted = argument
        if value:
            return {"engine": kind, key: value}
        raise BadInputError(f"{kind} needs a value", where=f"--engine {named}", fix=f"Write {kind}={wanted}.")
    if engine is not None and not value:
        return {"engine": kind}
    forms = [k if e.argument is None else f"{k}={e.argument[1]}" for k, e in ENGINES.implementations.items()]
    raise BadInputError(
        "unknown engine",
        where=f"--engine {named}",
        fix=f"Name a service ({', '.join(SERVICES)}), or one of {', '.join(forms)}.",
    )


@contextlib.contextmanager
def opened_chain(settings: TranslationSettings, root: str, *, with_keys: bool = True) -> Iterator[Chain]:
    """The engines, with the answers that a root has kept; an estimate asks nobody and needs no keys."""
    with Replies(scratch_path(root, REPLIES_FILE), attempt=settings.attempt) as replies:
        yield build_chain(settings, replies, lambda: None, with_keys=with_keys)


class Input(NamedTuple):
    """A column of texts in a file."""

    file: Path
    column: str
    delimiter: str | None = None

    def texts(self) -> Iterator[str | Fault]:
        """The texts by row; see `read_texts`."""
        return read_texts(self.file, self.column, delimiter=self.delimiter)


def require_table(out: Path) -> None:
    """Refuses a name that is of no kind of table that can be written.

    Raises:
        BadInputError: it ends neither in .parquet nor in .csv.
    """
    if out.suffix not in {".parquet", ".csv"}:
        raise BadInputError("unknown kind of file", where=f"--out {out}", fix="Name a .parquet or a .csv file.")


def estimate(
    config: PipelineConfig, file: Path, *, column: str, delimiter: str | None = None, with_keys: bool = True
) -> list[dict[str, Any]]:
    """What a translation would ask of the engines, by language: at most, for a later block may repeat a text.

    Raises:
        BadInputError: the file, an engine or a language is unusable.
    """
    source = config.languages.dominant
    estimates = []
    with opened_chain(config.translation, config.run.root, with_keys=with_keys) as chain:
        for target in config.languages.targets:
            counts: Counter[str] = Counter()
            engine_names: dict[str, None] = {}
            for _, block in blocks_of(Input(file, column, delimiter)):
                _estimate(chain, [text for text in block if is_text(text)], source, target, counts, engine_names)
            names = ("texts", "known", "kept", "requests", "characters")
            estimates.append({"language": target, **{n: counts[n] for n in names}, "engine": " ".join(engine_names)})
    return estimates


def _estimate(
    chain: Chain, texts: list[str], source: str, target: str, counts: Counter[str], engine_names: dict[str, None]
) -> None:
    """`known`: texts that a memory has; `kept`: pieces that a machine translator answered before."""
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
            counts.update({"requests": load.requests, "characters": load.characters, "kept": load.known})
            engine_names[engine.name if engine.licence is None else f"{engine.name} ({engine.licence})"] = None
            return
        left = [t for t, r in zip(texts, engine.translate(texts, source, target), strict=True) if r.text is None]
        counts["known"] += len(texts) - len(left)
        texts = left
    if len(unknown) == len(chain.engines):
        raise unknown[0]


def is_text(text: str | Fault) -> TypeGuard[str]:
    """Whether a row has a text to translate."""
    return isinstance(text, str) and bool(text.strip())


def blocks_of(given: Input) -> Iterator[tuple[int, list[str | Fault]]]:
    """The texts in blocks, each with the row of its first text."""
    texts = given.texts()
    for number in itertools.count():
        block = list(itertools.islice(texts, _BLOCK))
        if not block:
            return
        yield number * _BLOCK, block
