"""Write once, verify always: content-addressed Parquet files and model folders.

A table lies at `<root>/<stage>/language=<code>/<sha256>.parquet` (without the language
level where it has none), a folder at `<root>/<stage>/<sha256>/` with `manifest.json`,
which is written last, so that its existence means that the rest is complete. Nothing
that has been written is ever changed. `root` is any fsspec URL.
"""

import contextlib
import glob
import hashlib
import io
import json
import os
import posixpath
import shutil
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict

from mpo_core.contract.errors import BadInputError, DamagedError
from mpo_core.contract.tables import QUARANTINE, TableSpec

MANIFEST = "manifest.json"


class ArtifactRef(BaseModel):
    """A reference to an artifact: its path, relative to `run.root`, and the digest of its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    path: str
    sha256: str
    rows: int = 0
    language: str | None = None
    part: str | None = None
    """Which block of a stage's table this is, such as `test-000`."""


class Shard(BaseModel):
    """The result of one task: references to its rows, its rejected rows and other artifacts, and its counts.

    `parts` are the blocks into which the prompts stage cuts its rows, `answers` the reference answers of each block by
    language; `model` is the folder that training made. Only references take part in cache keys. Nothing here holds the
    path of `run.root`: that folder may be copied or moved with its records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: ArtifactRef
    quarantine: ArtifactRef | None = None
    parts: tuple[ArtifactRef, ...] = ()
    answers: tuple[ArtifactRef, ...] = ()
    model: ArtifactRef | None = None
    counts: dict[str, int] = {}
    seconds: float = 0.0
    made_by: str = ""
    """Prefect's id of the flow run in which it was computed, and the task: `id/verb-label`."""

    @property
    def refs(self) -> tuple[ArtifactRef, ...]:
        """Every artifact of the shard."""
        return tuple(
            ref for ref in (self.rows, self.quarantine, self.model, *self.parts, *self.answers) if ref is not None
        )


class ArtifactStore:
    """The artifacts in one folder, `run.root`.

    Args:
        root: a folder, or an fsspec URL.
        writes: whether files will be written, so that it is checked first whether they can be.
        option: what the user named the folder with, for messages: the setting `run.root`, or an option of a command.

    Raises:
        BadInputError: files cannot be written, or with `writes=False` not be read.
    """

    def __init__(self, root: str, *, writes: bool = True, option: str = "run.root") -> None:
        self.root = root
        self.fs, self._base = _file_system(root)
        try:
            if not writes:
                self.fs.exists(self._full("registry/events"))  # an object store says here whether it can be reached
                return
            self.fs.makedirs(self._base, exist_ok=True)
            probe = self._full(f".probe-{uuid.uuid4().hex}")
            self.fs.pipe_file(probe, b"")
            self.fs.rm_file(probe)
        except Exception as error:  # noqa: BLE001 - every object store has errors of its own
            fix = "Choose a writable folder with free space: --set run.root=PATH."
            if option != "run.root":  # the command is about what lies in this folder, and cannot choose another
                fix = "Allow this user to read and write there, and make space; nothing was changed."
            if "://" in root:
                fix = "Check that its bucket is there and that the environment has credentials for it."
            verb, reason = "write" if writes else "read", getattr(error, "strerror", None) or type(error).__name__
            raise BadInputError(
                f"cannot {verb} here ({reason})",
                where=f"{option} {root}",
                fix=fix,
            ) from None

    @property
    def local(self) -> bool:
        """Whether `run.root` is a folder of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    def exists(self, path: str) -> bool:
        """Returns whether there is a file or a folder under a path that is relative to `root`."""
        return bool(self.fs.exists(self._full(path)))

    def _full(self, path: str) -> str:
        return posixpath.join(self._base, path)

    # -- tables ---------------------------------------------------------------------

    def write_table(
        self,
        stage: str,
        spec: TableSpec,
        table: pa.Table,
        *,
        language: str | None = None,
        part: str | None = None,
    ) -> ArtifactRef:
        """Checks `table` against `spec` and stores it; equal bytes are stored once."""
        data = _parquet(spec, table)
        sha = hashlib.sha256(data).hexdigest()
        folder = posixpath.join(stage, "quarantine") if spec is QUARANTINE else stage
        if language is not None:
            folder = posixpath.join(folder, f"language={language}")
        ref = ArtifactRef(
            stage=stage,
            path=posixpath.join(folder, f"{sha}.parquet"),
            sha256=sha,
            rows=table.num_rows,
            language=language,
            part=part,
        )
        if not self.intact(ref):
            self._write_atomically(ref.path, data)
        return ref

    def read_table(self, ref: ArtifactRef, spec: TableSpec) -> pa.Table:
        """Reads the table that `ref` names, and verifies its bytes.

        Raises:
            DamagedError: the file is missing or its sha256 differs.
        """
        return spec.check(pq.read_table(io.BytesIO(self._verified(ref))), where=ref.path)

    def read_tables(self, refs: list[ArtifactRef] | tuple[ArtifactRef, ...], spec: TableSpec) -> pa.Table:
        """Reads several shards of a table as one table, in which the key must be unique too."""
        parts = [self.read_table(ref, spec) for ref in refs]
        return spec.check(pa.concat_tables(parts)) if parts else spec.build([])

    # -- folders --------------------------------------------------------------------

    def write_folder(self, stage: str, folder: Path) -> ArtifactRef:
        """Stores a folder (a model); its digest is that of the files' names and hashes."""
        files = file_digests(folder)
        sha = folder_digest(files)
        ref = ArtifactRef(stage=stage, path=posixpath.join(stage, sha), sha256=sha, rows=len(files))
        if not self.intact(ref):
            for name in files:
                self._write_atomically(posixpath.join(ref.path, name), (folder / name).read_bytes())
            manifest = {"sha256": sha, "files": files}
            data = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode()
            self._write_atomically(posixpath.join(ref.path, MANIFEST), data)
        return ref

    def manifest(self, ref: ArtifactRef) -> dict[str, Any]:
        """Reads the manifest of a stored folder: its digest, and the digest of each file.

        Raises:
            DamagedError: it is missing, unreadable, or describes another folder.
        """
        try:
            manifest: dict[str, Any] = json.loads(self.fs.cat_file(self._full(posixpath.join(ref.path, MANIFEST))))
            if manifest["sha256"] != ref.sha256 or folder_digest(manifest["files"]) != ref.sha256:
                raise DamagedError(f"{ref.path}: the manifest describes another folder")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"{ref.path}: no readable manifest ({type(error).__name__})") from error
        return manifest

    @contextlib.contextmanager
    def open_folder(self, ref: ArtifactRef) -> Iterator[Path]:
        """Yields a local path to a stored folder, verified; a remote folder is copied to this machine first."""
        if self.local and not self.intact(ref):
            raise DamagedError(f"{ref.path}: missing or damaged")
        yield Path(self._full(ref.path)) if self.local else self._fetched(ref)

    def _fetched(self, ref: ArtifactRef) -> Path:
        """Copies a remote folder to this machine, unless there is a copy already; returns its path."""
        copy = self.scratch(posixpath.join("models", ref.sha256))
        if not copy.is_dir():
            scratch = copy.with_name(f".{copy.name}-{uuid.uuid4().hex}.tmp")
            for name in self.manifest(ref)["files"]:
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                self.fs.get_file(self._full(posixpath.join(ref.path, name)), str(scratch / name))
            with contextlib.suppress(OSError):  # another process was faster
                scratch.rename(copy)
            shutil.rmtree(scratch, ignore_errors=True)
        if folder_digest(file_digests(copy)) != ref.sha256:
            shutil.rmtree(copy)
            raise DamagedError(
                f"{ref.path}: this machine's copy was damaged and is deleted; the next try copies it again"
            )
        return copy

    # -- both -----------------------------------------------------------------------

    def intact(self, ref: ArtifactRef) -> bool:
        """Returns whether every file that `ref` names is there with the right bytes."""
        try:
            if ref.path.endswith(".parquet"):
                self._verified(ref)
            else:
                for name, sha in self.manifest(ref)["files"].items():
                    if self._sha256(posixpath.join(ref.path, name)) != sha:
                        return False
        except DamagedError:
            return False
        return True

    def local_path(self, path: str) -> Path:
        """Returns the absolute path on this machine of a path that is relative to `run.root`.

        Raises:
            BadInputError: `run.root` is not on this machine.
        """
        if not self.local:
            raise BadInputError(
                "the folder of artifacts is on another machine, and this command needs one on this machine",
                where=f"run.root {self.root}",
                fix="Set run.root to a local folder.",
            )
        return Path(self._full(path))

    def scratch(self, path: str) -> Path:
        """Returns a local path for unfinished work, as `scratch_path` does."""
        return scratch_path(self.root, path)

    def keep_files(self, folder: Path, path: str) -> None:
        """Copies a folder's files as they are, such as a log that no other stage reads."""
        for file in folder.rglob("*"):
            if file.is_file():
                self._write_atomically(posixpath.join(path, file.relative_to(folder).as_posix()), file.read_bytes())

    def fetch_files(self, path: str, folder: Path) -> None:
        """Copies the files under `path` into a folder of this machine.

        Raises:
            DamagedError: there are none.
        """
        there = self._full(path)
        files = self.fs.find(there)
        if not files:
            raise DamagedError(f"{path}: missing")
        for file in files:
            write_atomically(folder / posixpath.relpath(file, there), self.fs.cat_file(file))

    def write_text(self, path: str, text: str) -> None:
        """Writes a file of a run (not content-addressed), whole or not at all."""
        self._write_atomically(path, text.encode())

    def read_text(self, path: str) -> str | None:
        """Returns a file of a run as text, or None where there is none or it is no text."""
        try:
            data: bytes = self.fs.cat_file(self._full(path))
            return data.decode()
        except (OSError, UnicodeDecodeError):
            return None

    def _sha256(self, path: str) -> str:
        try:
            with self.fs.open(self._full(path), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DamagedError(f"{path}: {type(error).__name__}") from error

    def _verified(self, ref: ArtifactRef) -> bytes:
        try:
            data: bytes = self.fs.cat_file(self._full(ref.path))
        except OSError as error:
            raise DamagedError(f"{ref.path}: {type(error).__name__}") from error
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise DamagedError(f"{ref.path}: its bytes are not the ones that were written")
        return data

    def _write_atomically(self, path: str, data: bytes) -> None:
        if self.local:
            write_atomically(Path(self._full(path)), data)
        else:  # object stores publish a put whole or not at all
            self.fs.pipe_file(self._full(path), data)


def _file_system(root: str) -> tuple[Any, str]:
    """Opens the file system of `run.root`; returns it and the path in it.

    Raises:
        BadInputError: the protocol is unknown, its package is missing, or the address is malformed.
    """
    where = f"run.root {root}"
    if not root.rpartition("://")[2].strip():
        raise BadInputError(
            "the name of the folder is empty", where=where.strip(), fix="Name a folder, or . for the current one."
        )
    try:
        fs, base = fsspec.url_to_fs(root)
    except ImportError as error:
        protocol = root.partition("://")[0]
        raise BadInputError(
            f"the package that reads {protocol}:// cannot be imported ({error.name or type(error).__name__})",
            where=where,
            fix="Install it (s3fs for s3://, gcsfs for gs://, adlfs for az://), or choose a folder.",
        ) from None
    except Exception as error:  # noqa: BLE001 - every object store has errors of its own
        raise BadInputError(
            f"the address cannot be opened ({type(error).__name__})",
            where=where,
            fix="Name a folder, or a URL such as s3://BUCKET/FOLDER.",
        ) from None
    return fs, str(base)


def scratch_path(root: str, path: str) -> Path:
    """Returns a local path for unfinished work: below a local `root`, else in `MPO_SCRATCH` or ~/.cache/mpo."""
    fs, base = _file_system(root)
    if isinstance(fs, LocalFileSystem):
        return Path(base) / path
    home = os.environ.get("MPO_SCRATCH") or Path.home() / ".cache" / "mpo"
    folder = Path(home) / hashlib.sha256(root.rstrip("/").encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / path


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file under a temporary name in the same folder and renames it, so that no reader sees half a file.

    Files hold harmful text as data: they are private (mode 0600). Temporary files that a
    killed writer of the same file left on this machine are deleted.

    Raises:
        BadInputError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    temporary = temporary_for(path)
    try:
        sweep(path)
        with temporary.open("wb") as file:
            temporary.chmod(0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise BadInputError(
            f"cannot write ({error.strerror or type(error).__name__})",
            where=str(path),
            fix="Make space, or choose another folder; finished work is saved.",
        ) from None


def temporary_for(path: Path) -> Path:
    """Returns where a file is written before it gets its name; machine, process and thread keep writers apart."""
    return path.with_name(f"{_prefix(path)}{os.getpid()}-{threading.get_ident()}.tmp")


def sweep(path: Path) -> None:
    """Makes the folder of a file or folder, and removes what its killed writers left there on this machine."""
    prefix = _prefix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f"{glob.escape(prefix)}*.tmp"):
        if not _alive(int(stale.name.removeprefix(prefix).split("-")[0])):
            with contextlib.suppress(FileNotFoundError):  # another writer sweeps too
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()


def _prefix(path: Path) -> str:
    return f".{path.name}.{socket.gethostname()}@"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_parquet(path: Path, spec: TableSpec, table: pa.Table) -> None:
    """Checks a table and writes it as a file of the user's, whole or not at all."""
    write_atomically(path, _parquet(spec, table))


@contextlib.contextmanager
def rows_beside(spec: TableSpec, tables: Mapping[Path, pa.Table]) -> Iterator[None]:
    """Writes further tables of a result that the block writes, such as the rejected rows, into files beside it.

    They come before the result, so that it is never there without them; what an earlier result has left in place of a
    table without rows is removed after it.
    """
    for path, table in tables.items():
        if table.num_rows:
            write_parquet(path, spec, table)
    yield
    for path, table in tables.items():
        if not table.num_rows:
            path.unlink(missing_ok=True)


def _parquet(spec: TableSpec, table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(spec.check(table), buffer, compression="zstd")
    return buffer.getvalue()


def file_digests(folder: Path) -> dict[str, str]:
    """Returns the sha256 of every file in `folder` but our manifest, by relative path."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST:
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def folder_digest(files: dict[str, str]) -> str:
    """Computes one sha256 over the names and digests of a folder's files."""
    lines = "".join(f"{sha}  {name}\n" for name, sha in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
