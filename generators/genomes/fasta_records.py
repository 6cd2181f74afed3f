"""A FASTA read from its beginning, plain or gzip, without an index: many short records at a time."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

import numpy as np
from numpy.typing import NDArray

from ...graphs.bases import encode_bytes
from ...graphs.errors import InputError

_BLOCK: Final = 2_000_000  # bytes of text parsed at a time
_HEAD: Final = 1_000_000


@dataclass(frozen=True)
class Records:
    """Records that follow each other in a file.

    Attributes
    ----------
    names
        First word of each record's line of ``>``.
    codes
        uint8: letters of all of them as codes, end to end.
    sizes
        int64, shape (records,): letters of each.
    """

    names: list[str]
    codes: NDArray[np.uint8]
    sizes: NDArray[np.int64]


def read_records(path: Path) -> Iterator[Records]:
    """Read all records, a few thousand at a time.

    Raises
    ------
    InputError
        If the file is missing, damaged or no FASTA.
    """
    rest = b""
    for text in _read(path, _BLOCK):
        *complete, rest = (rest + text).split(b"\n>")
        if complete:
            yield _parse(complete)
    yield _parse([rest])


def read_head(path: Path) -> Records:
    """Read the first megabyte; its last record may be cut.

    Raises
    ------
    InputError
        If the file is missing, damaged or no FASTA.
    """
    return _parse(next(_read(path, _HEAD), b"").split(b"\n>"))


def _read(path: Path, size: int) -> Iterator[bytes]:
    """Text of a FASTA behind its first ``>``."""
    if not path.is_file():
        raise InputError(f"FASTA {path} does not exist. Pass the path of a FASTA, plain or gzip.")
    try:
        with _open(path) as stream:
            if stream.read(1) != b">":
                raise InputError(f"{path.name} does not start like a FASTA ('>'). Pass the DNA of the peaks.")
            while text := stream.read(size):
                yield text
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path.name} cannot be read: {error}. Pass a complete FASTA.") from error


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if zipped else path.open("rb")


def _parse(texts: list[bytes]) -> Records:
    parts = [text.partition(b"\n") for text in texts]
    names = b"\n".join([(head.split(None, 1) or [b""])[0] for head, _, _ in parts]).decode("latin-1")
    letters = [body.translate(None, b"\r\n") for _, _, body in parts]
    sizes = np.fromiter(map(len, letters), dtype=np.int64, count=len(letters))
    return Records(names.split("\n"), encode_bytes(b"".join(letters)), sizes)
