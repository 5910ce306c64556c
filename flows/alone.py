"""One stage alone, from files to files: what `mpo train`, `mpo evaluate` and `mpo pairs` do."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from flows.surroundings import can_be_written
from flows.translate import opened_chain
from mpo_core.contract.artifacts import write_parquet
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import PROMPT_SOURCES, PromptSource
from mpo_core.contract.sampling import SampledModel
from mpo_core.contract.tables import GAPS, METRICS, PAIRS, PROMPTS, QUARANTINE, RESPONSES, VERDICTS
from mpo_core.evaluation import ModelName, compare, metrics
from mpo_core.files.read import read_parquet
from mpo_core.files.records import Form, form_of
from mpo_core.judging import judge_responses
from mpo_core.models import forget_models, model_digest, resolve, shared_model
from mpo_core.pairs import FLAWS, audit, export_official, export_trl, import_pairs, of_languages
from mpo_core.prompts.columns import ColumnSource
from mpo_core.prompts.load import count_kinds, load_prompts
from mpo_core.sampling import Request, sample
from mpo_core.settings import LanguageSettings, ModelSettings, PipelineConfig
from mpo_core.training import PairText, TrainingJob, TrainingResult, gaps, source_texts, target_texts, train
from mpo_core.translation.translate import prompt_texts, translate_texts

_BLOCK = 512  # texts whose reference is measured, and kept, at one time
_PLACE = {"source", "path", "revision", "subset", "dataset_split", "split"}  # where the prompts lie, not how they read
_PROMPT_FORMS: tuple[Form, ...] = ("csv", "json", "jsonl", "parquet", "arrow")
_UNFINISHED = ".model-*.tmp"  # what the training process calls a model that it has not saved whole yet
OnProgress = Callable[[int, int], None]
OnKinds = Callable[[dict[str, dict[str, int]]], None]


def import_alone(file: Path, out: Path) -> dict[str, Any]:
    """Imports pairs of another tool into our Parquet; rejected rows go beside it, with their reasons.

    Raises:
        BadInputError: no row is usable, or the file cannot be read or `out` not be written; nothing is written then.
    """
    if out.suffix.lower() not in {".parquet", ""}:
        raise BadInputError("pairs are Parquet here", where=f"--out {out}", fix="Name a .parquet file.")
    beside = out.with_suffix(".quarantine.parquet")
    if file.resolve() in {out.resolve(), beside.resolve()}:
        raise BadInputError("this file is read", where=f"--out {out}", fix="Name another one to write.")
    pairs, rejected = _usable_pairs(file)
    write_parquet(out, PAIRS, pairs)
    result: dict[str, Any] = {
        "pairs": pairs.num_rows,
        "languages": _counts(pairs, "language"),
        "kinds": _counts(pairs, "kind"),
        "splits": _counts(pairs, "split"),
        "quarantined": rejected.num_rows,
        "out": str(out),
    }
    if rejected.num_rows:
        write_parquet(beside, QUARANTINE, rejected)
        result |= {"reasons": _counts(rejected, "reason"), "quarantine": str(beside)}
    return result


def _usable_pairs(file: Path, languages: LanguageSettings | None = None) -> tuple[pa.Table, pa.Table]:
    """The pairs of a file and its rejected rows, those in other languages among them.

    Raises:
        BadInputError: no pair is usable; the reasons are counted, and the first rejected row is named.
    """
    pairs, rejected = import_pairs(file)
    if languages is not None:
        pairs, others = of_languages(pairs, languages.dominant, languages.targets)
        rejected = pa.concat_tables([rejected, others])
    if pairs.num_rows:
        return pairs, rejected
    reasons = ", ".join(f"{reason} {count}" for reason, count in _counts(rejected, "reason").items()) or "no rows"
    first = next(iter(rejected.to_pylist()), None)
    example = "" if first is None else f"; the first is row {first['row_id']}: {first['detail']}"
    raise BadInputError(
        f"no usable pair ({reasons}){example}",
        where=str(file),
        fix="Fix these rows, or give other pairs; docs/your-model.md lists the forms that are read.",
    )


def audit_alone(file: Path) -> dict[str, Any]:
    """Counts the flaws of a file of pairs, by target language."""
    languages = audit(file)
    if not languages:
        raise BadInputError("no rows", where=str(file), fix="Name a file of pairs.")
    return {"flaws": ["rows", *FLAWS], "languages": languages}


def export_alone(file: Path, out: Path, form: str) -> dict[str, Any]:
    """Exports our pairs for another tool."""
    forms = {"official": export_official, "trl": export_trl}
    if form not in forms:
        raise BadInputError("unknown format", where=f"--format {form}", fix=f"Known: {', '.join(forms)}.")
    if file.resolve() == out.resolve():
        raise BadInputError("this file is read", where=f"--out {out}", fix="Name another one to write.")
    pairs, rejected = _usable_pairs(file)
    forms[form](pairs, out)
    counts = {f"{name}s": _counts(pairs, name) for name in ("language", "kind", "split")}
    reasons = {"rejected": _counts(rejected, "reason")} if rejected.num_rows else {}
    return {"pairs": pairs.num_rows, **counts, **reasons, "out": str(out)}


def train_alone(
    config: PipelineConfig,
    file: Path,
    out: Path,
    *,
    languages: LanguageSettings | None = None,
    validation: Path | None = None,
    on_progress: OnProgress,
) -> dict[str, Any]:
    """Trains on a file of pairs, in its order; an interrupted training in the same folder is resumed.

    Args:
        config: the settings of the model and of the training.
        file: the pairs.
        out: the folder of the trained model.
        languages: rejects pairs that are not in these languages (`other_language`). Default: all pairs are used.
        validation: another such file: what `training.evaluate_every` and `training.patience` look at.
        on_progress: takes how many steps are done, of how many.

    Raises:
        BadInputError: pairs, model or folder are unusable; nothing is left in `out` then, checkpoints excepted.
    """
    folder = resolve(config.model, cutoff=config.training.cutoff)
    if (out / "model").exists():
        raise BadInputError("there is a trained model already", where=f"--out {out}", fix="Name a new folder.")
    pairs, rejected = _usable_pairs(file, languages)
    held_out, broken = _usable_pairs(validation, languages) if validation is not None else (None, QUARANTINE.build([]))
    if held_out is None and config.training.patience is not None:
        raise BadInputError(
            "early stopping needs pairs to look at", where="training.patience", fix="Give --validation FILE."
        )
    with _taken_back(out):
        result, rejected = _train(
            config, folder, pairs, held_out, pa.concat_tables([rejected, broken]), out, on_progress
        )
    shutil.rmtree(out / ".work")
    for unfinished in out.glob(_UNFINISHED):  # of a training that was killed while it saved
        shutil.rmtree(unfinished, ignore_errors=True)
    # A profile for `mpo run` may ask for it: its run has validation pairs of its own.
    idle = held_out is None and config.training.evaluate_every is not None
    warning = result.cuts.warning(config.training.cutoff)
    return {
        "pairs": result.rows,
        **({"not used": "training.evaluate_every, which needs --validation FILE"} if idle else {}),
        "quarantined": _counts(rejected, "reason"),
        "steps": result.steps,
        "cut": result.cuts.total.model_dump(),
        "cut_by_language": {code: counts.model_dump() for code, counts in result.cuts.languages.items() if counts.cut},
        **({} if warning is None else {"warning": warning}),
        "model": str(result.model_folder),
        "trainer_state": str(result.trainer_state),
    }


@contextlib.contextmanager
def _taken_back(out: Path) -> Iterator[None]:
    """On bad input, removes what was made in `out` meanwhile, unless a checkpoint can be resumed from."""
    work, was_there, had_work = out / ".work", out.exists(), (out / ".work").exists()
    try:
        yield
    except BadInputError:
        for unfinished in out.glob(_UNFINISHED):
            shutil.rmtree(unfinished, ignore_errors=True)
        # Work that was there before may be another training's.
        if not had_work and not any(work.rglob("checkpoint-*/complete.json")):
            shutil.rmtree(work if was_there else out, ignore_errors=True)
        raise


def _train(
    config: PipelineConfig,
    folder: Path,
    pairs: pa.Table,
    validation: pa.Table | None,
    rejected: pa.Table,
    out: Path,
    on_progress: OnProgress,
) -> tuple[TrainingResult, pa.Table]:
    """The training, and all rows that were rejected on the way to it."""
    work = out / ".work"
    write_parquet(work / "pairs.parquet", PAIRS, pairs)
    seen = pairs if validation is None else pa.concat_tables([pairs, validation])
    if validation is not None:
        write_parquet(work / "validation.parquet", PAIRS, validation)
    write_parquet(work / "references.parquet", GAPS, _reference(config, folder, seen, work / "references", on_progress))
    forget_models()
    result = train(
        TrainingJob(
            model_folder=folder,
            pairs=work / "pairs.parquet",
            validation=None if validation is None else work / "validation.parquet",
            references=work / "references.parquet",
            model=config.model,
            training=config.training,
            out=out,
            work=work,
        ),
        on_step=lambda step: on_progress(int(step.get("step", 0)), int(step.get("max_steps", 0))),
    )
    unusable = read_parquet(result.quarantine, fix="Train again.")
    rejected = QUARANTINE.check(pa.concat_tables([rejected, unusable]))
    write_parquet(out / "quarantine.parquet", QUARANTINE, rejected)
    return result, rejected


def _reference(
    config: PipelineConfig, folder: Path, pairs: pa.Table, cache_folder: Path, on_progress: OnProgress
) -> pa.Table:
    """Gaps of the frozen model, block by block; a pair without one is rejected by the training, with its reason.

    A block that an interrupted training has measured lies in `kept` and is not measured again.
    """
    training, digest = config.training, model_digest(folder, config.model)
    text_groups: list[tuple[list[PairText], str | None]] = [(source_texts(pairs), training.retention.pooling)]
    if training.references_targets:
        text_groups.append((target_texts(pairs), None))
    blocks = [
        (texts[start : start + _BLOCK], pooling)
        for texts, pooling in text_groups
        for start in range(0, len(texts), _BLOCK)
    ]
    # The numbers of training, not of sampling: its weights, under autocast where training is.
    model, tokenizer, lock = shared_model(folder, config.model, training.weights)
    tables = []
    with lock:
        for texts, pooling in blocks:
            what = (digest, config.model.system, training.cutoff, training.precision, training.weights, pooling, texts)
            file = cache_folder / f"{hashlib.sha256(repr(what).encode()).hexdigest()}.parquet"
            if not file.is_file():
                measured_gaps, _ = gaps(
                    model,
                    tokenizer,
                    texts,
                    cutoff=training.cutoff,
                    system=config.model.system,
                    pooling=pooling,
                    digest=digest,
                    precision=training.precision,
                    tokens_per_forward=training.tokens_per_forward or 4096,
                    progress=on_progress,
                )
                write_parquet(file, GAPS, measured_gaps)
            tables.append(GAPS.check(read_parquet(file, fix="Delete it; it is measured again.")))
    return pa.concat_tables(tables)


def evaluate_alone(
    config: PipelineConfig,
    file: Path,
    against: str | None,
    *,
    against_revision: str | None = None,
    source: int | None = None,
    on_kinds: OnKinds = lambda _: None,
    out: Path | None = None,
    on_progress: OnProgress,
) -> dict[str, Any]:
    """Judges one model's answers to a file of prompts, or two models' on the same ones.

    Args:
        config: the settings; `model` is the model, or the later one of two.
        file: the prompts.
        against: the model to compare with.
        against_revision: the revision of that model.
        source: which of the profile's sources says how the file is read.
        on_kinds: called with how many prompts of each kind a source gave, as soon as a model is loaded.
        out: a new folder for the tables: `metrics.parquet`, `quarantine.parquet` (the prompts that were rejected), and
            for each model a folder with its `answers.parquet`, `verdicts.parquet` and `quarantine.parquet`.
        on_progress: called with how many answers of how many are there.

    Returns:
        `metrics`, rows of METRICS (with `p_value` where two models are compared), `kinds`, how many prompts of each
        kind a source gave, and `quarantined`, how many rows were rejected for which reason.
    """
    if out is not None:
        _require_new_folder(out)
    config.judging.require_languages([config.languages.dominant, *config.languages.targets])
    prompts, rejected = _read_prompts(config, file, source)
    kinds = count_kinds(prompts)
    evaluations: dict[ModelName, _Evaluation] = {}
    paths: dict[ModelName, str]
    paths = {"model": config.model.path} if against is None else {"before": against, "after": config.model.path}
    config.evaluation.sampling.backend.require_models(list(paths.values()))
    for name, path in paths.items():
        settings = config.model.model_copy(update={"path": path})
        if name == "before":  # the revision of the settings is one of the other model's repository
            settings = settings.model_copy(update={"revision": against_revision})
        # After the first model is loaded: what is wrong with it leaves nothing on stdout.
        on_loaded = (lambda: None) if evaluations else (lambda: on_kinds(kinds))
        evaluations[name] = _evaluate(config, settings, prompts, on_loaded, on_progress)
    figures = METRICS.check(
        pa.concat_tables(
            metrics(evaluation.verdicts, None, model=name, confidence=config.evaluation.confidence)
            for name, evaluation in evaluations.items()
        )
    )
    if out is not None:
        _write_evaluations(out, evaluations, figures, rejected)
    rows = figures.to_pylist()
    if against is not None:
        tests = compare(evaluations["before"].verdicts, evaluations["after"].verdicts).to_pylist()
        p_values = {(test["language"], test["metric"]): test["p_value"] for test in tests}
        for row in rows:
            row["p_value"] = p_values.get((row["language"], row["metric"]))
    quarantine = pa.concat_tables([rejected, *(evaluation.quarantine for evaluation in evaluations.values())])
    return {
        "metrics": rows,
        "kinds": kinds,
        "quarantined": _counts(quarantine, "reason"),
        **({} if out is None else {"out": str(out)}),
    }


class _Evaluation(NamedTuple):
    """What a model answered in every language, the verdicts on it, and the rows that were rejected on the way."""

    answers: pa.Table
    verdicts: pa.Table
    quarantine: pa.Table


def _require_new_folder(out: Path) -> None:
    """Refuses, before anything is computed, a folder that holds something already or cannot be made."""
    if out.is_dir() and any(out.iterdir()):
        raise BadInputError("the folder is not empty", where=f"--out {out}", fix="Name a new folder.")
    if not can_be_written(out):
        raise BadInputError("cannot write here", where=f"--out {out}", fix="Free space or choose another folder.")


def _write_evaluations(
    out: Path, evaluations: dict[ModelName, _Evaluation], figures: pa.Table, rejected: pa.Table
) -> None:
    """Writes the tables of an evaluation, all or none of them."""
    try:
        write_parquet(out / "metrics.parquet", METRICS, figures)
        write_parquet(out / "quarantine.parquet", QUARANTINE, rejected)
        for name, evaluation in evaluations.items():
            write_parquet(out / name / "answers.parquet", RESPONSES, evaluation.answers)
            write_parquet(out / name / "verdicts.parquet", VERDICTS, evaluation.verdicts)
            write_parquet(out / name / "quarantine.parquet", QUARANTINE, evaluation.quarantine)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def _read_prompts(config: PipelineConfig, file: Path, number: int | None) -> tuple[pa.Table, pa.Table]:
    """The file's prompts, read as one of the profile's sources is read, with every setting of that source."""
    source = prompt_source(config, file, number)
    settings = config.prompts.model_copy(update={"sources": [source]})
    prompts, _, quarantine = load_prompts(settings, dominant=config.languages.dominant, seed=settings.seed)
    return prompts, quarantine


def prompt_source(config: PipelineConfig, file: Path, number: int | None = None) -> PromptSource:
    """A source that reads `file` as the profile says: by source `number`, else by the source of that very file.

    Else the profile's sources of files must agree on how they are read; without one, `text` and `kind` are the columns.
    What says where the source lies, and which split its rows are in, is the command's.

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
                "this is no source of files in the profile", where=f"--source {number}", fix="Count from 0."
            )
        return sources[number]
    tables = [source for source in sources if isinstance(source, ColumnSource)]
    same = [source for source in tables if Path(getattr(source, "path", "")).resolve() == file.resolve()]
    candidates: Sequence[PromptSource] = (
        same or tables or [PROMPT_SOURCES.parse({"source": "csv", "path": "-", "kind_column": "kind"})]
    )
    ways = {source.model_dump_json(exclude=_PLACE | {"licence"}) for source in candidates}
    if len(ways) > 1:
        raise BadInputError(
            f"the profile's {len(candidates)} sources are read in different ways",
            where=f"--prompts {file}",
            fix="Say which of them shows how to read this file: --source 0 for the first.",
        )
    return candidates[0]


def _evaluate(
    config: PipelineConfig,
    settings: ModelSettings,
    prompts: pa.Table,
    on_loaded: Callable[[], None],
    on_progress: OnProgress,
) -> _Evaluation:
    """Lets a model answer the prompts in every language, and judges its answers."""
    folder = resolve(settings)
    model = SampledModel(settings.path, folder, settings, model_digest(folder, settings))
    on_loaded()
    kinds = dict(zip(prompts["prompt_id"].to_pylist(), prompts["kind"].to_pylist(), strict=True))
    dominant = config.languages.dominant
    answers, verdicts, quarantine = [], [], []
    for language in [dominant, *config.languages.targets]:
        requests = [Request(row["prompt_id"], row["text"]) for row in PROMPTS.check(prompts).to_pylist()]
        if language != dominant:
            with opened_chain(config.translation, config.run.root) as chain:
                translated, untranslated = translate_texts(
                    prompt_texts(prompts), chain, source=dominant, target=language
                )
            requests = [Request(row["prompt_id"], row["text"]) for row in translated.to_pylist()]
            quarantine.append(untranslated)
        responses, unanswered = sample(
            model, requests, config.evaluation.sampling, language=language, progress=on_progress
        )
        answers.append(responses)
        verdicts.append(judge_responses(responses, kinds, config.judging))
        quarantine.append(unanswered)
    return _Evaluation(*map(pa.concat_tables, (answers, verdicts, quarantine)))


def _counts(table: pa.Table, column: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in table[column].to_pylist():
        counts[value] = counts.get(value, 0) + 1
    return counts
