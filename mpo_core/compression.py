"""Files that may be compressed, read as their plain bytes; the content decides, not the name."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
"""What the names of compressed files end with."""
CORRUPT = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
"""What reading a damaged compressed file raises, beside OSError without a number."""


def plain_suffix(path: Path) -> str:
    """The end of a file's name in lower case, without that of its compression: `.csv` of `A.CSV.gz`."""
    endings = [suffix.lower() for suffix in path.suffixes]
    if endings and endings[-1] in SUFFIXES:
        endings.pop()
    return endings[-1] if endings else ""


@contextlib.contextmanager
def open_plain(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file for reading its bytes, decompressed where it is gzip, Zstandard, bzip2 or xz.

    Raises:
        OSError: it cannot be opened.
        EOFError, zlib.error, lzma.LZMAError: while reading, where the compressed data is damaged.
    """
    with path.open("rb") as file:
        start = file.read(10)
    opened = _opener(start)(path)
    with opened:
        yield opened


def _opener(start: bytes) -> Any:
    if start.startswith(b"\x1f\x8b"):
        return gzip.open
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return lambda path: pa.input_stream(str(path), compression="zstd")
    if start.startswith(b"BZh") and start[4:10] == b"1AY&SY":
        return bz2.open
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.open
    return lambda path: path.open("rb")
