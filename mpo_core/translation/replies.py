"""Saves every answer of a translation engine as soon as it comes, so that a killed run sends no request twice."""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

from mpo_core.contract.errors import BadInputError

REPLIES_FILE = ".translations/replies.sqlite"
"""Path of the file, relative to `run.root`; if that is an object store, in the scratch folder of this machine."""
_TABLE = """
create table if not exists replies (
    engine text, source text, target text, digest blob, reply text not null,
    attempt integer not null, rejected integer not null default 0,
    primary key (engine, source, target, digest)
) without rowid
"""


class Direction(NamedTuple):
    """What saved answers belong to: the engine with its version, and the two languages."""

    engine: str
    source: str
    target: str


class Replies:
    """The saved answers in one file (SQLite), shared by threads and processes of a machine.

    The answers are saved as the engine gave them, and the gates test them again in each run. If a gate rejected an
    answer, a run with a higher `attempt` asks the engine again.

    Args:
        path: the file; a new one is readable for its owner only.
        attempt: `translation.attempt`.

    Every method raises `BadInputError` where the file cannot be used.
    """

    def __init__(self, path: Path, *, attempt: int = 1) -> None:
        self.path, self._attempt = path, attempt

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        """The database, opened when first used, so that a run without machine translators makes no file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch(mode=0o600)
        # One thread at a time uses the connection, and not always the thread that opened it.
        connection = sqlite3.connect(self.path, timeout=60.0, isolation_level=None, check_same_thread=False)
        # A killed process loses no answer; a machine that loses power may lose those of the last moments.
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        connection.execute(_TABLE)
        return connection

    def find(self, direction: Direction, texts: Iterable[str]) -> dict[str, str]:
        """Returns the saved answers by text, without those that a gate rejected under an earlier attempt."""
        replies = {}
        query = (
            "select reply from replies where engine = ? and source = ? and target = ? and digest = ?"
            " and (rejected = 0 or rejected >= ?)"
        )
        with self._errors_named():
            for text in texts:
                row = self._connection.execute(query, (*direction, _digest(text), self._attempt)).fetchone()
                if row is not None:
                    replies[text] = row[0]
        return replies

    def save(self, direction: Direction, text: str, reply: str) -> None:
        """Saves an answer."""
        with self._errors_named():
            self._connection.execute(
                "insert or replace into replies (engine, source, target, digest, reply, attempt)"
                " values (?, ?, ?, ?, ?, ?)",
                (*direction, _digest(text), reply, self._attempt),
            )

    def judge(self, direction: Direction, texts: Iterable[str], *, refused: bool) -> None:
        """Saves whether a gate rejected the translations of these texts."""
        attempt = self._attempt if refused else 0
        rows = [(attempt, *direction, _digest(text), attempt) for text in texts]
        with self._errors_named():
            self._connection.executemany(
                "update replies set rejected = ?"
                " where engine = ? and source = ? and target = ? and digest = ? and rejected != ?",
                rows,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if "_connection" in self.__dict__:
            self._connection.close()

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise BadInputError(
                f"the file of saved translations cannot be used ({error})",
                where=str(self.path),
                fix="Choose another folder (--set run.root=PATH), free disk space, or delete the file to start anew.",
            ) from None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
