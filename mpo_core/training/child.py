"""The training process: python -m mpo_core.training.child JOB.json (started by `launch.train`).

Of several processes, the first takes the lock, reports the figures and writes the results.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import gc
import hashlib
import importlib.util
import json
import os
import re
import resource
import select
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from mpo_core.contract.artifacts import write_parquet
from mpo_core.contract.errors import BadInputError, installation
from mpo_core.contract.tables import GAPS, PAIRS, QUARANTINE, TEACHER, TRANSLATIONS, TableSpec
from mpo_core.files.read import read_parquet
from mpo_core.settings import TrainingSettings
from mpo_core.training.cuts import Cuts
from mpo_core.training.launch import TrainingJob, TrainingResult

_LOCK_WAIT = 15.0  # seconds: the child of a killed parent needs a moment to die
_FORMAT = "3"  # of checkpoints; no training resumes from those of another
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)


class _StoppedError(Exception):
    """SIGTERM came; the checkpoint is saved."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class _Channel:
    """The parent's end of stdout, for JSON lines alone; prints of libraries go to the log."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, event: str, fields: dict[str, Any]) -> None:
        if _first() or event in ("bad_input", "failed"):
            self._file.write(json.dumps({"event": event, **fields}) + "\n")
            self._file.flush()


def _first() -> bool:
    """Says whether this is the first process, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _die_with_parent() -> None:
    """Ends this process when stdin closes, or when whoever started it is gone."""
    parent = os.getppid()
    while os.getppid() == parent:
        if select.select([0], [], [], 1.0)[0] and not os.read(0, 4096):
            break
    os._exit(1)


def main(path: Path) -> int:
    """Trains as the job file at `path` says, reports the outcome on stdout, and returns the exit code."""
    channel = _Channel()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        job = TrainingJob.model_validate_json(path.read_bytes())
        result = run(job, channel)
    except BadInputError as error:
        channel.send("bad_input", {"what": error.what, "where": error.where, "fix": error.fix})
        return 2
    except _StoppedError as stop:
        channel.send("stopped", {"step": stop.step})
        return 143
    except BaseException as error:  # noqa: BLE001 - the parent must hear of it; torch's CheckpointException is no Exception
        return _report_failure(error, channel)
    channel.send("result", json.loads(result.model_dump_json()))
    return 0


def _report_failure(error: BaseException, channel: _Channel) -> int:
    code = _unwritable(error)
    if code is not None:
        where = str(getattr(error, "filename", None) or "training: model or checkpoint")
        fields = {"what": f"cannot write ({os.strerror(code)})", "where": where}
        channel.send("bad_input", fields | {"fix": "Make space, or choose another folder; checkpoints are kept."})
        return 2
    traceback.print_exc()
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    # The type and the place alone: a message could quote a prompt or an answer.
    at = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    channel.send("failed", {"error": type(error).__name__, "at": at})
    return 1


def _unwritable(error: BaseException) -> int | None:
    """Returns the errno of a full or forbidden disk; safetensors and torch report it in other ways."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return error.errno
    match = re.search(r"os error (\d+)", str(error))
    if type(error).__name__ == "SafetensorError" and match and int(match[1]) in _UNWRITABLE:
        return int(match[1])
    # torch.save (PyTorch 2.13, inline_container.cc) names no errno.
    if isinstance(error, RuntimeError) and re.search(r"unexpected pos|failed writing file", str(error)):
        return errno.ENOSPC
    return None


def run(job: TrainingJob, channel: _Channel) -> TrainingResult:
    """Trains from files to files, and holds the lock on `work` meanwhile."""
    started = time.monotonic()
    with (job.work / "lock").open("a+") as lock:
        if _first():
            _take(lock, job.work)
        _import_libraries()
        _join(job.training)
        pairs = _read(job.pairs, PAIRS)
        validation = None if job.validation is None else _read(job.validation, PAIRS)
        references = _read(job.references, GAPS)
        trainer, quarantine, cuts = _build(job, pairs, validation, references)
        from mpo_core.training.checkpoints import newest_checkpoint
        from mpo_core.training.stop import Stop

        with trainer.accelerator.main_process_first():  # it removes the incomplete ones
            checkpoint = newest_checkpoint(trainer.folder)
        stop = Stop()
        stop.listen()
        with _reporting(job, channel) as report:
            stopped = trainer.train(checkpoint, report=report, stop=stop)
        state = trainer.state
        if stopped:
            raise _StoppedError(state.global_step)
        rows, peak_memory = len(trainer.train_dataset), _peak_memory()
        _save(job, trainer, quarantine, cuts)
        return TrainingResult(
            model_folder=job.out / "model",
            trainer_state=job.out / "trainer_state.json",
            quarantine=job.out / "quarantine.parquet",
            rows=rows,
            cuts=cuts,
            steps=state.global_step,
            resumed_from=None if checkpoint is None else int(checkpoint.name.rpartition("-")[2]),
            best_step=state.best_global_step,
            seconds=time.monotonic() - started,
            peak_memory=peak_memory,
        )


def _import_libraries() -> None:
    """Imports what trains, and leaves it out of all garbage collections: nothing of it becomes garbage.

    Going through all these modules again and again takes a fifth of a small training's time.
    """
    gc.disable()
    from mpo_core.training import collator, trainer  # noqa: F401

    gc.freeze()
    gc.enable()


@contextlib.contextmanager
def _reporting(job: TrainingJob, channel: _Channel) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives what reports a line of the log: to the parent process, and for TensorBoard if the settings ask for it."""
    if not job.training.tensorboard or not _first():
        yield lambda line: channel.send("step", line)
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(job.out / "tensorboard")) as writer:

        def report(line: dict[str, Any]) -> None:
            channel.send("step", line)
            for name, value in line.items():
                group, plain = ("eval", name[5:]) if name.startswith("eval_") else ("train", name)
                writer.add_scalar(f"{group}/{plain}", value, line["step"])

        yield report


def _join(settings: TrainingSettings) -> None:
    """Meets the other processes of this training, if there are any, and takes this one's device."""
    import torch
    from accelerate import PartialState

    devices = torch.cuda.device_count()
    if settings.device.startswith("cuda") and not devices:
        raise BadInputError("there is no CUDA device", where="training.device", fix="Use auto or cpu.")
    on_cpu = settings.device == "cpu" or not devices
    if not on_cpu and settings.processes > devices:
        raise BadInputError(
            f"{settings.processes} processes need as many CUDA devices, and this machine has {devices}",
            where="training.processes",
            fix="Use as many processes as devices, or training.device cpu.",
        )
    PartialState(cpu=on_cpu)
    if on_cpu:
        keep_heap()


def keep_heap() -> None:
    """Tensors that are freed stay with the process, for the next ones of their size.

    By itself glibc maps each large tensor anew, and the kernel fills it with zeros page by
    page (docs/speed.md has what that costs). Another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 64 * 2**20)):
            mallopt(option, value)


def _peak_memory() -> int:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10


def _take(lock: Any, work: Path) -> None:
    deadline = time.monotonic() + _LOCK_WAIT
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BadInputError(
                    "another training is using this folder",
                    where=str(work),
                    fix="Wait until it ends.",
                ) from None
            time.sleep(0.2)
        else:
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")  # whom to ask; the lock itself is the kernel's and dies with us
            lock.flush()
            return


def _read(path: Path, spec: TableSpec) -> pa.Table:
    return spec.check(read_parquet(path, fix=f"Give a Parquet file of {spec.name}."), where=str(path))


def _fingerprint(job: TrainingJob) -> str:
    """Returns what a checkpoint belongs to: settings, data and model. Another job never resumes from it."""
    from mpo_core.models import model_digest

    paths = (job.pairs, job.validation, job.references, job.teacher, job.translations)
    files = [path for path in paths if path is not None]
    settings = job.training
    parts = [
        _FORMAT,
        settings.key(),
        str(job.model.system),
        model_digest(job.model_folder, job.model),
    ]
    parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _build(
    job: TrainingJob, pairs: pa.Table, validation: pa.Table | None, references: pa.Table
) -> tuple[Any, pa.Table, Cuts]:
    import torch
    from accelerate import PartialState
    from accelerate.utils import set_seed
    from transformers.utils import logging

    from mpo_core.models import check_folder, load_tokenizer, model_digest, refuse_longer
    from mpo_core.models.training_memory import refuse_too_large
    from mpo_core.training.collator import join
    from mpo_core.training.distillation import teacher_rows
    from mpo_core.training.trainer import MPOTrainer

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    settings = job.training
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if settings.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise BadInputError(
            "TensorBoard is not installed",
            where="training.tensorboard",
            fix=installation("tensorboard"),
        )
    check_folder(job.model_folder)
    refuse_too_large(job.model_folder, settings)
    tokenizer, digest = load_tokenizer(job.model_folder, job.model), model_digest(job.model_folder, job.model)
    join_rows = functools.partial(
        join,
        references=references,
        tokenizer=tokenizer,
        settings=settings,
        system=job.model.system,
        model=digest,
    )
    cuts = Cuts()
    translations = None if job.translations is None else _read(job.translations, TRANSLATIONS)
    rows, rejected = join_rows(pairs, cuts=cuts, translations=translations)
    held_out, rejected_held_out = join_rows(validation or pairs.slice(0, 0))
    _refuse_empty(rows, rejected, job.pairs)
    if settings.needs_validation and validation is not None:
        _refuse_empty(held_out, rejected_held_out, job.validation)
    set_seed(settings.seed)  # before the adapters get their random weights
    # Master weights in fp32: at lr 6e-7 a bf16 weight of magnitude 3e-4 or more would not change at all.
    # Several processes load it beside their devices: what is sharded may not fit on one.
    several = settings.processes > 1
    home = "cpu" if settings.device == "cpu" or several else "auto"
    if several and settings.weights == "nf4":  # four bits are made where they stay
        home = str(PartialState().device)
    model = _load(job, home)
    refuse_longer((row.longest for row in [*rows, *held_out]), model.config, settings.cutoff)
    trainer = MPOTrainer(
        model,
        rows,
        validation=held_out if settings.evaluate_every is not None else None,
        trusted=held_out if settings.weighting is not None else None,
        teacher=None if job.teacher is None else teacher_rows(_read(job.teacher, TEACHER), model=digest),
        pad_id=tokenizer.pad_token_id,
        settings=settings,
        folder=job.work / _fingerprint(job),
        requires_reference=True,
    )
    return trainer, pa.concat_tables([rejected, rejected_held_out]), cuts


def _load(job: TrainingJob, device: str, *, dequantised: bool = False) -> Any:
    """Loads the initial model onto a device, with adapters if the settings ask for them."""
    from mpo_core.models import load_model
    from mpo_core.training.adapters import add_adapters

    settings = job.training
    where = job.model.model_copy(update={"device": device})
    model = load_model(job.model_folder, where, dtype=settings.weights)
    model = model.dequantize() if dequantised else model
    return model if settings.lora is None else add_adapters(model, settings.lora)


def _refuse_empty(rows: list[Any], quarantine: pa.Table, path: Path | None) -> None:
    if not rows:
        reasons = {
            c["values"]: c["counts"] for c in quarantine.column("reason").combine_chunks().value_counts().to_pylist()
        }
        summary = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items())) or "no rows"
        raise BadInputError(
            f"no pair is left to work on ({summary})",
            where=str(path),
            fix="Give pairs that fit training.cutoff, and the references of these very pairs.",
        )


def _whole(job: TrainingJob, trainer: Any) -> Any:
    """Returns the trained model in one piece, in the first process; every process takes part."""
    if job.training.processes == 1 or job.training.parallel == "ddp":
        return trainer.accelerator.unwrap_model(trainer.model)
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not _first():
        return None
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # ZeRO-3 would shard this one too
    model = _load(job, "cpu")
    model.load_state_dict(weights)
    return model


def _merged(job: TrainingJob, model: Any) -> Any:
    """Returns the model with its adapters added to the weights it was trained on; those of nf4 get full precision."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    from mpo_core.training.adapters import merge_adapters

    if job.training.weights == "nf4":  # to merge into four bits would round the update away
        adapters = get_peft_model_state_dict(model)
        model = _load(job, "cpu", dequantised=True)
        set_peft_model_state_dict(model, adapters)
    return merge_adapters(model)


def _save(job: TrainingJob, trainer: Any, quarantine: pa.Table, cuts: Cuts) -> None:
    """Writes the out folder. The model is built beside it, checked and renamed: it is whole and right, or not there.

    The trainer loses its model: it is freed before the saved one is loaded.
    """
    from mpo_core.models import load_tokenizer
    from mpo_core.training.lean import join
    from mpo_core.training.saved import device_for_check, measure_trained, release, require_same

    join(trainer.model)
    trained = measure_trained(trainer)
    model = _whole(job, trainer)
    if not _first():
        return
    job.out.mkdir(parents=True, exist_ok=True)
    if job.training.lora is not None:
        model = _merged(job, model)
    scratch, final = job.out / f".model-{os.getpid()}.tmp", job.out / "model"
    try:
        model.save_pretrained(scratch)
        load_tokenizer(job.model_folder, job.model).save_pretrained(scratch)
        del model
        release(trainer)
        # Other processes keep their devices until all of them end.
        on_cpu = job.training.device == "cpu" or job.training.processes > 1
        where = job.model.model_copy(update={"device": "cpu" if on_cpu else device_for_check(scratch)})
        require_same(scratch, trained, job.training, where, packed=trainer.packed, pad_id=trainer.pad_id)
        write_parquet(job.out / "quarantine.parquet", QUARANTINE, quarantine)
        trainer.state.log_history.append({"step": trainer.state.global_step, **cuts.figures()})
        (job.out / "trainer_state.json").write_text(json.dumps(asdict(trainer.state), indent=2), encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        scratch.replace(final)  # last: where the model is, everything is
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)  # the watcher thread still waits on stdin; nothing is left to tidy up
