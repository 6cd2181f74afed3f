"""Sparse rows on disk: append them while building, gather any of them through the page cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from scipy import sparse

Int64 = npt.NDArray[np.int64]

_HEADER = 128  # numpy pads the header of a one-dimensional array to this
_COPY = 1 << 22
_KEYED = 1024  # rows at a time


def ranges(starts: npt.ArrayLike, counts: npt.ArrayLike) -> Int64:
    """Concatenate ``arange(start, start + count)`` over all pairs.

    Parameters
    ----------
    starts, counts
        Equally long integer vectors; counts are not negative.

    Returns
    -------
    A vector of length ``sum(counts)``.
    """
    starts, counts = np.asarray(starts, np.int64), np.asarray(counts, np.int64)
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum(), dtype=np.int64)


def row_keys(ids: Int64, values: npt.NDArray[np.float32], counts: Int64) -> npt.NDArray[np.uint64]:
    """Return a number for each row, given its columns and values, that equal rows share, (rows,)."""
    mixed = (ids.astype(np.uint64) << np.uint64(32)) + values.astype(np.uint64) + np.uint64(1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):  # splitmix64
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    before = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed)])  # sums wrap around
    keys: npt.NDArray[np.uint64] = np.diff(before[np.concatenate([[0], np.cumsum(counts)])])
    return keys


def smallest_unsigned(largest: int) -> np.dtype[np.unsignedinteger]:
    """Return the narrowest unsigned type that holds ``largest``."""
    return np.dtype(np.min_scalar_type(max(int(largest), 0)))


class ArrayAppender:
    """Grow a one-dimensional ``.npy`` file piece by piece, widening its integers when needed.

    Parameters
    ----------
    path
        File to write.
    dtype
        First element type. A piece with larger values rewrites the file once in the wider type,
        so that counts, which mostly fit a byte, cost a byte.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.path = path
        self.dtype: np.dtype[np.generic] = np.dtype(dtype)
        self.length = 0
        self._file: BinaryIO = path.open("w+b")
        self._file.write(b"\0" * _HEADER)

    def append(self, piece: npt.NDArray[np.integer]) -> None:
        """Write ``piece`` (any length) behind what is there."""
        if piece.size and self.dtype.kind == "u":
            wanted = np.promote_types(self.dtype, smallest_unsigned(int(piece.max())))
            if wanted != self.dtype:
                self._widen(wanted)
        self._file.write(np.ascontiguousarray(piece, dtype=self.dtype).data)
        self.length += piece.size

    def close(self) -> None:
        """Write the header; the file is a valid array from here on."""
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self.dtype),
                "fortran_order": False,
                "shape": (self.length,),
            },
        )
        if self._file.tell() != _HEADER:  # pragma: no cover - a change in numpy's format
            raise RuntimeError("numpy writes array headers of another length than expected")
        self._file.close()

    def _widen(self, dtype: np.dtype[np.generic]) -> None:
        self._file.close()
        narrow = self.path.with_suffix(".narrow")
        self.path.replace(narrow)
        old = (
            np.memmap(narrow, self.dtype, "r", offset=_HEADER, shape=(self.length,)) if self.length else None
        )
        self._file = self.path.open("w+b")
        self._file.write(b"\0" * _HEADER)
        for begin in range(0, self.length, _COPY):
            assert old is not None
            self._file.write(old[begin : begin + _COPY].astype(dtype).data)
        narrow.unlink()
        self.dtype = dtype


class CsrWriter:
    """Append rows of counts to ``{name}_indptr``, ``{name}_indices`` and ``{name}_values``."""

    def __init__(self, folder: Path, name: str, n_columns: int) -> None:
        self.n_columns = n_columns
        self._indptr = ArrayAppender(folder / f"{name}_indptr.npy", np.int64)
        index = smallest_unsigned(max(n_columns - 1, 0))
        self._indices = ArrayAppender(folder / f"{name}_indices.npy", index)
        self._values = ArrayAppender(folder / f"{name}_values.npy", np.uint8)
        self._indptr.append(np.zeros(1, np.int64))

    def append(self, rows: sparse.csr_matrix) -> None:
        """Write rows (cells, columns) of counts; explicit zeros are dropped, columns sorted."""
        rows.eliminate_zeros()
        rows.sort_indices()
        self._indptr.append(rows.indptr[1:].astype(np.int64) + self._values.length)
        self._indices.append(rows.indices)
        self._values.append(rows.data.astype(np.int64))

    def close(self) -> None:
        """Finish the three arrays."""
        for array in (self._indptr, self._indices, self._values):
            array.close()


@dataclass(frozen=True)
class CsrRows:
    """Memory-mapped counts (cells × features), read by rows.

    Attributes
    ----------
    indptr
        (cells + 1,) int64.
    indices, values
        (non-zeros,) feature ids, ascending in a row, and counts, both in the narrowest unsigned type.
    n_columns
        Number of features.
    """

    indptr: Int64
    indices: npt.NDArray[np.unsignedinteger]
    values: npt.NDArray[np.unsignedinteger]
    n_columns: int

    @property
    def n_rows(self) -> int:
        """Number of rows (cells)."""
        return len(self.indptr) - 1

    def emptied(self) -> CsrRows:
        """Return as many rows without counts."""
        return CsrRows(np.zeros_like(self.indptr), self.indices[:0], self.values[:0], self.n_columns)

    def gather(self, rows: Sequence[int] | Int64) -> tuple[Int64, npt.NDArray[np.float32], Int64]:
        """Read rows in the order given.

        Returns
        -------
        ids : (non-zeros,) int64
        values : (non-zeros,) float32
        counts : (rows,) int64, non-zeros of each row
        """
        rows = np.asarray(rows, np.int64)
        starts = self.indptr[rows]
        counts = self.indptr[rows + 1] - starts
        where = ranges(starts, counts)
        return self.indices[where].astype(np.int64), self.values[where].astype(np.float32), counts

    def keys(self, rows: Sequence[int] | Int64) -> Int64:
        """Return a number for each row that equal rows share and others, in all likelihood, do not."""
        found = np.zeros(len(rows), np.uint64)
        for begin in range(0, len(rows), _KEYED):
            some = self.gather(np.asarray(rows, np.int64)[begin : begin + _KEYED])
            found[begin : begin + _KEYED] = row_keys(*some)
        return found.view(np.int64)

    def matrix(self, rows: Sequence[int] | Int64) -> sparse.csr_matrix:
        """Return rows as a float32 scipy matrix (rows, columns)."""
        ids, values, counts = self.gather(rows)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return sparse.csr_matrix((values, ids, indptr), shape=(len(counts), self.n_columns))
