"""The file of an edit: which bits of a model's weights it flips. Applying it twice gives the same bytes as before.

It is a file of safetensors with two tensors for each edited matrix: `NAME.rows` [S], the numbers of the edited rows,
and `NAME.bits` [S, bytes of a row], the exclusive or of their bytes before and after. So there is no rounding: the
edited model has the very bits that were computed, and the model without the edit those from before.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save

from mpo_core.contract.artifacts import MANIFEST, write_atomically
from mpo_core.contract.errors import BadInputError
from mpo_core.models.library import reading

FOLDER = "edits"
"""Folder inside of an edited model's folder that holds the file of each edit."""
README = "README.md"
_KEY = "mpo_edit"  # one key: several would be written in an order that differs from process to process
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


class Change(NamedTuple):
    """The bits to flip in one matrix."""

    rows: Any
    """[S], int64, numbers of the rows."""
    bits: Any
    """[S, bytes of a row], uint8."""
    before: str
    """Digest of the rows' bytes before the edit."""
    after: str
    """Digest of the rows' bytes after the edit."""


class Matrix(NamedTuple):
    """Where a matrix lies: its file, where its bytes begin there, its shape, and its number type."""

    file: str
    offset: int
    shape: tuple[int, int]
    dtype: str

    def open(self, folder: Path, *, writes: bool = False) -> Any:
        """Maps the matrix's bytes, [rows, bytes of a row]."""
        shape = (self.shape[0], self.shape[1] * _ITEM_BYTES[self.dtype])
        return np.memmap(
            folder / self.file, np.uint8, "r+" if writes else "r", offset=self.offset, shape=shape, order="C"
        )


def matrices(folder: Path) -> dict[str, Matrix]:
    """Reads from the headers of a model folder's weight files where each matrix of floating-point numbers lies."""
    places: dict[str, Matrix] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        for name, entry in header.items():
            if name != "__metadata__" and len(entry["shape"]) == 2 and entry["dtype"] in _ITEM_BYTES:  # noqa: PLR2004 - rows and columns
                begin = 8 + size + entry["data_offsets"][0]
                places[name] = Matrix(path.name, begin, tuple(entry["shape"]), entry["dtype"])
    return places


def change_of(rows: Any, before: Any, after: Any) -> Change:
    """Returns the change that turns the bytes of some rows into others."""
    return Change(rows, before ^ after, _digest(before), _digest(after))


def write_change(path: Path, changes: dict[str, Change]) -> None:
    """Writes an edit as a file."""
    tensors = {f"{name}.rows": change.rows for name, change in changes.items()}
    tensors |= {f"{name}.bits": np.ascontiguousarray(change.bits) for name, change in changes.items()}
    digests = {name: [change.before, change.after] for name, change in changes.items()}
    write_atomically(path, save(tensors, {_KEY: json.dumps(digests, sort_keys=True)}))


def read_change(path: Path) -> dict[str, Change]:
    """Reads the file of an edit.

    Raises:
        BadInputError: it cannot be read, or is another kind of file.
    """
    fix = "Give a file that `mpo edit` or `mpo run` wrote: edits/NAME.safetensors of an edited model."
    with reading("this is no file of an edit", where=str(path), fix=fix):
        with safe_open(path, framework="np") as opened:
            digests = json.loads(opened.metadata()[_KEY])
        tensors = load_file(path)
        return {name: Change(tensors[f"{name}.rows"], tensors[f"{name}.bits"], *digests[name]) for name in digests}


def change_model(folder: Path, edit: Path, out: Path, *, undo: bool = False) -> None:
    """Copies a model folder with an edit applied, or undone.

    The file of the edit is in the folder `edits` of a model that has it, and nowhere in one that does not. So a model
    whose edit was undone has the same files as before, byte for byte.

    Raises:
        BadInputError: the file is no edit, or not one of this model; nothing is written then.
    """
    changes, name = read_change(edit), f"{hashlib.sha256(edit.read_bytes()).hexdigest()[:16]}.safetensors"
    places = matrices(folder)
    for tensor, change in changes.items():
        _require_rows(folder, edit, places.get(tensor), change, undo=undo)
    # Neither a note about the folder nor a card about its figures belongs to the new model.
    shutil.copytree(folder, out, ignore=lambda at, _: {MANIFEST, README} if Path(at) == folder else set())
    for tensor, change in changes.items():
        mapped = places[tensor].open(out, writes=True)
        mapped[change.rows] ^= change.bits
        mapped.flush()
    if undo:
        (out / FOLDER / name).unlink(missing_ok=True)
        if (out / FOLDER).is_dir() and not any((out / FOLDER).iterdir()):
            (out / FOLDER).rmdir()
    else:
        write_atomically(out / FOLDER / name, edit.read_bytes())


def _require_rows(folder: Path, edit: Path, place: Matrix | None, change: Change, *, undo: bool) -> None:
    """Requires that the rows of a matrix are those that the edit was made for."""
    expected = change.after if undo else change.before
    mapped = None if place is None else place.open(folder)
    fits = (
        mapped is not None
        and mapped.shape[1:] == change.bits.shape[1:]
        and (change.rows < len(mapped)).all()
        and _digest(mapped[change.rows]) == expected
    )
    if not fits:
        what = "this edit is not in the model" if undo else "this edit was made for another model, or is in it already"
        raise BadInputError(
            what,
            where=f"{edit}, model {folder}",
            fix="Give the model and the edit that belong together; of several edits, undo the last one first.",
        )


def _digest(rows: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()
