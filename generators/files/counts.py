"""Counts of one modality on disk: streamed in chunks of cells, and checked to be counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from tqdm.auto import tqdm

from ...graphs.errors import InputError
from .damaged import listed, told
from .storage import Storage

Name = Literal["rna", "atac"]

_LOOKED: Final = 512  # cells looked at for counts at a time


@dataclass(frozen=True, eq=False)
class Modality:
    """One matrix of counts on disk, with its two tables in memory.

    Attributes
    ----------
    name
        ``"rna"`` or ``"atac"``.
    path
        File or folder that holds it.
    barcodes
        Cells, in the order of the file.
    obs, var
        Tables of cells and features; the index of `var` are the feature names.
    genome
        The genome as the file gives it, or None.
    layers
        Layers that the file has for this modality.
    storage
        The matrix on disk.
    columns
        int64: columns of the matrix that are this modality's features; all when None.
    """

    name: Name
    path: Path
    barcodes: pd.Index
    obs: pd.DataFrame
    var: pd.DataFrame
    genome: str | None
    layers: tuple[str, ...]
    storage: Storage
    columns: NDArray[np.int64] | None = None

    @property
    def stored(self) -> int:
        """Stored values of the whole matrix: an upper bound where both modalities share it."""
        return self.storage.stored

    def chunks(self, rows: NDArray[np.int64], *, size: int = 2048) -> Iterator[sparse.csr_matrix]:
        """Stream the counts of the wanted cells, each chunk checked to be counts.

        CSR and dense storage are read piece by piece. CSC and MatrixMarket storage are first
        transposed into a temporary folder, once for all calls. Rows in the order of the file are read
        fastest.

        Parameters
        ----------
        rows
            int64, rows of the file in the order wanted.
        size
            Cells a chunk.

        Yields
        ------
        csr_matrix
            int32 counts, shape (up to `size`, features), int32 indices sorted within rows, no
            stored zeros.

        Raises
        ------
        InputError
            On negative, missing or fractional values, and on damaged storage.
        """
        rows = np.asarray(rows, dtype=np.int64)
        rank = self._rank()
        with self.storage.opened() as read:
            for first in range(0, len(rows), size):
                yield self._counts(read(rows[first : first + size]), rank)

    def empty(self, rows: NDArray[np.int64], *, progress: bool = False) -> NDArray[np.bool_]:
        """Tell which cells have no count, stored zeros left out, in one streaming pass without checks.

        Parameters
        ----------
        rows
            int64, rows of the file in the order wanted.
        progress
            Show a bar.

        Returns
        -------
        bool array, shape (rows,)

        Raises
        ------
        InputError
            On damaged storage.
        """
        unique, inverse = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
        rank, found = self._rank(), np.zeros(len(unique), dtype=bool)
        with self.storage.opened() as read:
            blocks = range(0, len(unique), _LOOKED)
            for first in tqdm(blocks, desc=f"{self.name}: looking for empty cells", disable=not progress):
                chunk = read(unique[first : first + _LOOKED])
                self._check_columns(chunk.indices)
                counted = chunk.data != 0
                if rank is not None:
                    counted &= rank[chunk.indices] >= 0
                before = np.concatenate([[0], np.cumsum(counted)])[chunk.indptr]
                found[first : first + _LOOKED] = np.diff(before) > 0
        return ~found[inverse]

    def check_sample(self, rng: np.random.Generator) -> None:
        """Refuse a matrix whose values are no counts, seen on a random part of it.

        Parameters
        ----------
        rng
            Decides which part.

        Raises
        ------
        InputError
            The values are no counts (the message tells the measured values), or cannot be read.
        """
        rank = self._rank()
        for columns, values in self.storage.sample(rng):
            with told(self.path, self.storage.place):
                self._check_columns(columns)
            self._check_values(values if rank is None else values[rank[columns] >= 0])

    def _rank(self) -> NDArray[np.int32] | None:
        """Place of each column of the matrix among this modality's features, -1 for others."""
        if self.columns is None:
            return None
        rank = np.full(self.storage.shape[1], -1, np.int32)
        rank[self.columns] = np.arange(len(self.columns), dtype=np.int32)
        return rank

    def _counts(self, chunk: sparse.csr_matrix, rank: NDArray[np.int32] | None) -> sparse.csr_matrix:
        self._check_columns(chunk.indices)
        if rank is not None:
            chunk = _only(chunk, rank, len(self.var))
        self._check_values(chunk.data)
        if not chunk.has_canonical_format:
            chunk = chunk.astype(np.int64)  # sums of a narrow type would wrap around
            chunk.sum_duplicates()
            self._check_values(chunk.data)
        chunk.eliminate_zeros()
        return sparse.csr_matrix(
            (chunk.data.astype(np.int32), chunk.indices.astype(np.int32), chunk.indptr), shape=chunk.shape
        )

    def _check_columns(self, columns: NDArray[Any]) -> None:
        if columns.size and not 0 <= columns.min() <= columns.max() < self.storage.shape[1]:
            raise ValueError("column indices exceed the number of features")

    def _check_values(self, values: NDArray[Any]) -> None:
        problem = _not_counts(values)
        if problem is None:
            return
        raise InputError(
            f"values of {self.storage.place} in {self.path.name} are not counts: {problem} Pass raw counts"
            + self._where_else()
        )

    def _where_else(self) -> str:
        """Say where the file may hold the counts."""
        if self.layers:
            return f", or name the layer that holds them with --layer (layers here: {listed(self.layers)})."
        if self.path.suffix == ".h5ad":
            with h5py.File(self.path, "r") as file:
                if "raw" in file:
                    return ": if .raw holds them, write adata.raw.to_adata() and pass that file."
        return "."


def _only(chunk: sparse.csr_matrix, rank: NDArray[np.int32], n_columns: int) -> sparse.csr_matrix:
    """Keep the columns that have a place, at that place."""
    columns = rank[chunk.indices]
    keep = columns >= 0
    indptr = np.concatenate([[0], np.cumsum(keep)])[chunk.indptr]
    return sparse.csr_matrix((chunk.data[keep], columns[keep], indptr), shape=(chunk.shape[0], n_columns))


def _not_counts(values: NDArray[Any]) -> str | None:
    """Measure what keeps values from being counts; None if nothing does."""
    if values.size == 0 or values.dtype.kind == "b":
        return None
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return f"{(~np.isfinite(values)).sum():,} of {values.size:,} values are NaN or infinite."
    if (negative := values < 0).any():
        examples = _some(values[negative])
        return f"{_share(negative, values)} are negative (for example {examples}). This looks scaled."
    if values.dtype.kind == "f" and (fractional := values != np.rint(values)).any():
        highest = float(values.max())
        looks = "log-normalised" if highest < 25 else "normalised"
        return (
            f"{_share(fractional, values)} are not integers (for example {_some(values[fractional])}),"
            f" maximum {highest:.3g}. This looks {looks}."
        )
    if values.max() > np.iinfo(np.int32).max:
        return f"the maximum is {float(values.max()):.3g}, more than an int32 holds."
    return None


def _share(wrong: NDArray[np.bool_], values: NDArray[Any]) -> str:
    percent = 100 * float(wrong.mean())
    return (
        f"{percent:.0f} % of the non-zeros"
        if percent >= 1
        else f"{wrong.sum():,} of {values.size:,} non-zeros"
    )


def _some(values: NDArray[Any]) -> str:
    return ", ".join(f"{float(value):.3g}" for value in np.unique(values[:1000])[:2])
