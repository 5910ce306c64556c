"""Reads the plain bytes of files that may be compressed; the content decides whether they are, not the name."""

import bz2
import contextlib
import gzip
import lzma
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
"""Suffixes of compressed files."""
CORRUPT = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
"""Errors from reading a damaged compressed file, besides OSError without a number."""
_SKIPPABLE = {bytes([0x50 + number]) for number in range(16)}  # frames of Zstandard with which some tools begin
_FOREIGN = {
    b"PK\x03\x04": "a ZIP archive, such as an Excel workbook",
    b"PK\x05\x06": "a ZIP archive, such as an Excel workbook",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x1f\x8b": "a file that is compressed twice",
    b"\x04\x22\x4d\x18": "a file that LZ4 has compressed",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"SQLite format 3": "a database of SQLite",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
"""Formats of files that are not UTF-8 text, by their first bytes."""


class NotAFileError(OSError):
    """The path is not a regular file (but a pipe, a device or a socket), or no file can have this name."""

    def __init__(self, reason: str) -> None:
        super().__init__(None, reason)


def foreign_format(data: bytes) -> str | None:
    """Returns the format of data that is not UTF-8 text, such as a ZIP archive; None where it is unknown."""
    return next((name for start, name in _FOREIGN.items() if data.startswith(start)), None)


def plain_suffix(path: Path) -> str:
    """Returns the suffix of a file in lower case, without that of its compression: `.csv` for `A.CSV.gz`."""
    endings = [suffix.lower() for suffix in path.suffixes]
    if endings and endings[-1] in SUFFIXES:
        endings.pop()
    return endings[-1] if endings else ""


@contextlib.contextmanager
def open_plain(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file for reading its bytes, decompressed where it is gzip, Zstandard, bzip2 or xz.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        EOFError, zlib.error, lzma.LZMAError: while reading, where the compressed data is damaged.
    """
    require_regular(path)
    with path.open("rb") as file:
        start = file.read(10)
    opened = _opener(start)(path)
    with opened:
        yield opened


def require_regular(path: Path) -> None:
    """Checks that a path is a file or folder; a pipe, for example, would block, and could not be read twice.

    Raises:
        OSError: nothing has this name, or it is neither a file nor a folder.
    """
    try:
        mode = path.stat().st_mode
    except ValueError:  # a NUL, or half of a surrogate pair
        raise NotAFileError("no file can have this name") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise NotAFileError("not a regular file: save its content as one")


def _opener(start: bytes) -> Any:
    if start.startswith(b"\x1f\x8b"):
        return gzip.open
    if start.startswith(b"\x28\xb5\x2f\xfd") or (start[:1] in _SKIPPABLE and start[1:4] == b"\x2a\x4d\x18"):
        return lambda path: pa.input_stream(str(path), compression="zstd")
    if start.startswith(b"BZh") and start[4:10] in {b"1AY&SY", b"\x17rE8P\x90"}:  # the second: an empty file
        return bz2.open
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.open
    return lambda path: path.open("rb")
