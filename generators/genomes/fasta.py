"""A FASTA on disk: lengths of its sequences, and the codes of many runs of one sequence."""

from __future__ import annotations

from io import FileIO
from pathlib import Path
from types import TracebackType

import numpy as np
import pyfaidx
from numpy.typing import NDArray

from ...graphs.bases import encode_bytes
from ...graphs.errors import InputError


class Fasta:
    """An open FASTA, plain or bgzip, indexed by pyfaidx; used in a ``with`` block.

    Parameters
    ----------
    path
        Its index ``.fai`` is written beside it where absent.

    Attributes
    ----------
    lengths
        Length of every sequence in bp.

    Raises
    ------
    InputError
        If the file is missing, no FASTA, empty, compressed by plain gzip, or cannot be indexed.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"FASTA {path} does not exist. Pass the path of a .fa, .fasta or bgzip .fa.gz.")
        self._path = path
        self._bgzip = _check_compression(path)
        self._faidx = _open(path)
        self._text: FileIO | None = None
        self.lengths = {str(name): int(record.rlen) for name, record in self._faidx.index.items()}

    def __enter__(self) -> Fasta:
        if not self._bgzip:
            self._text = FileIO(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._faidx.close()
        if self._text is not None:
            self._text.close()

    def codes(self, name: str, begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Codes of runs of one sequence, one run after the other.

        Parameters
        ----------
        name
            Sequence.
        begin, end
            0-based half-open, within the sequence, shape (runs,); ascending, so that a disk reads on.

        Returns
        -------
        uint8 array, shape (bases of all runs,)

        Raises
        ------
        InputError
            If the index is not of this file.
        """
        read = self._read_bgzip if self._text is None else self._read_plain
        codes = encode_bytes(read(name, begin, end))
        if len(codes) != (end - begin).sum():
            raise InputError(
                f"{self._path.name} has lines of other lengths than its index says. Remove {self._path.name}.fai,"
                " so that it is written anew."
            )
        return codes

    def _read_plain(self, name: str, begin: NDArray[np.int64], end: NDArray[np.int64]) -> bytes:
        # Unbuffered reads behind the index take a third of the time of pyfaidx's own.
        record, line = self._faidx.index[name], max(self._faidx.index[name].lenc, 1)
        first, last = (record.offset + at // line * record.lenb + at % line for at in (begin, end - 1))
        sizes = last - first + 1
        return b"".join([self._piece(a, n) for a, n in zip(first.tolist(), sizes.tolist(), strict=True)])

    def _piece(self, at: int, size: int) -> bytes:
        assert self._text is not None
        self._text.seek(at)
        return self._text.read(size)

    def _read_bgzip(self, name: str, begin: NDArray[np.int64], end: NDArray[np.int64]) -> bytes:
        runs = zip(begin.tolist(), end.tolist(), strict=True)
        return "".join([self._fetch(name, a, b) for a, b in runs]).encode("ascii", errors="replace")

    def _fetch(self, name: str, begin: int, end: int) -> str:
        try:
            text: str = self._faidx.fetch(name, begin + 1, end)
        except ValueError:  # pyfaidx cannot start where a block of the full 65,536 bytes ends
            text = self._faidx.fetch(name, begin, end)[1:]
        return text


def read_lengths(path: Path) -> dict[str, int]:
    """Length in bp of every sequence of a FASTA; its index is written where absent.

    Raises
    ------
    InputError
        If the file is missing, no FASTA, empty, compressed by plain gzip, or cannot be indexed.
    """
    with Fasta(path) as fasta:
        lengths = fasta.lengths
    if not lengths:
        raise InputError(f"{path.name} holds no sequence. Pass the DNA of the genome.")
    return lengths


def _open(path: Path) -> pyfaidx.Faidx:
    try:
        return pyfaidx.Faidx(str(path), as_raw=True)
    except ImportError as error:
        raise InputError(
            f"{path.name} is bgzip; reading it needs biopython. Install biopython, or decompress the file."
        ) from error
    except OSError as error:
        raise InputError(
            f"the index of {path.name} cannot be written or read ({error}). Run `samtools faidx` where you"
            " may write, or copy the FASTA into a folder of yours."
        ) from error
    except (pyfaidx.FastaIndexingError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{path.name} cannot be indexed as FASTA: {error}. Pass a valid FASTA (no blank lines between its"
            " records), without a stale .fai."
        ) from error


def _check_compression(path: Path) -> bool:
    """Tell whether it is bgzip; refuse what pyfaidx, which goes by the file's name, would misread."""
    with path.open("rb") as stream:
        head = stream.read(18)
    zipped = head[:2] == b"\x1f\x8b"
    if zipped and head[12:14] != b"BC":
        raise InputError(
            f"{path.name} is plain gzip, which allows no access by position. Decompress it with gunzip, or"
            " compress it with bgzip instead."
        )
    if zipped != (path.suffix.lower() in (".gz", ".bgz")):
        right = f"{path.name}.gz" if zipped else path.stem
        raise InputError(f"{path.name} is {'bgzip' if zipped else 'not compressed'}: rename it to {right}.")
    if not zipped and head[:1] != b">":
        raise InputError(f"{path.name} does not start like a FASTA ('>'). Pass the DNA of the genome.")
    return zipped
