"""The prompts of a file for `mpo evaluate`, read as a source of the profile is."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from mpo_core.contract.artifacts import ArtifactStore, Shard
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import PROMPT_SOURCES, PromptSource
from mpo_core.files.records import Form, form_of
from mpo_core.prompts.columns import ColumnSource
from mpo_core.settings import PipelineConfig
from tasks.prompts import store_prompts

# Where the prompts are, not how they are read.
_LOCATION = {"source", "path", "revision", "subset", "dataset_split", "split"}
_PROMPT_FORMS: tuple[Form, ...] = ("csv", "json", "jsonl", "parquet", "arrow")


def read_file(
    config: PipelineConfig, store: ArtifactStore, file: Path, number: int | None = None, limit: int | None = None
) -> Shard:
    """Stores the file's prompts in blocks, read as one of the profile's sources is, with every setting of it.

    `limit` is the maximum number of prompts, sampled at random. Default: all.
    """
    source = prompt_source(config, file, number)
    if limit is not None:
        source = source.model_copy(update={"limit": limit})
    settings = config.prompts.model_copy(update={"sources": [source]})
    try:
        return store_prompts(store, settings, dominant=config.languages.dominant, block_size=config.run.block_size)
    except BadInputError as error:
        raise _without_columns(error, config, source) from None


def _without_columns(error: BadInputError, config: PipelineConfig, source: PromptSource) -> BadInputError:
    """Says how to name the columns of the file on the command line, where an error asks for it; else the same error."""
    present, asks, _ = error.fix.partition("Set ")
    if (
        not asks
        or "column" not in error.what
        or any(isinstance(entry, ColumnSource) for entry in config.prompts.sources)
    ):
        return error
    named = {name: getattr(source, name) for name in ("source", "path")}
    entry = json.dumps([named | {"text_column": "COLUMN", "kind_column": "COLUMN"}], ensure_ascii=False)
    fix = f"{present}Name those of the prompt and of its kind: --set prompts.sources={shlex.quote(entry)}"
    return BadInputError(error.what, where=error.where, fix=fix)


def prompt_source(config: PipelineConfig, file: Path, number: int | None = None) -> PromptSource:
    """Returns a prompt source that reads a file of the user's with the columns that the profile names.

    These are the columns of the source with this `number` (from 0), else of the source that names the same file, else
    of all sources of the profile that read files, which must then agree. A profile without such sources means the
    columns `text` and `kind`. Path and split are those of the command, never those of the profile.

    Raises:
        BadInputError: the file is of no known kind, there is no such source, or the sources differ.
    """
    template = _template(config, file, number)
    settings = template.model_dump(include=set(ColumnSource.model_fields) - {"source", "split"})
    if file.is_dir():
        kind, only = "dataset", {"subset", "dataset_split"}
    else:
        form = form_of(file, _PROMPT_FORMS)
        kind, only = ("parquet" if form == "arrow" else form), ({"delimiter"} if form == "csv" else set())
    settings |= template.model_dump(include=only)  # what only this kind of source has, if the template has it
    return PROMPT_SOURCES.parse({**settings, "source": kind, "path": str(file), "split": "test"})


def _template(config: PipelineConfig, file: Path, number: int | None) -> PromptSource:
    sources = config.prompts.sources
    if number is not None:
        if not 0 <= number < len(sources) or not isinstance(sources[number], ColumnSource):
            raise BadInputError(
                "the entry of prompts.sources with this number is missing, or reads no file",
                where=f"--source {number}",
                fix="Count the entries of prompts.sources from 0.",
            )
        return sources[number]
    tables = [source for source in sources if isinstance(source, ColumnSource)]
    same = [source for source in tables if Path(getattr(source, "path", "")).resolve() == file.resolve()]
    candidates: Sequence[PromptSource] = (
        same or tables or [PROMPT_SOURCES.parse({"source": "csv", "path": "-", "kind_column": "kind"})]
    )
    ways = {source.model_dump_json(exclude=_LOCATION | {"licence"}) for source in candidates}
    if len(ways) > 1:
        raise BadInputError(
            f"the profile's {len(candidates)} sources are read in different ways",
            where=f"--prompts {file}",
            fix="Name the one that says how to read this file: --source 0 for the first.",
        )
    return candidates[0]
