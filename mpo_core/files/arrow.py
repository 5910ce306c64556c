"""Reads Arrow files and checks that they are complete, since a bad offset in one would crash the process."""

from pathlib import Path

import pyarrow as pa

from mpo_core.files import read as files

_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}


def read_arrow(path: Path, *, fix: str) -> pa.Table:
    """Reads the stream that `datasets` saves, or the file format (Feather), plain or compressed.

    Raises:
        BadInputError: the file is missing (`fix` says what to do) or damaged.
    """
    with files.readable_arrow(path, fix, "Arrow"):
        source = pa.BufferReader(files.read_bytes(path, fix=fix))
        try:
            table = pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            table = pa.ipc.open_file(source).read_all()
        for column in table.columns:
            for chunk in column.chunks:
                chunk.view(_without_text(chunk.type)).validate(full=True)
    return table


def _without_text(kind: pa.DataType) -> pa.DataType:
    """Returns the type with bytes for texts, so that a text that is not UTF-8 affects its row only."""
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _without_text(kind.value_type), kind.ordered)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_text(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_text(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_without_text(kind.value_type)))
    return _BYTES.get(kind, kind)
