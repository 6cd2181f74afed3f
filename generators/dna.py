"""DNA of a FASTA: lengths of its chromosomes, and the bases of many intervals as codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyfaidx
from numpy.typing import NDArray

from ..graphs.errors import InputError
from ..graphs.schema import BASES

_SLICE: Final = 8_000_000  # bases of a chromosome held at a time
_N: Final = BASES.index("N")


def read_lengths(path: Path) -> dict[str, int]:
    """Length in bp of every sequence of a FASTA, plain or bgzip; its index is written where absent.

    Raises
    ------
    InputError
        If the file is missing, no FASTA, empty, compressed by plain gzip, or cannot be indexed.
    """
    if not path.is_file():
        raise InputError(f"FASTA {path} does not exist. Pass the path of a .fa, .fasta or bgzip .fa.gz.")
    _check_compression(path)
    with _open_fasta(path) as faidx:
        lengths = {str(name): int(record.rlen) for name, record in faidx.index.items()}
    if not lengths:
        raise InputError(f"{path.name} holds no sequence. Pass the DNA of the genome.")
    return lengths


def read_sequences(
    path: Path,
    lengths: Mapping[str, int],
    names: NDArray[np.object_],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    length: int,
) -> NDArray[np.uint8]:
    """Bases of many intervals, in any order; `Genome.sequences` says what is returned.

    Parameters
    ----------
    path, lengths
        FASTA and the lengths of its sequences.
    names, start, end
        Intervals, shape (intervals,): names as in the FASTA, 0-based half-open.
    length
        Bases an interval.

    Raises
    ------
    InputError
        If the FASTA lacks a name.
    """
    codes, uniques = pd.factorize(names)
    _check_names(path, lengths, list(uniques), names)
    out = np.full((len(names), length), _N, dtype=np.uint8)
    if len(names) == 0:
        return out
    order = np.lexsort((start, codes))
    with _open_fasta(path) as faidx:
        for piece in _slices(codes[order], start[order]):
            rows = order[piece]
            dna = _fetch(faidx, str(names[rows[0]]), int(start[rows[0]]), int(start[rows[-1]]) + length)
            out[rows] = _cut(dna, start[rows] - start[rows[0]], end[rows] - start[rows[0]], length)
    return out


def _check_names(
    path: Path, lengths: Mapping[str, int], wanted: list[str], names: NDArray[np.object_]
) -> None:
    missing = [name for name in wanted if name not in lengths]
    if missing:
        count = int(np.isin(names.astype(str), missing).sum())
        raise InputError(
            f"{path.name} lacks {few(missing)}, on which {count:,} of {len(names):,} peaks lie"
            f" (it has {few(lengths)}). Pass the FASTA of the peaks' genome, or drop these peaks."
        )


def few(names: Iterable[object]) -> str:
    """Join the first three names for a message."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:3]) + (" …" if len(listed) > 3 else "")


def _open_fasta(path: Path) -> pyfaidx.Faidx:
    """Open and index a FASTA; closed again after each use, so that a Genome holds no file."""
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
    except (pyfaidx.FastaIndexingError, ValueError, KeyError) as error:
        raise InputError(
            f"{path.name} cannot be indexed as FASTA: {error}. Pass a valid FASTA, without a stale .fai."
        ) from error


def _check_compression(path: Path) -> None:
    """Refuse what pyfaidx, which goes by the name of the file, would misread or refuse."""
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


def _fetch(faidx: pyfaidx.Faidx, name: str, start: int, stop: int) -> NDArray[np.uint8]:
    """Read the codes of ``[start, stop)`` as far as the chromosome goes, one N if it ends before."""
    stop = min(stop, int(faidx.index[name].rlen))
    if start >= stop:
        return np.array([_N], dtype=np.uint8)
    text: str = faidx.fetch(name, start + 1, stop)
    letters = np.frombuffer(text.encode("latin-1"), dtype=np.uint8)
    return _CODES[letters]


def _cut(
    dna: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64], length: int
) -> NDArray[np.uint8]:
    at = start[:, None] + np.arange(length)  # (peaks, length)
    bases: NDArray[np.uint8] = dna[np.minimum(at, len(dna) - 1)]
    bases[(at >= len(dna)) | (at >= end[:, None])] = _N
    return bases


def _slices(codes: NDArray[np.int64], start: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut sorted peaks wherever the chromosome or its slice of ``_SLICE`` bases changes."""
    if len(codes) == 0:
        return []
    window = start // _SLICE
    cuts = np.flatnonzero((np.diff(codes) != 0) | (np.diff(window) != 0)) + 1
    return np.split(np.arange(len(codes)), cuts)


def _codes() -> NDArray[np.uint8]:
    table = np.full(256, _N, dtype=np.uint8)
    for code, base in enumerate(BASES):
        table[[ord(base), ord(base.lower())]] = code
    return table


_CODES: Final = _codes()
